//! Copies to a GPU while it computes.

#![expect(unsafe_code, reason = "a copy reads memory after the call that starts it")]

use std::sync::Arc;

use cudarc::driver::{CudaStream, sys};

use super::super::arguments::Address;
use super::super::device::DeviceError;
use super::called;
use super::event::Event;
use super::gpu::Gpu;
use super::memory::PinnedMemory;

/// One place on the host from which batches are copied to one place on the GPU, on a stream of its
/// own: [`fill`](Self::fill) it, [`start`](Self::start) the copy, [`hold`](Self::hold) the work that
/// reads the batch, and [`release`](Self::release) the place on the GPU after that work. Two of
/// them, in turns, hide the copies behind the work.
#[derive(Debug)]
pub struct Upload {
    memory: PinnedMemory,
    stream: Arc<CudaStream>,
    /// The last copy has ended.
    copied: Event,
    /// The last batch on the GPU is not needed any more.
    released: Event,
}

impl Upload {
    /// A place for so many bytes.
    ///
    /// # Errors
    /// The host has not so much memory that can be pinned.
    pub fn new(gpu: &Gpu, bytes: usize) -> Result<Self, DeviceError> {
        Ok(Self {
            memory: PinnedMemory::new(gpu.context(), bytes)?,
            stream: gpu.context().new_stream().map_err(called("cuStreamCreate"))?,
            copied: gpu.event()?,
            released: gpu.event()?,
        })
    }

    /// The bytes on the host, once the last copy has read them.
    ///
    /// # Errors
    /// The last copy failed.
    pub fn fill(&mut self) -> Result<&mut [u8], DeviceError> {
        self.copied.wait()?;
        Ok(self.memory.as_mut_slice())
    }

    /// Starts the copy of the first `bytes` bytes, once the place on the GPU has been released.
    ///
    /// # Errors
    /// There are not so many bytes, or the driver failed.
    pub fn start(&mut self, to: Address, bytes: usize) -> Result<(), DeviceError> {
        if bytes > self.memory.bytes() {
            let problem = format!("{bytes} of {} bytes are asked for", self.memory.bytes());
            return Err(DeviceError::Call { call: "cuMemcpyHtoDAsync".to_owned(), problem });
        }
        self.released.hold(&self.stream)?;
        if bytes > 0 {
            let (from, stream) = (self.memory.start(), self.stream.cu_stream());
            // SAFETY: the pinned memory has so many bytes; it is neither changed nor freed before
            // `copied`, which `fill` and `drop` wait for.
            unsafe { sys::cuMemcpyHtoDAsync_v2(to.0, from, bytes, stream) }
                .result()
                .map_err(called("cuMemcpyHtoDAsync"))?;
        }
        self.copied.record(&self.stream)
    }

    /// Lets the GPU's work that is given from now on wait for the copy.
    ///
    /// # Errors
    /// Work is being captured, which would wait for nothing but other captured work; or the driver
    /// failed.
    pub fn hold(&self, gpu: &Gpu) -> Result<(), DeviceError> {
        gpu.refuse_while_capturing("waiting for a copy to the GPU")?;
        self.copied.hold(gpu.stream())
    }

    /// Lets the next copy wait for the GPU's work that has been given up to now.
    ///
    /// # Errors
    /// Work is being captured, after which a copy cannot wait for it; or the driver failed.
    pub fn release(&self, gpu: &Gpu) -> Result<(), DeviceError> {
        gpu.refuse_while_capturing("releasing the place of a copy to the GPU")?;
        self.released.record(gpu.stream())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // The memory may be read until then. Nothing can be done about a failure.
        let _ = self.stream.synchronize();
    }
}
