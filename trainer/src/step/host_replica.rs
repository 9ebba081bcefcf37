//! A rank whose model is in this machine's memory, and a step of it.

use std::fmt;
use std::sync::Arc;

use foretrain_sim::random::place_bits;
use foretrain_sim::recording::{EventKind, Norms, NumberFormat, Span};
use rayon::ThreadPool;

use super::communication::{CommunicationThread, Pending};
use super::replica::{Replica, StateError, StepError, StepOutcome};
use super::timeline::{Timeline, nanoseconds};
use crate::communicator::CommunicatorError;
use crate::executor::{
    Batch, Executor, ExecutorError, GradientBuffer, LossSum, Mode, Pass, RunningStatistics,
};
use crate::loss_scale::{LossScaleState, LossScaler, Verdict};
use crate::model::Weights;
use crate::optimizer::{Gradient, Optimizer, OptimizerState, TensorState};
use crate::plan::Plan;
use crate::plan::buckets::Buckets;

/// What does not change from step to step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReplicaSettings {
    /// Images of this rank in a step.
    pub per_rank_batch: u32,
    /// The format of gradients on the wire.
    pub wire: NumberFormat,
    /// Whether buckets travel while backward goes on.
    pub overlap: bool,
    /// The seed of dropout.
    pub dropout_key: u64,
}

/// A copy of the model on one rank.
pub struct HostReplica {
    plan: Arc<Plan>,
    buckets: Arc<Buckets>,
    settings: ReplicaSettings,
    /// Weights as they are learnt.
    pub weights: Weights,
    /// What updates them.
    pub optimizer: Optimizer,
    /// What keeps small gradients.
    pub scaler: LossScaler,
    /// What computes.
    pub executor: Box<dyn Executor>,
    /// What connects it to the other ranks.
    pub communication: CommunicationThread,
    threads: Arc<ThreadPool>,
    /// Memory of the wire's format for each bucket that needs it.
    wires: Vec<Option<GradientBuffer>>,
    /// The batch of the next step.
    batch: Option<Batch>,
}

impl fmt::Debug for HostReplica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostReplica({:?}, {:?})", self.communication, self.settings)
    }
}

/// A bucket that has been summed.
struct Summed {
    own: GradientBuffer,
    /// The sum, if not in `own`.
    wire: Option<GradientBuffer>,
    result: Result<(), CommunicatorError>,
    /// When it was taken up, packed, summed and unpacked.
    moments_ns: [u64; 4],
}

impl Summed {
    fn sum(&self) -> &GradientBuffer {
        self.wire.as_ref().unwrap_or(&self.own)
    }
}

/// A bucket on its way.
struct Away {
    bucket: usize,
    sent_ns: u64,
    pending: Pending<Summed>,
}

impl HostReplica {
    /// A copy of the model with these parts, whose executor takes the weights.
    ///
    /// # Errors
    /// Weights do not fit the executor.
    #[expect(clippy::too_many_arguments, reason = "a replica is made of these parts, each once")]
    pub fn new(
        plan: Arc<Plan>,
        buckets: Arc<Buckets>,
        settings: ReplicaSettings,
        weights: Weights,
        optimizer: Optimizer,
        scaler: LossScaler,
        executor: Box<dyn Executor>,
        communication: CommunicationThread,
        threads: Arc<ThreadPool>,
    ) -> Result<Self, ExecutorError> {
        let wires = buckets.all().iter().map(|_| None).collect();
        let mut replica = Self {
            plan,
            buckets,
            settings,
            weights,
            optimizer,
            scaler,
            executor,
            communication,
            threads,
            wires,
            batch: None,
        };
        replica.round_weights()?;
        Ok(replica)
    }

    /// Gives the executor the weights as they are now.
    ///
    /// # Errors
    /// They do not fit.
    pub fn round_weights(&mut self) -> Result<(), ExecutorError> {
        for parameter in self.plan.parameter_ids() {
            self.executor.load_weights(parameter, self.weights.of(parameter))?;
        }
        Ok(())
    }

