//! A GPU for tests: the kernels' text compiled for this machine, run block by block.
//!
//! `host.h` says how a block's threads take turns. Only the C compiler that Rust links with is
//! needed. The same tests can run on a real GPU ([`hardware`]).

#![expect(unsafe_code, reason = "compiled C is called through pointers")]

pub(crate) mod device;
mod hardware;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ffi::c_void;
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};

use foretrain_sim::recording::NumberFormat;
use half::{bf16, f16};
use libloading::Library;

use super::arguments::{Address, Arguments, Launch};
use super::kernels::{format_number, source};

/// The kernels for one format, compiled for this machine.
#[derive(Debug, Clone)]
pub(crate) struct Emulator {
    format: NumberFormat,
    library: Arc<Library>,
}

/// The kernels are compiled once a process and format.
static COMPILED: LazyLock<Mutex<HashMap<u32, Arc<Library>>>> = LazyLock::new(Mutex::default);

impl Emulator {
    pub(crate) fn new(format: NumberFormat) -> Self {
        let number = format_number(format);
        let mut compiled = COMPILED.lock().unwrap();
        let library = compiled.entry(number).or_insert_with(|| Arc::new(compile(number)));
        Self { format, library: Arc::clone(library) }
    }

    /// Runs a kernel to its end.
    pub(crate) fn launch(&self, launch: &Launch) {
        assert!(launch.blocks > 0, "{} on an empty grid", launch.kernel);
        if hardware::is_wanted() {
            hardware::launch(self.format, launch);
            return;
        }
        // SAFETY: emulator/host.h defines this symbol with this type for every kernel; it reads as
        // many bytes of the arguments as the structure has, which a test compares.
        let kernel = unsafe {
            self.library
                .get::<unsafe extern "C" fn(*const c_void, u32)>(launch.kernel.as_bytes())
                .unwrap()
        };
        // C reads the arguments as a structure, so they are kept at the strictest alignment.
        let mut words = vec![0_u64; launch.arguments.len().div_ceil(8)];
        for (word, bytes) in words.iter_mut().zip(launch.arguments.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(whole);
        }
        // SAFETY: addresses in the arguments are those of `Memory`, which is alive.
        unsafe { kernel(words.as_ptr().cast(), launch.blocks) };
    }

    /// What C takes for the size of a kernel's argument.
    fn argument_bytes(&self, kernel: &str) -> usize {
        let symbol = format!("{kernel}_argument_bytes");
        // SAFETY: as above.
        let size = unsafe {
            self.library.get::<unsafe extern "C" fn() -> u64>(symbol.as_bytes()).unwrap()
        };
        // SAFETY: it has no argument and reads no memory.
        unsafe { size() as usize }
    }
}

fn compile(format: u32) -> Library {
    let folder = tempfile::tempdir().unwrap();
    let [text, library] = ["kernels.c", "kernels.so"].map(|name| folder.path().join(name));
    std::fs::write(&text, source()).unwrap();
    std::fs::write(folder.path().join("host.h"), include_str!("host.h")).unwrap();
    // With a GPU, other machines' compilers may warn of more; the kernels run elsewhere.
    let strict: &[&str] = if hardware::is_wanted() { &[] } else { &["-Wall", "-Werror"] };
    let output = Command::new("cc")
        .args(["-std=gnu11", "-O2", "-ffp-contract=off", "-fPIC", "-shared"])
        .args(strict)
        .args(["-Wno-unused-function", "-DFORETRAIN_HOST", &format!("-DELEMENT={format}")])
        .arg("-I")
        .arg(folder.path())
        .arg("-o")
        .args([&library, &text])
        .arg("-lm")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // SAFETY: the library runs nothing when it is loaded.
    unsafe { Library::new(&library).unwrap() }
}

/// Memory that kernels work on: one piece, 256-byte aligned, filled with what is no number in any
/// format, so that what was never written is seen.
#[derive(Debug)]
pub(crate) struct Memory {
    words: Words,
    taken: usize,
}

