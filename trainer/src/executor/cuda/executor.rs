//! A plan on a device, instruction by instruction: the executor that the CPU's steps drive, and that
//! is compared with the CPU's. The fast step, with its optimizer on the device, is elsewhere.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use foretrain_sim::recording::NumberFormat;
use half::{bf16, f16};

use super::arguments::Address;
use super::arguments::optimizer::{StepInput, StepState};
use super::device::Device;
use super::filters::{from_device, to_device};
use super::lower::{ByteScale, LowerError, Program, program, round_weights};
use super::memory::Memory;
use super::work::Work;
use crate::executor::{
    Batch, Executor, ExecutorError, ExecutorSettings, GradientBuffer, Images, LossSum, Mode, Pass,
    RunningStatistics,
};
use crate::plan::buckets::Buckets;
use crate::plan::{ParameterId, Plan};

/// A program, and whether the device is ready to train and to evaluate with it.
#[derive(Debug)]
struct Prepared {
    program: Program,
    training: bool,
    evaluation: bool,
}

/// A batch that is on its way.
#[derive(Debug, Clone, Copy)]
struct Staged {
    images: usize,
    are_bytes: bool,
}

/// Runs a plan on a device.
#[derive(Debug)]
pub struct DeviceExecutor<D: Device> {
    /// From where batches are copied.
    upload: D::Upload,
    device: D,
    plan: Arc<Plan>,
    buckets: Arc<Buckets>,
    settings: ExecutorSettings,
    memory: Memory,
    /// For each number of images that came.
    programs: BTreeMap<usize, Prepared>,
    round: Vec<Work>,
    /// What the bytes of images stand for.
    bytes: Option<ByteScale>,
    /// The next batch.
    staged: Option<Staged>,
    /// Images of this pass.
    images: usize,
    /// Whether they came as bytes.
    are_bytes: bool,
    /// Whether weights came that have not been rounded.
    is_unrounded: bool,
    /// The buckets that were taken.
    away: Vec<bool>,
}

impl<D: Device> DeviceExecutor<D> {
    /// An executor with weights of 0, running means of 0 and running variances of 1, which computes
    /// in `format`.
    ///
    /// # Errors
    /// The span does not divide the batch, the kernels cannot run the plan, or the device fails.
    pub fn new(
        mut device: D,
        plan: Arc<Plan>,
        buckets: Arc<Buckets>,
        settings: ExecutorSettings,
        format: NumberFormat,
    ) -> Result<Self, ExecutorError> {
        let capacity = settings.batch.get();
        if let Some(span) = settings.batch_norm_span.map(NonZeroUsize::get)
            && !capacity.is_multiple_of(span)
        {
            return Err(ExecutorError::Batch { found: capacity, capacity, span });
        }
        let memory = Memory::plan(&plan, &buckets, &settings, format)?;
        let base = device.allocate(memory.bytes)?;
        let memory = memory.at(base);
        // Gradients have gaps, which stay zero.
        device.enqueue(&Work::Clear { at: base, bytes: memory.bytes })?;
        for norm in &memory.norms {
            device.write(norm.running[1], &bytes_of(&vec![1.0; norm.channels]))?;
        }
        let round = round_weights(&plan, &memory);
        device.prepare(&round)?;
        let away = vec![false; memory.buckets.len()];
        let image_bytes = capacity * plan.image_shape().elements() as usize * 4;
        let upload = device.upload(Memory::staged_labels(image_bytes) + capacity * 4)?;
        let mut executor = Self {
            upload,
            device,
            plan,
            buckets,
            settings,
            memory,
            programs: BTreeMap::new(),
            round,
            bytes: None,
            staged: None,
            images: capacity,
            are_bytes: false,
            is_unrounded: true,
            away,
        };
        executor.lower(capacity)?;
        Ok(executor)
    }

    /// Takes batches whose images are bytes too, which stand for these numbers.
    ///
    /// # Errors
    /// None that it did not have before.
    pub fn set_byte_scale(&mut self, scale: ByteScale) -> Result<(), ExecutorError> {
        self.bytes = Some(scale);
        self.programs.clear();
        self.lower(self.images)
    }

