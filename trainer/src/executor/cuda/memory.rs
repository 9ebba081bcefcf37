//! Where everything lies in the GPU's memory: one piece, cut before the first step.

use std::num::NonZeroUsize;

use foretrain_sim::recording::NumberFormat;

use super::arguments::Address;
use super::arguments::batch_norm::statistics_blocks;
use super::arguments::linear::column_blocks;
use super::arguments::optimizer::{
    RATES_HEADER, RuleEntry, StepInput, StepState, TensorEntry, parts,
};
use super::lower::LowerError;
use crate::executor::ExecutorSettings;
use crate::plan::buckets::Buckets;
use crate::plan::{BufferId, Kind, ParameterId, Plan};

/// Each place begins at a multiple of this many bytes, as memory of CUDA does.
const ALIGNMENT_BYTES: usize = 256;
/// Each gradient begins at a multiple of this many bytes inside its bucket, as cuDNN wants.
const GRADIENT_ALIGNMENT_BYTES: usize = 16;
/// Images have a multiple of this many channels in memory, as tensor cores want; those that are
/// missing are zeros.
const IMAGE_CHANNELS: usize = 4;

/// Where a piece of memory is cut.
#[derive(Debug, Default)]
struct Cutter {
    bytes: usize,
}

impl Cutter {
    /// A place for so many bytes, as if memory began at 0.
    fn take(&mut self, bytes: usize) -> Address {
        let start = self.bytes.next_multiple_of(ALIGNMENT_BYTES);
        self.bytes = start + bytes;
        Address(start as u64)
    }
}

/// What one batch norm keeps. Each is in single precision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormMemory {
    /// Channels.
    pub channels: usize,
    /// For each group of images, in turn: mean, 1 / √(v + ε).
    pub groups: Vec<[Address; 2]>,
    /// Of the group at hand: what multiplies and what is added.
    pub factors: [Address; 2],
    /// Of the group at hand: coefficients of the gradient.
    pub coefficients: Address,
    /// Running mean and variance.
    pub running: [Address; 2],
    /// What they become if the step is not skipped.
    pub next: [Address; 2],
}

/// A bucket of gradients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketMemory {
    /// Where it is.
    pub at: Address,
    /// Its elements, those between gradients included, which stay zero.
    pub elements: usize,
}

/// The parameter that sees images, whose input channels are padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaddedFilters {
    /// Which.
    pub parameter: ParameterId,
    /// Output channels times window positions.
    pub rows: usize,
    /// Input channels.
    pub channels: usize,
    /// Input channels in memory.
    pub padded: usize,
    /// Where the gradient of the padded filters goes.
    pub gradient: Address,
}

/// All places.
#[derive(Debug, Clone, PartialEq)]
pub struct Memory {
    /// The format of activations.
    pub format: NumberFormat,
    /// Images there is room for.
    pub capacity: usize,
    /// The piece that all places are cut from.
    pub bytes: usize,
    /// Activations and their gradients.
    arena: Address,
    offsets: Vec<usize>,
    elements: Vec<usize>,
    images: BufferId,
    /// The images as they come, single precision or bytes, and after them the labels; see
    /// [`Self::staged_labels`].
    pub staging: Address,
    /// The images, padded.
    pub padded_images: Address,
    /// Channels of an image, and in memory.
    pub image_channels: (usize, usize),
    /// A `u32` for each image.
    pub labels: Address,
    /// Single-precision weights, in the GPU's order.
    pub masters: Vec<Address>,
    /// Velocities of the optimizer.
    pub velocities: Vec<Address>,
    /// Weights in the format of activations; padded for the filters that see images.
    pub copies: Vec<Address>,
    /// Gradients in the format of activations.
    pub gradients: Vec<Address>,
    /// What they lie in.
    pub buckets: Vec<BucketMemory>,
    /// The filters that see images, if they must be padded.
    pub padded_filters: Option<PaddedFilters>,
    /// The batch norms.
    pub norms: Vec<NormMemory>,
    /// All running statistics, what they become, and how many numbers each is.
    pub running: (Address, Address, usize),
    /// Bytes of the max pools.
    pub positions: Vec<Address>,
    /// For each image a loss and a rank, and the sums.
    pub losses: [Address; 3],
    /// Sums of blocks.
    pub partial: Address,
    /// What the host says before a step, and what a step leaves to the next.
    pub step: [Address; 2],
    /// Of the optimizer: tensors, the tensor of each block, sums of blocks, rates, rule.
    pub optimizer: [Address; 5],
}

