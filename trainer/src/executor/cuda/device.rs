//! What carries out the work: a GPU, or for tests this machine.

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
}
