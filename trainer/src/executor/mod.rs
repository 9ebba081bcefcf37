//! What runs the instructions of a plan.
//!
//! An [`Executor`] holds the activations, the weights that are computed with, the gradients and the
//! state of batch norms of one rank, on one device. It knows nothing of ranks, optimizers or time:
//! [`crate::step`] drives it. There is one for CPUs ([`cpu`]), one for NVIDIA GPUs ([`cuda`]), and one that only
//! replays recorded times ([`paced`]).

pub mod cpu;
pub mod cuda;
pub mod paced;

use std::num::NonZeroUsize;
use std::ops::Range;

use candle_core::{CpuStorage, Storage, Tensor};
use foretrain_sim::workload::Shape;
use half::{bf16, f16};

use self::cuda::device::DeviceError;
use crate::plan::ParameterId;

/// What does not change from step to step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExecutorSettings {
    /// Images there is room for.
    pub batch: NonZeroUsize,
    /// Images that share batch-norm statistics in training; all of the batch if none. In a batch
    /// that is no multiple, those that are left over share theirs.
    pub batch_norm_span: Option<NonZeroUsize>,
    /// How much of the running statistics each batch replaces.
    pub batch_norm_momentum: f64,
    /// What is added to a variance.
    pub batch_norm_epsilon: f64,
    /// The part of the label that is spread over all classes.
    pub label_smoothing: f64,
    /// The part of the elements that dropout makes 0.
    pub dropout_rate: f64,
}

/// Losses and hits of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LossSum {
    /// The losses of all images.
    pub loss: f64,
    /// The images whose label has the largest logit.
    pub hits: u64,
    /// The images whose label is among the five largest logits.
    pub hits_top5: u64,
}

/// The gradients of a bucket, in the format in which they are computed.
#[derive(Debug, Clone, PartialEq)]
pub enum GradientBuffer {
    /// IEEE half precision.
    F16(Vec<f16>),
    /// The upper half of single precision.
    Bf16(Vec<bf16>),
    /// Single precision.
    F32(Vec<f32>),
    /// Double precision, for comparisons.
    F64(Vec<f64>),
}

/// Whether weights learn from a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Batch norms use the statistics of the batch and note them; dropout drops.
    Train,
    /// Batch norms use their running statistics; dropout does nothing.
    Evaluate,
}

/// What differs from step to step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pass {
    /// Whether weights learn.
    pub mode: Mode,
    /// The gradient of the sum of the losses is multiplied by this: the loss scale divided by the
    /// global batch, so that the sum over the ranks is the mean's gradient times the scale.
    pub gradient_factor: f64,
    /// The seed of this step's dropout.
    pub dropout_key: u64,
    /// The number of this rank's first image in the global batch.
    pub first_image: u64,
}

/// Running statistics of one batch norm.
#[derive(Debug, Clone, PartialEq)]
pub struct RunningStatistics {
    /// For each channel.
    pub mean: Vec<f32>,
    /// For each channel, divided by one less than the number of values.
    pub variance: Vec<f32>,
}

/// Why an executor cannot take what it is given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecutorError {
    /// A batch has the wrong size.
    #[error("expected {expected} {what}, found {found}")]
    Size {
        /// What was counted, such as "pixels of images".
        what: &'static str,
        /// How many there must be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// More images than there is room for.
    #[error("{found} images, expected 1 to {capacity}, and room for a multiple of {span}")]
    Batch {
        /// Images that came.
        found: usize,
        /// Images that there is room for.
        capacity: usize,
        /// Images that share batch-norm statistics.
        span: usize,
    },
    /// A label that is no class.
    #[error("label {label} of image {image}: expected less than {classes}")]
    Label {
        /// The image's place in the batch.
        image: usize,
        /// Its label.
        label: u32,
        /// The number of classes.
        classes: usize,
    },
    /// A tensor that is not on this device or of the wrong type.
    #[error("{0}")]
    Tensor(String),
    /// The plan cannot run on this device.
    #[error("{0}")]
    Plan(String),
    /// A bucket of another format or size than the one that was taken.
    #[error("bucket {0} came back in another format or size")]
    Bucket(usize),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A bucket that is still away.
    #[error("bucket {0} is needed but has not come back")]
    BucketAway(usize),
}

/// A batch as candle tensors.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `batch × height × width × channels`, in single precision, or for GPUs bytes as decoded.
    pub images: Tensor,
    /// `batch`, u32.
    pub labels: Tensor,
}

