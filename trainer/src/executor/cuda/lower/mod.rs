//! From the instructions of a plan to work on a GPU.
//!
//! A [`Program`] is for one number of images: with it, all addresses and sizes are known. What
//! differs from step to step lies in the GPU's memory ([`StepInput`], [`StepState`]), so the same
//! work can be done again and again, or be captured once as a graph.
//!
//! [`StepInput`]: super::arguments::optimizer::StepInput
//! [`StepState`]: super::arguments::optimizer::StepState

mod batch_norm;
mod layers;
mod optimizer;

use foretrain_sim::recording::NumberFormat;

pub use optimizer::{OptimizerTables, optimizer_bytes, tables};

use super::arguments::batch_norm::CommitStatistics;
use super::arguments::grid::blocks_for;
use super::arguments::input::{NormaliseImages, PadFilters, TakeImages};
use super::arguments::pointwise::Cast;
use super::arguments::{Address, Arguments};
use super::kernels::format_number;
use super::memory::Memory;
use super::work::Work;
use crate::executor::ExecutorSettings;
use crate::plan::{Kind, Operand, ParameterId, Plan};

/// Why a plan cannot run on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LowerError {
    /// Vectors of eight elements would be cut.
    #[error(
        "`{instruction}` has {channels} channels: expected a multiple of 8, as the kernels for GPUs \
         need"
    )]
    Channels {
        /// The instruction.
        instruction: String,
        /// Its channels.
        channels: usize,
    },
    /// Something else than one convolution looks at the images.
    #[error(
        "`{instruction}` reads the images: on GPUs exactly one convolution without groups can, since \
         their channels are padded"
    )]
    Images {
        /// The instruction.
        instruction: String,
    },
}

/// The work of a step on so many images.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// Takes images of single precision, and labels, from where they were copied to.
    pub take: Vec<Work>,
    /// Takes images of bytes, and labels; empty if it is not known what a byte stands for.
    pub take_bytes: Vec<Work>,
    /// For each instruction, forward in training.
    pub forward: Vec<Vec<Work>>,
    /// For each instruction, forward in evaluation.
    pub evaluate: Vec<Vec<Work>>,
    /// For each instruction, backward.
    pub backward: Vec<Vec<Work>>,
    /// Takes over the running statistics, unless the step is skipped.
    pub commit: Vec<Work>,
}

impl Program {
    /// The work of training, to get ready for.
    pub fn training(&self) -> impl Iterator<Item = &Work> {
        let instructions = self.forward.iter().chain(&self.backward);
        self.taking().chain(instructions.flatten()).chain(&self.commit)
    }

    /// The work of evaluation, to get ready for.
    pub fn evaluation(&self) -> impl Iterator<Item = &Work> {
        self.taking().chain(self.evaluate.iter().flatten())
    }

    fn taking(&self) -> impl Iterator<Item = &Work> {
        self.take.iter().chain(&self.take_bytes)
    }
}

/// What a byte of an image stands for: byte · factor + offset, for each of up to four channels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ByteScale {
    /// For each channel; those that images do not have are not looked at.
    pub factors: [f32; 4],
    /// For each channel.
    pub offsets: [f32; 4],
}

impl ByteScale {
    /// From means and standard deviations of samples in 0 to 1, one of each for every channel:
    /// (byte / 255 − mean) / deviation.
    #[must_use]
    pub fn new(means: &[f32], deviations: &[f32]) -> Self {
        let (mut factors, mut offsets) = ([0.0; 4], [0.0; 4]);
        for (channel, (mean, deviation)) in means.iter().zip(deviations).take(4).enumerate() {
            factors[channel] = 1.0 / (255.0 * deviation);
            offsets[channel] = -mean / deviation;
        }
        Self { factors, offsets }
    }
}

/// What lowering an instruction needs to know.
#[derive(Debug, Clone, Copy)]
struct Lowering<'a> {
    memory: &'a Memory,
    settings: &'a ExecutorSettings,
    images: usize,
}

