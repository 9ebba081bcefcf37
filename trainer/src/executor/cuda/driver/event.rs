//! Moments on a GPU: to be waited for, and to be timed.

#![expect(unsafe_code, reason = "calls into the driver that cudarc does not wrap")]

use std::ffi::c_int;
use std::sync::OnceLock;

use cudarc::driver::{CudaEvent, CudaStream, sys};

use super::super::device::DeviceError;
use super::gpu::Gpu;
use super::search::Library;
use super::{called, libraries};

type ElapsedTime = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> c_int;

/// The driver's function, which `cudarc` has only under a name that drivers before CUDA 12.8 do not
/// know.
fn elapsed_time() -> Result<ElapsedTime, DeviceError> {
    static FUNCTION: OnceLock<ElapsedTime> = OnceLock::new();
    if let Some(function) = FUNCTION.get() {
        return Ok(*function);
    }
    let driver = libraries::open(Library::Cuda)?;
    // SAFETY: CUDA's header declares this function with this type; the driver is never closed.
    let function = unsafe { driver.library.get::<ElapsedTime>(b"cuEventElapsedTime") }
        .map_err(called("looking up cuEventElapsedTime"))?;
    Ok(*FUNCTION.get_or_init(|| *function))
}

/// A moment on a GPU.
#[derive(Debug)]
pub struct Event(pub(super) CudaEvent);

impl Event {
    /// The moment when the work that was given to `stream` before has been done. While work is
    /// captured, it is known to other captured streams only: it cannot be timed.
    ///
    /// # Errors
    /// The driver failed.
    pub fn record(&self, stream: &CudaStream) -> Result<(), DeviceError> {
        self.0.record(stream).map_err(called("cuEventRecord"))
    }

    /// As [`record`](Self::record), and while work is captured, the moment in each launch of the
    /// graph, to be timed afterwards.
    ///
    /// # Errors
    /// The driver failed.
    pub fn record_in_graph(&self, stream: &CudaStream) -> Result<(), DeviceError> {
        let context = stream.context();
        context.bind_to_thread().map_err(called("cuCtxSetCurrent"))?;
        let capturing = stream.capture_status().map_err(called("cuStreamIsCapturing"))?
            == sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE;
        let flags = if capturing {
            sys::CUevent_record_flags_enum::CU_EVENT_RECORD_EXTERNAL
        } else {
            sys::CUevent_record_flags_enum::CU_EVENT_RECORD_DEFAULT
        };
        // SAFETY: event and stream are alive, in the context that is current.
        unsafe { sys::cuEventRecordWithFlags(self.0.cu_event(), stream.cu_stream(), flags as u32) }
            .result()
            .map_err(called("cuEventRecordWithFlags"))
    }

    /// Lets `stream` wait for this moment before it does what is given to it later.
    ///
    /// # Errors
    /// The driver failed.
    pub fn hold(&self, stream: &CudaStream) -> Result<(), DeviceError> {
        stream.wait(&self.0).map_err(called("cuStreamWaitEvent"))
    }

    /// Waits for this moment here; at once if it was never recorded.
    ///
    /// # Errors
    /// The driver failed, or work before it.
    pub fn wait(&self) -> Result<(), DeviceError> {
        self.0.synchronize().map_err(called("waiting for the GPU"))
    }

    /// Whether this moment has passed.
    ///
    /// # Errors
    /// The driver failed, or work before it.
    pub fn has_passed(&self) -> Result<bool, DeviceError> {
        self.0.context().bind_to_thread().map_err(called("cuCtxSetCurrent"))?;
        self.0.try_is_complete().map_err(called("cuEventQuery"))
    }

    /// Seconds from this moment to a later one, both of [timed](Gpu::timed_event) events and past;
    /// the GPU's clock is good to half a microsecond.
    ///
    /// # Errors
    /// One of them is not timed, was never recorded, or has not passed.
    pub fn seconds_until(&self, later: &Self) -> Result<f64, DeviceError> {
        let context = self.0.context();
        context.bind_to_thread().map_err(called("cuCtxSetCurrent"))?;
        let mut milliseconds = 0.0_f32;
        let elapsed = elapsed_time()?;
        // SAFETY: both events are alive; one number is written.
        let status =
            unsafe { elapsed(&raw mut milliseconds, self.0.cu_event(), later.0.cu_event()) };
        if status != 0 {
            let problem = format!("CUDA error {status}");
            return Err(DeviceError::Call { call: "cuEventElapsedTime".to_owned(), problem });
        }
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Gpu {
    /// A moment to be waited for.
    ///
    /// # Errors
    /// The driver failed.
    pub fn event(&self) -> Result<Event, DeviceError> {
        Ok(Event(self.context.new_event(None).map_err(called("cuEventCreate"))?))
    }

    /// A moment to be waited for and timed, which costs the GPU a little more.
    ///
    /// # Errors
    /// The driver failed.
    pub fn timed_event(&self) -> Result<Event, DeviceError> {
        timed_event(&self.stream)
    }
}

/// A moment to be timed, on the GPU of this stream.
pub(super) fn timed_event(stream: &CudaStream) -> Result<Event, DeviceError> {
    let flags = sys::CUevent_flags::CU_EVENT_DEFAULT;
    Ok(Event(stream.context().new_event(Some(flags)).map_err(called("cuEventCreate"))?))
}