    /// The buckets of gradients.
    #[must_use]
    pub fn buckets(&self) -> &Arc<Buckets> {
        &self.buckets
    }

    /// Where everything lies.
    #[must_use]
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What it runs on, in words.
    #[must_use]
    pub fn description(&self) -> String {
        self.device.description()
    }

    /// What it runs on.
    #[must_use]
    pub const fn device(&mut self) -> &mut D {
        &mut self.device
    }

    /// What is run.
    pub(super) const fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Lowers the plan for so many images.
    fn lower(&mut self, images: usize) -> Result<(), ExecutorError> {
        if !self.programs.contains_key(&images) {
            let bytes = self.bytes.as_ref();
            let program = program(&self.plan, &self.memory, &self.settings, images, bytes)?;
            let prepared = Prepared { program, training: false, evaluation: false };
            self.programs.insert(images, prepared);
        }
        Ok(())
    }

    /// Gets ready for passes over the images at hand. What the device tries out overwrites
    /// activations and gradients, so images are taken after this.
    fn prepare(&mut self, mode: Mode) -> Result<(), ExecutorError> {
        let Some(prepared) = self.programs.get_mut(&self.images) else { return Ok(()) };
        let (is_ready, work): (_, Vec<Work>) = match mode {
            Mode::Train => (&mut prepared.training, prepared.program.training().cloned().collect()),
            Mode::Evaluate => {
                (&mut prepared.evaluation, prepared.program.evaluation().cloned().collect())
            }
        };
        if !std::mem::replace(is_ready, true) {
            self.device.prepare(&work)?;
        }
        Ok(())
    }

    /// Begins passes: rounds weights that came, and takes the images. Where a batch was copied to is
    /// free for the next from then on.
    pub(super) fn begin(&mut self, mode: Mode) -> Result<(), ExecutorError> {
        if let Some(Staged { images, are_bytes }) = self.staged.take() {
            (self.images, self.are_bytes) = (images, are_bytes);
        }
        self.prepare(mode)?;
        if std::mem::take(&mut self.is_unrounded) {
            for work in &self.round {
                self.device.enqueue(work)?;
            }
        }
        self.device.hold(&mut self.upload)?;
        match self.are_bytes {
            true => self.run(|program| &program.take_bytes)?,
            false => self.run(|program| &program.take)?,
        }
        Ok(self.device.release(&mut self.upload)?)
    }

    /// Whether a batch waits for the next pass.
    #[must_use]
    pub const fn holds_batch(&self) -> bool {
        self.staged.is_some()
    }

    /// Starts copying a batch, for the pass after the one that is being done.
    ///
    /// # Errors
    /// Shapes or labels that do not fit the plan, or the device failed.
    pub fn stage(&mut self, batch: &Batch) -> Result<(), ExecutorError> {
        batch.read(self.plan.image_shape(), |images, labels| self.stage_images(images, labels))
    }

    fn stage_images(&mut self, images: Images<'_>, labels: &[u32]) -> Result<(), ExecutorError> {
        let (image, classes) = (self.plan.image_shape(), self.plan.classes());
        self.settings.check_batch(images.len(), labels, image, classes)?;
        let are_bytes = matches!(images, Images::Bytes(_));
        if are_bytes && self.bytes.is_none() {
            let problem = "the images are bytes, and it was not said what they stand for";
            return Err(ExecutorError::Tensor(problem.to_owned()));
        }
        self.lower(labels.len())?;
        let place = self.device.fill(&mut self.upload)?;
        let image_bytes = match images {
            Images::Bytes(bytes) => {
                place[..bytes.len()].copy_from_slice(bytes);
                bytes.len()
            }
            Images::Numbers(numbers) => copy_words(place, numbers, |number| number.to_le_bytes()),
        };
        let start = Memory::staged_labels(image_bytes);
        let bytes = start + copy_words(&mut place[start..], labels, |label| label.to_le_bytes());
        self.device.start(&mut self.upload, self.memory.staging, bytes)?;
        self.staged = Some(Staged { images: labels.len(), are_bytes });
        Ok(())
    }

    /// How many images are at hand.
    pub(super) const fn images(&self) -> usize {
        self.images
    }