impl Memory {
    /// Cuts memory for a plan, as if it began at 0; see [`Self::at`].
    ///
    /// # Errors
    /// The images are not read by exactly one ungrouped convolution.
    pub fn plan(
        plan: &Plan,
        buckets: &Buckets,
        settings: &ExecutorSettings,
        format: NumberFormat,
    ) -> Result<Self, LowerError> {
        let capacity = settings.batch.get();
        let element = format.element_bytes() as usize;
        let mut cutter = Cutter::default();
        let channels = plan.image_shape().channels as usize;
        let padded = channels.next_multiple_of(IMAGE_CHANNELS);
        let pixels = (plan.image_shape().height * plan.image_shape().width) as usize * capacity;
        let padded_images = cutter.take(pixels * padded * element);
        let staging = cutter.take(pixels * channels * 4 + capacity * 4);
        let labels = cutter.take(capacity * 4);
        let arena = cutter.take(plan.arena_elements() * capacity * element);
        let padded_filters = padded_filters(plan, (channels, padded))?.map(|filters| {
            PaddedFilters { gradient: cutter.take(filters.rows * padded * element), ..filters }
        });
        let sizes: Vec<usize> = plan.parameters().iter().map(|tensor| tensor.elements()).collect();
        let mut vectors = || sizes.iter().map(|elements| cutter.take(elements * 4)).collect();
        let (masters, velocities) = (vectors(), vectors());
        let copy = |(index, elements): (usize, &usize)| {
            let filters = padded_filters.filter(|filters| filters.parameter.get() == index);
            cutter.take(filters.map_or(*elements, |filters| filters.rows * padded) * element)
        };
        let copies = sizes.iter().enumerate().map(copy).collect();
        let (gradients, buckets) = cut_buckets(&mut cutter, &sizes, buckets, element);
        let (norms, running) = cut_norms(&mut cutter, plan, settings);
        let mut positions = Vec::new();
        let mut losses = [Address::NULL; 3];
        for instruction in plan.instructions() {
            match &instruction.kind {
                Kind::MaxPool { window, .. } => {
                    positions.push(cutter.take(window.output_elements() * capacity));
                }
                Kind::Loss { .. } => {
                    losses = [capacity * 4, capacity * 4, 24].map(|bytes| cutter.take(bytes));
                }
                _ => {}
            }
        }
        let partial = cutter.take(partial_bytes(plan, capacity));
        let step = [cutter.take(StepInput::size()), cutter.take(StepState::size())];
        let blocks = parts(&sizes).0.len();
        let optimizer = [
            sizes.len() * TensorEntry::size(),
            blocks * 4,
            blocks * 3 * 8,
            RATES_HEADER + sizes.len() * 2 * 4,
            RuleEntry::size(),
        ];
        let optimizer = optimizer.map(|bytes| cutter.take(bytes));
        Ok(Self {
            format,
            capacity,
            bytes: cutter.bytes,
            arena,
            offsets: plan
                .buffers()
                .iter()
                .map(|buffer| buffer.offset * capacity * element)
                .collect(),
            elements: plan.buffers().iter().map(|buffer| buffer.elements).collect(),
            images: plan.images(),
            staging,
            padded_images,
            image_channels: (channels, padded),
            labels,
            masters,
            velocities,
            copies,
            gradients,
            buckets,
            padded_filters,
            norms,
            running,
            positions,
            losses,
            partial,
            step,
            optimizer,
        })
    }

    /// The same places in a piece of memory that begins at `base`.
    #[must_use]
    pub fn at(mut self, base: Address) -> Self {
        let places = [
            &mut self.arena,
            &mut self.staging,
            &mut self.padded_images,
            &mut self.labels,
            &mut self.running.0,
            &mut self.running.1,
            &mut self.partial,
        ];
        let vectors = [
            &mut self.masters,
            &mut self.velocities,
            &mut self.copies,
            &mut self.gradients,
            &mut self.positions,
        ];
        let norms = self.norms.iter_mut().flat_map(|norm| {
            let groups = norm.groups.iter_mut().flatten();
            let others = norm.factors.iter_mut().chain(&mut norm.running).chain(&mut norm.next);
            groups.chain(others).chain([&mut norm.coefficients])
        });
        let all = places
            .into_iter()
            .chain(vectors.into_iter().flatten())
            .chain(self.buckets.iter_mut().map(|bucket| &mut bucket.at))
            .chain(self.padded_filters.as_mut().map(|filters| &mut filters.gradient))
            .chain(norms)
            .chain(&mut self.losses)
            .chain(&mut self.step)
            .chain(&mut self.optimizer);
        for place in all {
            place.0 += base.0;
        }
        self
    }

