//! Published steps with and without overlap and tensor fusion, predicted from one accelerator's rate.
//!
//! A row (`fusion.csv`) names two others: `anchor`, the rate of one accelerator alone, to which compute
//! is scaled; and `network_anchor`, two nodes that send one bucket after the backward pass, so that
//! communication is in plain sight. From the second follows what the fabric reaches of its line rate.
//! With R its published rate, n its accelerators, b the batch of one and T the simulated step, the
//! efficiency η solves
//!
//! ```text
//! T(η · B) = n·b / R        B: the link's bandwidth in the catalogue, whose latency is kept
//! ```
//!
//! and all other rows of the network are simulated with η·B. Nothing is taken from the row itself: a row
//! that is its own `network_anchor` is predicted with B. Rows of one node send nothing through the
//! fabric; their links are the data sheet's.
//!
//! # What is assumed
//!
//! - **All-reduce: a ring** of the catalogue's links. NCCL 2.4 takes rings inside one node and for all
//!   that is large, and across nodes without NVLink trees up to 2·5000 B/us · (6 (n−1) − 15·log2 m −
//!   4 (n/m − 1)) us (`ncclTreeThreshold`, `src/init.cc`), which is 0.15 MB for 8 ranks on m = 2 nodes
//!   and 1.3 MB for 32 on 8: the large tensors, three quarters or more of all bytes, and every merged
//!   bucket go by ring. The scenario's `nccl` is the cost model of NCCL 2.20 and later, whose links are
//!   data sheets' and take no η.
//! - **PCIe carries 5/6** between accelerators: Intel's root complexes cut peer-to-peer writes into 64
//!   bytes, for which NCCL charges 6/5 (`INTEL_P2P_OVERHEAD`, `src/graph/topo.h`). Hosts are taken to be
//!   Intel's, as in NCCL's cost model here.
//! - **Merged gradients** lie in one buffer. The program of these runs (ddl-benchmarks,
//!   `mgwfbp/hv_distributed_optimizer.py`) copies each gradient into it on the stream of the backward
//!   pass, 2S/M for S bytes and memory bandwidth M, sends the buffer from where it lies, and after the
//!   last sum has come makes each of the K tensors a view of it, while the accelerator waits: K
//!   operations of the framework. Each is taken to last what a kernel does that is started by itself
//!   (`eager_kernel` of the overheads, fitted to other runs). Where each tensor travels alone there is
//!   nothing of this. Horovod's own fusion is off there (`HOROVOD_FUSION_THRESHOLD=0`).
//! - **Nothing varies** between ranks: the runs train on one batch that stays in memory, and the fitted
//!   variation of other systems, most of which read and decode images, is uncertain by a factor of 3.
//!
//! Left out: that ranks agree on what is ready; that the all-reduce's kernels take units of the device
//! from the backward pass, which falls on many small all-reduces most.

use std::collections::{BTreeMap, BTreeSet};

use foretrain_sim::catalogue::Catalogue;
use foretrain_sim::collective::{AlgorithmName, Engine};
use foretrain_sim::compute::{Anchor, LaunchMode, Precision};
use foretrain_sim::fusion::gradients;
use foretrain_sim::network::Link;
use foretrain_sim::scenario::spec::{AllReduceSpec, FusionRule, ScenarioSpec, SimulationSpec};
use foretrain_sim::scenario::{Case, GradientPrecision, LinkName, resolve};
use foretrain_sim::step::Packing;
use foretrain_sim::units::{Bandwidth, Bytes, ImageRate, SimDuration};
use foretrain_sim::workload::NetworkName;
use serde::Serialize;

use super::scaling::Shared;
use super::system::System;
use super::table::{Cells, Problem, Table};

/// NCCL's charge for peer-to-peer traffic through an Intel root complex: 6/5.
const INTEL_PEER_OVERHEAD: f64 = 6.0 / 5.0;
/// Nothing varies, so few steps are as good as many; the first ones have no step before them.
const STEPS: u32 = 4;
const WARMUP_STEPS: u32 = 2;
/// Where the efficiency is looked for: published line rates are not wrong by more than 2.
const EFFICIENCIES: [f64; 2] = [1.0 / 1024.0, 2.0];
/// Halvings of its logarithm, to 1e-9.
const HALVINGS: u32 = 33;
/// Published rates that are closer than this share have no order, as those within their spreads.
const TIE: f64 = 0.01;

