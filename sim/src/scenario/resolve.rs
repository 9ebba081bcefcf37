//! From a scenario's keys to everything a point needs, against the catalogue.

use super::names::{LinkName, Wire};
use super::spec::{AcceleratorSpec, FusionRule, InputSpec, ScenarioSpec};
use crate::catalogue::{Accelerator, Catalogue, LinkKind, NodeType};
use crate::collective::{Algorithm, AlgorithmName, RANKS_MAX};
use crate::compute::{Anchor, ComputeTimes, Optimizer, Precision, Roofline};
use crate::fusion::Fusion;
use crate::jitter::{Jitter, SlowRank};
use crate::network::{Link, Rank, TwoLevel};
use crate::units::text::nearest;
use crate::units::{Bandwidth, Bytes, SimDuration};
use crate::workload::Network;

/// ILSVRC-2012: images of the training and of the validation set.
const IMAGENET_IMAGES: u64 = 1_281_167;
const IMAGENET_EVALUATION_IMAGES: u64 = 50_000;
/// ILSVRC-2012 is 138 GB of training images: 138e9 / 1,281,167 bytes each, rounded.
const IMAGENET_IMAGE_BYTES: u64 = 110_000;
/// PyTorch's `DistributedDataParallel`: `bucket_cap_mb = 25`.
const PYTORCH_THRESHOLD_BYTES: u64 = 25 << 20;
/// Horovod's `HOROVOD_FUSION_THRESHOLD` and `HOROVOD_CYCLE_TIME` (to version 0.18).
const HOROVOD_THRESHOLD_BYTES: u64 = 64 << 20;
const HOROVOD_CYCLE_MS: u64 = 5;
const STEPS: u32 = 100;
const STEPS_MAX: u32 = 1_000_000;
const WARMUP_STEPS: u32 = 5;
const PREFETCH_BATCHES: u32 = 2;
const NODE_EXAMPLE: &str = "or name a node that has it: cluster.node = \"dgx-1-v100\"";

/// What is wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) key: String,
    pub(super) problem: String,
}

impl Problem {
    pub(super) fn new(key: &str, problem: impl Into<String>) -> Self {
        Self { key: key.to_owned(), problem: problem.into() }
    }
}

/// Says that `wanted` is no known `kind`, with the nearest name that is.
pub(super) fn unknown(kind: &str, wanted: &str, names: &[&str]) -> String {
    let expected = names.join(", ");
    match nearest(wanted, names) {
        Some(near) => {
            format!("unknown {kind} `{wanted}`: did you mean `{near}`? Expected one of {expected}")
        }
        None => format!("unknown {kind} `{wanted}`, expected one of {expected}"),
    }
}

/// A value and where it is from, for the forecast to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputSource {
    /// What it is, such as `inter-node link`.
    pub what: &'static str,
    /// Its value.
    pub value: String,
    /// Where it is from.
    pub from: String,
}

/// How batches come to a rank, as rates.
#[derive(Debug, Clone, PartialEq)]
pub struct InputRates {
    /// Seconds that the rank's share of workers takes for an image.
    pub decode_s_per_image: f64,
    /// Seconds that the rank's share of storage takes for an image.
    pub storage_s_per_image: f64,
    /// Host to device, if it is modelled.
    pub host_link: Option<Link>,
    /// Decoded batches that the host may hold.
    pub prefetch_batches: u32,
}

/// Prices and power.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CostRates {
    /// USD for one accelerator for one hour.
    pub usd_per_accelerator_hour: Option<f64>,
    /// Watts of one accelerator with its share of the node.
    pub watts_per_accelerator: f64,
}

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
    /// Layer times of one undisturbed accelerator.
    pub compute: ComputeTimes,
    /// The measured rate they are scaled to.
    pub anchor: Option<Anchor>,
    /// Bandwidth of the device memory.
    pub memory_bandwidth: Bandwidth,
    /// How a bucket is reduced.
    pub algorithm: Algorithm,
    /// Bytes of one gradient element on the wire.
    pub wire_element_bytes: u64,
    /// Whether buckets travel during the backward pass.
    pub overlap: bool,
    /// How gradients are merged.
    pub fusion: Fusion,
    /// What carries messages.
    pub network: TwoLevel,
    /// Groups whose masters share a node's interfaces, which this network does not model.
    pub masters_share_nics: bool,
    /// How batches come; none if they are always there.
    pub input: Option<InputRates>,
    /// How compute varies.
    pub jitter: Jitter,
    /// Passes over the training set.
    pub epochs: Option<f64>,
    /// Images of the training set.
    pub images: u64,
    /// Epochs between evaluations.
    pub evaluate_every_epochs: Option<u32>,
    /// Images of an evaluation.
    pub evaluation_images: u64,
    /// Prices and power, if cost is asked for.
    pub cost: Option<CostRates>,
    /// Measured steps.
    pub steps: u32,
    /// Steps before those.
    pub warmup_steps: u32,
    /// The seed of all random streams.
    pub seed: u64,
    /// Where the inputs are from.
    pub sources: Vec<InputSource>,
}

