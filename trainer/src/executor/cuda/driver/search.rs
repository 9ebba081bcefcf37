//! Where NVIDIA's libraries may lie on a machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A library that is opened when a GPU is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Library {
    /// The driver's, which comes with the driver and from nowhere else.
    Cuda,
    /// The compiler of kernels.
    Nvrtc,
    /// Matrix products.
    CublasLt,
    /// Convolutions.
    Cudnn,
    /// Collective operations between GPUs.
    Nccl,
}

impl Library {
    /// Its name as NVIDIA writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cuda => "the NVIDIA driver",
            Self::Nvrtc => "NVRTC",
            Self::CublasLt => "cuBLASLt",
            Self::Cudnn => "cuDNN",
            Self::Nccl => "NCCL",
        }
    }

    /// The names of its file, the preferred one first: those of versions that can be used.
    #[must_use]
    pub const fn files(self) -> &'static [&'static str] {
        match self {
            Self::Cuda => &["libcuda.so.1"],
            Self::Nvrtc => &["libnvrtc.so.13", "libnvrtc.so.12"],
            Self::CublasLt => &["libcublasLt.so.13", "libcublasLt.so.12"],
            Self::Cudnn => &["libcudnn.so.9"],
            Self::Nccl => &["libnccl.so.2"],
        }
    }

    /// How the names of files begin that the library itself opens by name, in its own folder.
    #[must_use]
    pub const fn companions(self) -> &'static [&'static str] {
        match self {
            Self::Nvrtc => &["libnvrtc-builtins.so."],
            Self::Cuda | Self::CublasLt | Self::Cudnn | Self::Nccl => &[],
        }
    }

    /// What to install, for the end of a message.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Cuda => "an NVIDIA GPU with its driver installed",
            Self::Nvrtc => "CUDA 12 or 13, such as by `pip install nvidia-cuda-nvrtc`",
            Self::CublasLt => "CUDA 12 or 13, such as by `pip install nvidia-cublas`",
            Self::Cudnn => "cuDNN 9.1 or later, such as by `pip install nvidia-cudnn-cu13`",
            Self::Nccl => "NCCL 2.22 or later, such as by `pip install nvidia-nccl-cu13`",
        }
    }
}

/// What the search asks about the machine.
#[derive(Clone, Copy)]
pub struct Machine<'a> {
    /// The value of an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// The paths in a folder, sorted; none if there is no such folder.
    pub list: &'a dyn Fn(&Path) -> Vec<PathBuf>,
    /// Where a symbolic link leads, in one step; none if there is no such link.
    pub link: &'a dyn Fn(&Path) -> Option<PathBuf>,
}

