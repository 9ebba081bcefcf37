//! What can be written in a scenario file. These types are the file format: they read it, and the
//! JSON Schema is generated from them.
//!
//! Every key is optional here, because a variant or a sweep may give it; what a point needs and
//! does not have is reported when the point is resolved.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::failures::FailuresSpec;
use super::names::{GradientPrecision, LinkName};
use crate::collective::nccl::NcclVersion;
use crate::collective::{AlgorithmName, Between, Inside};
use crate::compute::{Anchor, Kernels, LaunchMode, Optimizer, Precision};
use crate::convergence::{CriticalBatchSource, KnownAccuracy, KnownEpochs};
use crate::jitter::JitterDistribution;
use crate::network::{Contention, FabricTopology, GraphSpec, NodeTopology};
use crate::units::{
    Bandwidth, Bytes, ComputeRate, Fraction, ImageRate, Money, Power, Price, SimDuration,
};
use crate::workload::NetworkName;

/// A scenario: what would happen if this model were trained so on such a cluster.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScenarioSpec {
    /// The title of table and plot.
    pub name: String,
    /// Where the scenario is from.
    pub source: Option<String>,
    /// A profile of `foretrain calibrate` (JSON), by its path from the scenario's folder: layer times,
    /// links, packing, variation and input are as it measured, unless given here.
    pub profile: Option<String>,
    /// The machines.
    #[serde(default)]
    pub cluster: ClusterSpec,
    /// An accelerator that the catalogue lacks, or corrections to one that it has.
    #[serde(default)]
    pub accelerator: AcceleratorSpec,
    /// What is trained, and how.
    #[serde(default)]
    pub training: TrainingSpec,
    /// How fast one accelerator is.
    #[serde(default)]
    pub compute: ComputeSpec,
    /// How gradients are summed.
    #[serde(default)]
    pub allreduce: AllReduceSpec,
    /// Which gradients travel together.
    #[serde(default)]
    pub fusion: FusionSpec,
    /// How images come; without it, input never limits.
    pub input: Option<InputSpec>,
    /// How compute varies; without it, it does not.
    pub jitter: Option<JitterSpec>,
    /// How accurate it becomes; without it, accuracy is not forecast.
    pub convergence: Option<ConvergenceSpec>,
    /// What it costs; without it, cost and energy are not forecast.
    pub cost: Option<CostSpec>,
    /// What fails, and how training goes on; without it, nothing fails and no checkpoint is written.
    pub failures: Option<FailuresSpec>,
    /// What `foretrain plan` looks for; `simulate` has no use for it.
    pub plan: Option<PlanSpec>,
    /// How long to simulate.
    #[serde(default)]
    pub simulation: SimulationSpec,
    /// Values to run through; the product of all lists is simulated.
    #[serde(default)]
    pub sweep: SweepSpec,
    /// Alternatives, each a curve of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variant: Vec<VariantSpec>,
    /// Published measurements to hold against the forecast.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<PublishedSpec>,
}

/// The machines.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterSpec {
    /// A node of the catalogue; the other keys change it, or describe a node without it.
    pub node: Option<String>,
    /// How many accelerators in all.
    #[schemars(range(min = 1))]
    pub accelerators: Option<u32>,
    /// How many there are to choose from, for `foretrain plan`; `simulate` has no use for it.
    #[schemars(range(min = 1))]
    pub available: Option<u32>,
    /// An accelerator of the catalogue.
    pub accelerator: Option<String>,
    /// How many accelerators a node has.
    #[schemars(range(min = 1))]
    pub accelerators_per_node: Option<u32>,
    /// What joins the accelerators of a node.
    pub intra_node_link: Option<LinkName>,
    /// One network interface of a node.
    pub inter_node_link: Option<LinkName>,
    /// How many network interfaces a node has; messages use all of them together, unless every
    /// link counts: then those of its accelerator.
    #[schemars(range(min = 1))]
    pub nics_per_node: Option<u32>,
    /// Whether messages that meet slow each other down, and how; shared by default.
    pub contention: Option<Contention>,
    /// What joins the accelerators of a node, where every link counts; what their kind of link
    /// suggests by default.
    pub node_topology: Option<NodeTopology>,
    /// What joins nodes, where every link counts; one switch by default.
    pub fabric: Option<FabricTopology>,
    /// The whole network, vertex by vertex and link by link, in place of all other links.
    pub graph: Option<GraphSpec>,
    /// Physical cores of a node.
    #[schemars(range(min = 1))]
    pub cpu_cores: Option<u32>,
}

