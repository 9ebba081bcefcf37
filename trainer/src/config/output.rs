//! `[output]`: what a run leaves behind.

use std::path::{Path, PathBuf};

use foretrain_sim::located::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::intervals::{Every, StepRange};

/// What a run leaves behind. Paths that are not absolute are below `folder`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutputConfig {
    /// The folder of the run; checkpoints are in `checkpoints` there.
    pub folder: PathBuf,
    /// How often a checkpoint is written: "1 epoch", "500 steps" or "never".
    pub checkpoint_every: Every,
    /// Checkpoints that are kept, the newest ones.
    #[schemars(range(min = 1))]
    pub keep: u32,
    /// What is recorded of which steps; nothing by default.
    pub recording: Option<RecordingConfig>,
    /// A file for the lines of MLPerf's logging; none by default.
    pub mllog: Option<PathBuf>,
    /// A file for losses, rates and accuracies, a JSON object a line; `log.jsonl` by default.
    pub log: PathBuf,
}

/// Which steps are recorded, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordingConfig {
    /// The steps: "10..20" for steps 10 to 19, or a number for so many from the first.
    pub steps: StepRange,
    /// The path, to which each rank adds its number: `recording` by default, which gives
    /// `recording.rank0.jsonl`.
    #[serde(default = "recording_file")]
    pub file: PathBuf,
    /// Whether norms of gradients are recorded, which take time of the step on a CPU; true by default.
    #[serde(default = "yes")]
    pub norms: bool,
    /// Whether it is recorded what happened when; without, norms alone are left, which are short
    /// enough for whole trainings. True by default.
    #[serde(default = "yes")]
    pub timeline: bool,
}

const fn yes() -> bool {
    true
}

fn recording_file() -> PathBuf {
    "recording".into()
}

impl Default for OutputConfig {
    fn default() -> Self {
        Self {
            folder: "run".into(),
            checkpoint_every: Every::Epochs(1),
            keep: 3,
            recording: None,
            mllog: None,
            log: "log.jsonl".into(),
        }
    }
}

impl OutputConfig {
    /// The folder of checkpoints.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.folder.join("checkpoints")
    }

    /// Where a file of the run is.
    #[must_use]
    pub fn path(&self, file: &Path) -> PathBuf {
        self.folder.join(file)
    }

    pub(super) fn check(&self) -> Result<(), Problem> {
        if self.keep == 0 {
            return Err(Problem::new("output.keep", "0, expected at least 1"));
        }
        if self.recording.as_ref().is_some_and(|recording| !recording.norms && !recording.timeline)
        {
            let problem = "neither norms nor the timeline: leave one of them, or `recording` out";
            return Err(Problem::new("output.recording", problem));
        }
        Ok(())
    }
}
