//! From a scenario's keys to everything a point needs, against the catalogue.

use super::anchored;
use super::convergence;
use super::cost::{self, CostRates};
use super::device;
use super::failures;
use super::fusion;
use super::input::{InputRates, input};
use super::limits::{check_work, schedule_problem};
use super::machine::{InputSource, Machine};
use super::names::GradientPrecision;
use super::problem::{Problem, at_least_one};
use super::profiled::{self, Measured};
use super::spec::{JitterSpec, LastBatch, ScenarioSpec};
use crate::collective::{
    Algorithm, AlgorithmName, CollectiveError, Layout, Method, Operation, Plan, RANKS_MAX, Strategy,
};

use crate::compute::{Anchor, ComputeTimes, Device, Optimizer, Precision};
use crate::convergence::Outcome;
use crate::failures::Failures;
use crate::fusion::Fusion;
use crate::jitter::{Jitter, SlowRank};
use crate::network::{Interconnect, Rank};
use crate::profile::{Profile, ProfileWarning};
use crate::step::Packing;
use crate::units::{Bytes, SimDuration};
use crate::workload::Network;

/// ILSVRC-2012: images of the training and of the validation set.
pub(super) const IMAGENET_IMAGES: u64 = 1_281_167;
const IMAGENET_EVALUATION_IMAGES: u64 = 50_000;
const STEPS: u32 = 100;
const STEPS_MAX: u32 = 1_000_000;
const WARMUP_STEPS: u32 = 5;
const EPOCHS_MAX: f64 = 1e6;
const SLOW_MAX: f64 = 1000.0;

/// One point, with everything needed to simulate it.
#[derive(Debug, Clone)]
pub struct Case {
    /// The variant, if the scenario has any.
    pub variant: Option<String>,
    /// The curve it lies on: everything swept but the number of accelerators.
    pub series: String,
    /// Accelerators, and so ranks.
    pub accelerators: u32,
    /// Nodes.
    pub nodes: u32,
    /// Images of one rank's step.
    pub per_accelerator_batch: u64,
    /// Images of all ranks' step.
    pub global_batch: u64,
    /// What is trained.
    pub model: Network,
    /// What it computes in.
    pub precision: Precision,
    /// How weights are updated.
    pub optimizer: Optimizer,
    /// The device memory of one accelerator.
    pub accelerator_memory: Bytes,
    /// Layer times of one undisturbed accelerator.
    pub compute: ComputeTimes,
    /// The measured rate they are scaled to.
    pub anchor: Option<Anchor>,
    /// The run of an anchor of several accelerators.
    pub anchor_run: Option<Box<Self>>,
    /// The device model that they are from; none where they were measured.
    pub device: Option<Device>,
    /// The batches that a profile was measured at, if this one is not among them.
    pub extrapolated_batches: Option<(u64, u64)>,
    /// What is doubtful about the profile.
    pub profile_warnings: Vec<ProfileWarning>,
    /// What packing takes.
    pub packing: Packing,
    /// How a bucket is reduced.
    pub method: Method,
    /// Bytes of one gradient element on the wire.
    pub wire_element_bytes: u64,
    /// Whether buckets travel during the backward pass.
    pub overlap: bool,
    /// How gradients are merged.
    pub fusion: Fusion,
    /// What carries messages.
    pub network: Interconnect,
    /// Whether matrix products run in fp32 because the accelerator does not do the narrow format
    /// faster.
    pub arithmetic_in_fp32: bool,
    /// How batches come; none if they are always there.
    pub input: Option<InputRates>,
    /// How compute varies.
    pub jitter: Jitter,
    /// Passes over the training set: as given, or as the target accuracy needs.
    pub epochs: Option<f64>,
    /// What training needs and reaches, if the scenario asks for accuracy.
    pub outcome: Option<Outcome>,
    /// Images of the training set.
    pub images: u64,
    /// Epochs between evaluations.
    pub evaluate_every_epochs: Option<u32>,
    /// Images of an evaluation.
    pub evaluation_images: u64,
    /// What becomes of the last batch of an epoch.
    pub last_batch: LastBatch,
    /// What the first steps of an epoch take more than the others.
    pub epoch_start: SimDuration,
    /// What an evaluation takes besides its forward passes and its all-reduce.
    pub evaluation_start: SimDuration,
    /// Prices and power, if cost is asked for.
    pub cost: Option<CostRates>,
    /// What fails and when checkpoints are written, if that is asked for.
    pub failures: Option<Failures>,
    /// Measured steps.
    pub steps: u32,
    /// Steps before those.
    pub warmup_steps: u32,
    /// The seed of all random streams.
    pub seed: u64,
    /// Where the inputs are from.
    pub sources: Vec<InputSource>,
}

