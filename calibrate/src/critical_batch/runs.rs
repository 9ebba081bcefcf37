//! One real run to the target, its evaluations and its norms.

use std::collections::BTreeMap;

use foretrain_sim::convergence::noise_scale::SquaredNorms;
use foretrain_sim::recording::Recording;
use foretrain_trainer::communicator::ThreadTransport;
use foretrain_trainer::config::{Every, RecordingConfig, StepRange};
use foretrain_trainer::recording::rank_path;
use foretrain_trainer::train::{self, News, Place, Setup, Watch};

use super::answer::Run;
use super::{CriticalBatchError, Study};
use crate::import::recordings;

/// Steps whose norms are taken at most; a recording has no more.
const NORMS_MAX: u64 = 100_000;

/// A run that begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunStart {
    /// Images of a step, over all ranks.
    pub batch: u32,
    /// The learning rate.
    pub learning_rate: f64,
    /// The seed.
    pub seed: u64,
    /// Epochs after which it is given up.
    pub epochs_max: f64,
    /// Whether norms are taken.
    pub norms: bool,
}

/// Who is told how runs go.
pub trait Progress {
    /// A run begins.
    fn begin(&mut self, run: &RunStart);
    /// Something happened in it.
    fn tell(&mut self, news: News<'_>);
}

/// Nobody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NobodyFollows;

impl Progress for NobodyFollows {
    fn begin(&mut self, _: &RunStart) {}
    fn tell(&mut self, _: News<'_>) {}
}

/// What a run did.
pub(super) struct Course {
    pub(super) run: Run,
    /// Of every step, where they were taken.
    pub(super) norms: Vec<SquaredNorms>,
    /// To train on.
    pub(super) images: u32,
}

/// Keeps steps and top-1 of evaluations.
struct Follow<'a> {
    progress: &'a mut dyn Progress,
    steps_per_epoch: u64,
    evaluations: Vec<(u64, f64)>,
}

impl Watch for Follow<'_> {
    fn tell(&mut self, news: News<'_>) {
        match &news {
            News::Start { steps_per_epoch, .. } => self.steps_per_epoch = *steps_per_epoch,
            News::Evaluation(found) => {
                let step = (found.epoch * self.steps_per_epoch as f64).round() as u64;
                self.evaluations.push((step, found.top1));
            }
            _ => {}
        }
        self.progress.tell(news);
    }
}

/// Trains until the target, or until it is given up.
pub(super) fn train(
    study: &Study,
    plan: &RunStart,
    progress: &mut dyn Progress,
) -> Result<Course, CriticalBatchError> {
    progress.begin(plan);
    let question = &study.question;
    let mut config = question.config.clone();
    config.seed = plan.seed;
    config.training.global_batch = plan.batch;
    config.training.epochs = plan.epochs_max;
    config.schedule.base_lr = plan.learning_rate;
    config.schedule.linear_scaling = false;
    config.output.folder =
        question.scratch.join(format!("batch-{}-seed-{}", plan.batch, plan.seed));
    config.output.checkpoint_every = Every::Never;
    config.output.log = "log.jsonl".into();
    config.output.mllog = None;
    let file = std::path::PathBuf::from("norms");
    config.output.recording = plan.norms.then(|| RecordingConfig {
        steps: StepRange(0..NORMS_MAX),
        file: file.clone(),
        norms: true,
        timeline: false,
    });
    let folder = config.output.folder.clone();
    let setup = Setup::new(config, study.ranks, &question.device, &question.started)?;
    let mut follow = Follow { progress, steps_per_epoch: 1, evaluations: Vec::new() };
    let report = train::run(&setup, Place::<ThreadTransport>::Threads, &mut follow)?;
    let evaluations = follow.evaluations;
    // An epoch leaves over images that fill no batch; here every image counts.
    let epochs = |steps: f64| steps * f64::from(plan.batch) / f64::from(setup.train_samples());
    let run = Run {
        seed: plan.seed,
        steps: report.steps,
        epochs: crossing(&evaluations, study.target).map(epochs),
        evaluations: evaluations.iter().map(|(step, top1)| (epochs(*step as f64), *top1)).collect(),
        seconds: report.seconds,
    };
    let norms = if plan.norms {
        norms(
            &(0..study.ranks).map(|rank| rank_path(&folder.join(&file), rank)).collect::<Vec<_>>(),
        )?
    } else {
        Vec::new()
    };
    // What was left behind has been read.
    let _ = std::fs::remove_dir_all(&folder);
    Ok(Course { run, norms, images: setup.train_samples() })
}

/// After how many steps the target was reached: by a straight line between the evaluation before,
/// which was below it, and the first that was not.
pub(super) fn crossing(evaluations: &[(u64, f64)], target: f64) -> Option<f64> {
    let index = evaluations.iter().position(|(_, top1)| *top1 >= target)?;
    let (step, top1) = evaluations[index];
    let Some((before, below)) = index.checked_sub(1).map(|index| evaluations[index]) else {
        return Some(step as f64);
    };
    let part = (target - below) / (top1 - below);
    Some(before as f64 + part * (step - before) as f64)
}

/// Norms of all steps, from the recordings of all ranks.
fn norms(paths: &[std::path::PathBuf]) -> Result<Vec<SquaredNorms>, CriticalBatchError> {
    let mut ranks = Vec::new();
    for path in paths {
        let name = path.display().to_string();
        let wrong = |reason: String| CriticalBatchError::Recording(format!("{name}: {reason}"));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let recording = Recording::read(&text).map_err(|error| wrong(error.to_string()))?;
        ranks.push((name, recording));
    }
    let by_rank: BTreeMap<u32, &(String, Recording)> =
        ranks.iter().map(|named| (named.1.header.rank, named)).collect();
    let series = recordings::norms(&by_rank);
    let pairs = series.map(|series| series.local_and_averaged).unwrap_or_default();
    let norms = |(local, averaged)| SquaredNorms { local, averaged };
    Ok(pairs.into_iter().map(norms).collect())
}
