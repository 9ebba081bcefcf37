//! Opens NVIDIA's libraries where they lie, for good.
//!
//! `cudarc` asks the dynamic linker for a library by its name alone, and panics if it does not get
//! it. What was opened by its path answers to its name too, so each library is opened here first, and
//! nothing of `cudarc` is called before.

#![expect(unsafe_code, reason = "opening a library runs its initialisers")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::super::device::DeviceError;
use super::missing;
use super::search::{Library, Machine};

/// A library that stays open until the process ends.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The library.
    pub library: &'static libloading::Library,
    /// The name or path by which it was found.
    pub path: String,
}

impl Opened {
    /// Looks up a function by its name.
    ///
    /// # Safety
    /// The library's function of this name is of type `T`.
    ///
    /// # Errors
    /// There is none.
    pub(super) unsafe fn symbol<T: Copy>(&self, name: &str) -> Result<T, DeviceError> {
        // SAFETY: by this function's own condition. The library is never closed.
        let symbol = unsafe { self.library.get::<T>(name.as_bytes()) };
        symbol.map(|symbol| *symbol).map_err(|error| DeviceError::Call {
            call: format!("looking up {name} in {}", self.path),
            problem: error.to_string(),
        })
    }
}

static OPENED: Mutex<BTreeMap<Library, Opened>> = Mutex::new(BTreeMap::new());

/// Opens a library, or returns it if it is open.
///
/// # Errors
/// It is nowhere, or nothing that was found can be opened.
pub fn open(library: Library) -> Result<Opened, DeviceError> {
    let mut opened = OPENED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(opened) = opened.get(&library) {
        return Ok(opened.clone());
    }
    let link = |path: &Path| std::fs::read_link(path).ok();
    let machine = Machine { variable: &|name| std::env::var_os(name), list: &list, link: &link };
    let found = find(library, machine)?;
    opened.insert(library, found.clone());
    Ok(found)
}

fn find(library: Library, machine: Machine<'_>) -> Result<Opened, DeviceError> {
    for name in library.files() {
        if let Ok(opened) = open_file(name.as_ref())
            && reaches_cudarc(library)
        {
            return Ok(Opened { library: opened, path: (*name).to_owned() });
        }
    }
    let mut failed = Vec::new();
    for path in machine.candidates(library) {
        match open_file(path.as_os_str()) {
            Ok(opened) if reaches_cudarc(library) => {
                open_companions(library, &path);
                return Ok(Opened { library: opened, path: path.to_string_lossy().into_owned() });
            }
            Ok(_) => failed.push(format!("{} has another name inside", path.display())),
            Err(problem) => failed.push(format!("{} cannot be opened: {problem}", path.display())),
        }
    }
    let folders = if library == Library::Cuda { Vec::new() } else { machine.folders() };
    Err(missing::library(library, &folders, &failed))
}

fn open_file(name: &OsStr) -> Result<&'static libloading::Library, libloading::Error> {
    // Libraries that are opened later find the functions of this one.
    #[cfg(unix)]
    let library = {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
        // SAFETY: these names belong to NVIDIA's libraries, whose initialisers may run at any time.
        unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL)? }.into()
    };
    #[cfg(not(unix))]
    // SAFETY: as above.
    let library = unsafe { libloading::Library::new(name)? };
    // Functions of it are kept in statics, here and in `cudarc`.
    Ok(Box::leak(Box::new(library)))
}

/// Opens what a library asks the dynamic linker for by name when it is used. NVRTC 13.0 does not say
/// that its built-in functions lie beside it, so the linker finds them only if they are open.
fn open_companions(library: Library, path: &Path) {
    let Some(folder) = path.parent() else { return };
    for file in list(folder) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if library.companions().iter().any(|start| name.starts_with(start)) {
            // What is missing then is reported by the library, when it looks for it.
            let _ = open_file(file.as_os_str());
        }
    }
}

/// Whether `cudarc` finds a library that is open, where it is used through `cudarc`.
fn reaches_cudarc(library: Library) -> bool {
    // SAFETY: this opens the library again, which runs nothing, and closes it.
    unsafe {
        match library {
            Library::Cuda => cudarc::driver::sys::is_culib_present(),
            Library::Nvrtc => cudarc::nvrtc::sys::is_culib_present(),
            Library::CublasLt => cudarc::cublaslt::sys::is_culib_present(),
            Library::Cudnn | Library::Nccl => true,
        }
    }
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Whether tests that need this library can run. Where `FORETRAIN_REQUIRE_NVRTC` or the like is set,
/// they must.
#[cfg(test)]
pub(super) fn for_tests(library: Library) -> Option<Opened> {
    let variable = format!("FORETRAIN_REQUIRE_{}", library.name().to_uppercase());
    match open(library) {
        Ok(opened) => Some(opened),
        Err(error) => {
            let required = std::env::var(&variable).is_ok_and(|value| value == "1");
            assert!(!required, "{variable} is set, and {error}");
            println!("skipped: {error}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nowhere_is_reported_with_the_places() {
        let folder = tempfile::tempdir().unwrap();
        let broken = folder.path().join("libcudnn.so.9");
        std::fs::write(&broken, "no library").unwrap();
        let path = folder.path().as_os_str().to_owned();
        let variable = |name: &str| (name == "LD_LIBRARY_PATH").then(|| path.clone());
        let here = |asked: &Path| if asked == folder.path() { list(asked) } else { Vec::new() };
        let machine = Machine { variable: &variable, list: &here, link: &|_| None };
        // A machine with cuDNN in the linker's own folders finds it there.
        if let Err(error) = find(Library::Cudnn, machine) {
            let sentence = error.to_string();
            let opening = format!(" ({} cannot be opened: ", broken.display());
            assert!(sentence.starts_with("cuDNN was not found"), "{sentence}");
            assert!(sentence.contains(&opening), "{sentence}");
            assert!(sentence.contains(&*folder.path().to_string_lossy()), "{sentence}");
        }
    }

    #[test]
    fn nccl_is_opened_by_its_path() {
        let Some(opened) = for_tests(Library::Nccl) else { return };
        let mut version = 0;
        // SAFETY: NCCL's header declares this function so; one number is written.
        let status = unsafe {
            let get: libloading::Symbol<'_, unsafe extern "C" fn(*mut i32) -> i32> =
                opened.library.get(b"ncclGetVersion").unwrap();
            get(&raw mut version)
        };
        assert_eq!(status, 0);
        assert!(version >= 20000, "{version} of {}", opened.path);
    }

    #[test]
    fn what_is_open_is_found_again_and_by_name() {
        let Some(first) = for_tests(Library::Nvrtc) else { return };
        let second = open(Library::Nvrtc).unwrap();
        assert!(std::ptr::eq(first.library, second.library));
        assert!(reaches_cudarc(Library::Nvrtc));
    }
}
