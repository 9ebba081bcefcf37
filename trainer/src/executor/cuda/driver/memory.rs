//! Memory of a GPU, and memory of the host that a GPU can reach.

#![expect(unsafe_code, reason = "the driver gives out addresses")]

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::{CudaContext, result, sys};

use super::super::arguments::Address;
use super::super::device::DeviceError;
use super::called;

/// A piece of a GPU's memory, freed when it goes.
#[derive(Debug)]
pub(super) struct DeviceMemory {
    context: Arc<CudaContext>,
    address: Address,
    bytes: usize,
}

/// What addresses are counted on to be multiples of.
const ALIGNMENT: u64 = 256;

impl DeviceMemory {
    /// Takes so many bytes.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] if there are not so many.
    pub(super) fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self, DeviceError> {
        context.bind_to_thread().map_err(called("cuCtxSetCurrent"))?;
        // The driver refuses to give nothing.
        // SAFETY: the context is current; the memory is not read before it is written, as nothing
        // here reads it.
        let address = match unsafe { result::malloc_sync(bytes.max(1)) } {
            Ok(address) => address,
            Err(error) if error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                let (free_bytes, _) = free_and_total(context)?;
                return Err(DeviceError::OutOfMemory { wanted_bytes: bytes as u64, free_bytes });
            }
            Err(error) => return Err(called(&format!("cuMemAlloc of {bytes} bytes"))(error)),
        };
        let memory = Self { context: Arc::clone(context), address: Address(address), bytes };
        if !address.is_multiple_of(ALIGNMENT) {
            return Err(DeviceError::Call {
                call: "cuMemAlloc".to_owned(),
                problem: format!("the address {address:#x} is no multiple of {ALIGNMENT}"),
            });
        }
        Ok(memory)
    }

    pub(super) const fn address(&self) -> Address {
        self.address
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: it was allocated in this context and is freed once; the call waits for work
            // that uses it. Nothing can be done about a failure.
            let _ = unsafe { result::free_sync(self.address.0) };
        }
    }
}

/// Bytes that are free on the GPU, and all it has.
pub(super) fn free_and_total(context: &CudaContext) -> Result<(u64, u64), DeviceError> {
    let (free, total) = context.mem_get_info().map_err(called("cuMemGetInfo"))?;
    Ok((free as u64, total as u64))
}

/// Memory of the host that stays where it is, so that a GPU copies from it by itself.
#[derive(Debug)]
pub(super) struct PinnedMemory {
    context: Arc<CudaContext>,
    start: *mut u8,
    bytes: usize,
}

// SAFETY: it is plain memory that only its owner refers to; the driver frees it from any thread.
unsafe impl Send for PinnedMemory {}

impl PinnedMemory {
    /// Takes so many bytes, all zero.
    pub(super) fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self, DeviceError> {
        context.bind_to_thread().map_err(called("cuCtxSetCurrent"))?;
        let bytes = bytes.max(1);
        // SAFETY: the context is current.
        let start = unsafe { result::malloc_host(bytes, 0) }
            .map_err(|error| called(&format!("cuMemHostAlloc of {bytes} bytes"))(error))?
            .cast::<u8>();
        // SAFETY: so many bytes were just given, and nothing else refers to them.
        unsafe { start.write_bytes(0, bytes) };
        Ok(Self { context: Arc::clone(context), start, bytes })
    }

    pub(super) const fn start(&self) -> *const c_void {
        self.start.cast_const().cast()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) const fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: the bytes were written when they were taken, and are borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) }
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: it was given by `malloc_host` and is freed once; who started a copy from it
            // has waited for its end. Nothing can be done about a failure.
            let _ = unsafe { result::free_host(self.start.cast()) };
        }
    }
}