/// One published rate.
#[derive(Debug, Clone, PartialEq)]
pub struct FusionRun {
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
    /// What is trained: ResNet-50 where there is no column `model`.
    pub model: String,
    /// Images of one accelerator.
    pub per_accelerator_batch: f64,
    /// Throughput.
    pub images_per_s: Option<f64>,
    /// Plus or minus, over repeated runs.
    pub images_per_s_spread: Option<f64>,
    /// The run of one accelerator; its own name if it is one.
    pub anchor: String,
    /// The run that shows the network; its own name if it is one, nothing on one node.
    pub network_anchor: String,
    /// Whether gradients are summed during the backward pass; not said of one accelerator.
    pub overlap: Option<bool>,
    /// Which gradients travel together, as the row has it.
    pub method: String,
    /// The same as a rule of the simulator, if it knows it.
    pub fusion: Option<FusionRule>,
    /// The precision of gradients on the wire.
    pub gradient_precision: GradientPrecision,
    /// What it ran on.
    pub software: String,
}

impl FusionRun {
    /// The columns of the file, beside those of [`System`].
    pub const COLUMNS: [&'static str; 12] = [
        "id",
        "family",
        "source",
        "per_accelerator_batch",
        "images_per_s",
        "images_per_s_spread",
        "anchor",
        "network_anchor",
        "overlap",
        "fusion",
        "gradient_precision",
        "software",
    ];

    /// Reads all rows of a table.
    ///
    /// # Errors
    /// A cell is not what its column needs, or a name is there twice.
    pub fn read_all(table: &Table) -> Result<Vec<Self>, Problem> {
        table.named_rows(Self::read)
    }

    fn read(cells: &Cells<'_>) -> Result<Self, Problem> {
        let system = System::read(cells)?;
        let global = cells.quantity("global_batch")?;
        let per_accelerator_batch = cells
            .quantity("per_accelerator_batch")?
            .or(global.map(|global| global / f64::from(system.accelerators)))
            .ok_or_else(|| cells.wrong("per_accelerator_batch", "a number above 0"))?;
        let gradient_precision = match cells.text("gradient_precision") {
            "fp32" | "" => GradientPrecision::Fp32,
            "fp16" => GradientPrecision::Fp16,
            "bf16" => GradientPrecision::Bf16,
            _ => return Err(cells.wrong("gradient_precision", "`fp32`, `fp16` or `bf16`")),
        };
        let overlap = match cells.text("overlap") {
            "yes" => Some(true),
            "no" => Some(false),
            "" => None,
            _ => return Err(cells.wrong("overlap", "`yes`, `no` or nothing")),
        };
        let method = cells.text("fusion").to_owned();
        let spread = |spread: f64| spread >= 0.0 && spread.is_finite();
        Ok(Self {
            line: cells.line(),
            id: cells.named("id")?,
            family: cells.text("family").to_owned(),
            source: cells.text("source").to_owned(),
            model: cells.text("model").to_owned(),
            per_accelerator_batch,
            images_per_s: cells.quantity("images_per_s")?,
            images_per_s_spread: cells.number(
                "images_per_s_spread",
                "a number of at least 0",
                spread,
            )?,
            anchor: cells.text("anchor").to_owned(),
            network_anchor: cells.text("network_anchor").to_owned(),
            overlap,
            fusion: rule(&method),
            method,
            gradient_precision,
            software: cells.text("software").to_owned(),
            system,
        })
    }

    /// Whether it is the run of one accelerator that others are predicted from.
    #[must_use]
    pub fn is_anchor(&self) -> bool {
        self.id == self.anchor
    }

    /// Whether it is the run that shows others their network.
    #[must_use]
    pub fn is_network_anchor(&self) -> bool {
        self.id == self.network_anchor
    }

    /// Images of one accelerator, whole.
    fn batch(&self) -> Result<u64, String> {
        let batch = self.per_accelerator_batch;
        if batch.fract() == 0.0 && (1.0..=1e6).contains(&batch) {
            return Ok(batch as u64);
        }
        Err(format!("per_accelerator_batch: {batch}, expected a whole number from 1 to 1,000,000"))
    }

    fn network(&self) -> Result<NetworkName, String> {
        match self.model.to_lowercase().replace(['-', '_'], "").as_str() {
            "" | "resnet50" => Ok(NetworkName::Resnet50),
            "resnet18" => Ok(NetworkName::Resnet18),
            "alexnet" => Ok(NetworkName::Alexnet),
            "alexnetbn" => Ok(NetworkName::AlexnetBn),
            _ => Err(format!(
                "model: `{}`, expected one of {}",
                self.model,
                NetworkName::NAMES.join(", ")
            )),
        }
    }

