//! Compiles the kernels for the GPU at hand, with NVRTC.

#![expect(unsafe_code, reason = "NVRTC is called through pointers")]

use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_int};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::nvrtc::{result, sys};
use foretrain_sim::recording::NumberFormat;

use super::super::device::DeviceError;
use super::super::kernels::{format_number, source};
use super::libraries;
use super::search::Library;

/// What is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Machine code of an architecture, such as 90 for `sm_90`.
    Machine(u32),
    /// Machine code for one architecture and no later one, such as 90 for `sm_90a`.
    MachineOnly(u32),
    /// Code that the driver translates, for GPUs that are newer than the compiler.
    Portable(u32),
}

impl Target {
    /// The compiler's name for it.
    #[must_use]
    pub fn architecture(self) -> String {
        match self {
            Self::Machine(number) => format!("sm_{number}"),
            Self::MachineOnly(number) => format!("sm_{number}a"),
            Self::Portable(number) => format!("compute_{number}"),
        }
    }

    /// The best target for a GPU of this compute capability among the architectures that a compiler
    /// supports: its own; else an earlier one of its generation, whose machine code it runs; else
    /// the latest before it, to be translated.
    #[must_use]
    pub fn of(capability: (u32, u32), supported: &[u32]) -> Option<Self> {
        let own = capability.0 * 10 + capability.1;
        let best = supported.iter().copied().filter(|&number| number <= own).max()?;
        let same_generation = best / 10 == capability.0;
        Some(if same_generation { Self::Machine(best) } else { Self::Portable(best) })
    }
}

/// What was compiled, by its options.
static COMPILED: Mutex<BTreeMap<Vec<String>, Arc<Vec<u8>>>> = Mutex::new(BTreeMap::new());

/// The compiler, found and opened.
#[derive(Debug, Clone)]
pub struct Compiler {
    /// Its major and minor version.
    pub version: (u32, u32),
    /// The architectures for which it compiles, ascending, such as 90.
    pub architectures: Vec<u32>,
}

impl Compiler {
    /// Finds the compiler.
    ///
    /// # Errors
    /// There is none, or it does not say what it can do.
    pub fn open() -> Result<Self, DeviceError> {
        libraries::open(Library::Nvrtc)?;
        let (mut major, mut minor, mut count) = (0, 0, 0);
        // SAFETY: the library is open; it writes one number to each place.
        unsafe {
            check("nvrtcVersion", sys::nvrtcVersion(&raw mut major, &raw mut minor))?;
            let counted = sys::nvrtcGetNumSupportedArchs(&raw mut count);
            check("nvrtcGetNumSupportedArchs", counted)?;
        }
        let mut architectures: Vec<c_int> = vec![0; usize::try_from(count).unwrap_or(0)];
        // SAFETY: it writes as many numbers as it counted.
        let listed = unsafe { sys::nvrtcGetSupportedArchs(architectures.as_mut_ptr()) };
        check("nvrtcGetSupportedArchs", listed)?;
        let mut architectures: Vec<u32> =
            architectures.into_iter().filter_map(|number| u32::try_from(number).ok()).collect();
        architectures.sort_unstable();
        let version = (u32::try_from(major).unwrap_or(0), u32::try_from(minor).unwrap_or(0));
        Ok(Self { version, architectures })
    }

    /// The target for a GPU of this compute capability.
    ///
    /// # Errors
    /// The GPU is older than all that this compiler supports.
    pub fn target(&self, capability: (u32, u32)) -> Result<Target, DeviceError> {
        Target::of(capability, &self.architectures).ok_or_else(|| {
            let (major, minor) = self.version;
            DeviceError::Missing(format!(
                "NVRTC {major}.{minor} does not compile for a GPU of compute capability {}.{}: \
                 expected NVRTC of CUDA 12, such as by `pip install nvidia-cuda-nvrtc-cu12`",
                capability.0, capability.1
            ))
        })
    }

    /// All kernels for one format of elements, as the driver loads them: a CUBIN, or PTX with a
    /// zero at its end for [`Target::Portable`]. They are compiled once a process.
    ///
    /// # Errors
    /// The compiler refuses; its messages are in the error.
    pub fn kernels(
        &self,
        format: NumberFormat,
        target: Target,
    ) -> Result<Arc<Vec<u8>>, DeviceError> {
        let key = options(format, target);
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(code) = compiled.get(&key) {
            return Ok(Arc::clone(code));
        }
        let code = Arc::new(compile(&source(), &key, target)?);
        compiled.insert(key, Arc::clone(&code));
        Ok(code)
    }
}

/// The compiler's options. A product and a sum are rounded one after the other, as by the CPU, so that
/// both give the same numbers; the kernels wait for memory, not for arithmetic.
fn options(format: NumberFormat, target: Target) -> Vec<String> {
    vec![
        format!("--gpu-architecture={}", target.architecture()),
        format!("-DELEMENT={}", format_number(format)),
        "--fmad=false".to_owned(),
    ]
}

/// A program of NVRTC.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: it was created and is destroyed once. Nothing can be done about a failure.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