    /// Trains on `batch` with learning rate `lr`; `step` counts all steps from 0.
    ///
    /// # Errors
    /// The batch does not fit, a rank is missing, or the update is impossible. The weights are as
    /// before then.
    pub fn step(
        &mut self,
        batch: &Batch,
        step: u64,
        lr: f64,
        timeline: &mut Timeline,
    ) -> Result<StepOutcome, StepError> {
        let loss_scale = self.scaler.scale();
        let rank = u64::from(self.communication.rank());
        let global_batch = u64::from(self.settings.per_rank_batch) * self.world();
        let pass = Pass {
            mode: Mode::Train,
            gradient_factor: f64::from(loss_scale) / global_batch as f64,
            dropout_key: place_bits(self.settings.dropout_key, step),
            first_image: rank * u64::from(self.settings.per_rank_batch),
        };
        self.executor.load_batch(batch)?;
        let before = self.running_statistics()?;
        let loss = self.forward(pass, timeline)?;
        let mut local_square_sum = 0.0;
        let away = self.backward(pass, step, &mut local_square_sum, timeline)?;
        let summed = self.collect(away, timeline)?;
        let start_ns = timeline.now_ns();
        let overflow = summed.iter().any(|(_, summed)| !is_finite(summed.sum()));
        let verdict = self.scaler.update(overflow);
        if verdict == Verdict::Apply {
            self.update(&summed, loss_scale, lr)?;
        } else {
            // What overflowed may have been the forward pass: its statistics are not to stay.
            self.set_running_statistics(&before)?;
        }
        timeline.span(start_ns, |span| EventKind::Optimizer { span });
        if timeline.wants_norms() {
            let scale_sq = f64::from(loss_scale).powi(2);
            let averaged: f64 = summed.iter().map(|(_, summed)| summed.sum().square_sum()).sum();
            // A rank's own mean is over the world-th part of the images.
            let local = local_square_sum * (self.world() as f64).powi(2);
            let finite = |value: f64| value.is_finite().then_some(value);
            timeline.note(EventKind::Norms(Norms {
                local_gradient_norm_sq: finite(local / scale_sq),
                averaged_gradient_norm_sq: finite(averaged / scale_sq),
                per_rank_batch: u64::from(self.settings.per_rank_batch),
                global_batch,
                loss: finite(loss.loss / f64::from(self.settings.per_rank_batch)),
                loss_scale: f64::from(loss_scale),
                learning_rate: lr,
                skipped: verdict != Verdict::Apply,
            }));
        }
        for (bucket, summed) in summed {
            self.executor.return_bucket(bucket, summed.own)?;
            self.wires[bucket] = summed.wire;
        }
        Ok(StepOutcome { loss, verdict, loss_scale })
    }

    /// The losses of a batch with the running statistics, without learning.
    ///
    /// # Errors
    /// The batch does not fit.
    pub fn evaluate(&mut self, batch: &Batch) -> Result<LossSum, ExecutorError> {
        self.executor.load_batch(batch)?;
        let pass =
            Pass { mode: Mode::Evaluate, gradient_factor: 0.0, dropout_key: 0, first_image: 0 };
        for instruction in 0..self.plan.instructions().len() {
            self.executor.forward(instruction, pass)?;
        }
        self.executor.loss()
    }

    /// The running statistics of all batch norms.
    ///
    /// # Errors
    /// The device failed.
    pub fn running_statistics(&mut self) -> Result<Vec<RunningStatistics>, ExecutorError> {
        let norms = 0..self.plan.batch_norms().len();
        norms.map(|norm| self.executor.running_statistics(norm)).collect()
    }

    /// Sets the running statistics of all batch norms.
    ///
    /// # Errors
    /// The wrong number of channels.
    pub fn set_running_statistics(
        &mut self,
        statistics: &[RunningStatistics],
    ) -> Result<(), ExecutorError> {
        for (norm, statistics) in statistics.iter().enumerate() {
            self.executor.set_running_statistics(norm, statistics)?;
        }
        Ok(())
    }

    fn world(&self) -> u64 {
        u64::from(self.communication.world())
    }

