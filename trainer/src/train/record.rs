//! When a rank records and when it saves.

use foretrain_sim::recording::EventKind;

use super::rank::RankRun;
use super::{News, TrainError, Watch, saved};
use crate::checkpoint::Progress;
use crate::config::Backend;
use crate::recording::{Recorder, rank_path};

impl RankRun<'_> {
    /// Begins the recording at the first step that is to be recorded, and ends it after the last; a
    /// run that goes on after them leaves an older recording alone.
    pub(super) fn record_from(&mut self, step: u64) -> Result<bool, TrainError> {
        let Some(recording) = &self.setup.config.output.recording else { return Ok(false) };
        let steps = recording.steps.0.clone();
        if !steps.contains(&step) {
            return Ok(false);
        }
        if self.recorder.is_none() {
            let config = &self.setup.config;
            let algorithm = super::world::all_reduce(&config.communication).to_string();
            let threads = self.setup.threads(self.local_ranks);
            let mut header = self.setup.header(self.rank(), threads, &algorithm);
            if let Some(device) = self.replica.device() {
                header.device = device;
                // The device decides.
                header.threads = 0;
                let backend = match config.communication.backend() {
                    Backend::Nccl => "by NCCL",
                    Backend::Host => "through the hosts",
                };
                if self.setup.world > 1 {
                    header.algorithm = format!("{algorithm}, {backend}");
                }
            }
            let path = config.output.path(&recording.file);
            // The rest of a recording does not replace the whole.
            if step > steps.start && rank_path(&path, self.rank()).exists() {
                return Ok(false);
            }
            let start = self.timeline.start();
            self.recorder = Some(Recorder::create(&path, &header, steps, start)?);
        }
        self.timeline.set_norms(recording.norms);
        Ok(true)
    }

    /// Writes the events of a recorded step.
    pub(super) fn write_recording(&mut self, step: u64) -> Result<(), TrainError> {
        let Some(recorder) = &self.recorder else { return Ok(()) };
        let recording = self.setup.config.output.recording.as_ref();
        let timeline = recording.is_none_or(|recording| recording.timeline);
        for event in self.timeline.take() {
            if timeline || matches!(event.kind, EventKind::Norms(_)) {
                recorder.record(step, event.kind);
            }
        }
        recorder.end_step()?;
        if !recorder.wants(step + 1)
            && let Some(recorder) = self.recorder.take()
        {
            recorder.finish()?;
        }
        Ok(())
    }

    /// Writes a checkpoint, from which all ranks go on with the same running statistics, whether
    /// they were killed in between or not.
    pub(super) fn save(&mut self, watch: &mut dyn Watch) -> Result<(), TrainError> {
        if self.saved_at == Some(self.done) {
            return Ok(());
        }
        let averaged = self.averaged_statistics()?;
        self.replica.set_running_statistics(&averaged)?;
        self.saved_at = Some(self.done);
        let Some(folder) = &self.folder else { return Ok(()) };
        let per_epoch = self.setup.steps_per_epoch;
        let progress = Progress {
            epoch: self.done / per_epoch,
            batch: self.done % per_epoch,
            step: self.done,
        };
        let checkpoint =
            saved::checkpoint(self.setup, &mut *self.replica, progress, self.best_top1)?;
        let path = folder.save(&checkpoint)?;
        if let Some(logs) = &mut self.logs {
            logs.checkpoint(self.done, &path)?;
        }
        watch.tell(News::Checkpoint(&path));
        self.checkpoint = Some(path);
        Ok(())
    }
}