/// An accelerator that the catalogue lacks, or corrections to one that it has.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceleratorSpec {
    /// Its name in reports.
    pub title: Option<String>,
    /// What works in parallel: streaming multiprocessors, cores.
    #[schemars(range(min = 1))]
    pub compute_units: Option<u32>,
    /// Peak rate of matrix products in the precision of the training.
    pub matrix_rate: Option<ComputeRate>,
    /// Peak fp32 rate outside matrix units.
    pub vector_rate: Option<ComputeRate>,
    /// Capacity of the device memory.
    pub memory: Option<Bytes>,
    /// Bandwidth of the device memory.
    pub memory_bandwidth: Option<Bandwidth>,
    /// Power of the board at most.
    pub board_power: Option<Power>,
}

/// What is trained, and how.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainingSpec {
    /// The network.
    pub model: Option<NetworkName>,
    /// Images that one accelerator takes in one step; this or the global batch.
    #[schemars(range(min = 1))]
    pub per_accelerator_batch: Option<u64>,
    /// Images of one step on all accelerators; this or the batch of one.
    #[schemars(range(min = 1))]
    pub global_batch: Option<u64>,
    /// Passes over the images; without it, time to train is not forecast.
    pub epochs: Option<f64>,
    /// Images of the training set; ImageNet's 1,281,167 by default.
    #[schemars(range(min = 1))]
    pub images: Option<u64>,
    /// The precision of forward and backward; fp32 by default.
    pub precision: Option<Precision>,
    /// The optimizer; momentum by default.
    pub optimizer: Option<Optimizer>,
    /// Evaluate after every so many epochs; never by default.
    #[schemars(range(min = 1))]
    pub evaluate_every_epochs: Option<u32>,
    /// Images of an evaluation; ImageNet's 50,000 by default.
    #[schemars(range(min = 1))]
    pub evaluation_images: Option<u64>,
    /// What becomes of an epoch's last batch, which is not full; by default it is filled with images
    /// of the next epoch.
    pub last_batch: Option<LastBatch>,
    /// What the first steps of an epoch take more than the others, while queues fill; 0 by default.
    pub epoch_start: Option<SimDuration>,
    /// What an evaluation takes besides its forward passes and its all-reduce; 0 by default.
    pub evaluation_start: Option<SimDuration>,
    /// How many accelerators share the statistics of batch norms; 1 by default.
    #[schemars(range(min = 1))]
    pub batch_norm_group: Option<u32>,
}

/// What becomes of the last batch of an epoch, when images do not divide into batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LastBatch {
    /// It is filled with images of the next epoch: no step is smaller or lost.
    #[default]
    Carried,
    /// It takes a whole step, filled up with images that were seen before.
    Padded,
    /// Its images are left out.
    Dropped,
}

/// How fast one accelerator is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComputeSpec {
    /// A measured rate at one batch, to which the roofline is scaled: of one accelerator, or of several
    /// of this cluster training together (`"26675 images/s at 408 on 8"`); without it the forecast
    /// rests on datasheet rates, a bound that real kernels do not reach.
    pub anchor: Option<Anchor>,
    /// How many times as long as the roofline work takes (`"1.5 x"`); this or an anchor.
    pub roofline_factor: Option<Fraction>,
    /// How kernels are started, which decides what each takes besides its work; without it that is
    /// nothing.
    pub launch: Option<LaunchMode>,
    /// What each kernel takes besides its work; what was fitted for `launch` by default.
    pub launch_time: Option<SimDuration>,
    /// Which operations are kernels of their own; all by default.
    pub kernels: Option<Kernels>,
    /// The accelerator of the catalogue that the profile was measured on, where the cluster has
    /// another: its layers are carried over by both data sheets, with `launch` (graph by default) as
    /// their floor.
    pub measured_on: Option<String>,
}