    fn is_on_several_nodes(&self) -> bool {
        self.system.accelerators > self.system.accelerators_per_node
    }

    /// What all rows of a comparison have in common but their method.
    fn setting(&self) -> String {
        let system = &self.system;
        let network = match system.nic_gbit_per_s {
            Some(rate) => format!("{rate} Gbit/s {}", system.fabric),
            None => system.fabric.clone(),
        };
        let model = if self.model.is_empty() { String::new() } else { format!("{}, ", self.model) };
        format!(
            "{model}{} x {}, {} a node, {network}, batch {}",
            system.accelerators,
            system.accelerator,
            system.accelerators_per_node,
            self.per_accelerator_batch
        )
    }

    /// The method in a few words.
    fn method_name(&self) -> String {
        let rule = match self.fusion {
            Some(FusionRule::OneBucket) => "one bucket",
            Some(FusionRule::Tensor) => "per tensor",
            Some(FusionRule::MgWfbp) => "mg-wfbp",
            _ => &self.method,
        };
        let overlap = match self.overlap {
            Some(true) => " with overlap",
            Some(false) => " without overlap",
            None => "",
        };
        format!("{rule}{overlap}")
    }
}

/// The rule that a row's `fusion` describes.
fn rule(method: &str) -> Option<FusionRule> {
    let method = method.to_lowercase();
    if method.starts_with("one bucket") {
        Some(FusionRule::OneBucket)
    } else if method.contains("per tensor") {
        Some(FusionRule::Tensor)
    } else if method.contains("mg-wfbp") {
        Some(FusionRule::MgWfbp)
    } else {
        None
    }
}