/// Resolves one point of `spec`, all of whose sweeps have been applied.
pub(super) fn case(
    spec: &ScenarioSpec,
    variant: Option<&str>,
    series: String,
) -> Result<Case, Problem> {
    let machine = Machine::new(spec)?;
    let training = &spec.training;
    let accelerators = spec.cluster.accelerators.ok_or_else(|| {
        Problem::new("cluster.accelerators", "missing: give a number here or a list in [sweep]")
    })?;
    if !(1..=RANKS_MAX).contains(&accelerators) {
        let problem = format!("{accelerators} accelerators, expected 1 to {RANKS_MAX}");
        return Err(Problem::new("cluster.accelerators", problem));
    }
    let (per_accelerator_batch, global_batch) = batches(spec, accelerators)?;
    let model = training
        .model
        .ok_or_else(|| {
            let problem = "missing: expected one of resnet50, alexnet-bn";
            Problem::new("training.model", problem)
        })?
        .network();
    let precision = training.precision.unwrap_or_default();
    let optimizer = training.optimizer.unwrap_or_default();
    check_memory(&machine.accelerator, &model, precision, per_accelerator_batch)?;
    let compute =
        compute_times(spec, &machine, &model, per_accelerator_batch, precision, optimizer)?;
    let algorithm = algorithm(spec, accelerators, machine.accelerators_per_node)?;
    let nodes = accelerators.div_ceil(machine.accelerators_per_node);
    let network = machine.network(accelerators)?;
    let wire_element_bytes =
        spec.allreduce.gradient_precision.map_or(precision.element_bytes(), Wire::element_bytes);
    let steps = at_least_one("simulation.steps", spec.simulation.steps.unwrap_or(STEPS))?;
    if steps > STEPS_MAX {
        let problem = format!("{steps} steps, expected at most {STEPS_MAX}");
        return Err(Problem::new("simulation.steps", problem));
    }
    let mut sources = machine.sources;
    if nodes == 1 {
        sources.retain(|source| source.what != "inter-node link");
    }
    sources.push(match spec.compute.anchor {
        Some(anchor) => InputSource {
            what: "compute times",
            value: format!("roofline scaled to {anchor}"),
            from: "scenario (anchor)".to_owned(),
        },
        None => InputSource {
            what: "compute times",
            value: "roofline, not scaled".to_owned(),
            from: "datasheet rates".to_owned(),
        },
    });
    Ok(Case {
        variant: variant.map(str::to_owned),
        series,
        accelerators,
        nodes,
        per_accelerator_batch,
        global_batch,
        precision,
        compute,
        anchor: spec.compute.anchor,
        memory_bandwidth: machine.accelerator.memory_bandwidth,
        algorithm,
        wire_element_bytes,
        overlap: spec.allreduce.overlap.unwrap_or(true),
        fusion: fusion(spec, &model)?,
        network,
        masters_share_nics: masters_share_nics(algorithm, nodes, machine.accelerators_per_node),
        input: input(spec, &machine.accelerator, machine.node, machine.accelerators_per_node)?,
        jitter: jitter(spec)?,
        epochs: epochs(spec)?,
        images: training.images.unwrap_or(IMAGENET_IMAGES).max(1),
        evaluate_every_epochs: match training.evaluate_every_epochs {
            Some(every) => Some(at_least_one("training.evaluate_every_epochs", every)?),
            None => None,
        },
        evaluation_images: training.evaluation_images.unwrap_or(IMAGENET_EVALUATION_IMAGES).max(1),
        cost: spec.cost.as_ref().map(|cost| {
            let accelerator = &machine.accelerator;
            let node_share = machine.node.and_then(|node| {
                let power = node.node_power?.get();
                Some(power / f64::from(node.accelerators.max(1)))
            });
            let board = accelerator.board_power.get();
            CostRates {
                usd_per_accelerator_hour: cost
                    .price
                    .or(accelerator.price_per_hour)
                    .map(|price| price.get()),
                watts_per_accelerator: cost.power.map_or(node_share.unwrap_or(board), |p| p.get()),
            }
        }),
        model,
        steps,
        warmup_steps: spec.simulation.warmup_steps.unwrap_or(WARMUP_STEPS),
        seed: spec.simulation.seed.unwrap_or(1),
        sources,
    })
}

