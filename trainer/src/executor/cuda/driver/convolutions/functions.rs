//! cuDNN's functions, looked up in the library that was found.
//!
//! They are not called through `cudarc`, which knows the statuses, knobs and notes of an older cuDNN:
//! a number that its enumerations do not have must not become a value of them. Its constants are used.

#![expect(unsafe_code, reason = "functions are looked up by their names")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

use super::super::super::device::DeviceError;
use super::super::libraries::{self, Opened};
use super::super::missing;
use super::super::search::Library;

/// A handle, a descriptor or anything else of cuDNN's own.
pub(super) type Opaque = *mut c_void;

macro_rules! functions {
    ($(#[$doc:meta])* $table:ident {
        $($name:ident = $symbol:literal($($type:ty),*);)*
    }) => {
        $(#[$doc])*
        pub(crate) struct $table {
            $(pub(super) $name: unsafe extern "C" fn($($type),*) -> c_int,)*
        }

        impl $table {
            fn load(cudnn: &Opened) -> Result<Self, DeviceError> {
                Ok(Self {
                    // SAFETY: cuDNN's header declares this function with these types, all
                    // enumerations being of C's `int`.
                    $($name: unsafe { cudnn.symbol($symbol)? },)*
                })
            }
        }
    };
}

functions! {
    /// Descriptors of graphs.
    Graphs {
        create_handle = "cudnnCreate"(*mut Opaque);
        destroy_handle = "cudnnDestroy"(Opaque);
        set_stream = "cudnnSetStream"(Opaque, Opaque);
        create = "cudnnBackendCreateDescriptor"(c_int, *mut Opaque);
        destroy = "cudnnBackendDestroyDescriptor"(Opaque);
        set = "cudnnBackendSetAttribute"(Opaque, c_int, c_int, i64, *const c_void);
        get = "cudnnBackendGetAttribute"(Opaque, c_int, c_int, i64, *mut i64, *mut c_void);
        finalize = "cudnnBackendFinalize"(Opaque);
        execute = "cudnnBackendExecute"(Opaque, Opaque, Opaque);
    }
}

/// What an algorithm of the older functions would do.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Performance {
    pub(super) algorithm: c_int,
    pub(super) status: c_int,
    pub(super) milliseconds: f32,
    pub(super) workspace_bytes: usize,
    pub(super) deterministic: c_int,
    pub(super) math_type: c_int,
    pub(super) reserved: [c_int; 3],
}

functions! {
    /// The older functions, one for each kind of convolution.
    Legacy {
        create_tensor = "cudnnCreateTensorDescriptor"(*mut Opaque);
        set_tensor = "cudnnSetTensor4dDescriptor"(Opaque, c_int, c_int, c_int, c_int, c_int, c_int);
        destroy_tensor = "cudnnDestroyTensorDescriptor"(Opaque);
        create_filter = "cudnnCreateFilterDescriptor"(*mut Opaque);
        set_filter = "cudnnSetFilter4dDescriptor"(Opaque, c_int, c_int, c_int, c_int, c_int, c_int);
        destroy_filter = "cudnnDestroyFilterDescriptor"(Opaque);
        create_convolution = "cudnnCreateConvolutionDescriptor"(*mut Opaque);
        set_convolution = "cudnnSetConvolution2dDescriptor"(
            Opaque, c_int, c_int, c_int, c_int, c_int, c_int, c_int, c_int
        );
        set_groups = "cudnnSetConvolutionGroupCount"(Opaque, c_int);
        set_math_type = "cudnnSetConvolutionMathType"(Opaque, c_int);
        destroy_convolution = "cudnnDestroyConvolutionDescriptor"(Opaque);
        forward_algorithms = "cudnnGetConvolutionForwardAlgorithm_v7"(
            Opaque, Opaque, Opaque, Opaque, Opaque, c_int, *mut c_int, *mut Performance
        );
        data_algorithms = "cudnnGetConvolutionBackwardDataAlgorithm_v7"(
            Opaque, Opaque, Opaque, Opaque, Opaque, c_int, *mut c_int, *mut Performance
        );
        filter_algorithms = "cudnnGetConvolutionBackwardFilterAlgorithm_v7"(
            Opaque, Opaque, Opaque, Opaque, Opaque, c_int, *mut c_int, *mut Performance
        );
        forward = "cudnnConvolutionForward"(
            Opaque, *const f32, Opaque, *const c_void, Opaque, *const c_void, Opaque, c_int, *mut c_void,
            usize, *const f32, Opaque, *mut c_void
        );
        backward_data = "cudnnConvolutionBackwardData"(
            Opaque, *const f32, Opaque, *const c_void, Opaque, *const c_void, Opaque, c_int, *mut c_void,
            usize, *const f32, Opaque, *mut c_void
        );
        backward_filter = "cudnnConvolutionBackwardFilter"(
            Opaque, *const f32, Opaque, *const c_void, Opaque, *const c_void, Opaque, c_int, *mut c_void,
            usize, *const f32, Opaque, *mut c_void
        );
    }
}

