//! What is measured, in which order, and for how long.

use std::time::Duration;

use foretrain_sim::profile::{AllReduceEntry, FusionEntry};

use super::{
    MeasureError, Progress, Stage, StepSettings, StepVariant, Subject, Sweep, recorded_steps,
};
use crate::measurements::{
    ComputeSeries, Measurements, NormSeries, Observation, StepSeries, VERSION,
};

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// Layer times.
    pub compute: bool,
    /// Messages and all-reduces.
    pub all_reduce: bool,
    /// Whole steps with several settings.
    pub steps: bool,
    /// Decoding.
    pub input: bool,
    /// Variation of compute.
    pub jitter: bool,
    /// Norms of gradients.
    pub noise: bool,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            compute: true,
            all_reduce: true,
            steps: true,
            input: true,
            jitter: true,
            noise: true,
        }
    }
}

/// What is to be measured, and how often.
#[derive(Debug, Clone, PartialEq)]
pub struct Procedure {
    /// What to measure.
    pub parts: Parts,
    /// Batches of a rank at which layers are timed.
    pub batches: Vec<u64>,
    /// The batch of a rank for everything else.
    pub batch: u64,
    /// Sizes of messages and all-reduces.
    pub sizes: Vec<u64>,
    /// How all-reduces are done that are measured as a whole.
    pub collectives: Vec<AllReduceEntry>,
    /// Settings with which whole steps are measured.
    pub variants: Vec<StepVariant>,
    /// How buckets are summed and merged where nothing else is said.
    pub usual: (AllReduceEntry, FusionEntry),
    /// Steps that are thrown away at the beginning of each run.
    pub warmup_steps: u32,
    /// Steps of each run at most.
    pub steps: u32,
    /// Steps for the variation of compute, at most.
    pub jitter_steps: u32,
    /// Repeats of each all-reduce, at least and at most.
    pub repeats: (u32, u32),
    /// How narrow intervals must be for no more repeats: half the width over the median.
    pub narrow: f64,
    /// How long all may take together.
    pub time: Duration,
    /// The seed of orders.
    pub seed: u64,
    /// The command that asked for it.
    pub command: String,
    /// When it began: a date and time of ISO 8601.
    pub measured: String,
    /// US dollars of one accelerator for one hour.
    pub usd_per_accelerator_hour: Option<f64>,
    /// Watts of one accelerator with its share of the node.
    pub watts_per_accelerator: Option<f64>,
}

/// What share of the time each part may take, relative to the others.
const SHARE_COMPUTE: u32 = 4;
const SHARE_ALL_REDUCE: u32 = 4;
const SHARE_STEPS: u32 = 3;
const SHARE_JITTER: u32 = 2;
const SHARE_INPUT: u32 = 1;

/// Images that are decoded for one number, and how many numbers there are.
const INPUT_IMAGES: u32 = 256;
const INPUT_REPEATS: u32 = 9;

/// Steps behind the gradients' noise.
const NOISE_STEPS: u32 = 50;