/// Lowers `plan` for `images` images; no more than the memory has room for. Images of bytes can be
/// taken if `bytes` says what they stand for.
///
/// # Errors
/// The kernels cannot do it.
pub fn program(
    plan: &Plan,
    memory: &Memory,
    settings: &ExecutorSettings,
    images: usize,
    bytes: Option<&ByteScale>,
) -> Result<Program, LowerError> {
    let lowering = Lowering { memory, settings, images };
    let (running, next, elements) = memory.running;
    let commit =
        CommitStatistics { next, running, elements: elements as u64, state: memory.step[1] };
    let mut program = Program {
        take: take(plan, memory, images),
        take_bytes: bytes.map_or_else(Vec::new, |scale| take_bytes(plan, memory, images, scale)),
        forward: Vec::new(),
        evaluate: Vec::new(),
        backward: Vec::new(),
        commit: Vec::new(),
    };
    if elements > 0 {
        program.commit.push(Work::Launch(commit.launch(commit.grid())));
    }
    for (index, instruction) in plan.instructions().iter().enumerate() {
        if let Some(channels) = vector_channels(&instruction.kind).filter(|c| !c.is_multiple_of(8))
        {
            return Err(LowerError::Channels { instruction: instruction.name.clone(), channels });
        }
        program.forward.push(lowering.forward(index, &instruction.kind, true));
        program.evaluate.push(lowering.forward(index, &instruction.kind, false));
        program.backward.push(lowering.backward(index, &instruction.kind));
    }
    Ok(program)
}

/// Pixels of so many images.
fn pixels(plan: &Plan, images: usize) -> u64 {
    let shape = plan.image_shape();
    shape.height * shape.width * images as u64
}

/// Takes the labels from behind images of so many bytes.
fn take_labels(memory: &Memory, images: usize, image_bytes: u64) -> Work {
    Work::Copy {
        from: memory.staging.add(Memory::staged_labels(image_bytes as usize)),
        to: memory.labels,
        bytes: images * 4,
    }
}

fn take(plan: &Plan, memory: &Memory, images: usize) -> Vec<Work> {
    let (channels, padded) = memory.image_channels;
    let pixels = pixels(plan, images);
    let take = TakeImages {
        from: memory.staging,
        to: memory.padded_images,
        pixels,
        channels: channels as u32,
        padded: padded as u32,
    };
    let labels = take_labels(memory, images, pixels * channels as u64 * 4);
    vec![Work::Launch(take.launch(blocks_for(pixels))), labels]
}

fn take_bytes(plan: &Plan, memory: &Memory, images: usize, scale: &ByteScale) -> Vec<Work> {
    let (channels, padded) = memory.image_channels;
    let pixels = pixels(plan, images);
    let ByteScale { factors, offsets } = *scale;
    let normalise = NormaliseImages {
        from: memory.staging,
        to: memory.padded_images,
        pixels,
        channels: channels as u32,
        padded: padded as u32,
        factor_0: factors[0],
        factor_1: factors[1],
        factor_2: factors[2],
        factor_3: factors[3],
        offset_0: offsets[0],
        offset_1: offsets[1],
        offset_2: offsets[2],
        offset_3: offsets[3],
    };
    let labels = take_labels(memory, images, pixels * channels as u64);
    vec![Work::Launch(normalise.launch(blocks_for(pixels))), labels]
}

/// Rounds all weights for the passes.
#[must_use]
pub fn round_weights(plan: &Plan, memory: &Memory) -> Vec<Work> {
    plan.parameter_ids().filter_map(|id| round(plan, memory, id)).collect()
}

/// Rounds one tensor of weights; batch norms use single precision.
fn round(plan: &Plan, memory: &Memory, id: ParameterId) -> Option<Work> {
    let (from, to) = (memory.masters[id.get()], memory.copies[id.get()]);
    let elements = plan.parameters()[id.get()].elements() as u64;
    if let Some(filters) = memory.padded_filters.filter(|filters| filters.parameter == id) {
        let (rows, channels) = (filters.rows as u64, filters.channels as u32);
        let pad = PadFilters { from, to, rows, channels, padded: filters.padded as u32 };
        return Some(Work::Launch(pad.launch(blocks_for(rows))));
    }
    let from_format = format_number(NumberFormat::F32);
    let to_format = format_number(memory.format);
    let cast = Cast { from, to, elements, from_format, to_format };
    Some(Work::Launch(cast.launch(blocks_for(elements))))
}

/// Channels that are looked at in vectors of eight.
fn vector_channels(kind: &Kind) -> Option<usize> {
    match kind {
        Kind::BatchNorm { shape, .. } | Kind::GlobalAveragePool { shape, .. } => {
            Some(shape.channels as usize)
        }
        Kind::MaxPool { window, .. } => Some(window.input_channels),
        _ => None,
    }
}

/// Where the gradient of an operand goes, and whether it is added; null if nobody wants it.
fn target(memory: &Memory, operand: Operand) -> (Address, bool) {
    operand
        .gradient
        .map_or((Address::NULL, false), |target| (memory.buffer(target.buffer), target.accumulate))
}
