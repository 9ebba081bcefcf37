//! What one rank does from the first step to the last.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use foretrain_sim::recording::EventKind;

use super::log::Logs;
use super::replica::{self, Seat};
use super::{Losses, News, Report, Setup, TrainError, Watch};
use crate::checkpoint::CheckpointFolder;
use crate::communicator::Communicator;
use crate::config::{DeviceName, Every};
use crate::data::augment::Preparation;
use crate::data::loader::{self, Images, Loader, LoaderSettings, Skip};
use crate::data::sampler::{Purpose, Sampler};
use crate::data::source::Source;
use crate::executor::{self, LossSum};
use crate::loss_scale::Verdict;
use crate::recording::Recorder;
use crate::step::{Replica, StepOutcome, Timeline};

/// Steps from one report of losses to the next.
const REPORT_STEPS: u64 = 20;

/// Steps without an update after which training has failed: a dynamic loss scale falls by half with
/// each, from the largest number of half precision to the smallest within 40.
const SKIPPED_MAX: u64 = 100;

/// One rank in a run.
pub(super) struct RankRun<'a> {
    pub(super) setup: &'a Setup,
    pub(super) replica: Box<dyn Replica>,
    pub(super) timeline: Timeline,
    pub(super) recorder: Option<Recorder>,
    /// Rank 0's.
    pub(super) folder: Option<CheckpointFolder>,
    pub(super) logs: Option<Logs>,
    pub(super) local_ranks: u32,
    pub(super) done: u64,
    /// The checkpoint that it went on from.
    pub(super) resumed: Option<PathBuf>,
    pub(super) best_top1: Option<f64>,
    pub(super) checkpoint: Option<PathBuf>,
    /// The step at which the last checkpoint was written.
    pub(super) saved_at: Option<u64>,
    /// Steps without an update, one after the other, until now.
    skipped: u64,
}

/// What has come together since the last report.
struct Interval {
    start: Instant,
    /// Checkpoints are not training.
    paused: Duration,
    input_wait_ns: u64,
    loss: LossSum,
    steps: u64,
    skipped: u64,
}

impl Interval {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            paused: Duration::ZERO,
            input_wait_ns: 0,
            loss: LossSum::default(),
            steps: 0,
            skipped: 0,
        }
    }

    fn add(&mut self, outcome: &StepOutcome) {
        self.loss.loss += outcome.loss.loss;
        self.loss.hits += outcome.loss.hits;
        self.steps += 1;
        self.skipped += u64::from(outcome.verdict != Verdict::Apply);
    }
}

/// What is taken of the input while a step is under way.
#[derive(Default)]
struct Ahead {
    skipped: Vec<Skip>,
    /// Why there is no next batch, for when it is needed.
    error: Option<TrainError>,
}

impl Ahead {
    /// The next batch, if it is there already.
    fn batch(&mut self, setup: &Setup, loader: &mut Loader) -> Option<executor::Batch> {
        if self.error.is_some() || !loader.is_ready() {
            return None;
        }
        match loader.next()? {
            Ok(mut batch) => {
                self.skipped.append(&mut batch.skipped);
                tensors(setup, batch).map_err(|error| self.error = Some(error)).ok()
            }
            Err(error) => {
                self.error = Some(error.into());
                None
            }
        }
    }
}

impl<'a> RankRun<'a> {
    /// Builds the rank's replica, from the latest checkpoint if there is one.
    pub(super) fn new(
        setup: &'a Setup,
        communicator: Box<dyn Communicator>,
        seat: Seat,
        start: Instant,
    ) -> Result<Self, TrainError> {
        let rank = communicator.rank();
        let replica = replica::build(setup, communicator, seat)?;
        let mut run = Self {
            setup,
            replica,
            timeline: Timeline::new(start, rank),
            recorder: None,
            folder: None,
            logs: None,
            local_ranks: seat.local_ranks,
            done: 0,
            resumed: None,
            best_top1: None,
            checkpoint: None,
            saved_at: None,
            skipped: 0,
        };
        run.begin()?;
        Ok(run)
    }

    pub(super) fn rank(&self) -> u32 {
        self.replica.communication().rank()
    }