    /// The work that takes the images at hand from where they were copied to.
    pub(super) fn taking(&self) -> &[Work] {
        match self.current() {
            Some(program) if self.are_bytes => &program.take_bytes,
            Some(program) => &program.take,
            None => &[],
        }
    }

    /// The work on the images at hand.
    pub(super) fn current(&self) -> Option<&Program> {
        self.programs.get(&self.images).map(|prepared| &prepared.program)
    }

    /// Does what `choose` takes from the program of this pass.
    fn run(
        &mut self,
        choose: impl for<'p> Fn(&'p Program) -> &'p [Work],
    ) -> Result<(), ExecutorError> {
        if let Some(prepared) = self.programs.get(&self.images) {
            for work in choose(&prepared.program) {
                self.device.enqueue(work)?;
            }
        }
        Ok(())
    }

    /// Takes over the running statistics, unless the device's memory says that the step is skipped.
    pub(super) fn commit(&mut self) -> Result<(), ExecutorError> {
        self.run(|program| &program.commit)
    }

    /// Says what is of this pass. In evaluation nothing is, and the state of an optimizer that the
    /// same memory keeps must stay.
    fn tell(&mut self, pass: Pass) -> Result<(), ExecutorError> {
        let input = StepInput {
            learning_rate: 0.0,
            dropout_key: pass.dropout_key,
            first_image: pass.first_image,
            reciprocal_batch: pass.gradient_factor as f32,
        };
        let state = StepState {
            last_learning_rate: -1.0,
            skipped_steps: 0,
            loss_scale: 1.0,
            good_steps: 0,
            skipped: 0,
            last_loss_scale: 1.0,
        };
        let [at_input, at_state] = self.memory.step;
        self.device.write(at_input, &input.to_bytes())?;
        Ok(self.device.write(at_state, &state.to_bytes())?)
    }

    /// Numbers of single precision.
    pub(super) fn floats(&mut self, at: Address, count: usize) -> Result<Vec<f32>, ExecutorError> {
        let mut bytes = vec![0; count * 4];
        self.device.read(at, &mut bytes)?;
        let (numbers, _) = bytes.as_chunks::<4>();
        Ok(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

impl From<LowerError> for ExecutorError {
    fn from(error: LowerError) -> Self {
        Self::Plan(error.to_string())
    }
}

/// The numbers of tensors, one after the other, in the order inside.
fn ordered<const N: usize, T: Copy + Default>(
    plan: &Plan,
    tensors: &[(ParameterId, Vec<u8>)],
    number: impl Fn([u8; N]) -> T,
) -> Vec<T> {
    let tensor = |(id, bytes): &(ParameterId, Vec<u8>)| {
        let numbers: Vec<T> = bytes.as_chunks().0.iter().map(|bytes| number(*bytes)).collect();
        from_device(&plan.parameters()[id.get()], &numbers)
    };
    tensors.iter().flat_map(tensor).collect()
}

/// Writes numbers of four bytes; gives how many bytes they are.
fn copy_words<T: Copy>(to: &mut [u8], from: &[T], bytes: impl Fn(T) -> [u8; 4]) -> usize {
    let (words, _) = to.as_chunks_mut::<4>();
    for (word, number) in words.iter_mut().zip(from) {
        *word = bytes(*number);
    }
    from.len() * 4
}

pub(super) fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

impl<D: Device> Executor for DeviceExecutor<D> {
    fn load_weights(
        &mut self,
        parameter: ParameterId,
        weights: &[f32],
    ) -> Result<(), ExecutorError> {
        let tensor = &self.plan.parameters()[parameter.get()];
        let (expected, found) = (tensor.elements(), weights.len());
        if expected != found {
            return Err(ExecutorError::Size { what: "weights", expected, found });
        }
        let ordered = to_device(tensor, weights);
        self.device.write(self.memory.masters[parameter.get()], &bytes_of(&ordered))?;
        self.is_unrounded = true;
        Ok(())
    }

    fn load_batch(&mut self, batch: &Batch) -> Result<(), ExecutorError> {
        self.stage(batch)
    }

    fn forward(&mut self, instruction: usize, pass: Pass) -> Result<(), ExecutorError> {
        if instruction == 0 {
            self.begin(pass.mode)?;
            if pass.mode == Mode::Train {
                self.tell(pass)?;
            }
        }
        match pass.mode {
            Mode::Evaluate => self.run(|program| &program.evaluate[instruction]),
            Mode::Train => {
                self.run(|program| &program.forward[instruction])?;
                if instruction + 1 == self.plan.instructions().len() {
                    self.commit()?;
                }
                Ok(())
            }
        }
    }

    fn backward(&mut self, instruction: usize, pass: Pass) -> Result<(), ExecutorError> {
        for parameter in self.plan.instructions()[instruction].kind.parameters() {
            let bucket = self.buckets.place(parameter).bucket;
            if self.away[bucket] {
                return Err(ExecutorError::BucketAway(bucket));
            }
        }
        if instruction + 1 == self.plan.instructions().len() {
            self.tell(pass)?;
        }
        self.run(|program| &program.backward[instruction])
    }

    fn loss(&mut self) -> Result<LossSum, ExecutorError> {
        let mut bytes = [0; 24];
        self.device.read(self.memory.losses[2], &mut bytes)?;
        let (words, _) = bytes.as_chunks::<8>();
        let [loss, hits, hits_top5] = [words[0], words[1], words[2]].map(u64::from_le_bytes);
        Ok(LossSum { loss: f64::from_bits(loss), hits, hits_top5 })
    }

    fn take_bucket(&mut self, bucket: usize) -> Result<GradientBuffer, ExecutorError> {
        if std::mem::replace(&mut self.away[bucket], true) {
            return Err(ExecutorError::BucketAway(bucket));
        }
        let element = self.memory.format.element_bytes() as usize;
        let mut bytes = Vec::new();
        for (id, _) in &self.buckets.all()[bucket].gradients {
            let mut tensor = vec![0; self.plan.parameters()[id.get()].elements() * element];
            self.device.read(self.memory.gradients[id.get()], &mut tensor)?;
            bytes.push((*id, tensor));
        }
        let plan = &self.plan;
        Ok(match self.memory.format {
            NumberFormat::F16 => GradientBuffer::F16(ordered(plan, &bytes, f16::from_le_bytes)),
            NumberFormat::Bf16 => GradientBuffer::Bf16(ordered(plan, &bytes, bf16::from_le_bytes)),
            NumberFormat::F32 => GradientBuffer::F32(ordered(plan, &bytes, f32::from_le_bytes)),
        })
    }

    fn return_bucket(
        &mut self,
        bucket: usize,
        values: GradientBuffer,
    ) -> Result<(), ExecutorError> {
        let is_own = matches!(
            (&values, self.memory.format),
            (GradientBuffer::F16(_), NumberFormat::F16)
                | (GradientBuffer::Bf16(_), NumberFormat::Bf16)
                | (GradientBuffer::F32(_), NumberFormat::F32)
        );
        if !is_own || values.elements() != self.buckets.all()[bucket].elements {
            return Err(ExecutorError::Bucket(bucket));
        }
        self.away[bucket] = false;
        Ok(())
    }

    fn running_statistics(
        &mut self,
        batch_norm: usize,
    ) -> Result<RunningStatistics, ExecutorError> {
        let norm = &self.memory.norms[batch_norm];
        let (channels, [mean, variance]) = (norm.channels, norm.running);
        Ok(RunningStatistics {
            mean: self.floats(mean, channels)?,
            variance: self.floats(variance, channels)?,
        })
    }

    fn set_running_statistics(
        &mut self,
        batch_norm: usize,
        statistics: &RunningStatistics,
    ) -> Result<(), ExecutorError> {
        let norm = &self.memory.norms[batch_norm];
        for (at, values) in norm.running.into_iter().zip([&statistics.mean, &statistics.variance]) {
            let (what, expected, found) =
                ("channels of running statistics", norm.channels, values.len());
            if expected != found {
                return Err(ExecutorError::Size { what, expected, found });
            }
            self.device.write(at, &bytes_of(values))?;
        }
        Ok(())
    }
}
