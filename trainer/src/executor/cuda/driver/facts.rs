//! What is known of a GPU and its software, for files of results.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A GPU and the software it was used with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GpuFacts {
    /// The GPU's name, such as `NVIDIA H200`.
    pub name: String,
    /// Its compute capability, such as `9.0`.
    pub compute_capability: String,
    /// Its streaming multiprocessors, where the driver tells them, as with the next three.
    pub multiprocessors: Option<u32>,
    /// Its highest clock, in kilohertz.
    pub clock_khz: Option<u32>,
    /// The highest clock of its memory, in kilohertz.
    pub memory_clock_khz: Option<u32>,
    /// The width of its memory's bus, in bits.
    pub memory_bus_bits: Option<u32>,
    /// All its memory, in bytes.
    pub memory_bytes: u64,
    /// Its memory that was free when it was opened, in bytes.
    pub free_memory_bytes: u64,
    /// The driver's version, such as `580.82.07`, where the system tells it.
    pub driver: Option<String>,
    /// The CUDA version that the driver supports, such as `13.0`.
    pub driver_cuda: String,
    /// NVRTC's version, such as `13.0`.
    pub nvrtc: String,
    /// The architecture for which the kernels were compiled, such as `sm_90`.
    pub architecture: String,
    /// cuBLASLt's version, as it counts, such as 130200 for 13.2.0.
    pub cublaslt: u64,
    /// cuDNN's version, such as `9.19.0`.
    pub cudnn: String,
}

/// The driver's version, where the system tells it.
pub(super) fn driver_version() -> Option<String> {
    let version = std::fs::read_to_string("/sys/module/nvidia/version").ok()?;
    Some(version.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_back_as_they_were_written() {
        let facts = GpuFacts {
            name: "a GPU".to_owned(),
            compute_capability: "9.0".to_owned(),
            multiprocessors: Some(1),
            clock_khz: Some(2),
            memory_clock_khz: Some(3),
            memory_bus_bits: Some(4),
            memory_bytes: 5,
            free_memory_bytes: 6,
            driver: None,
            driver_cuda: "13.0".to_owned(),
            nvrtc: "13.2".to_owned(),
            architecture: "sm_90".to_owned(),
            cublaslt: 7,
            cudnn: "9.26.0".to_owned(),
        };
        let json = serde_json::to_string(&facts).unwrap();
        assert!(json.contains("\"driver\":null"), "{json}");
        assert_eq!(serde_json::from_str::<GpuFacts>(&json).unwrap(), facts);
    }
}
