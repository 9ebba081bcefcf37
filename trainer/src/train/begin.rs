//! How a rank's run begins: with which weights, and whether all ranks agree.

use std::num::NonZeroUsize;

use foretrain_sim::located::Problem;
use sha2::{Digest, Sha256};

use super::log::Logs;
use super::rank::RankRun;
use super::{TrainError, saved};
use crate::checkpoint::{self, CheckpointFolder, Expected};

impl RankRun<'_> {
    /// Takes weights from the latest checkpoint, or from the file that the configuration names.
    ///
    /// Rank 0 says which checkpoint it is, so that all take the same. All ranks must have been told
    /// the same and begin with the same weights.
    pub(super) fn begin(&mut self) -> Result<(), TrainError> {
        let setup = self.setup;
        let output = &setup.config.output;
        let mut latest = None;
        if self.rank() == 0 {
            let keep = NonZeroUsize::new(output.keep as usize).unwrap_or(NonZeroUsize::MIN);
            let folder = CheckpointFolder::open(&output.checkpoints(), keep)?;
            latest = folder.latest()?;
            self.folder = Some(folder);
            self.logs = Some(Logs::open(setup)?);
        }
        let name = latest.as_ref().and_then(|path| path.file_name());
        let name = name.map_or(String::new(), |name| name.to_string_lossy().into_owned());
        let names = self.exchange("exchange of the checkpoint's name", name)?;
        let settings = self.exchange("exchange of settings", setup.agreement())?;
        agree("the settings", &settings)?;
        if let Some(name) = names.first().filter(|name| !name.is_empty()) {
            let path = output.checkpoints().join(name);
            let settings = Some(&setup.fingerprint);
            let checkpoint =
                checkpoint::load(&path, &Expected { tensors: &setup.tensors, settings })?;
            self.done = checkpoint.state.progress.step;
            self.best_top1 = checkpoint.state.best_top1;
            saved::restore(setup, &mut *self.replica, checkpoint)?;
            self.saved_at = Some(self.done);
            self.resumed = Some(path);
        } else if let Some(path) = &setup.config.network.weights {
            let model = checkpoint::load_weights(path, &setup.tensors)
                .map_err(|error| Problem::new("network.weights", error.to_string()))?;
            saved::load_model(setup, &mut *self.replica, &model)?;
        }
        let hash = self.weights_hash()?;
        let weights = self.exchange("exchange of the weights' hashes", hash)?;
        agree("the first weights", &weights)
    }

    /// What every rank says, in the order of ranks.
    fn exchange(&self, name: &'static str, own: String) -> Result<Vec<String>, TrainError> {
        let pending =
            self.replica.communication().ask(move |all| all.all_gather(name, own.as_bytes()));
        let said = pending.wait()??;
        Ok(said.iter().map(|said| String::from_utf8_lossy(said).into_owned()).collect())
    }

    pub(super) fn weights_hash(&mut self) -> Result<String, TrainError> {
        let weights = self.replica.weights()?;
        let mut hash = Sha256::new();
        for parameter in self.setup.plan.parameter_ids() {
            for weight in weights.of(parameter) {
                hash.update(weight.to_le_bytes());
            }
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Whether all ranks say the same.
pub(super) fn agree(what: &'static str, said: &[String]) -> Result<(), TrainError> {
    match said.iter().position(|own| Some(own) != said.first()) {
        Some(rank) => Err(TrainError::Disagreement { rank: rank as u32, what }),
        None => Ok(()),
    }
}
