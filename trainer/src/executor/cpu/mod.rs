//! The executor for CPUs, which is the reference for all others.
//!
//! Activations are kept in the format `E`; whatever is computed is computed in its [`Real`].
//! Kernels share the threads of a pool of the executor's own. How work is cut depends on sizes
//! only, so the same step gives the same bits for any number of threads.

mod batch_norm;
mod convolution;
mod element;
mod instructions;
mod linear;
mod loss;
mod matrix;
mod patches;
mod pointwise;
mod scratch;

#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::sync::Arc;

pub use element::{Element, Real};
use rayon::ThreadPool;
use rayon::prelude::*;

use self::scratch::Scratch;
#[cfg(test)]
pub(super) use self::{batch_norm::Target, pointwise::Dropout};
use super::{
    Batch, Executor, ExecutorError, ExecutorSettings, GradientBuffer, Images, LossSum, Mode, Pass,
    RunningStatistics,
};
use crate::plan::buckets::Buckets;
use crate::plan::{BufferId, Kind, ParameterId, Plan};

/// Elements of a task that only copies.
const PART_ELEMENTS: usize = 1 << 16;

/// Runs a plan on the CPU, with activations in format `E`.
#[derive(Debug)]
pub struct CpuExecutor<E: Element> {
    plan: Arc<Plan>,
    settings: ExecutorSettings,
    threads: Arc<ThreadPool>,
    memory: Memory<E>,
}

/// All that kernels read and write.
#[derive(Debug)]
struct Memory<E: Element> {
    arena: Arena<E>,
    labels: Vec<u32>,
    /// The weights as rounded to `E`, in the order inside.
    weights: Vec<Vec<E::Real>>,
    gradients: Gradients<E>,
    norms: Vec<Norm<E::Real>>,
    /// For each max pool, where the largest were.
    pools: Vec<Vec<u8>>,
    loss: LossSum,
    scratch: Scratch<E::Real>,
}

/// A batch norm's state.
#[derive(Debug, Clone)]
struct Norm<R> {
    running_mean: Vec<R>,
    running_variance: Vec<R>,
    /// Of the last training pass, group by group.
    groups: Vec<batch_norm::Statistics<R>>,
}

/// Activations and their gradients.
#[derive(Debug)]
struct Arena<E> {
    values: Vec<E>,
    plan: Arc<Plan>,
    /// Images there is room for.
    capacity: usize,
    /// Images of this pass.
    batch: usize,
}

impl<E> Arena<E> {
    /// The memory of several different buffers; an absent one is empty.
    ///
    /// Buffers that are alive at the same time do not overlap, by construction of the plan.
    fn buffers<const N: usize>(&mut self, buffers: [Option<BufferId>; N]) -> [&mut [E]; N] {
        let ranges = buffers.map(|buffer| match buffer {
            None => 0..0,
            Some(id) => {
                let buffer = &self.plan.buffers()[id.get()];
                let start = buffer.offset * self.capacity;
                start..start + buffer.elements * self.batch
            }
        });
        match self.values.get_disjoint_mut(ranges) {
            Ok(slices) => slices,
            Err(error) => unreachable!("buffers of one instruction overlap: {error}"),
        }
    }
}

/// Buckets of gradients; those away for reduction are none.
#[derive(Debug)]
struct Gradients<E> {
    plan: Arc<Plan>,
    buckets: Arc<Buckets>,
    values: Vec<Option<Vec<E>>>,
}

impl<E> Gradients<E> {
    fn of(&mut self, parameter: ParameterId) -> Result<&mut [E], ExecutorError> {
        let place = self.buckets.place(parameter);
        let elements = self.plan.parameters()[parameter.get()].elements();
        let values = self.values[place.bucket].as_mut();
        let values = values.ok_or(ExecutorError::BucketAway(place.bucket))?;
        Ok(&mut values[place.offset..place.offset + elements])
    }
}

/// Runs `kernel` compiled for the widest vectors that this processor has.
#[inline(always)]
fn vectorised<R>(kernel: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(kernel)
}