fn at_least_one(key: &str, value: u32) -> Result<u32, Problem> {
    if value == 0 { Err(Problem::new(key, "0, expected at least 1")) } else { Ok(value) }
}

fn epochs(spec: &ScenarioSpec) -> Result<Option<f64>, Problem> {
    match spec.training.epochs {
        Some(epochs) if !(epochs.is_finite() && epochs > 0.0) => {
            Err(Problem::new("training.epochs", format!("{epochs}, expected a number above 0")))
        }
        epochs => Ok(epochs),
    }
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

/// What must fit at least: parameters with their optimizer state, and the activations kept for the
/// backward pass.
fn check_memory(
    accelerator: &Accelerator,
    model: &Network,
    precision: Precision,
    batch: u64,
) -> Result<(), Problem> {
    let fixed = model.parameter_count() * precision.parameter_bytes();
    let per_image = model.kept_elements() * precision.element_bytes();
    let memory = accelerator.memory.get();
    let needed = per_image.saturating_mul(batch).saturating_add(fixed);
    if needed <= memory {
        return Ok(());
    }
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let fits = memory.saturating_sub(fixed) / per_image;
    Err(Problem::new(
        "training.per_accelerator_batch",
        format!(
            "{batch} images of {} need at least {:.1} GiB, {} has {:.0} GiB; at most {fits} can fit",
            model.name(),
            gib(needed),
            accelerator.title,
            gib(memory)
        ),
    ))
}

fn compute_times(
    spec: &ScenarioSpec,
    machine: &Machine<'_>,
    model: &Network,
    batch: u64,
    precision: Precision,
    optimizer: Optimizer,
) -> Result<ComputeTimes, Problem> {
    let accelerator = &machine.accelerator;
    let roofline = Roofline::new(accelerator, precision, optimizer).ok_or_else(|| {
        let problem = format!(
            "missing: no peak rate of {} is published; give one, such as \"100 TFLOP/s\"",
            accelerator.title
        );
        Problem::new("accelerator.matrix_rate", problem)
    })?;
    Ok(roofline.compute_times(model, batch, spec.compute.anchor))
}

fn algorithm(
    spec: &ScenarioSpec,
    accelerators: u32,
    accelerators_per_node: u32,
) -> Result<Algorithm, Problem> {
    let allreduce = &spec.allreduce;
    let group = allreduce.group.unwrap_or(accelerators_per_node).min(accelerators);
    let algorithm = match allreduce.algorithm.unwrap_or_default() {
        AlgorithmName::Ring => Algorithm::Ring,
        AlgorithmName::Hierarchical => Algorithm::Hierarchical { group },
        AlgorithmName::Hybrid => {
            let ring_from = allreduce.ring_from.ok_or_else(|| {
                let problem = "missing: hybrid needs the smallest bucket that goes by ring, \
                               such as \"4 MiB\"";
                Problem::new("allreduce.ring_from", problem)
            })?;
            Algorithm::Hybrid { group, ring_from }
        }
    };
    match algorithm.schedule(accelerators, Bytes::new(1)) {
        Ok(_) => Ok(algorithm),
        Err(error) => Err(Problem::new("allreduce.group", error.to_string())),
    }
}

/// Groups smaller than a node put several masters on it, which send at the same time.
fn masters_share_nics(algorithm: Algorithm, nodes: u32, accelerators_per_node: u32) -> bool {
    match algorithm {
        Algorithm::Ring => false,
        Algorithm::Hierarchical { group } | Algorithm::Hybrid { group, .. } => {
            nodes > 1 && group < accelerators_per_node
        }
    }
}

fn fusion(spec: &ScenarioSpec, model: &Network) -> Result<Fusion, Problem> {
    let fusion = &spec.fusion;
    let threshold = |default| match fusion.threshold {
        Some(Bytes::ZERO) => Err(Problem::new("fusion.threshold", "0 B, expected at least 1 B")),
        given => Ok(given.unwrap_or(Bytes::new(default))),
    };
    Ok(match fusion.rule.unwrap_or_default() {
        FusionRule::Tensor => Fusion::Tensor,
        FusionRule::OneBucket => Fusion::OneBucket,
        FusionRule::Threshold => Fusion::Threshold(threshold(PYTORCH_THRESHOLD_BYTES)?),
        FusionRule::Cycle => {
            let cycle =
                fusion.cycle_time.unwrap_or(SimDuration::from_ps(HOROVOD_CYCLE_MS * 1_000_000_000));
            if cycle == SimDuration::ZERO {
                return Err(Problem::new("fusion.cycle_time", "0, expected a time above 0"));
            }
            Fusion::Cycle { threshold: threshold(HOROVOD_THRESHOLD_BYTES)?, cycle }
        }
        FusionRule::Segments => {
            let after = fusion.after.clone().ok_or_else(|| {
                let problem = "missing: segments need the layers after which a bucket is closed";
                Problem::new("fusion.after", problem)
            })?;
            let names: Vec<&str> = model
                .nodes()
                .iter()
                .filter(|node| !node.parameters.is_empty())
                .map(|node| node.name.as_str())
                .collect();
            if let Some(wrong) = after.iter().find(|name| !names.contains(&name.as_str())) {
                return Err(Problem::new("fusion.after", unknown("layer", wrong, &names)));
            }
            Fusion::Segments(after)
        }
    })
}

fn input(
    spec: &ScenarioSpec,
    accelerator: &Accelerator,
    node: Option<&NodeType>,
    accelerators_per_node: u32,
) -> Result<Option<InputRates>, Problem> {
    let Some(input) = &spec.input else { return Ok(None) };
    let ranks = f64::from(accelerators_per_node);
    let decode_s_per_image = match input.decode {
        Some(rate) if rate.get() <= 0.0 => {
            return Err(Problem::new("input.decode", "expected a rate above 0"));
        }
        Some(rate) => {
            let cores = spec.cluster.cpu_cores.or(node.and_then(|node| node.cpu_cores));
            let workers = input.workers_per_node.or(cores).ok_or_else(|| {
                let problem = "missing: the node's cores are not known; give the workers";
                Problem::new("input.workers_per_node", problem)
            })?;
            let workers = at_least_one("input.workers_per_node", workers)?;
            ranks / (rate.get() * f64::from(workers))
        }
        None => 0.0,
    };
    let image_bytes = input.image_bytes.unwrap_or(Bytes::new(IMAGENET_IMAGE_BYTES)).get() as f64;
    let storage_s_per_image =
        input.storage.map_or(0.0, |rate| ranks * image_bytes / rate.bytes_per_s() as f64);
    Ok(Some(InputRates {
        decode_s_per_image,
        storage_s_per_image,
        host_link: host_link(input, accelerator)?,
        prefetch_batches: at_least_one(
            "input.prefetch_batches",
            input.prefetch_batches.unwrap_or(PREFETCH_BATCHES),
        )?,
    }))
}

fn host_link(input: &InputSpec, accelerator: &Accelerator) -> Result<Option<Link>, Problem> {
    let named = accelerator.host_link.clone().map(LinkName::Named);
    let Some(name) = input.host_link.clone().or(named) else { return Ok(None) };
    Ok(Some(link("input.host_link", &name, None)?.0))
}

fn jitter(spec: &ScenarioSpec) -> Result<Jitter, Problem> {
    let Some(jitter) = &spec.jitter else { return Ok(Jitter::default()) };
    let variation = jitter.variation.map_or(0.0, |variation| variation.get());
    if variation > 1.0 {
        return Err(Problem::new("jitter.variation", "expected at most 100 %"));
    }
    let slow_ranks = jitter
        .slow_ranks
        .iter()
        .map(|slow| SlowRank { rank: Rank(slow.rank), factor: slow.factor.get() })
        .collect::<Vec<_>>();
    if slow_ranks.iter().any(|slow| slow.factor <= 0.0) {
        return Err(Problem::new("jitter.slow_ranks", "expected factors above 0"));
    }
    Ok(Jitter { distribution: jitter.distribution, variation, slow_ranks })
}

/// A link by name or as given, and where it is from.
fn link(
    key: &str,
    name: &LinkName,
    kind: Option<LinkKind>,
) -> Result<(Link, InputSource), Problem> {
    let catalogue = Catalogue::shipped();
    let what = match kind {
        Some(LinkKind::IntraNode) => "intra-node link",
        Some(LinkKind::InterNode) => "inter-node link",
        None => "host link",
    };
    let name = match name {
        LinkName::Given(link) => {
            let from = "scenario".to_owned();
            return Ok((*link, InputSource { what, value: link.to_string(), from }));
        }
        LinkName::Named(name) => name,
    };
    let found = catalogue.link(name).ok_or_else(|| {
        let names = catalogue.link_names();
        let problem = format!(
            "{}; or bandwidth and latency, such as \"100 Gbit/s, 5 us\"",
            unknown("link", name, &names)
        );
        Problem::new(key, problem)
    })?;
    let latency = found.latency.ok_or_else(|| {
        let problem = format!(
            "no latency of {} is documented; give it: \"{}, 5 us\"",
            found.title, found.bandwidth
        );
        Problem::new(key, problem)
    })?;
    let link = Link { latency, bandwidth: found.bandwidth };
    let from = match &found.latency_source {
        Some(latency) => format!("{}; latency: {latency}", found.source),
        None => found.source.clone(),
    };
    Ok((link, InputSource { what, value: format!("{} ({link})", found.title), from }))
}

/// The accelerators and links of a point's nodes.
struct Machine<'a> {
    node: Option<&'static NodeType>,
    accelerator: Accelerator,
    accelerators_per_node: u32,
    spec: &'a ScenarioSpec,
    sources: Vec<InputSource>,
    intra_node: Option<Link>,
    inter_node: Option<Link>,
}