fn compile(text: &str, options: &[String], target: Target) -> Result<Vec<u8>, DeviceError> {
    let text =
        CString::new(text).map_err(|_| failed("reading the kernels", "a zero in the text"))?;
    let program = result::create_program(&text, Some(c"kernels.cu"))
        .map_err(|error| failed("nvrtcCreateProgram", error))?;
    let program = Program(program);
    // SAFETY: the program is alive.
    if let Err(error) = unsafe { result::compile_program(program.0, options) } {
        // SAFETY: as above.
        let log = unsafe { result::get_program_log(program.0) }.unwrap_or_default();
        let log: Vec<u8> =
            log.into_iter().map(|c| c.to_ne_bytes()[0]).filter(|c| *c != 0).collect();
        let log = String::from_utf8_lossy(&log);
        let call = format!("compiling the kernels for {}", target.architecture());
        return Err(failed(&call, format!("{error}\n{}", log.trim_end())));
    }
    let portable = matches!(target, Target::Portable(_));
    let mut bytes = 0;
    // SAFETY: the program is alive; one number is written.
    check("the size of the compiled kernels", unsafe {
        if portable {
            sys::nvrtcGetPTXSize(program.0, &raw mut bytes)
        } else {
            sys::nvrtcGetCUBINSize(program.0, &raw mut bytes)
        }
    })?;
    let mut code = vec![0_u8; bytes];
    let to = code.as_mut_ptr().cast::<c_char>();
    // SAFETY: as many bytes are written as were announced.
    check("the compiled kernels", unsafe {
        if portable { sys::nvrtcGetPTX(program.0, to) } else { sys::nvrtcGetCUBIN(program.0, to) }
    })?;
    Ok(code)
}

fn check(call: &str, status: sys::nvrtcResult) -> Result<(), DeviceError> {
    status.result().map_err(|error| failed(call, error))
}

fn failed(call: &str, problem: impl ToString) -> DeviceError {
    DeviceError::Call { call: call.to_owned(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::super::emulator::FORMATS;
    use super::*;

    fn compiler() -> Option<Compiler> {
        libraries::for_tests(Library::Nvrtc)?;
        Some(Compiler::open().unwrap())
    }

    /// The kernels that are in the text.
    fn names(text: &str) -> Vec<&str> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("KERNEL("));
        lines.filter_map(|line| line.split(',').next()).collect()
    }

    fn contains(bytes: &[u8], what: &str) -> bool {
        bytes.windows(what.len()).any(|window| window == what.as_bytes())
    }

    #[test]
    fn a_gpu_gets_the_best_code_that_the_compiler_can_make() {
        let supported = [70, 75, 80, 86, 90];
        let cases = [
            ((7, 0), Some(Target::Machine(70))),
            ((8, 0), Some(Target::Machine(80))),
            ((8, 9), Some(Target::Machine(86))),
            ((9, 0), Some(Target::Machine(90))),
            ((10, 0), Some(Target::Portable(90))),
            ((12, 1), Some(Target::Portable(90))),
            ((6, 1), None),
        ];
        for (capability, target) in cases {
            assert_eq!(Target::of(capability, &supported), target, "{capability:?}");
        }
        assert_eq!(Target::of((10, 3), &[90, 100]), Some(Target::Machine(100)));
        assert_eq!(Target::MachineOnly(90).architecture(), "sm_90a");
    }

    #[test]
    fn a_gpu_older_than_the_compiler_is_refused_in_a_sentence() {
        let compiler = Compiler { version: (13, 2), architectures: vec![75, 80] };
        assert_eq!(
            compiler.target((7, 0)).unwrap_err().to_string(),
            "NVRTC 13.2 does not compile for a GPU of compute capability 7.0: expected NVRTC of CUDA \
             12, such as by `pip install nvidia-cuda-nvrtc-cu12`"
        );
    }

    #[test]
    fn all_kernels_compile_for_all_formats_and_architectures() {
        let Some(compiler) = compiler() else { return };
        let text = source();
        let names = names(&text);
        assert!(names.contains(&"relu"), "{names:?}");
        let lowest = if compiler.architectures.contains(&70) { 70 } else { 75 };
        let wanted = [Target::Machine(lowest), Target::Machine(80), Target::MachineOnly(90)];
        for target in wanted {
            let (Target::Machine(number) | Target::MachineOnly(number)) = target else { continue };
            if !compiler.architectures.contains(&number) {
                println!("skipped: this NVRTC does not compile for {}", target.architecture());
                continue;
            }
            for format in FORMATS {
                let code = compiler.kernels(format, target).unwrap();
                assert!(code.starts_with(b"\x7fELF"));
                for name in &names {
                    // Each kernel has a section of its own.
                    assert!(contains(&code, &format!(".text.{name}\0")), "{name}, {target:?}");
                }
            }
        }
    }

    #[test]
    fn code_to_be_translated_ends_with_a_zero() {
        let Some(compiler) = compiler() else { return };
        let code = compiler.kernels(NumberFormat::F16, Target::Portable(80)).unwrap();
        assert_eq!(code.last(), Some(&0));
        assert!(contains(&code, ".entry relu("));
    }

    #[test]
    fn messages_of_the_compiler_name_file_and_line() {
        if compiler().is_none() {
            return;
        }
        let target = Target::Machine(80);
        let text = "#line 7 \"pool.cu\"\nextern \"C\" __global__ void f() { unknown(); }\n";
        let error = compile(text, &options(NumberFormat::F32, target), target).unwrap_err();
        let sentence = error.to_string();
        assert!(sentence.starts_with("compiling the kernels for sm_80 failed: "), "{sentence}");
        assert!(sentence.contains("pool.cu(7): error"), "{sentence}");
        assert!(sentence.contains("unknown"), "{sentence}");
    }
}