impl<E: Element> CpuExecutor<E> {
    /// An executor with weights of 0, running means of 0 and running variances of 1.
    ///
    /// # Errors
    /// The span does not divide the batch.
    pub fn new(
        plan: Arc<Plan>,
        buckets: Arc<Buckets>,
        settings: ExecutorSettings,
        threads: Arc<ThreadPool>,
    ) -> Result<Self, ExecutorError> {
        let capacity = settings.batch.get();
        if let Some(span) = settings.batch_norm_span.map(NonZeroUsize::get)
            && !capacity.is_multiple_of(span)
        {
            return Err(ExecutorError::Batch { found: capacity, capacity, span });
        }
        let zero = E::Real::from_f64(0.0);
        let norms = plan.batch_norms().iter().map(|norm| Norm {
            running_mean: vec![zero; norm.channels],
            running_variance: vec![E::Real::from_f64(1.0); norm.channels],
            groups: Vec::new(),
        });
        let pools = plan.instructions().iter().filter_map(|instruction| match &instruction.kind {
            Kind::MaxPool { window, .. } => Some(vec![0; window.output_elements() * capacity]),
            _ => None,
        });
        let weights =
            plan.parameters().iter().map(|parameter| vec![zero; parameter.elements()]).collect();
        let empty = |elements| Some(vec![E::default(); elements]);
        let values = buckets.all().iter().map(|bucket| empty(bucket.elements)).collect();
        let arena = vec![E::default(); plan.arena_elements() * capacity];
        let memory = Memory {
            arena: Arena { values: arena, plan: Arc::clone(&plan), capacity, batch: capacity },
            labels: Vec::new(),
            weights,
            gradients: Gradients { plan: Arc::clone(&plan), buckets, values },
            norms: norms.collect(),
            pools: pools.collect(),
            loss: LossSum::default(),
            scratch: Scratch::new(),
        };
        Ok(Self { plan, settings, threads, memory })
    }

    /// Takes new weights without rounding them through single precision.
    ///
    /// # Errors
    /// The wrong number of them.
    pub fn load_exact_weights(
        &mut self,
        parameter: ParameterId,
        weights: impl ExactSizeIterator<Item = f64>,
    ) -> Result<(), ExecutorError> {
        let own = &mut self.memory.weights[parameter.get()];
        check("weights", own.len(), weights.len())?;
        for (own, weight) in own.iter_mut().zip(weights) {
            *own = E::from_real(E::Real::from_f64(weight)).to_real();
        }
        Ok(())
    }

    /// Sets the running mean and variance of a batch norm without rounding them through single
    /// precision.
    ///
    /// # Errors
    /// The wrong number of channels.
    pub fn load_exact_statistics(
        &mut self,
        batch_norm: usize,
        [mean, variance]: [&[f64]; 2],
    ) -> Result<(), ExecutorError> {
        let norm = &mut self.memory.norms[batch_norm];
        let own = [&mut norm.running_mean, &mut norm.running_variance];
        for (own, values) in own.into_iter().zip([mean, variance]) {
            check("channels of running statistics", own.len(), values.len())?;
            for (own, &value) in own.iter_mut().zip(values) {
                *own = E::Real::from_f64(value);
            }
        }
        Ok(())
    }

    /// Takes images and labels; images lie as `height × width × channels`.
    ///
    /// # Errors
    /// Sizes or labels that do not fit the plan.
    pub fn load_images(
        &mut self,
        images: &[impl Into<f64> + Copy],
        labels: &[u32],
    ) -> Result<(), ExecutorError> {
        let (image, classes) = (self.plan.image_shape(), self.plan.classes());
        self.settings.check_batch(images.len(), labels, image, classes)?;
        let Memory { arena, labels: own, .. } = &mut self.memory;
        arena.batch = labels.len();
        own.clear();
        own.extend_from_slice(labels);
        let [into] = arena.buffers([Some(self.plan.images())]);
        for (into, &value) in into.iter_mut().zip(images) {
            *into = E::from_real(E::Real::from_f64(value.into()));
        }
        Ok(())
    }

    /// Runs an instruction forward.
    pub fn forward(&mut self, instruction: usize, pass: Pass) {
        let kind = &self.plan.instructions()[instruction].kind;
        let (memory, settings) = (&mut self.memory, &self.settings);
        self.threads.install(|| memory.forward(instruction, kind, settings, pass));
    }

    /// The loss of the last forward pass.
    #[must_use]
    pub fn loss(&self) -> LossSum {
        self.memory.loss
    }

    /// The running statistics of a batch norm.
    #[must_use]
    pub fn running_statistics(&self, batch_norm: usize) -> RunningStatistics {
        let norm = &self.memory.norms[batch_norm];
        let single = |values: &[E::Real]| values.iter().map(|v| v.as_f64() as f32).collect();
        RunningStatistics {
            mean: single(&norm.running_mean),
            variance: single(&norm.running_variance),
        }
    }

    /// The logits of the last forward pass.
    #[must_use]
    pub fn logits(&mut self) -> Vec<f64> {
        let input = self.plan.instructions().iter().find_map(|last| match last.kind {
            Kind::Loss { input } => Some(input.buffer),
            _ => None,
        });
        let [logits] = self.memory.arena.buffers([input]);
        logits.iter().map(|logit| logit.to_real().as_f64()).collect()
    }