impl<'a> Machine<'a> {
    fn new(spec: &'a ScenarioSpec) -> Result<Self, Problem> {
        let catalogue = Catalogue::shipped();
        let cluster = &spec.cluster;
        let node = match &cluster.node {
            Some(name) => Some(catalogue.node(name).ok_or_else(|| {
                Problem::new("cluster.node", unknown("node", name, &catalogue.node_names()))
            })?),
            None => None,
        };
        let accelerator = accelerator(spec, node)?;
        let accelerators_per_node = cluster
            .accelerators_per_node
            .or(node.map(|node| node.accelerators))
            .ok_or_else(|| {
                let problem = format!("missing: give it, {NODE_EXAMPLE}");
                Problem::new("cluster.accelerators_per_node", problem)
            })?;
        let accelerators_per_node =
            at_least_one("cluster.accelerators_per_node", accelerators_per_node)?;
        let mut sources = vec![InputSource {
            what: "accelerator",
            value: accelerator.title.clone(),
            from: accelerator.source.clone(),
        }];
        let mut resolve = |given: &Option<LinkName>, named: Option<&String>, key, kind| {
            let named = named.cloned().map(LinkName::Named);
            let Some(name) = given.clone().or(named) else { return Ok(None) };
            let (link, source) = link(key, &name, Some(kind))?;
            sources.push(source);
            Ok(Some(link))
        };
        let intra_node = resolve(
            &cluster.intra_node_link,
            node.and_then(|node| node.intra_node_link.as_ref()),
            "cluster.intra_node_link",
            LinkKind::IntraNode,
        )?;
        let inter_node = resolve(
            &cluster.inter_node_link,
            node.and_then(|node| node.nic.as_ref()),
            "cluster.inter_node_link",
            LinkKind::InterNode,
        )?;
        Ok(Self { node, accelerator, accelerators_per_node, spec, sources, intra_node, inter_node })
    }