    fn forward(&mut self, pass: Pass, timeline: &mut Timeline) -> Result<LossSum, ExecutorError> {
        for index in 0..self.plan.instructions().len() {
            let start_ns = timeline.now_ns();
            self.executor.forward(index, pass)?;
            let instruction = index as u32;
            timeline.span(start_ns, |span| EventKind::Forward { instruction, span });
        }
        self.executor.loss()
    }

    /// Runs backward and sends every bucket on its way.
    fn backward(
        &mut self,
        pass: Pass,
        step: u64,
        local_square_sum: &mut f64,
        timeline: &mut Timeline,
    ) -> Result<Vec<Away>, StepError> {
        let plan = Arc::clone(&self.plan);
        let buckets = Arc::clone(&self.buckets);
        let mut missing: Vec<usize> =
            buckets.all().iter().map(|bucket| bucket.gradients.len()).collect();
        let mut complete = Vec::new();
        let mut away = Vec::new();
        for (index, instruction) in plan.instructions().iter().enumerate().rev() {
            let start_ns = timeline.now_ns();
            self.executor.backward(index, pass)?;
            let span_of = |span| EventKind::Backward { instruction: index as u32, span };
            let at_ns = timeline.span(start_ns, span_of);
            for parameter in instruction.kind.parameters() {
                let tensor = parameter.get() as u32;
                timeline.note(EventKind::GradientReady { tensor, at_ns });
                let bucket = buckets.place(parameter).bucket;
                missing[bucket] -= 1;
                if missing[bucket] == 0 {
                    complete.push(bucket);
                }
            }
            if self.settings.overlap {
                for bucket in complete.drain(..) {
                    away.push(self.send(bucket, step, local_square_sum, timeline)?);
                }
            }
        }
        for bucket in complete {
            away.push(self.send(bucket, step, local_square_sum, timeline)?);
        }
        Ok(away)
    }

    /// Sends a bucket on its way.
    fn send(
        &mut self,
        bucket: usize,
        step: u64,
        local_square_sum: &mut f64,
        timeline: &Timeline,
    ) -> Result<Away, ExecutorError> {
        let own = self.executor.take_bucket(bucket)?;
        if timeline.wants_norms() {
            *local_square_sum += own.square_sum();
        }
        let format = self.settings.wire;
        let elements = self.buckets.all()[bucket].elements;
        let mut wire = (!own.travels_as(format)).then(|| {
            self.wires[bucket].take().unwrap_or_else(|| GradientBuffer::zeros(format, elements))
        });
        let name =
            format!("all-reduce of {} in step {step}", self.buckets.name(&self.plan, bucket));
        let start = timeline.start();
        let sent_ns = timeline.now_ns();
        let pending = self.communication.ask(move |communicator| {
            let mut own = own;
            let taken_ns = nanoseconds(start);
            if let Some(wire) = &mut wire {
                wire.cast_from(&own);
            }
            let packed_ns = nanoseconds(start);
            let result = communicator.all_reduce(&name, wire.as_mut().unwrap_or(&mut own).buffer());
            let summed_ns = nanoseconds(start);
            // The optimizer reads the wire's format, so nothing is left to be done.
            Summed { own, wire, result, moments_ns: [taken_ns, packed_ns, summed_ns, summed_ns] }
        });
        Ok(Away { bucket, sent_ns, pending })
    }

    /// Waits for all buckets.
    fn collect(
        &mut self,
        away: Vec<Away>,
        timeline: &mut Timeline,
    ) -> Result<Vec<(usize, Summed)>, StepError> {
        let mut all = Vec::with_capacity(away.len());
        for Away { bucket, sent_ns, pending } in away {
            let mut summed = pending.wait()?;
            std::mem::replace(&mut summed.result, Ok(()))?;
            let [taken_ns, packed_ns, summed_ns, unpacked_ns] = summed.moments_ns;
            let span = |start_ns, end_ns| Span { start_ns, end_ns };
            let number = bucket as u32;
            for kind in [
                EventKind::Queue { bucket: number, span: span(sent_ns, taken_ns) },
                EventKind::Pack { bucket: number, span: span(taken_ns, packed_ns) },
                EventKind::AllReduce { bucket: number, span: span(packed_ns, summed_ns) },
                EventKind::Unpack { bucket: number, span: span(summed_ns, unpacked_ns) },
            ] {
                timeline.note(kind);
            }
            all.push((bucket, summed));
        }
        Ok(all)
    }

