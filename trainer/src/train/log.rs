//! What a run writes down for programs: a JSON object a line, and MLPerf's lines.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Evaluation, Losses, Setup, TrainError};
use crate::mllog::{MlLog, RunStatus, Samples};

type Clock = fn() -> u64;

/// The logs of rank 0.
pub(super) struct Logs {
    path: PathBuf,
    lines: File,
    mllog: Option<(PathBuf, MlLog<BufWriter<File>, Clock>)>,
    train_images_per_epoch: u64,
    eval_images: u64,
}

fn milliseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

/// Opens a file to add to: a run that goes on keeps what it has written, and ends a line that a
/// killed one began.
fn open(path: &Path) -> Result<File, TrainError> {
    let error = |error| TrainError::Write { path: path.to_owned(), error };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(error)?;
    }
    let mut file =
        OpenOptions::new().create(true).read(true).append(true).open(path).map_err(error)?;
    let mut last = [b'\n'];
    if file.metadata().map_err(error)?.len() > 0 {
        file.seek(SeekFrom::End(-1)).map_err(error)?;
        file.read_exact(&mut last).map_err(error)?;
    }
    if last != *b"\n" {
        file.write_all(b"\n").map_err(error)?;
    }
    Ok(file)
}

impl Logs {
    pub(super) fn open(setup: &Setup) -> Result<Self, TrainError> {
        let output = &setup.config.output;
        let path = output.path(&output.log);
        let lines = open(&path)?;
        let mllog = match &output.mllog {
            Some(file) => {
                let path = output.path(file);
                let file = BufWriter::new(open(&path)?);
                Some((path, MlLog::new(file, milliseconds as Clock)))
            }
            None => None,
        };
        Ok(Self {
            path,
            lines,
            mllog,
            train_images_per_epoch: setup.steps_per_epoch
                * u64::from(setup.config.training.global_batch),
            eval_images: setup.eval.as_ref().map_or(0, |eval| u64::from(eval.len())),
        })
    }

    fn line(&mut self, line: &Value) -> Result<(), TrainError> {
        // At once, so that a killed run leaves whole lines.
        self.lines
            .write_all(format!("{line}\n").as_bytes())
            .map_err(|error| TrainError::Write { path: self.path.clone(), error })
    }

    /// Writes to MLPerf's log, if there is one.
    #[track_caller]
    fn mllog(
        &mut self,
        write: impl FnOnce(&mut MlLog<BufWriter<File>, Clock>) -> std::io::Result<()>,
    ) -> Result<(), TrainError> {
        match &mut self.mllog {
            Some((path, log)) => {
                write(log).map_err(|error| TrainError::Write { path: path.clone(), error })
            }
            None => Ok(()),
        }
    }

    /// The run begins, maybe after steps of an earlier process.
    pub(super) fn start(&mut self, setup: &Setup, done: u64) -> Result<(), TrainError> {
        let config = &setup.config;
        let settings: Value = json!(config);
        self.line(&json!({
            "event": "start", "foretrain": env!("CARGO_PKG_VERSION"), "started": setup.started,
            "step": done, "ranks": setup.world, "device": setup.device,
            "settings_sha256": setup.fingerprint.hash(), "config": settings,
        }))?;
        let samples = Samples { train: u64::from(setup.train.len()), eval: self.eval_images };
        if done > 0 {
            return Ok(());
        }
        self.mllog(|log| {
            log.init_start()?;
            log.settings(config, &setup.schedule, samples)?;
            log.init_stop()?;
            log.run_start()
        })
    }

    pub(super) fn epoch_start(&mut self, epoch: u64) -> Result<(), TrainError> {
        self.mllog(|log| {
            log.block_start(epoch, 1)?;
            log.epoch_start(epoch)
        })
    }

    pub(super) fn epoch_stop(&mut self, epoch: u64) -> Result<(), TrainError> {
        let samples = epoch * self.train_images_per_epoch;
        self.mllog(|log| {
            log.epoch_stop(epoch, samples)?;
            log.block_stop(epoch, 1)
        })
    }

    pub(super) fn losses(&mut self, losses: &Losses) -> Result<(), TrainError> {
        let Losses { step, epoch, loss, top1, lr, loss_scale, skipped, images_per_s, input_wait } =
            *losses;
        self.line(&json!({
            "event": "steps", "step": step, "epoch": epoch, "loss": loss, "top1": top1, "lr": lr,
            "loss_scale": loss_scale, "skipped": skipped, "images_per_s": images_per_s,
            "input_wait": input_wait,
        }))
    }

    pub(super) fn evaluation_start(&mut self, epoch: f64) -> Result<(), TrainError> {
        let samples = self.eval_images;
        self.mllog(|log| log.eval_start(epoch as u64, samples))
    }

    pub(super) fn evaluation(&mut self, step: u64, result: &Evaluation) -> Result<(), TrainError> {
        let Evaluation { epoch, images, loss, top1, top5 } = *result;
        self.line(&json!({
            "event": "evaluation", "step": step, "epoch": epoch, "images": images, "loss": loss,
            "top1": top1, "top5": top5,
        }))?;
        self.mllog(|log| {
            log.eval_accuracy(epoch as u64, images, top1)?;
            log.eval_stop(epoch as u64, images)
        })
    }

    pub(super) fn checkpoint(&mut self, step: u64, path: &Path) -> Result<(), TrainError> {
        self.line(
            &json!({ "event": "checkpoint", "step": step, "path": path.display().to_string() }),
        )
    }

    /// The run is over.
    pub(super) fn stop(&mut self, step: u64, reached: Option<bool>) -> Result<(), TrainError> {
        self.line(&json!({ "event": "stop", "step": step, "reached_target": reached }))?;
        let status = if reached == Some(false) { RunStatus::Aborted } else { RunStatus::Success };
        self.mllog(|log| log.run_stop(status))
    }
}