    fn network(&self, accelerators: u32) -> Result<TwoLevel, Problem> {
        let missing = |key: &str| {
            let problem = format!("missing: give \"100 Gbit/s, 5 us\" or a name, {NODE_EXAMPLE}");
            Problem::new(key, problem)
        };
        let nics = self.spec.cluster.nics_per_node.or(self.node.map(|node| node.nics));
        let nics = at_least_one("cluster.nics_per_node", nics.unwrap_or(1))?;
        let inter_node = self
            .inter_node
            .map(|nic| Link { latency: nic.latency, bandwidth: nic.bandwidth * u64::from(nics) });
        let many_nodes = accelerators > self.accelerators_per_node;
        let (intra_node, inter_node) = match (self.intra_node, inter_node) {
            (Some(intra), Some(inter)) => (intra, inter),
            (None, _) if self.accelerators_per_node > 1 && accelerators > 1 => {
                return Err(missing("cluster.intra_node_link"));
            }
            (_, None) if many_nodes => return Err(missing("cluster.inter_node_link")),
            // A link that no message takes may be anything.
            (Some(only), None) | (None, Some(only)) => (only, only),
            (None, None) => {
                let bandwidth = self.accelerator.memory_bandwidth;
                let unused = Link { latency: SimDuration::ZERO, bandwidth };
                (unused, unused)
            }
        };
        Ok(TwoLevel::new(self.accelerators_per_node, intra_node, inter_node))
    }
}

