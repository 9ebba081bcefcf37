//! Published training runs, predicted from the one-node run of the same system.

use std::sync::LazyLock;

use foretrain_sim::catalogue::Overheads;
use foretrain_sim::collective::{AlgorithmName, Engine};
use foretrain_sim::compute::{Anchor, Kernels, LaunchMode, Optimizer, Precision};
use foretrain_sim::scenario::spec::{JitterSpec, LastBatch, ScenarioSpec, SimulationSpec};
use foretrain_sim::scenario::{Case, resolve};
use foretrain_sim::units::{Fraction, ImageRate, SimDuration};
use foretrain_sim::workload::NetworkName;

use super::system::System;
use super::table::{Cells, Problem, Table};

/// MLPerf's ResNet-50: ImageNet, evaluated every four epochs.
const IMAGES: f64 = 1_281_167.0;
const EVALUATE_EVERY_EPOCHS: u32 = 4;
/// Images over which a batch norm is taken at least. The spans of MLPerf's reference points are 64 to
/// 204 (`epochs_to_target.csv`, column `bn_span`); ranks with fewer images each are taken to join in
/// the smallest power of two that has so many.
const BATCH_NORM_SPAN: u64 = 128;
/// Steps of a prediction; the slowest of many ranks is averaged over them.
const STEPS: u32 = 40;
const WARMUP_STEPS: u32 = 2;

/// What a published rate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateKind {
    /// Images of an epoch over the time of its training.
    TrainingOnly,
    /// Images of a run over all its time.
    WithEvaluations,
}

/// Batches that differ by less were rounded.
const BATCH_MISMATCH: f64 = 0.02;

/// One published run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Where it stands in the file, from 1.
    pub line: u64,
    /// Its name.
    pub id: String,
    /// Runs of the same hardware, software and submitter.
    pub family: String,
    /// Where it was published.
    pub source: String,
    /// Its machines.
    pub system: System,
    /// Images of a step.
    pub global_batch: f64,
    /// Images of one accelerator, perhaps not whole.
    pub per_accelerator_batch: f64,
    /// Passes over the images.
    pub epochs: Option<f64>,
    /// From start to finish, evaluations included.
    pub minutes: Option<f64>,
    /// Throughput.
    pub images_per_s: Option<f64>,
    /// What it counts.
    pub kind: RateKind,
    /// The one-node run of the same system; its own name if it is one.
    pub anchor: String,
}

impl Run {
    /// The columns of a file of runs, beside those of [`System`].
    pub const COLUMNS: [&'static str; 10] = [
        "id",
        "family",
        "source",
        "global_batch",
        "per_accelerator_batch",
        "epochs",
        "minutes",
        "images_per_s",
        "images_per_s_kind",
        "anchor",
    ];

