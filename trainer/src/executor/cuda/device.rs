//! What carries out the work: a GPU, or for tests this machine.

use std::fmt;

use super::arguments::Address;
use super::work::Work;

/// Why a GPU cannot be used, in a sentence for the person at the terminal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// A library, a driver or a GPU is not there.
    #[error("{0}")]
    Missing(String),
    /// More memory was asked for than there is.
    #[error(
        "the GPU has {free_bytes} bytes of memory left and {wanted_bytes} are needed: expected a \
         smaller batch for each rank, or a GPU with more memory"
    )]
    OutOfMemory {
        /// What was asked for.
        wanted_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// A call into one of the GPU's libraries failed.
    #[error("{call} failed: {problem}")]
    Call {
        /// What was called, and for what.
        call: String,
        /// What the library says.
        problem: String,
    },
}

/// Something that has memory and does work on it, in order.
pub trait Device: Send {
    /// Captured work; it goes before the device goes.
    type Graph: fmt::Debug + Send;
    /// A moment in the device's work.
    type Moment: fmt::Debug + Send;
    /// A place on the host from which the device copies while it works.
    type Upload: fmt::Debug + Send;

    /// Memory that stays until the device goes, aligned to 256 bytes.
    ///
    /// # Errors
    /// There is not so much.
    fn allocate(&mut self, bytes: usize) -> Result<Address, DeviceError>;

    /// Copies to the device, after all work that was given before.
    ///
    /// # Errors
    /// The device failed.
    fn write(&mut self, to: Address, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Copies from the device, after all work that was given before.
    ///
    /// # Errors
    /// The device failed.
    fn read(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), DeviceError>;

    /// Gets ready for this work: compiles, chooses algorithms, takes workspace. Memory that the work
    /// writes may be overwritten.
    ///
    /// # Errors
    /// Something in it cannot be done.
    fn prepare(&mut self, work: &[Work]) -> Result<(), DeviceError>;

    /// Gives work, without waiting for its end.
    ///
    /// # Errors
    /// It was not prepared, or the device failed.
    fn enqueue(&mut self, work: &Work) -> Result<(), DeviceError>;

    /// Waits until all work has been done.
    ///
    /// # Errors
    /// The device failed.
    fn finish(&mut self) -> Result<(), DeviceError>;

    /// What the device is, and with which driver and libraries it works, in words.
    fn description(&self) -> String;

    /// Captures the work that `give` gives, without doing it; all of it must have been done before.
    ///
    /// # Errors
    /// Those of `give`, or something in it cannot be captured.
    fn capture<E: From<DeviceError>>(
        &mut self,
        give: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<Self::Graph, E>
    where
        Self: Sized;

    /// Gives captured work, without waiting for its end.
    ///
    /// # Errors
    /// Another device captured it, or the device failed.
    fn launch_graph(&mut self, graph: &Self::Graph) -> Result<(), DeviceError>;

    /// A moment that can be timed, not yet marked.
    ///
    /// # Errors
    /// The device failed.
    fn moment(&mut self) -> Result<Self::Moment, DeviceError>;

    /// Makes `moment` the one at which all work that was given before has been done; while work is
    /// captured, that of each launch of the graph.
    ///
    /// # Errors
    /// The device failed.
    fn mark(&mut self, moment: &Self::Moment) -> Result<(), DeviceError>;

    /// Whether a moment that was marked, not in a graph, has passed.
    ///
    /// # Errors
    /// The device failed, or work before it.
    fn has_passed(&mut self, moment: &Self::Moment) -> Result<bool, DeviceError>;

    /// Seconds from one moment to a later one, both past.
    ///
    /// # Errors
    /// One of them was never marked, or has not passed.
    fn seconds_between(
        &mut self,
        from: &Self::Moment,
        to: &Self::Moment,
    ) -> Result<f64, DeviceError>;

    /// A place on the host for so many bytes.
    ///
    /// # Errors
    /// The host has not so much memory that the device can read.
    fn upload(&mut self, bytes: usize) -> Result<Self::Upload, DeviceError>;

    /// The place's bytes, to be written once the last copy has read them.
    ///
    /// # Errors
    /// The last copy failed.
    fn fill<'u>(&mut self, upload: &'u mut Self::Upload) -> Result<&'u mut [u8], DeviceError>;

    /// Starts copying the first `bytes` bytes of the place, beside the device's work, once the work
    /// that was given before the last [`release`](Self::release) has been done.
    ///
    /// # Errors
    /// There are not so many bytes, or the device failed.
    fn start(
        &mut self,
        upload: &mut Self::Upload,
        to: Address,
        bytes: usize,
    ) -> Result<(), DeviceError>;

    /// Lets the work that is given from now on wait for the copy.
    ///
    /// # Errors
    /// Work is being captured, or the device failed.
    fn hold(&mut self, upload: &mut Self::Upload) -> Result<(), DeviceError>;

    /// Says that the next copy may overwrite the last once the work given up to now has been done.
    ///
    /// # Errors
    /// Work is being captured, or the device failed.
    fn release(&mut self, upload: &mut Self::Upload) -> Result<(), DeviceError>;
}
