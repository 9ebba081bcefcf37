//! What a checkpoint keeps beside the weights, and how it is written.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::safetensors::Load as _;
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{CheckpointError, ModelTensor, Tensors, weights};
use crate::config::Fingerprint;
use crate::loss_scale::LossScaleState;
use crate::optimizer::{OptimizerState, TensorMemory};

/// The version of the format of checkpoints.
pub(super) const VERSION: u32 = 1;

const VELOCITY: &str = "velocity.";
const LAST_LR: &str = "last_lr.";

/// How far training has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Whole passes over the data that are done.
    pub epoch: u64,
    /// Global batches that are done in the pass after these.
    pub batch: u64,
    /// Steps that are done, those skipped for overflow included.
    pub step: u64,
}

/// What a checkpoint keeps beside the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingState {
    /// How far training has come.
    pub progress: Progress,
    /// The seed of the run.
    pub seed: u64,
    /// Velocities and last learning rates.
    pub optimizer: OptimizerState,
    /// The loss scale of the next step.
    pub loss_scale: LossScaleState,
    /// The best accuracy of an evaluation so far, 0 to 1, if there was one.
    pub best_top1: Option<f64>,
    /// The settings of the run that change results.
    pub settings: Fingerprint,
}

/// `state.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StateJson {
    pub(super) checkpoint: u32,
    foretrain: String,
    progress: Progress,
    seed: u64,
    loss_scale: LossScaleState,
    best_top1: Option<f64>,
    settings_sha256: String,
    settings: Fingerprint,
}

impl TrainingState {
    pub(super) fn json(&self) -> Result<Vec<u8>, CheckpointError> {
        let json = StateJson {
            checkpoint: VERSION,
            foretrain: env!("CARGO_PKG_VERSION").to_owned(),
            progress: self.progress,
            seed: self.seed,
            loss_scale: self.loss_scale,
            best_top1: self.best_top1,
            settings_sha256: self.settings.hash(),
            settings: self.settings.clone(),
        };
        let mut text = serde_json::to_vec_pretty(&json).map_err(|reason| {
            let (tensor, problem) = ("state.json".to_owned(), reason.to_string());
            CheckpointError::Tensor { tensor, problem }
        })?;
        text.push(b'\n');
        Ok(text)
    }

    /// `state.safetensors`.
    pub(super) fn tensors(&self) -> Result<Vec<u8>, CheckpointError> {
        let mut tensors = Tensors::new();
        for (name, TensorMemory { velocity, last_lr }) in &self.optimizer.tensors {
            let error = |reason: candle_core::Error| {
                let (tensor, problem) = (name.clone(), reason.to_string());
                CheckpointError::Tensor { tensor, problem }
            };
            let (velocity, length) = (velocity.as_slice(), velocity.len());
            let velocity = Tensor::from_slice(velocity, length, &Device::Cpu).map_err(error)?;
            tensors.insert(format!("{VELOCITY}{name}"), velocity);
            let last_lr = Tensor::new(*last_lr, &Device::Cpu).map_err(error)?;
            tensors.insert(format!("{LAST_LR}{name}"), last_lr);
        }
        weights::encode(&tensors)
    }
}

impl StateJson {
    pub(super) fn with(self, optimizer: OptimizerState) -> TrainingState {
        let Self { progress, seed, loss_scale, best_top1, settings, .. } = self;
        TrainingState { progress, seed, optimizer, loss_scale, best_top1, settings }
    }

    pub(super) fn settings(&self) -> &Fingerprint {
        &self.settings
    }
}

/// Reads `state.safetensors`: every velocity must be that of a parameter in `expected`.
pub(super) fn optimizer(
    path: &Path,
    content: &[u8],
    expected: &[ModelTensor],
) -> Result<OptimizerState, CheckpointError> {
    let file = weights::parse(path, content)?;
    let known: HashMap<&str, &ModelTensor> =
        expected.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut problems = Vec::new();
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let Some(of) = name.strip_prefix(VELOCITY) else {
            let of = name.strip_prefix(LAST_LR).map(|of| format!("{VELOCITY}{of}"));
            if of.is_none_or(|velocity| file.tensor(&velocity).is_err()) {
                problems.push(format!("`{name}` is not expected"));
            }
            continue;
        };
        let Some(tensor) = known.get(of) else {
            problems.push(format!("`{name}` is of no parameter of the network"));
            continue;
        };
        let velocity = view.load(&Device::Cpu).and_then(|read| read.to_vec1::<f32>());
        let velocity = velocity.map_err(weights::unreadable(path, tensor))?;
        if velocity.len() != tensor.elements() {
            let (found, wanted) = (velocity.len(), tensor.elements());
            problems.push(format!("`{name}` has {found} elements, expected {wanted}"));
            continue;
        }
        let Ok(last_lr) = file.tensor(&format!("{LAST_LR}{of}")) else {
            problems.push(format!("`{LAST_LR}{of}` is missing"));
            continue;
        };
        let last_lr = last_lr.load(&Device::Cpu).and_then(|read| read.to_scalar::<f64>());
        let last_lr = last_lr.map_err(weights::unreadable(path, tensor))?;
        tensors.insert(of.to_owned(), TensorMemory { velocity, last_lr });
    }
    if problems.is_empty() {
        return Ok(OptimizerState { tensors });
    }
    problems.sort_unstable();
    Err(CheckpointError::Mismatch { path: path.to_owned(), problems })
}
