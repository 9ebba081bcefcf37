//! NCCL's functions, looked up in the library that was found.
//!
//! They are not called through `cudarc`, which looks for the library under other names than it has,
//! and for which a status that it does not know must not become a value of its enumeration.

#![expect(unsafe_code, reason = "functions are looked up by their names")]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use super::super::super::device::DeviceError;
use super::super::libraries::{self, Opened};
use super::super::missing;
use super::super::search::Library;

/// NCCL's own communicator: one of a rank among some ranks.
pub(super) type Comm = *mut c_void;

/// What calls return.
pub(super) const SUCCESS: c_int = 0;
pub(super) const IN_PROGRESS: c_int = 7;

/// `ncclSum`.
pub(super) const SUM: c_int = 0;

/// `ncclFloat16`, `ncclFloat32`, `ncclBfloat16`.
pub(super) const F16: c_int = 6;
pub(super) const F32: c_int = 7;
pub(super) const BF16: c_int = 9;

/// The color of ranks that belong to no group.
pub(super) const NO_COLOR: c_int = -1;

/// Of an identifier.
pub(super) const ID_BYTES: usize = 128;

/// What makes ranks find each other.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UniqueId(pub(super) [u8; ID_BYTES]);

/// A number of a configuration that is left to NCCL.
const UNDEFINED: c_int = c_int::MIN;

/// How a communicator is to be, as NCCL 2.18 laid it out: the first with `split_share`. Later ones
/// have more fields at the end, and take those that an older `version` did not have as left to them.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Config {
    pub(super) size: usize,
    pub(super) magic: c_uint,
    pub(super) version: c_uint,
    /// 0: calls return before they have done what they do.
    pub(super) blocking: c_int,
    cga_cluster_size: c_int,
    min_ctas: c_int,
    max_ctas: c_int,
    net_name: *const c_char,
    /// 1: communicators that are split off use the buffers and threads of this one.
    pub(super) split_share: c_int,
    /// Where later versions have a field. Here it ends the structure at a multiple of eight bytes.
    end: c_int,
}

impl Config {
    pub(super) const MAGIC: c_uint = 0xcafe_beef;
    /// NCCL 2.18.1, the first of 2.18.
    pub(super) const VERSION: c_uint = 21801;

    /// Calls do not wait; what is split off shares buffers.
    pub(super) const fn new() -> Self {
        Self {
            size: size_of::<Self>(),
            magic: Self::MAGIC,
            version: Self::VERSION,
            blocking: 0,
            cga_cluster_size: UNDEFINED,
            min_ctas: UNDEFINED,
            max_ctas: UNDEFINED,
            net_name: std::ptr::null(),
            split_share: 1,
            end: UNDEFINED,
        }
    }
}

type Text = *const c_char;

macro_rules! functions {
    ($($name:ident = $symbol:literal($($type:ty),*) -> $returned:ty;)*) => {
        /// NCCL, found and opened.
        #[derive(Debug, Clone, Copy)]
        pub struct NcclFunctions {
            $(pub(super) $name: unsafe extern "C" fn($($type),*) -> $returned,)*
        }

        impl NcclFunctions {
            fn load(nccl: &Opened) -> Result<Self, DeviceError> {
                Ok(Self {
                    // SAFETY: NCCL's header declares this function with these types, all
                    // enumerations being of C's `int`.
                    $($name: unsafe { nccl.symbol($symbol)? },)*
                })
            }
        }
    };
}

functions! {
    get_version = "ncclGetVersion"(*mut c_int) -> c_int;
    get_unique_id = "ncclGetUniqueId"(*mut UniqueId) -> c_int;
    init_rank = "ncclCommInitRankConfig"(*mut Comm, c_int, UniqueId, c_int, *mut Config) -> c_int;
    split = "ncclCommSplit"(Comm, c_int, c_int, *mut Comm, *mut Config) -> c_int;
    finalize = "ncclCommFinalize"(Comm) -> c_int;
    destroy = "ncclCommDestroy"(Comm) -> c_int;
    abort = "ncclCommAbort"(Comm) -> c_int;
    get_async_error = "ncclCommGetAsyncError"(Comm, *mut c_int) -> c_int;
    all_reduce = "ncclAllReduce"(
        *const c_void, *mut c_void, usize, c_int, c_int, Comm, *mut c_void
    ) -> c_int;
    reduce = "ncclReduce"(
        *const c_void, *mut c_void, usize, c_int, c_int, c_int, Comm, *mut c_void
    ) -> c_int;
    broadcast = "ncclBroadcast"(
        *const c_void, *mut c_void, usize, c_int, c_int, Comm, *mut c_void
    ) -> c_int;
    group_start = "ncclGroupStart"() -> c_int;
    group_end = "ncclGroupEnd"() -> c_int;
    error_string = "ncclGetErrorString"(c_int) -> Text;
    last_error = "ncclGetLastError"(Comm) -> Text;
}