/// A predicted row.
#[derive(Debug, Clone, PartialEq)]
pub struct FusionPrediction {
    /// Throughput.
    pub images_per_s: f64,
    /// What an interface between nodes reaches of its bandwidth in the catalogue, where a network anchor
    /// showed it.
    pub link_efficiency: Option<f64>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// Predicts `run` from the rate of one accelerator, and from what `network_anchor` shows of the fabric.
///
/// # Errors
/// With the reason why it cannot be predicted.
pub fn predict(
    run: &FusionRun,
    anchor: &FusionRun,
    network_anchor: Option<&FusionRun>,
) -> Result<FusionPrediction, String> {
    let mut notes = Vec::new();
    let spec = spec(run, anchor, &mut notes)?;
    let mut link_efficiency = None;
    if run.is_on_several_nodes() {
        match network_anchor {
            None => {
                notes.push("no network anchor: the link's bandwidth is the data sheet's".into())
            }
            Some(shown) if shown.id == run.id => {
                let note = "it is the network anchor: nothing of its own is used, and the link's \
                            bandwidth is the data sheet's";
                notes.push(note.to_owned());
            }
            Some(shown) => link_efficiency = efficiency(run, shown, anchor, &mut notes)?,
        }
    }
    let step_s = step_s(&with_efficiency(&spec, link_efficiency.unwrap_or(1.0)))?;
    let global_batch = run.batch()? as f64 * f64::from(run.system.accelerators);
    Ok(FusionPrediction { images_per_s: global_batch / step_s, link_efficiency, notes })
}

/// What an interface reaches of its bandwidth in the catalogue, so that the network anchor `shown`,
/// simulated, has its published rate; none if no efficiency gives it.
fn efficiency(
    run: &FusionRun,
    shown: &FusionRun,
    anchor: &FusionRun,
    notes: &mut Vec<String>,
) -> Result<Option<f64>, String> {
    let network = |run: &FusionRun| {
        let System { nics_per_node, nic_gbit_per_s, fabric, .. } = run.system.clone();
        (nics_per_node, nic_gbit_per_s, fabric)
    };
    if network(run) != network(shown) {
        return Err(format!("network_anchor: `{}` is on another network", shown.id));
    }
    if !shown.is_on_several_nodes() || shown.overlap != Some(false) {
        return Err(format!(
            "network_anchor: `{}` is on one node or overlaps, and shows no network",
            shown.id
        ));
    }
    let rate = shown
        .images_per_s
        .ok_or_else(|| format!("network_anchor: `{}` has no images_per_s", shown.id))?;
    let target_s = shown.batch()? as f64 * f64::from(shown.system.accelerators) / rate;
    let spec = spec(shown, anchor, &mut Vec::new())
        .map_err(|reason| format!("network_anchor: `{}`: {reason}", shown.id))?;
    let [mut low, mut high] = EFFICIENCIES;
    if step_s(&with_efficiency(&spec, low))? < target_s {
        return Err(format!(
            "network_anchor: `{}` is slower than over a thousandth of its line rate",
            shown.id
        ));
    }
    // A faster link shortens the step until links inside nodes limit it, and no further.
    if step_s(&with_efficiency(&spec, high))? > target_s {
        notes.push(format!(
            "network anchor `{}` is faster than any link between its nodes makes it: the bandwidth \
             is the data sheet's",
            shown.id
        ));
        return Ok(None);
    }
    for _ in 0..HALVINGS {
        let middle = (low * high).sqrt();
        if step_s(&with_efficiency(&spec, middle))? > target_s {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(Some(high))
}

/// The scenario of a row; its links are data sheets'.
fn spec(
    run: &FusionRun,
    anchor: &FusionRun,
    notes: &mut Vec<String>,
) -> Result<ScenarioSpec, String> {
    if anchor.system.accelerators != 1 {
        return Err(format!("anchor: `{}` is not of one accelerator", anchor.id));
    }
    if (&anchor.system.accelerator, anchor.network()?) != (&run.system.accelerator, run.network()?)
    {
        return Err(format!("anchor: `{}` is of another accelerator or model", anchor.id));
    }
    let rate = anchor
        .images_per_s
        .ok_or_else(|| format!("anchor: `{}` has no images_per_s", anchor.id))?;
    let mut spec = ScenarioSpec {
        name: run.id.clone(),
        source: Some(run.source.clone()),
        ..ScenarioSpec::default()
    };
    notes.extend(run.system.describe(&mut spec)?);
    if run.system.accelerators > 1 {
        let missing = |column: &str, text: &str| format!("{column}: `{text}` is not known here");
        spec.fusion.rule = Some(run.fusion.ok_or_else(|| missing("fusion", &run.method))?);
        let overlap = run.overlap.ok_or_else(|| missing("overlap", ""))?;
        spec.allreduce = AllReduceSpec {
            algorithm: Some(AlgorithmName::Ring),
            gradient_precision: Some(run.gradient_precision),
            overlap: Some(overlap),
            ..AllReduceSpec::default()
        };
    }
    spec.cluster.intra_node_link = spec.cluster.intra_node_link.map(peer_to_peer);
    spec.cluster.inter_node_link = spec.cluster.inter_node_link.map(given);
    spec.training.model = Some(run.network()?);
    spec.training.per_accelerator_batch = Some(run.batch()?);
    spec.training.precision = Some(Precision::Fp32);
    spec.compute.anchor = Some(Anchor::of_one(ImageRate::new(rate), anchor.batch()?));
    spec.compute.launch = Some(LaunchMode::Eager);
    spec.simulation =
        SimulationSpec { steps: Some(STEPS), warmup_steps: Some(WARMUP_STEPS), seed: None };
    Ok(spec)
}

/// A link by its numbers, where it has a latency.
fn given(link: LinkName) -> LinkName {
    let found = match &link {
        LinkName::Named(name) => Catalogue::shipped().link(name),
        LinkName::Given(_) => None,
    };
    match found.and_then(|found| Some((found.bandwidth, found.latency?))) {
        Some((bandwidth, latency)) => LinkName::Given(Link { latency, bandwidth }),
        None => link,
    }
}

/// What the link carries between accelerators of a node.
fn peer_to_peer(link: LinkName) -> LinkName {
    match &link {
        LinkName::Named(name) if name.starts_with("pcie") => {
            scaled(given(link), 1.0 / INTEL_PEER_OVERHEAD)
        }
        _ => link,
    }
}

/// A link of another bandwidth.
fn scaled(link: LinkName, factor: f64) -> LinkName {
    match link {
        LinkName::Given(Link { latency, bandwidth }) => {
            let bytes_per_s = (bandwidth.bytes_per_s() as f64 * factor).round().max(1.0) as u64;
            let bandwidth = Bandwidth::from_bytes_per_s(bytes_per_s);
            LinkName::Given(Link { latency, bandwidth })
        }
        LinkName::Named(_) => link,
    }
}

fn with_efficiency(spec: &ScenarioSpec, efficiency: f64) -> ScenarioSpec {
    let mut spec = spec.clone();
    spec.cluster.inter_node_link =
        spec.cluster.inter_node_link.map(|link| scaled(link, efficiency));
    spec
}

/// Seconds of the simulated step.
fn step_s(spec: &ScenarioSpec) -> Result<f64, String> {
    let mut case = resolve(spec).map_err(|error| error.to_string())?;
    if case.accelerators > 1 && spec.fusion.rule != Some(FusionRule::Tensor) {
        let memory = spec.cluster.accelerator.as_deref();
        let memory = memory.and_then(|name| Catalogue::shipped().accelerator(name));
        let bandwidth = memory.map_or(UNLIMITED, |accelerator| accelerator.memory_bandwidth);
        merge(&mut case, bandwidth, Shared::shipped().eager_kernel_s);
    }
    case.mean_step_s(Engine::Arrays).map_err(|error| error.to_string())
}

/// A copy over it takes no time.
const UNLIMITED: Bandwidth = Bandwidth::from_bytes_per_s(u64::MAX);

/// Has gradients copied into a buffer by the backward pass, and tensors made views of it after the last
/// sum, `view_s` each, in place of packing and unpacking beside the backward pass.
fn merge(case: &mut Case, memory: Bandwidth, view_s: f64) {
    let gradients = gradients(&case.model, &case.compute, case.wire_element_bytes);
    let mut bytes: BTreeMap<&str, Bytes> = BTreeMap::new();
    for gradient in &gradients {
        let held = bytes.entry(&gradient.node).or_insert(Bytes::ZERO);
        *held = *held + gradient.bytes;
    }
    for (node, layer) in case.model.nodes().iter().zip(&mut case.compute.layers) {
        if let Some(bytes) = bytes.get(node.name.as_str()) {
            layer.backward += memory.transmission_time(*bytes * 2);
        }
    }
    case.compute.optimizer += SimDuration::from_seconds(view_s * gradients.len() as f64);
    case.packing = Packing::Copy(UNLIMITED);
}

/// Methods on the same machines, from the slowest to the fastest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Order {
    /// The machines.
    pub of: String,
    /// As published.
    pub published: Vec<String>,
    /// As predicted; a network anchor stands with its published rate.
    pub predicted: Vec<String>,
    /// Whether all methods are in the published order. Those within their spreads, or within 1 %, have
    /// none.
    pub is_right: bool,
}

/// Groups of rows that differ only in their method, and whether `predicted` orders them as published.
/// Rows without a published or a predicted rate are left out; groups of one too.
#[must_use]
pub fn orders(runs: &[FusionRun], predicted: impl Fn(&FusionRun) -> Option<f64>) -> Vec<Order> {
    let ranked = |run: &FusionRun| {
        let published = run.images_per_s?;
        let own = run.is_network_anchor().then_some(published);
        let predicted = own.or_else(|| predicted(run))?;
        let spread = run.images_per_s_spread.unwrap_or(0.0);
        Some(Ranked { method: run.method_name(), published, spread, predicted })
    };
    let mut seen = BTreeSet::new();
    let settings = runs.iter().map(FusionRun::setting).filter(|of| seen.insert(of.clone()));
    let order = |of: String| {
        let here = runs.iter().filter(|run| !run.is_anchor() && run.setting() == of);
        let here: Vec<Ranked> = here.filter_map(ranked).collect();
        let by = |rate: fn(&Ranked) -> f64| {
            let mut sorted: Vec<&Ranked> = here.iter().collect();
            sorted.sort_by(|a, b| rate(a).total_cmp(&rate(b)));
            sorted.into_iter().map(|one| one.method.clone()).collect()
        };
        let is_right =
            here.iter().all(|a| here.iter().all(|b| !a.is_below(b) || a.predicted < b.predicted));
        (here.len() > 1).then(|| Order {
            published: by(|one| one.published),
            predicted: by(|one| one.predicted),
            is_right,
            of,
        })
    };
    settings.filter_map(order).collect()
}

/// A method with its rates.
struct Ranked {
    method: String,
    published: f64,
    spread: f64,
    predicted: f64,
}

impl Ranked {
    /// Whether it was published to be slower, by more than spreads and ties explain.
    fn is_below(&self, other: &Self) -> bool {
        let difference = other.published - self.published;
        difference > (self.spread + other.spread).max(TIE * self.published)
    }
}

#[cfg(test)]
#[path = "fusion_tests.rs"]
mod tests;