impl Case {
    /// The ranks and where they are.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        Layout { ranks: self.accelerators, ranks_per_node: self.network.ranks_per_node() }
    }

    /// How one bucket is reduced.
    ///
    /// # Errors
    /// If it cannot be scheduled; one of a checked scenario can.
    pub fn all_reduce(&self, bytes: Bytes) -> Result<Plan, CollectiveError> {
        self.method.plan(Operation::AllReduce, self.layout(), &self.network, bytes)
    }
}

/// Resolves one point of `spec`, all of whose sweeps have been applied.
pub(super) fn case(
    spec: &ScenarioSpec,
    variant: Option<&str>,
    series: String,
    profile: Option<&Profile>,
) -> Result<Case, Problem> {
    let machine = Machine::new(spec, profile)?;
    let training = &spec.training;
    let accelerators = spec.cluster.accelerators.ok_or_else(|| {
        Problem::new("cluster.accelerators", "missing: give a number here or a list in [sweep]")
    })?;
    if !(1..=RANKS_MAX).contains(&accelerators) {
        let problem = format!("{accelerators} accelerators, expected 1 to {RANKS_MAX}");
        return Err(Problem::new("cluster.accelerators", problem));
    }
    let (per_accelerator_batch, global_batch) = batches(spec, accelerators)?;
    let overlap = spec.allreduce.overlap.unwrap_or(true);
    let Measured {
        model,
        precision,
        optimizer,
        wire_bytes,
        times: compute,
        extrapolated,
        source,
        device,
    } = match profile.and_then(|profile| Some((profile, profile.compute.as_ref()?))) {
        Some((profile, compute)) => {
            let overlapped = overlap && accelerators > 1;
            let accelerator = &machine.accelerator;
            let batch = per_accelerator_batch;
            profiled::compute(spec, profile, compute, accelerator, batch, overlapped)?
        }
        None => device::compute(spec, &machine, accelerators, per_accelerator_batch)?,
    };
    let method = method(spec, &machine, accelerators)?;
    let nodes = accelerators.div_ceil(machine.accelerators_per_node);
    let network = machine.network(accelerators)?;
    let wire_element_bytes =
        spec.allreduce.gradient_precision.map_or(wire_bytes, GradientPrecision::element_bytes);
    let steps = at_least_one("simulation.steps", spec.simulation.steps.unwrap_or(STEPS))?;
    let warmup_steps = spec.simulation.warmup_steps.unwrap_or(WARMUP_STEPS);
    if steps.saturating_add(warmup_steps) > STEPS_MAX {
        let problem = format!("expected at most {STEPS_MAX} steps with the warm-up");
        return Err(Problem::new("simulation.steps", problem));
    }
    let mut sources = machine.sources.clone();
    if let (Some(name), Some(source)) = (variant, &spec.source) {
        let (value, from) = (name.to_owned(), source.clone());
        sources.push(InputSource { what: "variant", value, from });
    }
    if machine.is_graph() && !matches!(method, Method::Nccl(_)) {
        let contention = spec.cluster.contention.unwrap_or_default();
        let value = format!("every link, contention {contention}");
        sources.push(InputSource { what: "network", value, from: "scenario".to_owned() });
    }
    if let Method::Nccl(machine) = &method {
        let value = format!("NCCL {}", machine.spec().version);
        let from = "NCCL's src/graph/tuning.cc, with data sheets' bandwidths".to_owned();
        sources.push(InputSource { what: "all-reduce", value, from });
    }
    if nodes == 1 {
        sources.retain(|source| source.what != "inter-node link");
    }
    sources.push(source);
    sources.extend(device::launch_source(spec, device.as_ref(), &model));
    let mut from_profile = |found: Option<InputSource>| sources.extend(found);
    let input =
        match input(spec, &machine.accelerator, machine.node, machine.accelerators_per_node)? {
            Some(rates) => Some(rates),
            None => {
                let measured = profile
                    .and_then(|profile| profiled::input(profile, machine.accelerators_per_node));
                let (rates, source) = measured.unzip();
                from_profile(source);
                rates
            }
        };
    let jitter = match &spec.jitter {
        Some(jitter) => self::jitter(jitter)?,
        None => {
            let (jitter, source) = profile.and_then(profiled::jitter).unzip();
            from_profile(source);
            jitter.unwrap_or_default()
        }
    };
    let images = training.images.unwrap_or(IMAGENET_IMAGES).max(1);
    let trained = convergence::Trained {
        network: &model,
        precision,
        optimizer,
        images,
        imagenet_images: IMAGENET_IMAGES,
        global_batch,
    };
    let given = epochs(spec)?;
    let outcome = convergence::outcome(spec, profile, &trained, given)?;
    let (outcome, outcome_sources) = outcome.unzip();
    sources.extend(outcome_sources.unwrap_or_default());
    let (cost, cost_sources) = cost::rates(spec, &machine)?;
    let (failures, failure_sources) = failures::failures(spec.failures.as_ref(), nodes)?;
    sources.extend(cost_sources.into_iter().chain(failure_sources));
    let mut case = Case {
        variant: variant.map(str::to_owned),
        series,
        accelerators,
        nodes,
        per_accelerator_batch,
        global_batch,
        precision,
        optimizer,
        accelerator_memory: machine.accelerator.memory,
        compute,
        anchor: spec.compute.anchor,
        anchor_run: None,
        device,
        extrapolated_batches: extrapolated,
        profile_warnings: profile.map(|profile| profile.warnings.clone()).unwrap_or_default(),
        packing: match profile.and_then(|profile| profile.packing) {
            Some(packing) => Packing::Measured(packing),
            None => Packing::Copy(machine.accelerator.memory_bandwidth),
        },
        method,
        wire_element_bytes,
        overlap,
        fusion: fusion::given(spec, &model)?,
        network,
        arithmetic_in_fp32: precision.falls_back_to_fp32(&machine.accelerator),
        input,
        jitter,
        epochs: match &outcome {
            Some(outcome) => outcome.epochs.as_ref().map(|epochs| epochs.value),
            None => given,
        },
        outcome,
        images,
        evaluate_every_epochs: match training.evaluate_every_epochs {
            Some(every) => Some(at_least_one("training.evaluate_every_epochs", every)?),
            None => None,
        },
        evaluation_images: training.evaluation_images.unwrap_or(IMAGENET_EVALUATION_IMAGES).max(1),
        last_batch: training.last_batch.unwrap_or_default(),
        epoch_start: training.epoch_start.unwrap_or(SimDuration::ZERO),
        evaluation_start: training.evaluation_start.unwrap_or(SimDuration::ZERO),
        cost,
        failures,
        model,
        steps,
        warmup_steps,
        seed: spec.simulation.seed.unwrap_or(1),
        sources,
    };
    anchored::scale(&mut case, spec, profile)?;
    check_work(&case)?;
    // Only what can be simulated is timed; and its buckets are more.
    if let Some((rule, source)) = fusion::timed(spec, &case)? {
        case.fusion = rule;
        case.sources.push(source);
        check_work(&case)?;
    }
    Ok(case)
}