/// Finds NCCL.
///
/// # Errors
/// There is none, or it is too old.
pub fn open() -> Result<&'static NcclFunctions, DeviceError> {
    static NCCL: OnceLock<NcclFunctions> = OnceLock::new();
    if let Some(nccl) = NCCL.get() {
        return Ok(nccl);
    }
    let opened = libraries::open(Library::Nccl)?;
    // Before the other functions, of which old versions lack some.
    // SAFETY: NCCL's header declares this function with this type.
    let get_version = unsafe { opened.symbol("ncclGetVersion")? };
    missing::check_nccl(version(get_version), &opened.path)?;
    let functions = NcclFunctions::load(&opened)?;
    Ok(NCCL.get_or_init(|| functions))
}

/// 0 if it does not say.
fn version(get_version: unsafe extern "C" fn(*mut c_int) -> c_int) -> c_int {
    let mut version = 0;
    // SAFETY: one number is written.
    let status = unsafe { get_version(&raw mut version) };
    if status == SUCCESS { version } else { 0 }
}

impl NcclFunctions {
    /// Its version in words, such as 2.28.9.
    #[must_use]
    pub fn version(&self) -> String {
        missing::nccl_version(version(self.get_version))
    }

    /// What a status means, and what NCCL says of its last failure, in one line.
    pub(super) fn explain(&self, status: c_int) -> String {
        // SAFETY: the function takes any number, and returns text that stays and ends with a zero.
        let meaning = unsafe { line((self.error_string)(status)) };
        let mut text = format!("{} ({status})", meaning.unwrap_or_else(|| "no message".to_owned()));
        if let Some(last) = self.last_words() {
            text += &format!(": {last}");
        }
        text
    }

    /// What NCCL says of its last failure, if anything.
    pub(super) fn last_words(&self) -> Option<String> {
        // SAFETY: the function takes no communicator too, and returns text that ends with a zero.
        unsafe { line((self.last_error)(std::ptr::null_mut())) }
    }
}

/// # Safety
/// The text is null, or stays for now and ends with a zero.
unsafe fn line(text: Text) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: by this function's own condition.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let words: Vec<&str> = text.split_whitespace().collect();
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn the_configuration_lies_as_in_nccls_header() {
        // As a C compiler has it for the header of NCCL 2.28.9, up to `splitShare`, after which
        // `trafficClass` follows.
        assert_eq!((offset_of!(Config, magic), offset_of!(Config, version)), (8, 12));
        assert_eq!((offset_of!(Config, blocking), offset_of!(Config, net_name)), (16, 32));
        assert_eq!((offset_of!(Config, split_share), offset_of!(Config, end)), (40, 44));
        assert_eq!((size_of::<Config>(), Config::new().size), (48, 48));
        assert_eq!(size_of::<UniqueId>(), ID_BYTES);
    }

    #[test]
    fn the_real_library_has_all_functions() {
        if libraries::for_tests(Library::Nccl).is_none() {
            return;
        }
        let functions = open().unwrap();
        assert!(functions.version().starts_with("2."), "{}", functions.version());
        assert!(std::ptr::eq(functions, open().unwrap()));
        assert!(functions.explain(5).starts_with("invalid usage"), "{}", functions.explain(5));
        assert!(functions.explain(-3).contains("(-3)"), "{}", functions.explain(-3));
        let mut id = UniqueId([0; ID_BYTES]);
        // SAFETY: one identifier is written.
        let status = unsafe { (functions.get_unique_id)(&raw mut id) };
        println!("ncclGetUniqueId: {}, {:?}", functions.explain(status), functions.last_words());
        assert!(status == SUCCESS && id.0 != [0; ID_BYTES], "{}", functions.explain(status));
    }

    /// Without a GPU, the real library must refuse the real call in an orderly way: the arguments
    /// are passed as it expects them, the identifier by value.
    #[test]
    fn the_real_library_refuses_to_start_without_a_gpu() {
        let there = libraries::for_tests(Library::Nccl).is_some();
        if !there || libraries::open(Library::Cuda).is_ok() {
            println!("skipped: there is no NCCL, or there is a driver");
            return;
        }
        let functions = open().unwrap();
        let (mut comm, mut config) = (std::ptr::null_mut(), Config::new());
        let id = UniqueId([1; ID_BYTES]);
        // SAFETY: the pointers are to values that outlive the call, which fails before it starts
        // anything that would use them later.
        let status = unsafe { (functions.init_rank)(&raw mut comm, 2, id, 0, &raw mut config) };
        println!("ncclCommInitRankConfig: {}", functions.explain(status));
        assert_eq!((status, comm.is_null()), (1, true), "{}", functions.explain(status));
    }
}
