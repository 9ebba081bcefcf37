//! Between a replica and a checkpoint.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::{Setup, TrainError};
use crate::checkpoint::{Checkpoint, Progress, Tensors, TrainingState};
use crate::executor::RunningStatistics;
use crate::model::{Weights, WeightsError, elements};
use crate::step::Replica;

/// Everything that a step changes, as a checkpoint keeps it.
pub(super) fn checkpoint(
    setup: &Setup,
    replica: &mut dyn Replica,
    progress: Progress,
    best_top1: Option<f64>,
) -> Result<Checkpoint, TrainError> {
    let mut model = replica.weights()?.to_tensors()?;
    let statistics = replica.running_statistics()?;
    for (norm, RunningStatistics { mean, variance }) in
        setup.plan.batch_norms().iter().zip(statistics)
    {
        for (suffix, values) in [("running_mean", mean), ("running_var", variance)] {
            let tensor = Tensor::from_vec(values, norm.channels, &Device::Cpu)?;
            model.insert(format!("{}.{suffix}", norm.name), tensor);
        }
        let batches = Tensor::new(progress.step as i64, &Device::Cpu)?;
        model.insert(format!("{}.num_batches_tracked", norm.name), batches);
    }
    let (optimizer, loss_scale) = replica.state()?;
    let state = TrainingState {
        progress,
        seed: setup.config.seed,
        optimizer,
        loss_scale,
        best_top1,
        settings: setup.fingerprint.clone(),
    };
    Ok(Checkpoint { model, state })
}

/// Puts the replica where the checkpoint was made.
pub(super) fn restore(
    setup: &Setup,
    replica: &mut dyn Replica,
    checkpoint: Checkpoint,
) -> Result<(), TrainError> {
    load_model(setup, replica, &checkpoint.model)?;
    let TrainingState { optimizer, loss_scale, .. } = checkpoint.state;
    Ok(replica.load_state(optimizer, loss_scale)?)
}

/// Takes weights and running statistics.
pub(super) fn load_model(
    setup: &Setup,
    replica: &mut dyn Replica,
    model: &Tensors,
) -> Result<(), TrainError> {
    replica.load_weights(Weights::from_tensors(&Arc::clone(&setup.plan), model)?)?;
    let statistics = setup.plan.batch_norms().iter().map(|norm| {
        let values = |suffix: &str| -> Result<Vec<f32>, WeightsError> {
            elements(model, &format!("{}.{suffix}", norm.name), norm.channels)
        };
        Ok(RunningStatistics { mean: values("running_mean")?, variance: values("running_var")? })
    });
    let statistics = statistics.collect::<Result<Vec<_>, WeightsError>>()?;
    Ok(replica.set_running_statistics(&statistics)?)
}