    /// The runs that come with this version, for anchors that a file names and does not have.
    #[must_use]
    pub fn shipped() -> &'static [Self] {
        static SHIPPED: LazyLock<Vec<Run>> = LazyLock::new(|| {
            let text = include_str!("../../../scenarios/published/scaling.csv");
            #[expect(clippy::expect_used, reason = "a test reads the shipped file")]
            Table::read(text)
                .and_then(|table| Run::read_all(&table))
                .expect("the shipped file is well-formed")
        });
        &SHIPPED
    }

    /// Reads all runs of a table.
    ///
    /// # Errors
    /// A cell is not what its column needs, or a name is there twice.
    pub fn read_all(table: &Table) -> Result<Vec<Self>, Problem> {
        table.named_rows(Self::read)
    }

    fn read(cells: &Cells<'_>) -> Result<Self, Problem> {
        let mut system = System::read(cells)?;
        let ranks = f64::from(system.accelerators);
        let (global, one) =
            (cells.quantity("global_batch")?, cells.quantity("per_accelerator_batch")?);
        let per_accelerator_batch = one
            .or(global.map(|global| global / ranks))
            .ok_or_else(|| cells.wrong("per_accelerator_batch", "a number above 0"))?;
        let whole = global.unwrap_or(per_accelerator_batch * ranks);
        // Where accelerators take several small batches for one step, the step is what counts.
        let per_accelerator_batch =
            if (whole / (ranks * per_accelerator_batch) - 1.0).abs() > BATCH_MISMATCH {
                system.notes.push(format!(
                    "{whole} images on {ranks} accelerators are {:.1} each, not \
                     {per_accelerator_batch}",
                    whole / ranks
                ));
                whole / ranks
            } else {
                per_accelerator_batch
            };
        let kind = match cells.text("images_per_s_kind") {
            "training only" | "" => RateKind::TrainingOnly,
            "with evaluations" => RateKind::WithEvaluations,
            _ => {
                return Err(
                    cells.wrong("images_per_s_kind", "`training only` or `with evaluations`")
                );
            }
        };
        Ok(Self {
            line: cells.line(),
            id: cells.named("id")?,
            family: cells.text("family").to_owned(),
            source: cells.text("source").to_owned(),
            global_batch: whole,
            per_accelerator_batch,
            epochs: cells.quantity("epochs")?,
            minutes: cells.quantity("minutes")?,
            images_per_s: cells.quantity("images_per_s")?,
            kind,
            anchor: cells.text("anchor").to_owned(),
            system,
        })
    }

    /// Whether it is the one that others are predicted from.
    #[must_use]
    pub fn is_anchor(&self) -> bool {
        self.id == self.anchor
    }

    /// How its kernels are started. Runs of MLPerf before round 1.0 (2021) and of other sources are
    /// taken to start them one by one; MXNet's submissions have captured CUDA graphs since, and TPUs
    /// and Gaudis run compiled programs.
    #[must_use]
    pub fn launch(&self) -> LaunchMode {
        if !self.system.is_nvidia() || self.round().is_some_and(|round| round >= 1.0) {
            LaunchMode::Graph
        } else {
            LaunchMode::Eager
        }
    }

    /// The round of MLPerf that the source names.
    fn round(&self) -> Option<f64> {
        let rest = self.source.split("MLPerf Training v").nth(1)?;
        rest.split(' ').next()?.parse().ok()
    }

    /// Seconds of the published run that are not training, where its rate is of training only.
    #[must_use]
    pub fn rest_s(&self) -> Option<f64> {
        let rest_s = 60.0 * self.minutes? - self.counted_s()?;
        (self.kind == RateKind::TrainingOnly).then_some(rest_s)
    }

    /// Seconds that the published rate counts: of the training, or of the whole run.
    fn counted_s(&self) -> Option<f64> {
        Some(self.epochs? * IMAGES / self.images_per_s?)
    }
}

/// The values that all systems share; those that are fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shared {
    /// Seconds that a kernel takes besides its work, in a graph.
    pub graph_kernel_s: f64,
    /// The same, started by itself.
    pub eager_kernel_s: f64,
    /// Standard deviation over mean of a rank's compute.
    pub variation: f64,
    /// Seconds that the start of an epoch takes.
    pub epoch_start_s: f64,
    /// Seconds that an evaluation takes besides its forward passes.
    pub evaluation_start_s: f64,
    /// The factor of the roofline where no rate was measured.
    pub roofline_factor: f64,
}

impl Shared {
    /// Those that come with this version.
    #[must_use]
    pub fn shipped() -> Self {
        let shipped = Overheads::shipped();
        Self {
            graph_kernel_s: shipped.graph_kernel.value.as_seconds(),
            eager_kernel_s: shipped.eager_kernel.value.as_seconds(),
            variation: shipped.variation.value.get(),
            epoch_start_s: shipped.epoch_start.value.as_seconds(),
            evaluation_start_s: shipped.evaluation_start.value.as_seconds(),
            roofline_factor: shipped.roofline_factor.value.get(),
        }
    }

    /// What data sheets alone say: nothing of all this.
    #[must_use]
    pub const fn datasheets() -> Self {
        Self {
            graph_kernel_s: 0.0,
            eager_kernel_s: 0.0,
            variation: 0.0,
            epoch_start_s: 0.0,
            evaluation_start_s: 0.0,
            roofline_factor: 1.0,
        }
    }

    const fn kernel_s(&self, mode: LaunchMode) -> f64 {
        match mode {
            LaunchMode::Graph => self.graph_kernel_s,
            LaunchMode::Eager => self.eager_kernel_s,
        }
    }
}

/// A predicted run.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Throughput, counted as the published one.
    pub images_per_s: f64,
    /// From start to finish, if the run has epochs.
    pub minutes: Option<f64>,
    /// Seconds of the run that are not training: its evaluations.
    pub rest_s: Option<f64>,
    /// How many times as long as the roofline work takes on this system.
    pub roofline_factor: f64,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// Predicts `run` from `anchor`, a run of the same system, or without one from the roofline.