fn epochs(spec: &ScenarioSpec) -> Result<Option<f64>, Problem> {
    if let Some(epochs) = spec.training.epochs {
        check_epochs("training.epochs", epochs)?;
    }
    Ok(spec.training.epochs)
}

pub(super) fn check_epochs(key: &str, epochs: f64) -> Result<(), Problem> {
    if epochs > 0.0 && epochs <= EPOCHS_MAX {
        return Ok(());
    }
    let problem = format!("{epochs}, expected a number above 0, at most {EPOCHS_MAX}");
    Err(Problem::new(key, problem))
}

fn batches(spec: &ScenarioSpec, accelerators: u32) -> Result<(u64, u64), Problem> {
    let ranks = u64::from(accelerators);
    let (one, all) = ("training.per_accelerator_batch", "training.global_batch");
    match (spec.training.per_accelerator_batch, spec.training.global_batch) {
        (Some(0), _) => Err(Problem::new(one, "0, expected at least 1")),
        (Some(batch), None) => match batch.checked_mul(ranks) {
            Some(global) => Ok((batch, global)),
            None => Err(Problem::new(one, format!("{batch} is too large"))),
        },
        (None, Some(batch)) if batch == 0 || batch % ranks != 0 => {
            let near = (batch / ranks).max(1) * ranks;
            let problem =
                format!("{batch} images do not divide over {accelerators} accelerators; {near} do");
            Err(Problem::new(all, problem))
        }
        (None, Some(batch)) => Ok((batch / ranks, batch)),
        (Some(_), Some(_)) => {
            Err(Problem::new(all, format!("given beside {one}: leave one of them out")))
        }
        (None, None) => Err(Problem::new(one, format!("missing: give it or {all}"))),
    }
}