/// Of a message of cuDNN, more is not shown.
const MOST_MESSAGE_BYTES: usize = 512;

/// cuDNN, found and opened.
pub(crate) struct Cudnn {
    version: usize,
    /// What a status means.
    error_string: unsafe extern "C" fn(c_int) -> *const c_char,
    /// What went wrong last in this thread, in more words. Absent in some versions.
    last_error: Option<unsafe extern "C" fn(*mut c_char, usize)>,
    pub(super) graphs: Graphs,
    /// Absent once cuDNN has dropped them, as it has announced.
    pub(super) legacy: Option<Legacy>,
}

/// Finds cuDNN.
///
/// # Errors
/// There is none, or it is too old.
pub(crate) fn open() -> Result<&'static Cudnn, DeviceError> {
    static CUDNN: OnceLock<Cudnn> = OnceLock::new();
    if let Some(cudnn) = CUDNN.get() {
        return Ok(cudnn);
    }
    let opened = libraries::open(Library::Cudnn)?;
    // SAFETY: cuDNN's header declares these functions with these types.
    let (version, error_string) = unsafe {
        let version: unsafe extern "C" fn() -> usize = opened.symbol("cudnnGetVersion")?;
        (version(), opened.symbol("cudnnGetErrorString")?)
    };
    missing::check_cudnn(version, &opened.path)?;
    let graphs = Graphs::load(&opened)?;
    let legacy = Legacy::load(&opened).ok();
    // SAFETY: as above.
    let last_error = unsafe { opened.symbol("cudnnGetLastErrorString") }.ok();
    Ok(CUDNN.get_or_init(|| Cudnn { version, error_string, last_error, graphs, legacy }))
}

impl Cudnn {
    /// Its version, as it counts: 90100 for 9.1.0.
    pub(crate) const fn version(&self) -> usize {
        self.version
    }

    /// What cuDNN says of the last failure in this thread, in one line; none if it says nothing.
    fn last_error(&self) -> Option<String> {
        let mut text = [0_u8; MOST_MESSAGE_BYTES];
        // SAFETY: no more is written than there is room for, a zero at its end included.
        unsafe { (self.last_error?)(text.as_mut_ptr().cast(), text.len()) };
        let text = CStr::from_bytes_until_nul(&text).ok()?.to_string_lossy();
        let words: Vec<&str> = text.split_whitespace().collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    /// Turns the status of a call into a result.
    pub(super) fn check(&self, call: &str, status: c_int) -> Result<(), DeviceError> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: the function takes any number, and returns text that stays.
        let text = unsafe {
            let text = (self.error_string)(status);
            if text.is_null() { c"no message" } else { CStr::from_ptr(text) }
        };
        let mut problem = format!("{} ({status})", text.to_string_lossy());
        if let Some(last) = self.last_error() {
            problem += &format!(": {last}");
        }
        Err(DeviceError::Call { call: call.to_owned(), problem })
    }
}