    /// What lies in a buffer, of the images of this pass, to be looked at or changed in between two
    /// instructions; while the buffer is not alive, that of another.
    #[must_use]
    pub fn buffer(&mut self, buffer: BufferId) -> &mut [E] {
        let [values] = self.memory.arena.buffers([Some(buffer)]);
        values
    }

    /// Mean and 1 / √(v + ε) of each channel, for each group of images that shared them in the last
    /// training pass of a batch norm.
    #[must_use]
    pub fn group_statistics(&self, batch_norm: usize) -> Vec<[Vec<f64>; 2]> {
        let wide = |values: &[E::Real]| values.iter().map(|value| value.as_f64()).collect();
        let of_group = |group: &batch_norm::Statistics<E::Real>| {
            [wide(&group.mean), wide(&group.inverse_deviations(&self.settings))]
        };
        self.memory.norms[batch_norm].groups.iter().map(of_group).collect()
    }

    /// The gradient of a parameter of the last backward pass, in the order inside.
    ///
    /// # Errors
    /// Its bucket is away.
    pub fn gradient(&mut self, parameter: ParameterId) -> Result<Vec<f64>, ExecutorError> {
        let values = self.memory.gradients.of(parameter)?;
        Ok(values.iter().map(|value| value.to_real().as_f64()).collect())
    }
}

fn check(what: &'static str, expected: usize, found: usize) -> Result<(), ExecutorError> {
    if expected == found { Ok(()) } else { Err(ExecutorError::Size { what, expected, found }) }
}

impl<E: Element> Executor for CpuExecutor<E> {
    fn load_weights(
        &mut self,
        parameter: ParameterId,
        weights: &[f32],
    ) -> Result<(), ExecutorError> {
        let own = &mut self.memory.weights[parameter.get()];
        check("weights", own.len(), weights.len())?;
        self.threads.install(|| {
            let parts = own.par_chunks_mut(PART_ELEMENTS).zip(weights.par_chunks(PART_ELEMENTS));
            parts.for_each(|(own, weights)| {
                for (own, &weight) in own.iter_mut().zip(weights) {
                    *own = E::from_real(E::Real::from_f32(weight)).to_real();
                }
            });
        });
        Ok(())
    }

    fn load_batch(&mut self, batch: &Batch) -> Result<(), ExecutorError> {
        batch.read(self.plan.image_shape(), |images, labels| match images {
            Images::Numbers(images) => self.load_images(images, labels),
            Images::Bytes(_) => {
                let problem = "expected images of f32: bytes are for GPUs, which normalise them";
                Err(ExecutorError::Tensor(problem.to_owned()))
            }
        })
    }

    fn forward(&mut self, instruction: usize, pass: Pass) -> Result<(), ExecutorError> {
        Self::forward(self, instruction, pass);
        Ok(())
    }

    fn backward(&mut self, instruction: usize, pass: Pass) -> Result<(), ExecutorError> {
        let kind = &self.plan.instructions()[instruction].kind;
        let (memory, settings) = (&mut self.memory, &self.settings);
        self.threads.install(|| memory.backward(instruction, kind, settings, pass))
    }

    fn loss(&mut self) -> Result<LossSum, ExecutorError> {
        Ok(Self::loss(self))
    }

    fn take_bucket(&mut self, bucket: usize) -> Result<GradientBuffer, ExecutorError> {
        let values = self.memory.gradients.values[bucket].take();
        values.map(E::into_buffer).ok_or(ExecutorError::BucketAway(bucket))
    }

    fn return_bucket(
        &mut self,
        bucket: usize,
        values: GradientBuffer,
    ) -> Result<(), ExecutorError> {
        let Gradients { buckets, values: own, .. } = &mut self.memory.gradients;
        let values = E::from_buffer(values)
            .filter(|values| values.len() == buckets.all()[bucket].elements)
            .ok_or(ExecutorError::Bucket(bucket))?;
        own[bucket] = Some(values);
        Ok(())
    }

    fn running_statistics(
        &mut self,
        batch_norm: usize,
    ) -> Result<RunningStatistics, ExecutorError> {
        Ok(Self::running_statistics(self, batch_norm))
    }

    fn set_running_statistics(
        &mut self,
        batch_norm: usize,
        statistics: &RunningStatistics,
    ) -> Result<(), ExecutorError> {
        let exact = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let (mean, variance) = (exact(&statistics.mean), exact(&statistics.variance));
        self.load_exact_statistics(batch_norm, [&mean, &variance])
    }
}