fn method(spec: &ScenarioSpec, machine: &Machine, accelerators: u32) -> Result<Method, Problem> {
    let accelerators_per_node = machine.accelerators_per_node;
    let allreduce = &spec.allreduce;
    let group = allreduce.group.unwrap_or(accelerators_per_node).min(accelerators);
    let (inside, between) =
        (allreduce.inside.unwrap_or_default(), allreduce.between.unwrap_or_default());
    let algorithm = match allreduce.algorithm.unwrap_or_default() {
        AlgorithmName::Ring => Algorithm::Ring,
        AlgorithmName::Hierarchical => Algorithm::Hierarchical { group, inside, between },
        AlgorithmName::Torus => Algorithm::Torus { group },
        AlgorithmName::HalvingDoubling => Algorithm::HalvingDoubling,
        AlgorithmName::Tree => Algorithm::Tree,
        AlgorithmName::InNetwork => Algorithm::InNetwork,
        // One rank has nothing to choose.
        AlgorithmName::Nccl if accelerators == 1 => Algorithm::Ring,
        AlgorithmName::Nccl => {
            let ignored = [
                ("allreduce.inside", allreduce.inside.is_some()),
                ("allreduce.between", allreduce.between.is_some()),
                ("allreduce.channels", allreduce.channels.is_some()),
                ("allreduce.chunk", allreduce.chunk.is_some()),
            ];
            if let Some((key, _)) = ignored.iter().find(|(_, given)| *given) {
                return Err(Problem::new(key, "has no effect: NCCL chooses for itself"));
            }
            let machine = machine.nccl(accelerators, allreduce.nccl_version)?;
            return Ok(Method::Nccl(Box::new(machine)));
        }
        AlgorithmName::Hybrid => {
            let ring_from = allreduce.ring_from.ok_or_else(|| {
                let problem = "missing: hybrid needs the smallest bucket that goes by ring, \
                               such as \"4 MiB\"";
                Problem::new("allreduce.ring_from", problem)
            })?;
            Algorithm::Hybrid { group, inside, between, ring_from }
        }
    };
    if allreduce.chunk == Some(Bytes::ZERO) {
        return Err(Problem::new("allreduce.chunk", "0 B, expected at least 1 B"));
    }
    let channels = allreduce.channels.unwrap_or(1);
    let strategy = Strategy { algorithm, channels, chunk: allreduce.chunk };
    let layout = Layout { ranks: accelerators, ranks_per_node: accelerators_per_node };
    match strategy.schedule(Operation::AllReduce, layout, Bytes::new(1)) {
        Ok(_) => Ok(strategy.into()),
        Err(error) => Err(schedule_problem(&error)),
    }
}

fn jitter(jitter: &JitterSpec) -> Result<Jitter, Problem> {
    let variation = jitter.variation.map_or(0.0, |variation| variation.get());
    if variation > 1.0 {
        return Err(Problem::new("jitter.variation", "expected at most 100 %"));
    }
    let slow_ranks = jitter
        .slow_ranks
        .iter()
        .map(|slow| SlowRank { rank: Rank(slow.rank), factor: slow.factor.get() })
        .collect::<Vec<_>>();
    if slow_ranks.iter().any(|slow| !(1.0..=SLOW_MAX).contains(&slow.factor)) {
        let problem = "expected factors from 1 x to 1000 x: 20 % slower is \"1.2 x\"";
        return Err(Problem::new("jitter.slow_ranks", problem));
    }
    Ok(Jitter { distribution: jitter.distribution, variation, slow_ranks })
}