impl Procedure {
    /// Measures.
    ///
    /// # Errors
    /// Whatever of it is not possible.
    pub fn run(
        &self,
        subject: &mut dyn Subject,
        progress: &mut dyn Progress,
    ) -> Result<Measurements, MeasureError> {
        let parts = &self.parts;
        // The command and the moment may differ from rank to rank.
        let what = Self { command: String::new(), measured: String::new(), ..self.clone() };
        subject.agree(&format!("{what:?}"))?;
        let machine = subject.machine();
        let several = machine.ranks > 1;
        let sums = several && subject.has_all_reduce();
        let needs_network = parts.compute || parts.steps || parts.jitter || parts.noise;
        let network = if needs_network { Some(subject.network()?) } else { None };
        let mut all = Measurements {
            measurements: VERSION,
            foretrain: env!("CARGO_PKG_VERSION").to_owned(),
            procedure: "calibrate".to_owned(),
            command: self.command.clone(),
            measured: self.measured.clone(),
            seed: self.seed,
            machine,
            network,
            compute: Vec::new(),
            links: Vec::new(),
            collectives: Vec::new(),
            steps: Vec::new(),
            input: None,
            norms: None,
            observations: Vec::new(),
            usd_per_accelerator_hour: self.usd_per_accelerator_hour,
            watts_per_accelerator: self.watts_per_accelerator,
        };
        let mut left = Shares::new(
            self.time,
            &[
                (parts.all_reduce && sums, SHARE_ALL_REDUCE),
                (parts.compute, SHARE_COMPUTE),
                (parts.steps, SHARE_STEPS),
                (parts.jitter, SHARE_JITTER),
                (parts.input, SHARE_INPUT),
            ],
        );
        if parts.all_reduce && sums {
            let until = left.take(SHARE_ALL_REDUCE, subject.elapsed()?);
            let sweep = Sweep { procedure: self, until };
            sweep.run(subject, &mut all, progress)?;
        } else if parts.all_reduce && several {
            let what = "messages and all-reduces: gradients travel by NCCL, between GPUs";
            all.observations.push(Observation::NotMeasured { what: what.to_owned() });
        }
        if parts.compute {
            let until = left.take(SHARE_COMPUTE, subject.elapsed()?);
            self.compute(subject, until, several, &mut all, progress)?;
        }
        if parts.steps {
            let until = left.take(SHARE_STEPS, subject.elapsed()?);
            self.variants(subject, until, &mut all, progress)?;
        }
        if parts.jitter {
            let until = left.take(SHARE_JITTER, subject.elapsed()?);
            self.jitter(subject, until, &mut all, progress)?;
        }
        if parts.noise && several {
            self.noise(subject, &mut all, progress)?;
        } else if parts.noise {
            let what = "the gradient noise scale: it needs several ranks";
            all.observations.push(Observation::NotMeasured { what: what.to_owned() });
        }
        if parts.input {
            progress.begin(Stage::Input, 1, None);
            all.input = Some(subject.input(INPUT_IMAGES, INPUT_REPEATS)?);
            progress.done();
        }
        all.observations.extend(subject.observations());
        // By now it is known on what was computed.
        all.machine = subject.machine();
        Ok(all)
    }

    fn settings(&self, batch: u64, steps: u32) -> StepSettings {
        let (all_reduce, fusion) = self.usual.clone();
        StepSettings {
            batch,
            all_reduce,
            fusion,
            overlap: false,
            warmup_steps: self.warmup_steps,
            steps,
            recorded: false,
            norms: false,
        }
    }

    /// Recorded steps at every batch, buckets after backward, so that nothing else takes from
    /// compute; then the same unrecorded; and once with overlap, for what that takes.
    fn compute(
        &self,
        subject: &mut dyn Subject,
        until: Duration,
        several: bool,
        all: &mut Measurements,
        progress: &mut dyn Progress,
    ) -> Result<(), MeasureError> {
        let overlaps: &[bool] = if several { &[false, true] } else { &[false] };
        let mut runs: Vec<(u64, bool)> = Vec::new();
        for &batch in &self.batches {
            let with = overlaps.iter().filter(|overlap| !**overlap || batch == self.batch);
            runs.extend(with.map(|overlap| (batch, *overlap)));
        }
        for (index, &(batch, overlap)) in runs.iter().enumerate() {
            let now = subject.elapsed()?;
            let share = until.saturating_sub(now) / (runs.len() - index) as u32;
            progress.begin(Stage::Compute { batch, overlap }, 3, Some(share));
            let steps = self.affordable(subject, batch, share / 2)?;
            progress.done();
            let settings = StepSettings { overlap, ..self.settings(batch, steps) };
            let recorded = subject.steps(&StepSettings { recorded: true, ..settings.clone() })?;
            progress.done();
            let unrecorded = subject.steps(&settings)?;
            progress.done();
            let Some(recording) = &recorded.recording else { continue };
            all.compute.push(ComputeSeries {
                batch,
                overlap,
                steps: recorded_steps(recording)
                    .map_err(|error| MeasureError::Runtime(error.to_string()))?,
                rank_compute_ns: recorded.rank_compute_ns,
                periods_s: unrecorded.periods_s,
            });
        }
        Ok(())
    }

    /// How many steps at `batch` there is time for, of those that are wanted; at least five.
    fn affordable(
        &self,
        subject: &mut dyn Subject,
        batch: u64,
        time: Duration,
    ) -> Result<u32, MeasureError> {
        const STEPS_MIN: u32 = 5;
        let probe = StepSettings { warmup_steps: 1, ..self.settings(batch, 2) };
        let periods = subject.steps(&probe)?.periods_s;
        let step_s = periods.iter().copied().fold(0.0, f64::max).max(1e-6);
        let steps = (time.as_secs_f64() / step_s) as u32;
        Ok(steps.saturating_sub(self.warmup_steps).clamp(STEPS_MIN, self.steps.max(STEPS_MIN)))
    }