/// The images of a batch.
#[derive(Debug, Clone, Copy)]
enum Images<'a> {
    /// Ready to be computed with.
    Numbers(&'a [f32]),
    /// As they were decoded, to be normalised.
    Bytes(&'a [u8]),
}

impl Images<'_> {
    const fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

impl Batch {
    /// Gives images of this shape and their labels to `take`.
    ///
    /// # Errors
    /// Tensors of another shape or type, not contiguous or not in this machine's memory.
    fn read<R>(
        &self,
        shape: Shape,
        take: impl FnOnce(Images<'_>, &[u32]) -> Result<R, ExecutorError>,
    ) -> Result<R, ExecutorError> {
        let Shape { channels, height, width } = shape;
        let (found, image) = (self.images.dims(), [height, width, channels].map(|n| n as usize));
        if found.get(1..) != Some(&image) {
            let expected = format!("expected images of batch × {height} × {width} × {channels}");
            return Err(ExecutorError::Tensor(format!("{expected}, found {found:?}")));
        }
        with_storage(&self.images, |images, image_range| {
            with_storage(&self.labels, |labels, label_range| match (images, labels) {
                (CpuStorage::F32(images), CpuStorage::U32(labels)) => {
                    take(Images::Numbers(&images[image_range]), &labels[label_range])
                }
                (CpuStorage::U8(images), CpuStorage::U32(labels)) => {
                    take(Images::Bytes(&images[image_range]), &labels[label_range])
                }
                _ => {
                    let problem = "expected images of f32 or u8 and labels of u32";
                    Err(ExecutorError::Tensor(problem.to_owned()))
                }
            })
        })
    }
}

impl ExecutorSettings {
    /// Whether images of so many numbers with these labels fit.
    fn check_batch(
        &self,
        numbers: usize,
        labels: &[u32],
        image: Shape,
        classes: usize,
    ) -> Result<(), ExecutorError> {
        let (found, capacity) = (labels.len(), self.batch.get());
        if found == 0 || found > capacity {
            let span = self.batch_norm_span.map_or(1, NonZeroUsize::get);
            return Err(ExecutorError::Batch { found, capacity, span });
        }
        let expected = found * image.elements() as usize;
        if numbers != expected {
            let what = "numbers of images";
            return Err(ExecutorError::Size { what, expected, found: numbers });
        }
        match labels.iter().enumerate().find(|(_, label)| **label as usize >= classes) {
            Some((image, &label)) => Err(ExecutorError::Label { image, label, classes }),
            None => Ok(()),
        }
    }
}

/// The elements of a contiguous tensor.
fn with_storage<R>(
    tensor: &Tensor,
    read: impl FnOnce(&CpuStorage, Range<usize>) -> Result<R, ExecutorError>,
) -> Result<R, ExecutorError> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        return Err(ExecutorError::Tensor("expected a contiguous tensor".to_owned()));
    };
    match &*storage {
        Storage::Cpu(storage) => read(storage, start..end),
        _ => Err(ExecutorError::Tensor("expected a tensor in the CPU's memory".to_owned())),
    }
}

/// Runs instructions of a plan.
pub trait Executor: Send {
    /// Takes new weights, in the order inside.
    ///
    /// # Errors
    /// The wrong number of them.
    fn load_weights(
        &mut self,
        parameter: ParameterId,
        weights: &[f32],
    ) -> Result<(), ExecutorError>;

    /// Takes the images and labels of the next pass.
    ///
    /// # Errors
    /// Shapes or labels that do not fit the plan.
    fn load_batch(&mut self, batch: &Batch) -> Result<(), ExecutorError>;

    /// Runs an instruction forward.
    ///
    /// # Errors
    /// The device failed.
    fn forward(&mut self, instruction: usize, pass: Pass) -> Result<(), ExecutorError>;

    /// Runs an instruction backward.
    ///
    /// # Errors
    /// A bucket it must write to is away, or the device failed.
    fn backward(&mut self, instruction: usize, pass: Pass) -> Result<(), ExecutorError>;

    /// The loss of the last forward pass.
    ///
    /// # Errors
    /// The device failed.
    fn loss(&mut self) -> Result<LossSum, ExecutorError>;

    /// Hands over the gradients of a bucket, all of which have been written.
    ///
    /// # Errors
    /// The bucket is away already.
    fn take_bucket(&mut self, bucket: usize) -> Result<GradientBuffer, ExecutorError>;

    /// Takes back the memory of a bucket.
    ///
    /// # Errors
    /// It is not what was taken.
    fn return_bucket(&mut self, bucket: usize, values: GradientBuffer)
    -> Result<(), ExecutorError>;

    /// The running statistics of a batch norm.
    ///
    /// # Errors
    /// The device failed.
    fn running_statistics(&mut self, batch_norm: usize)
    -> Result<RunningStatistics, ExecutorError>;

    /// Sets the running statistics of a batch norm.
    ///
    /// # Errors
    /// The wrong number of channels.
    fn set_running_statistics(
        &mut self,
        batch_norm: usize,
        statistics: &RunningStatistics,
    ) -> Result<(), ExecutorError>;
}