///
/// # Errors
/// With the reason why it cannot be predicted.
pub fn predict(run: &Run, anchor: Option<&Run>, shared: &Shared) -> Result<Prediction, String> {
    let is_known = run.system.known().is_some_and(|known| !known.matrix_rates.is_empty());
    let factor = match anchor {
        Some(anchor) => factor(anchor, shared)?,
        None if is_known => shared.roofline_factor,
        None => {
            let name = &run.system.accelerator;
            return Err(format!(
                "accelerator: no rates of {name} are in the catalogue, and no anchor says how fast it is"
            ));
        }
    };
    let simulated = Simulated::new(run, shared, factor)?;
    let mut notes = simulated.notes.clone();
    if run.kind == RateKind::WithEvaluations && run.epochs.is_none() {
        notes.push("epochs: not given, so that evaluations are not counted".to_owned());
    }
    if let Some(anchor) = anchor
        && anchor.system.accelerator != run.system.accelerator
    {
        notes.push(format!("its anchor has other accelerators: {}", anchor.system.accelerator));
    }
    if anchor.is_none() {
        notes.push("no anchor: what systems with one need on average".to_owned());
    }
    let training_s = run.epochs.map(|epochs| epochs * simulated.epoch_s);
    // An anchor's run has what its evaluations really took.
    let evaluations_s = match anchor.and_then(|anchor| extra_s(anchor, shared, factor)) {
        Some(extra_s) => {
            let ranks = |run: &Run| f64::from(run.system.accelerators);
            let each = anchor.map_or(1.0, |anchor| ranks(anchor) / ranks(run));
            simulated.evaluations * (extra_s * each + shared.evaluation_start_s)
        }
        None => simulated.evaluations * simulated.evaluation_s,
    };
    let whole_s = training_s.map(|training_s| training_s + evaluations_s);
    let images_per_s = match (run.kind, whole_s) {
        (RateKind::WithEvaluations, Some(whole_s)) => run.epochs.unwrap_or(1.0) * IMAGES / whole_s,
        _ => IMAGES / simulated.epoch_s,
    };
    Ok(Prediction {
        images_per_s,
        minutes: whole_s.map(|seconds| seconds / 60.0),
        rest_s: training_s.map(|_| evaluations_s),
        roofline_factor: factor,
        notes,
    })
}

/// Seconds of an evaluation of `anchor` beyond its start, from its own minutes where its rate is of
/// training only.
fn extra_s(anchor: &Run, shared: &Shared, factor: f64) -> Option<f64> {
    let rest_s = anchor.rest_s()?;
    let simulated = Simulated::new(anchor, shared, factor).ok()?;
    let each = rest_s / simulated.evaluations.max(1.0);
    Some((each - shared.evaluation_start_s).max(0.0))
}

/// How many times as long as the roofline work takes on the system of `anchor`.
///
/// # Errors
/// With the reason why that cannot be found.
pub fn factor(anchor: &Run, shared: &Shared) -> Result<f64, String> {
    let rate = anchor.images_per_s.ok_or("the anchor's images_per_s: not given")?;
    let resolved = |rate: f64| {
        let (mut spec, _) =
            spec(anchor, shared, anchor.per_accelerator_batch.round().max(1.0) as u64)?;
        spec.compute.anchor = Some(Anchor {
            rate: ImageRate::new(rate),
            batch: anchor.per_accelerator_batch.round().max(1.0) as u64,
            accelerators: anchor.system.accelerators,
        });
        let case = resolve(&spec).map_err(|error| format!("the anchor: {error}"))?;
        let factor = case.device.map_or(1.0, |device| device.factor);
        Ok::<_, String>((case, factor))
    };
    let (case, factor) = resolved(rate)?;
    match anchor.counted_s().filter(|_| anchor.kind == RateKind::WithEvaluations) {
        None => Ok(factor),
        Some(whole_s) => {
            // The rate of a whole run has its evaluations in it.
            let evaluation_s = case.evaluation_s().map_err(|error| error.to_string())?;
            let training_s = whole_s - case.evaluations() * evaluation_s;
            if training_s <= 0.0 {
                return Err("the anchor's evaluations alone take longer than its run".to_owned());
            }
            Ok(resolved(rate * whole_s / training_s)?.1)
        }
    }
}

/// What of a run is simulated.
struct Simulated {
    epoch_s: f64,
    evaluations: f64,
    evaluation_s: f64,
    notes: Vec<String>,
}

impl Simulated {
    /// Simulates the run; at a batch that is not whole, between the whole ones beside it.
    fn new(run: &Run, shared: &Shared, factor: f64) -> Result<Self, String> {
        let batch = run.per_accelerator_batch.max(1.0);
        let (below, above) = (batch.floor(), batch.ceil());
        let (case, notes) = case(run, shared, factor, below as u64)?;
        let step_s = |case: &Case| case.mean_step_s(Engine::Arrays).map_err(|e| e.to_string());
        let mut mean_s = step_s(&case)?;
        if above > below {
            let next = self::case(run, shared, factor, above as u64)?.0;
            mean_s += (batch - below) * (step_s(&next)? - mean_s);
        }
        // Steps by the batch that was published, which may not divide.
        let epoch_s = (IMAGES / run.global_batch).ceil() * mean_s + case.epoch_start.as_seconds();
        Ok(Self {
            epoch_s,
            evaluations: case.evaluations(),
            evaluation_s: case.evaluation_s().map_err(|error| error.to_string())?,
            notes,
        })
    }
}