    /// Trains.
    pub(super) fn run(mut self, watch: &mut dyn Watch) -> Result<Report, TrainError> {
        let setup = self.setup;
        let (steps, per_epoch) = (setup.steps(), setup.steps_per_epoch);
        let (done_before, began) = (self.done, Instant::now());
        watch.tell(News::Start {
            done: self.done,
            steps,
            steps_per_epoch: per_epoch,
            checkpoint: self.resumed.as_ref(),
            device: self.replica.device().as_deref(),
        });
        let target = setup.config.training.target_top1.map(|target| target.get());
        let mut reached = target.map(|target| self.best_top1.is_some_and(|top1| top1 >= target));
        let mut evaluation = None;
        if self.done >= steps || reached == Some(true) {
            // Nothing is left to do or to log; the report says again how good it is.
            self.logs = None;
            evaluation = self.evaluate(watch)?;
            if let (Some(target), Some(found)) = (target, evaluation) {
                reached = Some(found.top1 >= target);
            }
        }
        if let Some(logs) = &mut self.logs {
            logs.start(setup, self.done)?;
        }
        let mut begun = None;
        while self.done < steps && reached != Some(true) {
            let epoch = self.done / per_epoch;
            let epoch_end = steps.min((epoch + 1) * per_epoch);
            let next_evaluation = setup.next_evaluation(self.done);
            let end = next_evaluation.map_or(epoch_end, |next| next.min(epoch_end));
            if let Some(logs) = self.logs.as_mut().filter(|_| begun != Some(epoch)) {
                logs.epoch_start(epoch + 1)?;
            }
            begun = Some(epoch);
            self.epoch(epoch, end, watch)?;
            if let Some(logs) = self.logs.as_mut().filter(|_| end == epoch_end) {
                logs.epoch_stop(epoch + 1)?;
            }
            let whole = self.done.is_multiple_of(per_epoch);
            if next_evaluation == Some(self.done) || self.done == steps {
                evaluation = self.evaluate(watch)?.or(evaluation);
            }
            if let (Some(target), Some(found)) = (target, evaluation) {
                reached = Some(found.top1 >= target);
            }
            if let Some(logs) = self.logs.as_mut().filter(|_| end != epoch_end) {
                // The target ends an epoch, too.
                if reached == Some(true) {
                    logs.epoch_stop(epoch + 1)?;
                }
            }
            let due = match setup.config.output.checkpoint_every {
                Every::Epochs(epochs) => whole && (epoch + 1).is_multiple_of(epochs),
                Every::Steps(steps) => self.done.is_multiple_of(steps),
                Every::Never => false,
            };
            let last = self.done == steps || reached == Some(true);
            if due || (last && setup.config.output.checkpoint_every != Every::Never) {
                self.save(watch)?;
            }
        }
        if let Some(logs) = &mut self.logs {
            logs.stop(self.done, reached)?;
        }
        if let Some(recorder) = self.recorder.take() {
            recorder.finish()?;
        }
        let weights_sha256 = self.weights_hash()?;
        Ok(Report {
            steps: self.done,
            steps_here: self.done - done_before,
            seconds: began.elapsed().as_secs_f64(),
            evaluation,
            reached_target: reached,
            checkpoint: self.checkpoint.or(self.resumed),
            weights_sha256,
        })
    }

    pub(super) fn loader(
        &self,
        (source, preparation): (&Arc<dyn Source>, &Arc<Preparation>),
        purpose: Purpose,
        epoch: u64,
        skip_batches: u64,
    ) -> Result<Loader, TrainError> {
        let config = &self.setup.config;
        let batch = config.per_rank_batch(self.setup.world);
        let sampler = Sampler {
            samples: source.len(),
            batch,
            rank: self.rank(),
            world: self.setup.world,
            seed: config.seed,
            purpose,
        };
        let mut order = sampler.epoch(epoch)?;
        order.indices.drain(..(skip_batches * u64::from(batch)) as usize);
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let workers = config.data.workers.map_or(cores, |workers| workers as usize);
        let settings = LoaderSettings {
            workers: NonZeroUsize::new(workers / self.local_ranks.max(1) as usize)
                .unwrap_or(NonZeroUsize::MIN),
            prefetch: config.data.prefetch(),
            skips_max: if purpose == Purpose::Training { config.data.corrupt_max() } else { 0 },
            as_bytes: config.training.device == DeviceName::Cuda,
        };
        let (source, preparation) = (Arc::clone(source), Arc::clone(preparation));
        Ok(Loader::start(source, preparation, order, config.seed, settings)?)
    }

