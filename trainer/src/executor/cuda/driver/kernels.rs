//! The own kernels on a GPU.

#![expect(unsafe_code, reason = "the driver is called with a kernel's argument")]

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaStream, result, sys};

use super::super::arguments::{Launch, all_kernels};
use super::super::device::DeviceError;
use super::called;

/// Threads of each block, as the kernels have it.
const THREADS: u32 = 256;

/// The kernels on a GPU.
pub(super) struct Kernels {
    context: Arc<CudaContext>,
    module: sys::CUmodule,
    /// By name, with the bytes of their arguments.
    functions: HashMap<&'static str, (sys::CUfunction, usize)>,
}

// SAFETY: modules and functions belong to the context, which is made current in a thread before they
// are used in it; only their owner refers to them.
unsafe impl Send for Kernels {}

impl Kernels {
    pub(super) fn load(context: &Arc<CudaContext>, code: &[u8]) -> Result<Self, DeviceError> {
        context.bind_to_thread().map_err(called("cuCtxSetCurrent"))?;
        // SAFETY: the code is a whole CUBIN, or PTX with a zero at its end.
        let module = unsafe { result::module::load_data(code.as_ptr().cast()) }
            .map_err(called("loading the kernels"))?;
        let mut kernels = Self { context: Arc::clone(context), module, functions: HashMap::new() };
        for (name, bytes) in all_kernels() {
            let call = format!("looking up the kernel {name}");
            let symbol = CString::new(name).map_err(|_| DeviceError::Call {
                call: "looking up a kernel".to_owned(),
                problem: "a zero in its name".to_owned(),
            })?;
            // SAFETY: the module is loaded.
            let function = unsafe { result::module::get_function(kernels.module, symbol) }
                .map_err(called(&call))?;
            kernels.functions.insert(name, (function, bytes));
        }
        Ok(kernels)
    }

    /// The function of a launch, if the launch can be one.
    pub(super) fn check(&self, launch: &Launch) -> Result<sys::CUfunction, DeviceError> {
        let refuse = |problem: String| {
            Err(DeviceError::Call { call: format!("launching {}", launch.kernel), problem })
        };
        let Some(&(function, bytes)) = self.functions.get(launch.kernel) else {
            return refuse("there is no such kernel".to_owned());
        };
        if launch.arguments.len() != bytes {
            let given = launch.arguments.len();
            return refuse(format!("it takes an argument of {bytes} bytes and {given} are given"));
        }
        if launch.blocks == 0 {
            return refuse("its grid is empty".to_owned());
        }
        Ok(function)
    }

    pub(super) fn launch(&self, launch: &Launch, stream: &CudaStream) -> Result<(), DeviceError> {
        let function = self.check(launch)?;
        // The driver reads a structure of C, so the bytes are kept at the strictest alignment.
        let mut words = [0_u64; MOST_WORDS];
        let Some(words) = words.get_mut(..launch.arguments.len().div_ceil(8)) else {
            let problem = "its argument is larger than CUDA's limit of 4 KiB".to_owned();
            return Err(DeviceError::Call {
                call: format!("launching {}", launch.kernel),
                problem,
            });
        };
        for (word, bytes) in words.iter_mut().zip(launch.arguments.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(whole);
        }
        let mut parameters = [words.as_mut_ptr().cast::<c_void>()];
        // SAFETY: the function belongs to the loaded module and has one parameter of so many bytes
        // (checked), which the driver copies before it returns.
        unsafe {
            result::launch_kernel(
                function,
                (launch.blocks, 1, 1),
                (THREADS, 1, 1),
                0,
                stream.cu_stream(),
                &mut parameters,
            )
        }
        .map_err(|error| called(&format!("launching {}", launch.kernel))(error))
    }
}

/// CUDA's limit for arguments on all GPUs, in words of eight bytes.
const MOST_WORDS: usize = 4096 / 8;

impl Drop for Kernels {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: it was loaded in this context and is unloaded once; no kernel of it runs, as
            // the GPU has been waited for. Nothing can be done about a failure.
            let _ = unsafe { result::module::unload(self.module) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_all_kernels_can_be_passed() {
        for (name, bytes) in all_kernels() {
            assert!(bytes <= MOST_WORDS * 8, "{name} takes {bytes} bytes");
        }
    }
}