    /// Makes new weights from the summed gradients.
    fn update(&mut self, summed: &[(usize, Summed)], scale: f32, lr: f64) -> Result<(), StepError> {
        let mut sums: Vec<Option<&GradientBuffer>> = vec![None; self.buckets.all().len()];
        let mut rounded = Vec::new();
        for (bucket, summed) in summed {
            match summed.sum() {
                GradientBuffer::F64(values) => {
                    let mut single = GradientBuffer::zeros(NumberFormat::F32, values.len());
                    single.cast_from(summed.sum());
                    rounded.push((*bucket, single));
                }
                sum => sums[*bucket] = Some(sum),
            }
        }
        for (bucket, single) in &rounded {
            sums[*bucket] = Some(single);
        }
        let plan = Arc::clone(&self.plan);
        let mut tensors = Vec::with_capacity(plan.parameters().len());
        for ((id, weights), parameter) in self.weights.masters_mut().zip(plan.parameters()) {
            let place = self.buckets.place(id);
            let values = sums[place.bucket]
                .and_then(|sum| sum.values(place.offset, parameter.elements()))
                .ok_or(ExecutorError::BucketAway(place.bucket))?;
            tensors.push(TensorState {
                name: &parameter.name,
                role: parameter.role,
                weights,
                gradient: Gradient { values, scale },
            });
        }
        let optimizer = &mut self.optimizer;
        self.threads.install(|| optimizer.step(&mut tensors, lr))?;
        Ok(self.round_weights()?)
    }
}

/// Whether all numbers are finite.
fn is_finite(buffer: &GradientBuffer) -> bool {
    match buffer {
        GradientBuffer::F64(values) => values.iter().all(|value| value.is_finite()),
        other => other.values(0, other.elements()).is_some_and(|values| !values.overflowed()),
    }
}

impl Replica for HostReplica {
    fn communication(&self) -> &CommunicationThread {
        &self.communication
    }

    fn device(&self) -> Option<String> {
        None
    }

    fn take(&mut self, batch: Batch) -> Result<(), ExecutorError> {
        self.batch = Some(batch);
        Ok(())
    }

    fn holds_batch(&self) -> bool {
        self.batch.is_some()
    }

    fn step(
        &mut self,
        step: u64,
        lr: f64,
        timeline: &mut Timeline,
        _: &mut dyn FnMut() -> Option<Batch>,
    ) -> Result<StepOutcome, StepError> {
        let missing = || ExecutorError::Tensor("a step has no batch".to_owned());
        let batch = self.batch.take().ok_or_else(missing)?;
        Self::step(self, &batch, step, lr, timeline)
    }

    fn note(&mut self, _: &mut Timeline) -> Result<(), ExecutorError> {
        Ok(())
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<LossSum, ExecutorError> {
        Self::evaluate(self, batch)
    }

    fn weights(&mut self) -> Result<Weights, ExecutorError> {
        Ok(self.weights.clone())
    }

    fn load_weights(&mut self, weights: Weights) -> Result<(), ExecutorError> {
        self.weights = weights;
        self.round_weights()
    }

    fn state(&mut self) -> Result<(OptimizerState, LossScaleState), ExecutorError> {
        Ok((self.optimizer.state().clone(), self.scaler.state()))
    }

    fn load_state(
        &mut self,
        optimizer: OptimizerState,
        scale: LossScaleState,
    ) -> Result<(), StateError> {
        self.optimizer = Optimizer::resume(*self.optimizer.rule(), optimizer)?;
        self.scaler = LossScaler::resume(*self.scaler.config(), scale)?;
        Ok(())
    }

    fn running_statistics(&mut self) -> Result<Vec<RunningStatistics>, ExecutorError> {
        Self::running_statistics(self)
    }

    fn set_running_statistics(
        &mut self,
        statistics: &[RunningStatistics],
    ) -> Result<(), ExecutorError> {
        Self::set_running_statistics(self, statistics)
    }
}