    /// Trains from where it is to step `end`, in `epoch`.
    fn epoch(&mut self, epoch: u64, end: u64, watch: &mut dyn Watch) -> Result<(), TrainError> {
        let setup = self.setup;
        let data = (&setup.train, &setup.train_preparation);
        let skip = self.done - epoch * setup.steps_per_epoch;
        let mut loader = self.loader(data, Purpose::Training, epoch, skip)?;
        let mut interval = Interval::new();
        let mut next = Ahead::default();
        while self.done < end {
            let step = self.done;
            let recorded = self.record_from(step)?;
            self.timeline.set_step(step, recorded);
            let start_ns = self.timeline.now_ns();
            if !self.replica.holds_batch() {
                if let Some(error) = next.error.take() {
                    return Err(error);
                }
                let batch = loader.next().ok_or(TrainError::DataEnded { epoch, step })??;
                next.skipped.extend(batch.skipped.iter().cloned());
                self.replica.take(tensors(setup, batch)?)?;
            }
            let ready_ns = self.timeline.span(start_ns, |span| EventKind::InputWait { span });
            interval.input_wait_ns += ready_ns - start_ns;
            for skip in next.skipped.drain(..) {
                watch.tell(News::Skipped { name: &skip.name, reason: &skip.reason });
            }
            let lr = setup.schedule.learning_rate(step);
            let is_last = self.done + 1 == end;
            let mut ahead = || if is_last { None } else { next.batch(setup, &mut loader) };
            let outcome = self.replica.step(step, lr, &mut self.timeline, &mut ahead)?;
            self.timeline.span(start_ns, |span| EventKind::Step { span });
            self.done += 1;
            interval.add(&outcome);
            self.skipped = if outcome.verdict == Verdict::Apply { 0 } else { self.skipped + 1 };
            if self.skipped == SKIPPED_MAX {
                return Err(TrainError::Diverged { step, skipped: self.skipped });
            }
            if recorded {
                self.replica.note(&mut self.timeline)?;
                self.write_recording(step)?;
            }
            watch.tell(News::Step { done: self.done });
            if self.done.is_multiple_of(REPORT_STEPS) || self.done == end {
                self.report(&interval, &outcome, lr, watch)?;
                interval = Interval::new();
            }
            if let Every::Steps(steps) = setup.config.output.checkpoint_every
                && self.done.is_multiple_of(steps)
                // At the end, after the evaluation.
                && self.done < end
            {
                let began = Instant::now();
                self.save(watch)?;
                interval.paused += began.elapsed();
            }
        }
        Ok(())
    }

    /// Adds up what all ranks did since the last report.
    fn report(
        &mut self,
        interval: &Interval,
        last: &StepOutcome,
        lr: f64,
        watch: &mut dyn Watch,
    ) -> Result<(), TrainError> {
        let name = format!("exchange of losses after step {}", self.done);
        let [loss, hits] = self.sum(name, [interval.loss.loss, interval.loss.hits as f64])?;
        let images = (interval.steps * u64::from(self.setup.config.training.global_batch)) as f64;
        let seconds = (interval.start.elapsed() - interval.paused).as_secs_f64();
        let losses = Losses {
            step: self.done,
            epoch: self.done as f64 / self.setup.steps_per_epoch as f64,
            loss: loss / images,
            top1: hits / images,
            lr,
            loss_scale: f64::from(last.loss_scale),
            skipped: interval.skipped,
            images_per_s: images / seconds,
            input_wait: interval.input_wait_ns as f64 / 1e9 / seconds,
        };
        if let Some(logs) = &mut self.logs {
            logs.losses(&losses)?;
        }
        watch.tell(News::Losses(losses));
        Ok(())
    }

    /// Sums numbers over all ranks, in the order of ranks, exactly alike on all.
    pub(super) fn sum<const N: usize>(
        &self,
        name: String,
        own: [f64; N],
    ) -> Result<[f64; N], TrainError> {
        let bytes: Vec<u8> = own.iter().flat_map(|value| value.to_le_bytes()).collect();
        let pending = self.replica.communication().ask(move |all| all.all_gather(&name, &bytes));
        let mut sums = [0.0; N];
        for message in pending.wait()?? {
            let (values, _) = message.as_chunks::<8>();
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += f64::from_le_bytes(*value);
            }
        }
        Ok(sums)
    }
}

/// A batch as tensors.
pub(super) fn tensors(setup: &Setup, batch: loader::Batch) -> Result<executor::Batch, TrainError> {
    let shape = setup.network.input_shape();
    let [height, width, channels] =
        [shape.height, shape.width, shape.channels].map(|size| size as usize);
    let images = batch.labels.len();
    let dims = (images, height, width, channels);
    Ok(executor::Batch {
        images: match batch.images {
            Images::Numbers(numbers) => Tensor::from_vec(numbers, dims, &Device::Cpu)?,
            Images::Bytes(bytes) => Tensor::from_vec(bytes, dims, &Device::Cpu)?,
        },
        labels: Tensor::from_vec(batch.labels, images, &Device::Cpu)?,
    })
}