    /// Where labels are in what was copied, behind images of so many bytes.
    #[must_use]
    pub const fn staged_labels(image_bytes: usize) -> usize {
        image_bytes.next_multiple_of(4)
    }

    /// Elements of a buffer for each image.
    #[must_use]
    pub fn elements(&self, buffer: BufferId) -> usize {
        self.elements[buffer.get()]
    }

    /// Where a buffer of the plan is.
    #[must_use]
    pub fn buffer(&self, buffer: BufferId) -> Address {
        if buffer == self.images {
            return self.padded_images;
        }
        self.arena.add(self.offsets[buffer.get()])
    }
}

/// The filters that see images, if images must be padded.
fn padded_filters(
    plan: &Plan,
    (channels, padded): (usize, usize),
) -> Result<Option<PaddedFilters>, LowerError> {
    let mut found = None;
    if padded == channels {
        return Ok(None);
    }
    for instruction in plan.instructions() {
        let name = || instruction.name.clone();
        match instruction.kind {
            Kind::Convolution { window, input, weight, .. } if input.buffer == plan.images() => {
                if window.groups > 1 || found.is_some() {
                    return Err(LowerError::Images { instruction: name() });
                }
                let rows = window.output_channels * window.kernel * window.kernel;
                let (parameter, gradient) = (weight, Address::NULL);
                found = Some(PaddedFilters { parameter, rows, channels, padded, gradient });
            }
            ref other if other.operands().any(|operand| operand.buffer == plan.images()) => {
                return Err(LowerError::Images { instruction: name() });
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Gradients in their buckets, each aligned.
fn cut_buckets(
    cutter: &mut Cutter,
    sizes: &[usize],
    buckets: &Buckets,
    element: usize,
) -> (Vec<Address>, Vec<BucketMemory>) {
    let mut gradients = vec![Address::NULL; sizes.len()];
    let mut memory = Vec::new();
    for bucket in buckets.all() {
        let aligned =
            |elements: usize| elements.next_multiple_of(GRADIENT_ALIGNMENT_BYTES / element);
        let elements =
            bucket.gradients.iter().map(|(id, _)| aligned(sizes[id.get()])).sum::<usize>();
        let at = cutter.take(elements * element);
        let mut offset = 0;
        for (id, _) in &bucket.gradients {
            gradients[id.get()] = at.add(offset * element);
            offset += aligned(sizes[id.get()]);
        }
        memory.push(BucketMemory { at, elements });
    }
    (gradients, memory)
}

fn cut_norms(
    cutter: &mut Cutter,
    plan: &Plan,
    settings: &ExecutorSettings,
) -> (Vec<NormMemory>, (Address, Address, usize)) {
    let span = settings.batch_norm_span.map_or(settings.batch.get(), NonZeroUsize::get);
    let groups = settings.batch.get().div_ceil(span);
    let elements: usize = plan.batch_norms().iter().map(|norm| 2 * norm.channels).sum();
    let (running, next) = (cutter.take(elements * 4), cutter.take(elements * 4));
    let mut offset = 0;
    let mut norm = |channels: usize| {
        let mut pair = || [(); 2].map(|()| cutter.take(channels * 4));
        let (groups, factors) = ((0..groups).map(|_| pair()).collect(), pair());
        let coefficients = cutter.take(3 * channels * 4);
        let mean = offset * 4;
        let variance = mean + channels * 4;
        offset += 2 * channels;
        NormMemory {
            channels,
            groups,
            factors,
            coefficients,
            running: [running.add(mean), running.add(variance)],
            next: [next.add(mean), next.add(variance)],
        }
    };
    let norms = plan.batch_norms().iter().map(|info| norm(info.channels)).collect();
    (norms, (running, next, elements))
}

/// Room for the sums of the blocks of whichever reduction has most.
fn partial_bytes(plan: &Plan, capacity: usize) -> usize {
    let bytes = |kind: &Kind| match *kind {
        Kind::BatchNorm { shape, .. } => {
            let rows = shape.height * shape.width * capacity as u64;
            // Fewer images have no more blocks.
            let blocks = statistics_blocks(rows, shape.channels as u32) as usize;
            blocks * 2 * shape.channels as usize * 4
        }
        Kind::Convolution { window, .. } => {
            let rows = (window.output_pixels() * capacity) as u64;
            let columns = window.output_channels as u32;
            column_blocks(rows, columns) as usize * columns as usize * 4
        }
        Kind::Linear { outputs, .. } => {
            column_blocks(capacity as u64, outputs as u32) as usize * outputs * 4
        }
        _ => 0,
    };
    plan.instructions().iter().map(|instruction| bytes(&instruction.kind)).max().unwrap_or(0)
}