fn accelerator(spec: &ScenarioSpec, node: Option<&NodeType>) -> Result<Accelerator, Problem> {
    let catalogue = Catalogue::shipped();
    let name = spec.cluster.accelerator.as_deref().or(node.map(|node| node.accelerator.as_str()));
    let known = match name {
        Some(name) => Some(catalogue.accelerator(name).ok_or_else(|| {
            let problem = unknown("accelerator", name, &catalogue.accelerator_names());
            let problem = format!("{problem}; or describe it in [accelerator]");
            Problem::new("cluster.accelerator", problem)
        })?),
        None => None,
    };
    let given = &spec.accelerator;
    let mut accelerator = match known {
        Some(known) => known.clone(),
        None => described(given)?,
    };
    if let Some(rate) = given.matrix_rate {
        // The rate is meant for the precision of this training, whichever that is.
        for precision in ["fp32", "tf32", "fp16", "bf16"] {
            accelerator.matrix_rates.insert(precision.to_owned(), rate);
        }
    }
    accelerator.compute_units = given.compute_units.unwrap_or(accelerator.compute_units).max(1);
    accelerator.vector_rate = given.vector_rate.or(accelerator.vector_rate);
    accelerator.memory = given.memory.unwrap_or(accelerator.memory);
    accelerator.memory_bandwidth = given.memory_bandwidth.unwrap_or(accelerator.memory_bandwidth);
    accelerator.board_power = given.board_power.unwrap_or(accelerator.board_power);
    if let Some(title) = &given.title {
        accelerator.title.clone_from(title);
        "scenario".clone_into(&mut accelerator.source);
    }
    Ok(accelerator)
}

/// An accelerator that only the scenario knows.
fn described(given: &AcceleratorSpec) -> Result<Accelerator, Problem> {
    let missing = |key: &str, example: &str| {
        let problem = format!("missing: give it, such as {example}, {NODE_EXAMPLE}");
        Problem::new(&format!("accelerator.{key}"), problem)
    };
    if given.title.is_none() && given.memory.is_none() && given.compute_units.is_none() {
        let problem = format!("missing: name an accelerator, {NODE_EXAMPLE}");
        return Err(Problem::new("cluster.accelerator", problem));
    }
    Ok(Accelerator {
        name: "given".to_owned(),
        title: given.title.clone().unwrap_or_else(|| "accelerator of the scenario".to_owned()),
        aliases: Vec::new(),
        year: 0,
        compute_units: given.compute_units.ok_or_else(|| missing("compute_units", "108"))?,
        matrix_rates: std::collections::BTreeMap::new(),
        vector_rate: None,
        memory: given.memory.ok_or_else(|| missing("memory", "\"40 GiB\""))?,
        memory_bandwidth: given
            .memory_bandwidth
            .ok_or_else(|| missing("memory_bandwidth", "\"1555 GB/s\""))?,
        board_power: given.board_power.ok_or_else(|| missing("board_power", "\"400 W\""))?,
        host_link: None,
        price_per_hour: None,
        price_source: None,
        price_date: None,
        source: "scenario".to_owned(),
        note: None,
    })
}