/// The point to simulate.
fn case(
    run: &Run,
    shared: &Shared,
    factor: f64,
    batch: u64,
) -> Result<(Case, Vec<String>), String> {
    let (mut spec, notes) = spec(run, shared, batch)?;
    spec.compute.roofline_factor = Some(Fraction::new(factor));
    Ok((resolve(&spec).map_err(|error| error.to_string())?, notes))
}

/// If every accelerator had the anchor's rate.
#[must_use]
pub fn perfect_rate(run: &Run, anchor: &Run) -> Option<f64> {
    let ranks = |run: &Run| f64::from(run.system.accelerators);
    Some(anchor.images_per_s? * ranks(run) / ranks(anchor))
}

/// The scenario of a run with its anchor, to be simulated and explained by itself; or without one with
/// what systems need on average. (The anchor's rate is taken as one of training only.)
///
/// # Errors
/// With the reason why there is none.
pub fn anchored_spec(
    run: &Run,
    anchor: Option<&Run>,
    shared: &Shared,
) -> Result<ScenarioSpec, String> {
    let (mut spec, _) = spec(run, shared, run.per_accelerator_batch.round().max(1.0) as u64)?;
    match anchor {
        None => spec.compute.roofline_factor = Some(Fraction::new(shared.roofline_factor)),
        Some(anchor) => {
            let rate = anchor.images_per_s.ok_or("the anchor's images_per_s: not given")?;
            spec.compute.anchor = Some(Anchor {
                rate: ImageRate::new(rate),
                batch: anchor.per_accelerator_batch.round().max(1.0) as u64,
                accelerators: anchor.system.accelerators,
            });
        }
    }
    Ok(spec)
}

/// The scenario of a run, without what says how fast its accelerators are.
///
/// # Errors
/// With the reason why there is none.
pub fn spec(run: &Run, shared: &Shared, batch: u64) -> Result<(ScenarioSpec, Vec<String>), String> {
    let mut spec = ScenarioSpec {
        name: run.id.clone(),
        source: Some(run.source.clone()),
        ..Default::default()
    };
    let mut notes = run.system.describe(&mut spec)?;
    if run.system.is_nvidia() && run.round().is_none() {
        notes.push(
            "no round of MLPerf in `source`: kernels are taken to start one by one".to_owned(),
        );
    }
    let training = &mut spec.training;
    training.model = Some(NetworkName::Resnet50);
    training.per_accelerator_batch = Some(batch);
    training.epochs = run.epochs;
    training.precision =
        Some(if run.system.is_nvidia() { Precision::Fp16Mixed } else { Precision::Bf16Mixed });
    training.optimizer = Some(Optimizer::Lars);
    training.evaluate_every_epochs = Some(EVALUATE_EVERY_EPOCHS);
    training.last_batch = Some(LastBatch::Padded);
    training.epoch_start = Some(SimDuration::from_seconds(shared.epoch_start_s));
    training.evaluation_start = Some(SimDuration::from_seconds(shared.evaluation_start_s));
    let group = BATCH_NORM_SPAN.div_ceil(batch).next_power_of_two();
    training.batch_norm_group = u32::try_from(group).ok().filter(|group| *group > 1);
    let launch = run.launch();
    spec.compute.launch = Some(launch);
    spec.compute.launch_time = Some(SimDuration::from_seconds(shared.kernel_s(launch)));
    spec.compute.kernels = Some(Kernels::Fused);
    // Gradients are summed in one piece after the backward pass by NVIDIA's submissions.
    spec.allreduce.overlap = Some(false);
    spec.fusion.rule = Some(foretrain_sim::scenario::spec::FusionRule::OneBucket);
    spec.jitter = Some(JitterSpec {
        variation: Some(Fraction::new(shared.variation)),
        ..JitterSpec::default()
    });
    spec.simulation =
        SimulationSpec { steps: Some(STEPS), warmup_steps: Some(WARMUP_STEPS), seed: None };
    if spec.allreduce.algorithm == Some(AlgorithmName::Nccl)
        && let Err(error) = resolve(&spec)
    {
        spec.allreduce.algorithm = Some(AlgorithmName::Ring);
        notes.push(format!("a ring, because NCCL's cost model says: {error}"));
    }
    Ok((spec, notes))
}
