//! What is trained where nobody says what.

use std::path::Path;

use foretrain_trainer::config::Config;
use foretrain_trainer::executor::cuda::driver::Gpu;

use crate::failure::Failure;
use crate::output;

/// ResNet-50 as Jia et al. (arXiv 1807.11205) train it, on made-up images.
const ON_GPU: &str = r#"
name = "calibration"
[network]
model = "resnet50"
[data]
kind = "synthetic"
synthetic = { samples = 20000, eval_samples = 0, classes = 1000 }
[training]
device = "cuda"
precision = "f16"
global_batch = 256
[optimizer]
rule = "lars"
"#;

/// A ResNet for small images, whose step takes some tens of milliseconds.
const ON_CPU: &str = r#"
name = "calibration"
[network]
model = "resnet-cifar"
depth = 20
[data]
kind = "synthetic"
synthetic = { samples = 20000, eval_samples = 0, classes = 10 }
[training]
global_batch = 32
[optimizer]
rule = "lars"
"#;

/// The configuration, and what errors call it.
pub(super) fn read(path: Option<&Path>) -> Result<(String, Config), Failure> {
    let (place, text) = match path {
        Some(path) => (output::shown(path), output::read_text(path)?),
        None if Gpu::count().is_ok_and(|gpus| gpus > 0) => ("a GPU".to_owned(), ON_GPU.to_owned()),
        None => ("this processor".to_owned(), ON_CPU.to_owned()),
    };
    let config =
        Config::from_toml(&text).map_err(|error| Failure::Invalid(format!("{place}:{error}")))?;
    Ok((place, config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_trained_by_default_can_be_read() {
        for text in [ON_GPU, ON_CPU] {
            assert_eq!(Config::from_toml(text).unwrap().name, "calibration");
        }
    }
}
