//! The emulator's tests on a real GPU: with `FORETRAIN_KERNELS=gpu`, kernels run there, on memory of
//! this machine that both see at the same addresses. What only threads that run at the same time
//! can show, such as a missing barrier, shows here.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use cudarc::driver::{result, sys};
use foretrain_sim::recording::NumberFormat;

use super::super::arguments::Launch;
use super::super::device::Device as _;
use super::super::driver::Gpu;
use super::super::kernels::format_number;
use super::super::work::Work;

/// Opened once a process and format.
static GPUS: LazyLock<Mutex<HashMap<u32, Gpu>>> = LazyLock::new(Mutex::default);

/// Whether kernels are to run on a GPU.
pub(super) fn is_wanted() -> bool {
    std::env::var("FORETRAIN_KERNELS").is_ok_and(|value| value == "gpu")
}

fn with<R>(format: NumberFormat, act: impl FnOnce(&mut Gpu) -> R) -> R {
    let mut gpus = GPUS.lock().unwrap();
    let gpu = gpus
        .entry(format_number(format))
        .or_insert_with(|| Gpu::open(0, format, &std::env::temp_dir()).unwrap());
    act(gpu)
}

/// Runs a kernel to its end.
pub(super) fn launch(format: NumberFormat, launch: &Launch) {
    with(format, |gpu| {
        gpu.enqueue(&Work::Launch(launch.clone())).unwrap();
        gpu.finish().unwrap();
    });
}

/// Memory that both see, all bits set. It stays until the process ends.
pub(super) fn memory(words: usize) -> &'static mut [u128] {
    with(NumberFormat::F32, |gpu| {
        // What is done with a GPU binds its context to the thread.
        gpu.finish().unwrap();
        let flags = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;
        // SAFETY: the context is bound; the memory is written before it is read, and never freed.
        // Where addresses are unified, as on all GPUs that are taken, it has one address for both.
        unsafe {
            let at = result::malloc_host(words * size_of::<u128>(), flags).unwrap();
            let at = at.cast::<u128>();
            at.write_bytes(0xff, words);
            std::slice::from_raw_parts_mut(at, words)
        }
    })
}
