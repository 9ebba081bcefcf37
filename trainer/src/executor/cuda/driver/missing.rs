//! What is said where something that a GPU needs is not there.

use std::path::PathBuf;

use super::super::device::DeviceError;
use super::search::Library;

/// The oldest GPUs whose tensor cores and libraries are counted on: Volta.
const LEAST_CAPABILITY: (u32, u32) = (7, 0);

/// The oldest cuDNN, as it counts: 9.1.0.
const LEAST_CUDNN: usize = 90100;

/// The oldest NCCL, as it counts: 2.22.0, the first that aborts several communicators at once.
const LEAST_NCCL: i32 = 22200;

const OTHERWISE: &str = "or training on the CPU";

/// A library was found nowhere, or could not be opened where it was found.
pub(super) fn library(library: Library, looked_in: &[PathBuf], failed: &[String]) -> DeviceError {
    let files = library.files().join(" or ");
    let mut places = "the dynamic linker's folders".to_owned();
    for folder in looked_in {
        places.push_str(", ");
        places.push_str(&folder.to_string_lossy());
    }
    let failed: Vec<String> = failed.iter().map(|problem| format!(" ({problem})")).collect();
    DeviceError::Missing(format!(
        "{} was not found: {files} is in none of {places}{}: expected {}, {OTHERWISE}",
        library.name(),
        failed.concat(),
        library.remedy(),
    ))
}

/// The driver is there, and knows of no GPU.
pub(super) fn gpu() -> DeviceError {
    DeviceError::Missing(format!(
        "the NVIDIA driver sees no GPU: expected at least one in the output of `nvidia-smi -L` and \
         of CUDA_VISIBLE_DEVICES, {OTHERWISE}"
    ))
}

/// The driver is there, and does not start.
pub(super) fn working_driver(problem: &str) -> DeviceError {
    DeviceError::Missing(format!(
        "the NVIDIA driver does not start ({problem}): expected `nvidia-smi` to list the GPUs, \
         {OTHERWISE}"
    ))
}

/// There are GPUs, and none with this number.
pub(super) fn gpu_number(number: usize, gpus: usize) -> DeviceError {
    DeviceError::Missing(format!(
        "there is no GPU {number}: expected 0 to {}, as {gpus} can be seen, or fewer ranks on this \
         node",
        gpus.saturating_sub(1)
    ))
}

/// Refuses GPUs that are too old.
pub(super) fn check_capability(name: &str, capability: (u32, u32)) -> Result<(), DeviceError> {
    if capability >= LEAST_CAPABILITY {
        return Ok(());
    }
    let ((major, minor), (least, least_minor)) = (capability, LEAST_CAPABILITY);
    Err(DeviceError::Missing(format!(
        "{name} has compute capability {major}.{minor}: expected a GPU with {least}.{least_minor} \
         (Volta, 2017) or later, {OTHERWISE}"
    )))
}

/// Refuses versions of cuDNN that are too old, given as it counts them: 90100 is 9.1.0.
pub(super) fn check_cudnn(version: usize, path: &str) -> Result<(), DeviceError> {
    if version >= LEAST_CUDNN {
        return Ok(());
    }
    Err(DeviceError::Missing(format!(
        "{path} is cuDNN {}: expected {}, {OTHERWISE}",
        cudnn_version(version),
        Library::Cudnn.remedy()
    )))
}

/// Refuses versions of NCCL that are too old, given as it counts them: 22809 is 2.28.9.
pub(super) fn check_nccl(version: i32, path: &str) -> Result<(), DeviceError> {
    if version >= LEAST_NCCL {
        return Ok(());
    }
    Err(DeviceError::Missing(format!(
        "{path} is NCCL {}: expected {}, {OTHERWISE}",
        nccl_version(version),
        Library::Nccl.remedy()
    )))
}

/// Refuses a driver that is older than the compiler whose output it is to load; versions as CUDA
/// counts them, 13020 for 13.2. Within a major version older drivers run what newer compilers make.
pub(super) fn check_driver(driver: u32, compiler: (u32, u32)) -> Result<(), DeviceError> {
    if driver / 1000 >= compiler.0 {
        return Ok(());
    }
    Err(DeviceError::Missing(format!(
        "the NVIDIA driver is for CUDA {} and the NVRTC that was found is of CUDA {}.{}: expected a \
         newer driver, or NVRTC of CUDA {}, {OTHERWISE}",
        cuda_version(driver),
        compiler.0,
        compiler.1,
        driver / 1000,
    )))
}