/// How gradients are summed.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllReduceSpec {
    /// The algorithm; ring by default.
    pub algorithm: Option<AlgorithmName>,
    /// Ranks of one group (hierarchical, hybrid, torus); the accelerators of a node by default. A group
    /// of more ranks than there are is one group of all.
    #[schemars(range(min = 1))]
    pub group: Option<u32>,
    /// How ranks of a group reduce to their master and it broadcasts to them (hierarchical, hybrid);
    /// ring by default.
    pub inside: Option<Inside>,
    /// How the masters of groups all-reduce (hierarchical, hybrid); ring by default.
    pub between: Option<Between>,
    /// The smallest bucket that goes by ring (hybrid).
    pub ring_from: Option<Bytes>,
    /// Parts of a bucket that go side by side, each entering and leaving nodes by other ranks; 1 by
    /// default.
    #[schemars(range(min = 1, max = 64))]
    pub channels: Option<u32>,
    /// The size of the chunks in which a bucket goes through groups that are nodes, one chunk inside
    /// while another is between them (hierarchical, hybrid, torus, in-network), and of the blocks of
    /// trees (512 KiB by default). Without it a bucket goes through groups as a whole.
    pub chunk: Option<Bytes>,
    /// The version whose constants decide (nccl): 2.20 by default, or the oldest after it that knows
    /// the accelerator.
    pub nccl_version: Option<NcclVersion>,
    /// The precision of gradients on the wire; that of the backward pass by default.
    pub gradient_precision: Option<GradientPrecision>,
    /// Whether buckets travel during the backward pass; true by default.
    pub overlap: Option<bool>,
}

/// The rules that merge gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FusionRule {
    /// Each tensor travels alone.
    Tensor,
    /// All tensors travel together after the backward pass.
    OneBucket,
    /// A bucket is closed as soon as it holds at least the threshold.
    #[default]
    Threshold,
    /// A bucket is closed after each of the layers listed in `after`.
    Segments,
    /// A gradient waits for the next one where that takes less than the latency of the point's
    /// all-reduce (Shi et al. 2019, arXiv 1811.11141).
    MgWfbp,
    /// Whatever is ready on all ranks at a tick travels together, up to the threshold.
    Cycle,
}

/// Which gradients travel together.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FusionSpec {
    /// The rule; threshold by default.
    pub rule: Option<FusionRule>,
    /// The size that closes a bucket (threshold, 25 MiB by default, as in PyTorch), or that no
    /// bucket exceeds (cycle, 64 MiB by default, as in Horovod).
    pub threshold: Option<Bytes>,
    /// The time between ticks (cycle); 5 ms by default, as in Horovod up to 0.18.
    pub cycle_time: Option<SimDuration>,
    /// The layers after whose gradients a bucket is closed (segments).
    pub after: Option<Vec<String>>,
}

/// How images come.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// What one CPU worker decodes and augments.
    pub decode: Option<ImageRate>,
    /// How many workers a node has; its cores by default.
    #[schemars(range(min = 1))]
    pub workers_per_node: Option<u32>,
    /// What a node reads from storage; never a limit by default.
    pub storage: Option<Bandwidth>,
    /// The size of a stored image; 110 kB by default (ImageNet: 138 GB of 1,281,167 images).
    pub image_bytes: Option<Bytes>,
    /// Decoded batches that the host may hold; 2 by default.
    #[schemars(range(min = 1))]
    pub prefetch_batches: Option<u32>,
    /// From the host's to one accelerator's memory; the accelerator's by default.
    pub host_link: Option<LinkName>,
}

/// How compute varies.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JitterSpec {
    /// The distribution of a rank's compute time in a step; lognormal by default.
    #[serde(default)]
    pub distribution: JitterDistribution,
    /// Its standard deviation over its mean.
    pub variation: Option<Fraction>,
    /// Ranks that are always slower.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slow_ranks: Vec<SlowRankSpec>,
}

/// A rank that is always slower.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlowRankSpec {
    /// Which, counted from 0; points without it ignore it.
    pub rank: u32,
    /// How many times as long its compute takes, at least 1: 20 % slower is `"1.2 x"`.
    pub factor: Fraction,
}

/// How accurate training becomes, or how many epochs an accuracy needs. Published laws are of
/// ResNet-50, AlexNet and AlexNet-BN on ImageNet; of others one's own run is needed.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConvergenceSpec {
    /// The top-1 accuracy at which training stops, which says how many epochs are needed; in place of
    /// `training.epochs`.
    pub target_top1: Option<Fraction>,
    /// The epochs that one's own run needed to the accuracy in question, at one batch; with the
    /// critical batch they say how many others need. In place of `training.epochs`.
    pub reference: Option<KnownEpochs>,
    /// A run of known accuracy on the same data with the same augmentation; it sets the level, and
    /// what the recipe and the batch change is forecast. Without it the level is that of all sources.
    pub anchor: Option<KnownAccuracy>,
    /// The batch at which twice as many epochs are needed as of small ones: `published`, or one's own;
    /// by default the profile's gradient noise scale, if it has one, else the published one.
    pub critical_batch: Option<CriticalBatchSource>,
    /// Whether the learning rate rises over the first epochs; true by default.
    pub warm_up: Option<bool>,
    /// Whether LARS decays biases and batch norm as it does weights; false by default.
    pub decay_bias_and_batch_norm: Option<bool>,
    /// Whether the loss is scaled, where forward and backward are in fp16; true by default.
    pub loss_scaling: Option<bool>,
}