/// What memory is made of.
#[derive(Debug)]
enum Words {
    Own(Vec<u128>),
    /// With a GPU.
    Shared(&'static mut [u128]),
}

impl Words {
    fn all(&self) -> &[u128] {
        match self {
            Self::Own(words) => words,
            Self::Shared(words) => words,
        }
    }
}

const ALIGNMENT: usize = 256;

impl Memory {
    pub(crate) fn new(bytes: usize) -> Self {
        let words = (bytes + ALIGNMENT).div_ceil(16);
        let words = if hardware::is_wanted() {
            Words::Shared(hardware::memory(words))
        } else {
            Words::Own(vec![u128::MAX; words])
        };
        Self { words, taken: 0 }
    }

    fn base(&self) -> usize {
        (self.words.all().as_ptr() as usize).next_multiple_of(ALIGNMENT)
    }

    /// A place for so many bytes.
    pub(crate) fn take(&mut self, bytes: usize) -> Address {
        let start = self.taken.next_multiple_of(ALIGNMENT);
        self.taken = start + bytes;
        assert!(self.taken + ALIGNMENT <= self.words.all().len() * 16, "the memory is too small");
        Address((self.base() + start) as u64)
    }

    fn slice<T: Copy>(&mut self, at: Address, count: usize) -> &mut [T] {
        let (base, bytes) = (self.base() as u64, (count * size_of::<T>()) as u64);
        assert!(at.0 >= base && at.0 + bytes <= base + (self.words.all().len() * 16) as u64);
        assert!(at.0.is_multiple_of(align_of::<T>() as u64));
        // SAFETY: inside the memory (asserted), aligned (asserted), borrowed alone; all bits are
        // values of the plain numbers that this is called with.
        unsafe { std::slice::from_raw_parts_mut(at.0 as *mut T, count) }
    }

    /// A place with these plain numbers.
    pub(crate) fn put<T: Copy>(&mut self, values: &[T]) -> Address {
        let at = self.take(size_of_val(values));
        self.slice(at, values.len()).copy_from_slice(values);
        at
    }

    /// Whether a place is in this memory.
    pub(crate) fn contains(&self, at: Address) -> bool {
        let base = self.base() as u64;
        (base..base + self.taken as u64).contains(&at.0)
    }

    /// Sets plain numbers.
    pub(crate) fn set<T: Copy>(&mut self, at: Address, values: &[T]) {
        self.slice(at, values.len()).copy_from_slice(values);
    }

    /// Sets numbers, rounded to `format`.
    pub(crate) fn set_elements(&mut self, format: NumberFormat, at: Address, values: &[f32]) {
        match format {
            NumberFormat::F16 => {
                self.set(at, &values.iter().map(|value| f16::from_f32(*value)).collect::<Vec<_>>());
            }
            NumberFormat::Bf16 => {
                let values: Vec<_> = values.iter().map(|value| bf16::from_f32(*value)).collect();
                self.set(at, &values);
            }
            NumberFormat::F32 => self.set(at, values),
        }
    }

    /// Plain numbers.
    pub(crate) fn get<T: Copy>(&mut self, at: Address, count: usize) -> Vec<T> {
        self.slice(at, count).to_vec()
    }

    /// A place with these numbers, rounded to `format`.
    pub(crate) fn put_elements(&mut self, format: NumberFormat, values: &[f32]) -> Address {
        let at = self.take_elements(format, values.len());
        self.set_elements(format, at, values);
        at
    }

    /// A place for so many numbers of `format`.
    pub(crate) fn take_elements(&mut self, format: NumberFormat, count: usize) -> Address {
        self.take(count * format.element_bytes() as usize)
    }

    /// Numbers of `format`.
    pub(crate) fn get_elements(
        &mut self,
        format: NumberFormat,
        at: Address,
        count: usize,
    ) -> Vec<f32> {
        match format {
            NumberFormat::F16 => self.get::<f16>(at, count).into_iter().map(f16::to_f32).collect(),
            NumberFormat::Bf16 => {
                self.get::<bf16>(at, count).into_iter().map(bf16::to_f32).collect()
            }
            _ => self.get(at, count),
        }
    }
}

/// Runs a kernel of `format` on a grid of so many blocks.
pub(crate) fn run(format: NumberFormat, arguments: &impl Arguments, blocks: u32) {
    Emulator::new(format).launch(&arguments.launch(blocks));
}

/// The formats in which GPUs compute.
pub(crate) const FORMATS: [NumberFormat; 3] =
    [NumberFormat::F16, NumberFormat::Bf16, NumberFormat::F32];