    fn variants(
        &self,
        subject: &mut dyn Subject,
        until: Duration,
        all: &mut Measurements,
        progress: &mut dyn Progress,
    ) -> Result<(), MeasureError> {
        let (ranks, ranks_per_node) = (all.machine.ranks, all.machine.ranks_per_node);
        let wire = all.network.as_ref().map_or(4, |network| network.wire.element_bytes());
        let mut steps = None;
        // Where NCCL sums, it does so by the algorithm of the configuration.
        let can = |variant: &&StepVariant| {
            ranks == 1 || subject.has_all_reduce() || variant.all_reduce == self.usual.0
        };
        let variants: Vec<&StepVariant> = self.variants.iter().filter(can).collect();
        for (index, &variant) in variants.iter().enumerate() {
            let left = (variants.len() - index) as u32;
            let share = until.saturating_sub(subject.elapsed()?) / left;
            progress.begin(Stage::Steps { variant: variant.clone() }, 1, Some(share));
            let steps = match steps {
                Some(steps) => steps,
                None => *steps.insert(self.affordable(subject, self.batch, share)?),
            };
            let StepVariant { all_reduce, fusion, overlap } = variant.clone();
            let settings = StepSettings {
                all_reduce,
                fusion: fusion.clone(),
                overlap,
                ..self.settings(self.batch, steps)
            };
            let run = subject.steps(&settings)?;
            progress.done();
            all.steps.push(StepSeries {
                ranks,
                ranks_per_node,
                per_rank_batch: self.batch,
                all_reduce,
                fusion,
                wire_element_bytes: wire,
                overlap,
                periods_s: run.periods_s,
            });
        }
        Ok(())
    }

    /// Many recorded steps, for how compute varies; only their totals are kept.
    fn jitter(
        &self,
        subject: &mut dyn Subject,
        until: Duration,
        all: &mut Measurements,
        progress: &mut dyn Progress,
    ) -> Result<(), MeasureError> {
        let share = until.saturating_sub(subject.elapsed()?);
        progress.begin(Stage::Jitter, 1, Some(share));
        let more = Self { steps: self.jitter_steps, ..self.clone() };
        let steps = more.affordable(subject, self.batch, share)?;
        let settings = StepSettings { recorded: true, ..self.settings(self.batch, steps) };
        let run = subject.steps(&settings)?;
        progress.done();
        all.compute.push(ComputeSeries {
            batch: self.batch,
            overlap: false,
            steps: Vec::new(),
            rank_compute_ns: run.rank_compute_ns,
            periods_s: run.periods_s,
        });
        Ok(())
    }

    fn noise(
        &self,
        subject: &mut dyn Subject,
        all: &mut Measurements,
        progress: &mut dyn Progress,
    ) -> Result<(), MeasureError> {
        progress.begin(Stage::Noise, 1, None);
        let steps = NOISE_STEPS.min(self.steps);
        let settings =
            StepSettings { recorded: true, norms: true, ..self.settings(self.batch, steps) };
        let run = subject.steps(&settings)?;
        progress.done();
        if !run.norms.is_empty() {
            all.norms = Some(NormSeries {
                first_step: u64::from(self.warmup_steps),
                per_rank_batch: self.batch,
                global_batch: self.batch * u64::from(all.machine.ranks),
                local_and_averaged: run.norms,
            });
        }
        Ok(())
    }
}

/// How the time is divided among the parts that are still to come.
struct Shares {
    time: Duration,
    shares: u32,
}

impl Shares {
    fn new(time: Duration, parts: &[(bool, u32)]) -> Self {
        let shares = parts.iter().filter(|(wanted, _)| *wanted).map(|(_, share)| share).sum();
        Self { time, shares }
    }

    /// Until when a part of so many shares may take, now that `elapsed` is gone.
    fn take(&mut self, share: u32, elapsed: Duration) -> Duration {
        let left = self.time.saturating_sub(elapsed);
        let until = elapsed + left * share / self.shares.max(1);
        self.shares = self.shares.saturating_sub(share);
        until
    }
}