impl Machine<'_> {
    /// The folders that are looked through after the dynamic linker's own, in order:
    /// `LD_LIBRARY_PATH`, what `pip` installed in Python environments, CUDA's usual places.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        let mut folders = self.paths("LD_LIBRARY_PATH");
        for packages in self.python_packages() {
            let vendors = (self.list)(&packages.join("nvidia"));
            folders.extend(vendors.into_iter().map(|vendor| vendor.join("lib")));
        }
        folders.push("/usr/local/cuda/lib64".into());
        folders.push(format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH).into());
        let mut seen = Vec::new();
        folders.retain(|folder| {
            let new = !seen.contains(folder);
            seen.push(folder.clone());
            new
        });
        folders
    }

    /// The files that may be this library, the most likely first. The driver's library must be that
    /// of the running driver, which only the dynamic linker knows.
    #[must_use]
    pub fn candidates(&self, library: Library) -> Vec<PathBuf> {
        if library == Library::Cuda {
            return Vec::new();
        }
        let mut candidates = Vec::new();
        for folder in self.folders() {
            let there = (self.list)(&folder);
            let files = library.files().iter().map(|file| folder.join(file));
            candidates.extend(files.filter(|file| there.contains(file)));
        }
        candidates
    }

    fn paths(&self, variable: &str) -> Vec<PathBuf> {
        let value = (self.variable)(variable).unwrap_or_default();
        std::env::split_paths(&value).filter(|path| !path.as_os_str().is_empty()).collect()
    }

    /// The folders of packages of the Python environments that this process knows of.
    fn python_packages(&self) -> Vec<PathBuf> {
        let mut prefixes = Vec::new();
        for variable in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
            prefixes.extend(self.paths(variable));
        }
        let python = self.paths("PATH").into_iter().find(|folder| {
            let python = folder.join("python3");
            (self.list)(folder).contains(&python)
        });
        if let Some(folder) = python {
            prefixes.extend(folder.parent().map(Path::to_path_buf));
            // A link on `PATH` often leads to a Python with packages of its own. What it leads to
            // may be written from the link's folder.
            let target = (self.link)(&folder.join("python3")).map(|target| folder.join(target));
            let prefix = target.as_deref().and_then(Path::parent).and_then(Path::parent);
            prefixes.extend(prefix.map(Path::to_path_buf));
        }
        prefixes.extend(self.paths("HOME").into_iter().map(|home| home.join(".local")));
        // Debian's Python looks there too.
        prefixes.push("/usr/local".into());
        let mut packages = Vec::new();
        for prefix in prefixes {
            for folder in (self.list)(&prefix.join("lib")) {
                let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if name.starts_with("python3") {
                    packages.extend(["site-packages", "dist-packages"].map(|p| folder.join(p)));
                }
            }
        }
        packages
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A machine with these variables and files, and this link.
    fn with<T>(
        variables: &[(&str, &str)],
        files: &[&str],
        link: Option<(&str, &str)>,
        look: impl FnOnce(Machine<'_>) -> T,
    ) -> T {
        let variable = |name: &str| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value))
        };
        let list = |folder: &Path| {
            let mut inside = BTreeSet::new();
            for file in files {
                if let Ok(rest) = Path::new(file).strip_prefix(folder)
                    && let Some(first) = rest.iter().next()
                {
                    inside.insert(folder.join(first));
                }
            }
            inside.into_iter().collect()
        };
        let link = |path: &Path| {
            link.filter(|(from, _)| Path::new(from) == path).map(|(_, to)| PathBuf::from(to))
        };
        look(Machine { variable: &variable, list: &list, link: &link })
    }

    fn candidates(variables: &[(&str, &str)], files: &[&str], library: Library) -> Vec<String> {
        linked(variables, files, None, library)
    }

    fn linked(
        variables: &[(&str, &str)],
        files: &[&str],
        link: Option<(&str, &str)>,
        library: Library,
    ) -> Vec<String> {
        with(variables, files, link, |machine| {
            let found = machine.candidates(library);
            found.into_iter().map(|path| path.to_string_lossy().into_owned()).collect()
        })
    }

    #[test]
    fn every_place_is_looked_through_in_order() {
        let places = [
            "/opt/cuda/libnvrtc.so.12",
            "/venv/lib/python3.12/site-packages/nvidia/cu13/lib/libnvrtc.so.13",
            "/conda/lib/python3.10/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
            "/usr/lib/python3/dist-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
            "/home/me/.local/lib/python3.11/site-packages/nvidia/cu13/lib/libnvrtc.so.13",
            "/usr/local/lib/python3.11/dist-packages/nvidia/cu13/lib/libnvrtc.so.13",
            "/usr/local/cuda/lib64/libnvrtc.so.12",
            &format!("/usr/lib/{}-linux-gnu/libnvrtc.so.12", std::env::consts::ARCH),
        ];
        let others = ["/usr/bin/python3", "/usr/lib/python3/dist-packages/numpy", "/opt/cuda/x"];
        let variables = [
            ("LD_LIBRARY_PATH", "/nothing::/opt/cuda"),
            ("VIRTUAL_ENV", "/venv"),
            ("CONDA_PREFIX", "/conda"),
            ("PATH", "/bin:/usr/bin:/other"),
            ("HOME", "/home/me"),
        ];
        let files: Vec<&str> = others.into_iter().chain(places).collect();
        assert_eq!(candidates(&variables, &files, Library::Nvrtc), places);
    }

    #[test]
    fn newer_versions_come_first_in_a_folder() {
        let files = ["/a/libcublasLt.so.12", "/a/libcublasLt.so.13", "/a/libcublasLt.so.11"];
        let found = candidates(&[("LD_LIBRARY_PATH", "/a")], &files, Library::CublasLt);
        assert_eq!(found, ["/a/libcublasLt.so.13", "/a/libcublasLt.so.12"]);
    }

    #[test]
    fn each_library_is_found_in_the_wheels_of_pytorch() {
        let site = "/venv/lib/python3.11/site-packages/nvidia";
        let files = [
            "cu13/lib/libnvrtc.so.13",
            "cu13/lib/libcublasLt.so.13",
            "cudnn/lib/libcudnn.so.9",
            "nccl/lib/libnccl.so.2",
        ]
        .map(|file| format!("{site}/{file}"));
        let there: Vec<&str> = files.iter().map(String::as_str).collect();
        let libraries = [Library::Nvrtc, Library::CublasLt, Library::Cudnn, Library::Nccl];
        for (library, file) in libraries.into_iter().zip(&there) {
            assert_eq!(candidates(&[("VIRTUAL_ENV", "/venv")], &there, library), [*file]);
        }
    }

    #[test]
    fn the_driver_is_left_to_the_dynamic_linker() {
        let stub = ["/usr/local/cuda/lib64/libcuda.so.1"];
        assert_eq!(candidates(&[], &stub, Library::Cuda), [""; 0]);
    }

    #[test]
    fn a_python_that_is_a_link_is_followed() {
        let own = "/usr/local/lib/python3.11/site-packages/nvidia/cu13/lib/libnvrtc.so.13";
        let other = "/opt/python/lib/python3.11/site-packages/nvidia/cu13/lib/libnvrtc.so.13";
        let files = ["/usr/local/bin/python3", own, other];
        let path = [("PATH", "/usr/local/bin")];
        let link = |to| Some(("/usr/local/bin/python3", to));
        let found = |to| linked(&path, &files, link(to), Library::Nvrtc);
        assert_eq!(found("/opt/python/bin/python3.11"), [own, other]);
        assert_eq!(found("python3.11"), [own]);
        let elsewhere = Some(("/usr/local/bin/python", "/opt/python/bin/python3.11"));
        assert_eq!(linked(&path, &files, elsewhere, Library::Nvrtc), [own]);
    }

    #[test]
    fn a_link_may_be_written_from_its_own_folder() {
        let files = [
            "/home/me/bin/python3",
            "/home/me/bin/tools/lib/python3.11/site-packages/nvidia/nccl/lib/libnccl.so.2",
        ];
        let link = Some(("/home/me/bin/python3", "tools/bin/python3.11"));
        let found = linked(&[("PATH", "/home/me/bin")], &files, link, Library::Nccl);
        assert_eq!(found, [files[1]]);
    }

    #[test]
    fn a_folder_is_looked_through_once() {
        let variables = [("VIRTUAL_ENV", "/v"), ("PATH", "/v/bin")];
        let files =
            ["/v/bin/python3", "/v/lib/python3.11/site-packages/nvidia/nccl/lib/libnccl.so.2"];
        assert_eq!(candidates(&variables, &files, Library::Nccl), [files[1]]);
    }
}