/// CUDA's version in words.
pub(super) fn cuda_version(version: u32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// cuDNN's version in words: since 9 with two digits for the minor one, before with one.
pub(super) fn cudnn_version(version: usize) -> String {
    let major = if version >= 90000 { 10000 } else { 1000 };
    format!("{}.{}.{}", version / major, version % major / 100, version % 100)
}

/// NCCL's version in words: since 2.9 with two digits for the minor one, before with one.
pub(super) fn nccl_version(version: i32) -> String {
    let major = if version >= 10000 { 10000 } else { 1000 };
    format!("{}.{}.{}", version / major, version % major / 100, version % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sentence_says_what_where_and_how() {
        let folders = [PathBuf::from("/a"), PathBuf::from("/b/c")];
        let sentences = [
            (
                library(Library::Cuda, &[], &[]),
                "the NVIDIA driver was not found: libcuda.so.1 is in none of the dynamic linker's \
                 folders: expected an NVIDIA GPU with its driver installed, or training on the CPU",
            ),
            (
                library(Library::Nvrtc, &folders, &[]),
                "NVRTC was not found: libnvrtc.so.13 or libnvrtc.so.12 is in none of the dynamic \
                 linker's folders, /a, /b/c: expected CUDA 12 or 13, such as by `pip install \
                 nvidia-cuda-nvrtc`, or training on the CPU",
            ),
            (
                library(Library::CublasLt, &folders[..1], &["/a/x: no ELF file".to_owned()]),
                "cuBLASLt was not found: libcublasLt.so.13 or libcublasLt.so.12 is in none of the \
                 dynamic linker's folders, /a (/a/x: no ELF file): expected CUDA 12 or 13, such as \
                 by `pip install nvidia-cublas`, or training on the CPU",
            ),
            (
                gpu(),
                "the NVIDIA driver sees no GPU: expected at least one in the output of \
                 `nvidia-smi -L` and of CUDA_VISIBLE_DEVICES, or training on the CPU",
            ),
            (
                working_driver("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
                "the NVIDIA driver does not start (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH): expected \
                 `nvidia-smi` to list the GPUs, or training on the CPU",
            ),
            (
                gpu_number(2, 2),
                "there is no GPU 2: expected 0 to 1, as 2 can be seen, or fewer ranks on this node",
            ),
            (
                check_capability("Tesla P100", (6, 0)).unwrap_err(),
                "Tesla P100 has compute capability 6.0: expected a GPU with 7.0 (Volta, 2017) or \
                 later, or training on the CPU",
            ),
            (
                check_cudnn(8907, "/a/libcudnn.so").unwrap_err(),
                "/a/libcudnn.so is cuDNN 8.9.7: expected cuDNN 9.1 or later, such as by `pip \
                 install nvidia-cudnn-cu13`, or training on the CPU",
            ),
            (
                check_nccl(21805, "/a/libnccl.so.2").unwrap_err(),
                "/a/libnccl.so.2 is NCCL 2.18.5: expected NCCL 2.22 or later, such as by `pip \
                 install nvidia-nccl-cu13`, or training on the CPU",
            ),
            (
                check_driver(12080, (13, 2)).unwrap_err(),
                "the NVIDIA driver is for CUDA 12.8 and the NVRTC that was found is of CUDA 13.2: \
                 expected a newer driver, or NVRTC of CUDA 12, or training on the CPU",
            ),
        ];
        for (error, sentence) in sentences {
            assert_eq!(error.to_string(), sentence);
        }
    }

    #[test]
    fn what_is_new_enough_is_taken() {
        assert_eq!(check_capability("V100", (7, 0)), Ok(()));
        assert_eq!(check_capability("H200", (9, 0)), Ok(()));
        assert_eq!(check_cudnn(90100, ""), Ok(()));
        assert!(check_cudnn(90099, "").is_err());
        assert_eq!(check_driver(13000, (13, 2)), Ok(()));
        assert_eq!(check_driver(13000, (12, 4)), Ok(()));
        assert_eq!(cudnn_version(92600), "9.26.0");
        assert_eq!(check_nccl(22203, ""), Ok(()));
        assert_eq!((nccl_version(22809), nccl_version(2804)), ("2.28.9".into(), "2.8.4".into()));
    }
}