/// What it costs.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CostSpec {
    /// One accelerator for one hour; the catalogue's by default.
    pub price: Option<Price>,
    /// What one accelerator and its share of the node draw while it computes; the node's or else the
    /// board's datasheet power by default.
    pub power: Option<Power>,
    /// The same while it does not compute; `power` by default, which makes the energy an upper bound.
    pub idle_power: Option<Power>,
}

/// What to look for: the best of all points that keep to the limits.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanSpec {
    /// What is best; the least time by default, the least cost with a deadline and no budget.
    pub minimize: Option<Objective>,
    /// The longest time to train.
    pub deadline: Option<SimDuration>,
    /// The highest cost.
    pub budget: Option<Money>,
    /// The least top-1 accuracy at the end, as forecast.
    pub top1_min: Option<Fraction>,
}

/// What is best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// The least time to train.
    Time,
    /// The least cost.
    Cost,
}

/// How long to simulate.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulationSpec {
    /// Measured steps of each point; 100 by default, at most 1,000,000 with the warm-up.
    #[schemars(range(min = 1))]
    pub steps: Option<u32>,
    /// Steps before those, while queues fill; 5 by default.
    pub warmup_steps: Option<u32>,
    /// The seed of all random streams; 1 by default.
    pub seed: Option<u64>,
}

/// Values to run through.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepSpec {
    /// Numbers of accelerators, increasing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accelerators: Vec<u32>,
    /// Batches of one accelerator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub per_accelerator_batch: Vec<u64>,
    /// Batches of all accelerators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub global_batch: Vec<u64>,
    /// All-reduce algorithms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub algorithm: Vec<AlgorithmName>,
    /// Group sizes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<u32>,
    /// Fusion thresholds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub threshold: Vec<Bytes>,
    /// Passes over the images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub epochs: Vec<f64>,
    /// Optimizers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub optimizer: Vec<Optimizer>,
    /// Overlap on and off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overlap: Vec<bool>,
}

/// An alternative: any of the scenario's sections, merged over the base key by key.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VariantSpec {
    /// The name of its curve.
    pub name: String,
    /// Where the variant is from.
    pub source: Option<String>,
    /// A profile, by its path from the scenario's folder.
    pub profile: Option<String>,
    /// The machines.
    pub cluster: Option<ClusterSpec>,
    /// An accelerator that the catalogue lacks, or corrections to one that it has.
    pub accelerator: Option<AcceleratorSpec>,
    /// What is trained, and how.
    pub training: Option<TrainingSpec>,
    /// How fast one accelerator is.
    pub compute: Option<ComputeSpec>,
    /// How gradients are summed.
    pub allreduce: Option<AllReduceSpec>,
    /// Which gradients travel together.
    pub fusion: Option<FusionSpec>,
    /// How images come.
    pub input: Option<InputSpec>,
    /// How compute varies.
    pub jitter: Option<JitterSpec>,
    /// How accurate it becomes.
    pub convergence: Option<ConvergenceSpec>,
    /// What it costs.
    pub cost: Option<CostSpec>,
    /// What fails, and how training goes on.
    pub failures: Option<FailuresSpec>,
    /// Values to run through.
    pub sweep: Option<SweepSpec>,
}

/// A published measurement: where, one of the quantities, and its source.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishedSpec {
    /// The number of accelerators it was measured on.
    #[schemars(range(min = 1))]
    pub accelerators: u32,
    /// The variant it belongs to; all by default.
    pub variant: Option<String>,
    /// The batch of one accelerator it was measured at; any by default.
    pub per_accelerator_batch: Option<u64>,
    /// Throughput.
    pub images_per_s: Option<ImageRate>,
    /// From start to finish.
    pub time_to_train: Option<SimDuration>,
    /// Throughput over that of as many single accelerators.
    pub scaling_efficiency: Option<Fraction>,
    /// The accelerators whose throughput the efficiency is relative to; one by default.
    #[schemars(range(min = 1))]
    pub relative_to: Option<u32>,
    /// One step.
    pub step_time: Option<SimDuration>,
    /// Accuracy at the end.
    pub top1: Option<Fraction>,
    /// Where it was published.
    pub source: String,
}

/// The JSON Schema of scenario files, generated from these types.
#[must_use]
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(ScenarioSpec).to_value();
    schema["title"] = "Foretrain scenario".into();
    schema
}
