//! The command line as types.

mod critical_batch;
mod validate;

pub(crate) use critical_batch::CriticalBatchArguments;
pub(crate) use validate::ValidateArguments;

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use foretrain_sim::collective::nccl::NcclVersion;
use foretrain_sim::collective::{Algorithm, Between, Inside};
use foretrain_sim::fusion::Fusion;
use foretrain_sim::network::Link;
use foretrain_sim::units::{Bytes, Fraction, Power, Price, SimDuration};
use foretrain_trainer::launch::Master;

/// Measure one node, forecast thousands: how fast, how accurate, at what price.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 good, 2 usage, 3 invalid scenario or profile, 4 measurement rejected,
5 a peer or the runtime failed, 6 threshold missed, 70 a bug.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Forecast a scenario: throughput, where each step goes, time to train, cost
    Simulate(SimulateArguments),
    /// Search for the best plan: accelerators, batch, epochs, optimizer, all-reduce
    Plan(PlanArguments),
    /// Time all-reduces over algorithms, ranks and sizes, every message evaluated
    Allreduce(AllreduceArguments),
    /// Compare published measurements with predictions from data sheets
    Validate(ValidateArguments),
    /// Really train, on one machine or several; goes on from the latest checkpoint
    Train(TrainArguments),
    /// Train at one batch, and predict how many epochs every other batch needs
    CriticalBatch(CriticalBatchArguments),
    /// Measure this machine or cluster, fit, and write a profile
    Calibrate(CalibrateArguments),
    /// Measure again inside the simulator, and compare
    Verify(VerifyArguments),
    /// Make profiles and clusters of what others measured
    Import(ImportArguments),
    /// Draw saved forecasts, several on one figure, or a saved plan
    Plot(PlotArguments),
    /// Show recorded training steps in Perfetto
    Trace(TraceArguments),
    /// Print the JSON Schema of scenario files, or of training configurations
    Schema(SchemaArguments),
    /// Print completions for a shell
    Completions(CompletionsArguments),
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs: everything
    Json,
    /// For spreadsheets: a row a point
    Csv,
}

/// Which engine evaluates the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineName {
    /// Passes over arrays of ranks; all rounds of a ring, and ranks that are provably alike, in one
    Folded,
    /// Passes over arrays of ranks, every message evaluated
    Arrays,
    /// The discrete-event engine: the reference, slow
    Events,
}

#[derive(Debug, Args)]
pub(crate) struct SimulateArguments {
    /// The scenario file (TOML), or - for stdin
    pub(crate) scenario: PathBuf,
    /// How to print the forecast
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Draw the forecast with its published points, or with --explain the waterfalls (.svg or .png)
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Say for each point what makes it slower than perfect scaling
    #[arg(long)]
    pub(crate) explain: bool,
    /// Write a trace of some ranks' steps for Perfetto (.json)
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// The ranks in the trace [default: the first eight]
    #[arg(long, value_name = "RANKS", value_delimiter = ',', requires = "trace")]
    pub(crate) trace_ranks: Vec<u32>,
    /// Trace the point with so many accelerators [default: the last point]
    #[arg(long, value_name = "ACCELERATORS", requires = "trace")]
    pub(crate) trace_point: Option<u32>,
    /// Trace a point of this curve [default: the last curve]
    #[arg(long, value_name = "CURVE", requires = "trace")]
    pub(crate) trace_series: Option<String>,
    /// The number of steps in the trace
    #[arg(long, value_name = "STEPS", default_value_t = 3, requires = "trace",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) trace_steps: u32,
    /// Measured steps of each point [default: the scenario's, or 100]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) steps: Option<u32>,
    /// The seed of all random streams [default: the scenario's, or 1]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// The engine; all give the same to the picosecond
    #[arg(long, value_enum, default_value_t = EngineName::Folded)]
    pub(crate) engine: EngineName,
    /// Threads; the result does not depend on them [default: one a core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    /// The scenario (.toml), or - for stdin: what it sweeps or leaves open is chosen
    pub(crate) scenario: PathBuf,
    /// How the plan is printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Draw cost against time with the frontier, and where more accelerators stop paying (.svg or .png)
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Measured steps of each point [default: the scenario's, or 100]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) steps: Option<u32>,
    /// The seed of all random streams [default: the scenario's, or 1]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Threads; the result does not depend on them [default: one a core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

/// The name of an all-reduce algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AlgorithmArgument {
    /// One ring over all ranks
    Ring,
    /// Reduce in groups, all-reduce between their masters, broadcast in groups
    Hierarchical,
    /// Hierarchical below --ring-from, ring from there
    Hybrid,
    /// Rings along rows of --group ranks and down columns across them
    #[value(alias = "2d-torus")]
    Torus,
    /// Recursive halving and doubling between partners at powers of two
    #[value(alias = "recursive-halving-doubling")]
    HalvingDoubling,
    /// Two binary trees, blocks of --chunk flowing up and down both
    #[value(alias = "double-binary-tree")]
    Tree,
    /// Summed by the switch of each node, then by those between nodes (NVLS, SHARP)
    #[value(alias = "in-network-reduction")]
    InNetwork,
    /// Whatever NCCL would choose for each size (needs --cluster)
    Nccl,
}

/// What a collective does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CollectiveArgument {
    /// The sum on every rank
    AllReduce,
    /// A part of the sum on each rank
    ReduceScatter,
    /// Every rank's part on all ranks
    AllGather,
}

/// How ranks of a group reduce to their master, and it broadcasts to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InsideArgument {
    /// Along rings
    Ring,
    /// Along binomial trees
    Tree,
    /// Everybody with everybody at once
    Direct,
    /// In the switch that joins them
    InNetwork,
}

/// How masters of groups all-reduce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BetweenArgument {
    /// Along a ring
    Ring,
    /// By recursive halving and doubling
    HalvingDoubling,
    /// Along two binary trees
    Tree,
    /// In the switches of the network
    InNetwork,
}

/// One size, or all from one to another by doubling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sizes(pub(crate) Vec<Bytes>);

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = |text: &str| text.trim().parse::<Bytes>().map_err(|error| error.to_string());
        let Some((low, high)) = text.split_once("..") else {
            return Ok(Self(vec![read(text)?]));
        };
        let (low, high) = (read(low)?, read(high)?);
        if low == Bytes::ZERO || high < low {
            return Err("a range goes from a size above 0 to a larger one".to_owned());
        }
        let doubling = |size: &Bytes| size.get().checked_mul(2).map(Bytes::new);
        let sizes = std::iter::successors(Some(low), doubling);
        Ok(Self(sizes.take_while(|size| *size <= high).collect()))
    }
}

/// Whether messages slow each other down, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ContentionArgument {
    /// Every message has its link to itself, but for others of the same rank
    None,
    /// Messages of one round share the links on which they meet, as long as the round lasts
    Shared,
    /// Messages are flows; each link is divided equally among those on it
    FairShare,
    /// Messages are flows with max-min fair rates
    MaxMin,
}

#[derive(Debug, Args)]
pub(crate) struct AllreduceArguments {
    /// The algorithms, each a row
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ring")]
    pub(crate) algorithm: Vec<AlgorithmArgument>,
    /// The collective
    #[arg(long, value_enum, default_value_t = CollectiveArgument::AllReduce)]
    pub(crate) collective: CollectiveArgument,
    /// The numbers of ranks, each a row
    #[arg(long, value_delimiter = ',', required_unless_present = "cluster")]
    pub(crate) ranks: Vec<u32>,
    /// The message sizes, each a row, such as 100MiB, "4 KiB,1 MiB" or "1 KiB..1 GiB" (doubling)
    #[arg(long, value_delimiter = ',', required = true)]
    pub(crate) size: Vec<Sizes>,
    /// The link between ranks: bandwidth one way and latency, such as "100 Gbit/s, 1 us"
    #[arg(long, required_unless_present = "cluster")]
    pub(crate) link: Option<Link>,
    /// The link between ranks of one node [default: as --link]
    #[arg(long, value_name = "LINK")]
    pub(crate) intra_link: Option<Link>,
    /// Ranks of one node
    #[arg(long, value_name = "RANKS", value_parser = clap::value_parser!(u32).range(1..),
          conflicts_with = "cluster")]
    pub(crate) ranks_per_node: Option<u32>,
    /// A node of the catalogue, such as dgx-a100, or a scenario file (.toml) whose cluster to take;
    /// --link and --intra-link replace its links
    #[arg(long, value_name = "NODE|FILE")]
    pub(crate) cluster: Option<String>,
    /// The numbers of such nodes, each a row, in place of --ranks
    #[arg(long, value_delimiter = ',', requires = "cluster", conflicts_with = "ranks",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) nodes: Vec<u32>,
    /// Say which of the algorithms is the fastest from which size on
    #[arg(long)]
    pub(crate) compare: bool,
    /// Draw time and bus bandwidth against size (.svg or .png)
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Ranks of one group (hierarchical, hybrid, torus) [default: those of a node]
    #[arg(long, value_name = "RANKS")]
    pub(crate) group: Option<u32>,
    /// How ranks of a group reduce to their master and it broadcasts to them (hierarchical, hybrid)
    #[arg(long, value_enum, default_value_t = InsideArgument::Ring)]
    pub(crate) inside: InsideArgument,
    /// How masters all-reduce (hierarchical, hybrid)
    #[arg(long, value_enum, default_value_t = BetweenArgument::Ring)]
    pub(crate) between: BetweenArgument,
    /// The smallest message that goes by ring (hybrid)
    #[arg(long, value_name = "SIZE")]
    pub(crate) ring_from: Option<Bytes>,
    /// Parts of the data that go side by side, each entering and leaving nodes by other ranks
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) channels: u32,
    /// The size of the chunks that are inside groups and between them at the same time, where groups
    /// are nodes, and of the blocks of trees [default: the whole; trees 512 KiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) chunk: Option<Bytes>,
    /// The version of NCCL whose constants decide (nccl) [default: 2.20, or the oldest after it that
    /// knows the accelerator]
    #[arg(long, value_name = "VERSION")]
    pub(crate) nccl_version: Option<NcclVersion>,
    /// Whether messages that meet slow each other down, and how [default: the cluster's, or shared]
    #[arg(long, value_enum)]
    pub(crate) contention: Option<ContentionArgument>,
    /// Say which links are busy for the most of the time
    #[arg(long)]
    pub(crate) links: bool,
    /// Let ranks start at random, uniformly within this time, such as "1 ms"
    #[arg(long, value_name = "TIME")]
    pub(crate) jitter: Option<SimDuration>,
    /// Let each message take longer at random, uniformly up to this time, such as "2 us"
    #[arg(long, value_name = "TIME")]
    pub(crate) message_jitter: Option<SimDuration>,
    /// The seed of random starts and messages
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// The engine; all give the same to the picosecond
    #[arg(long, value_enum, default_value_t = EngineName::Arrays)]
    pub(crate) engine: EngineName,
    /// How to print the times
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct PlotArguments {
    /// Forecasts, or a plan, saved with --format json; - for stdin
    #[arg(required = true, value_name = "FORECAST")]
    pub(crate) forecasts: Vec<PathBuf>,
    /// The figure (.svg or .png)
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct TrainArguments {
    /// The training configuration (TOML), or - for stdin
    pub(crate) config: PathBuf,
    /// How to print the report
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub(crate) format: ReportFormat,
    #[command(flatten)]
    pub(crate) launch: LaunchArguments,
}

/// Which rank a process is.
#[derive(Debug, Args)]
pub(crate) struct LaunchArguments {
    /// The number of this process among those of the run, from 0 [default: the launcher's]
    #[arg(long, requires = "world")]
    pub(crate) rank: Option<u32>,
    /// Processes of the run [default: the launcher's]
    #[arg(long, requires = "rank")]
    pub(crate) world: Option<u32>,
    /// The number of this process among those of its machine [default: the launcher's, or the rank]
    #[arg(long, requires = "rank")]
    pub(crate) local_rank: Option<u32>,
    /// Where rank 0 listens and the others come, with transport tcp [default: the launcher's]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) master: Option<Master>,
}

/// What calibration can measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Layers, host, update and packing, from recorded steps
    Compute,
    /// Messages between ranks, and all-reduces
    AllReduce,
    /// Whole steps with several settings
    Steps,
    /// Reading and decoding of images
    Input,
    /// How compute varies, over many steps
    Jitter,
    /// The noise scale of gradients
    Noise,
}

/// An all-reduce by name, with its group and where hybrid changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AllReduceArgument(pub(crate) Algorithm);

impl FromStr for AllReduceArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no all-reduce; write ring, halving-doubling, hierarchical:GROUP or \
                 hybrid:GROUP:SIZE, such as hybrid:8:4MiB"
            )
        };
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let mut group = || -> Result<u32, String> {
            parts
                .next()
                .and_then(|part| part.trim().parse().ok())
                .filter(|g| *g > 0)
                .ok_or_else(wrong)
        };
        let (inside, between) = (Inside::Direct, Between::Ring);
        let algorithm = match name.trim() {
            "ring" => Algorithm::Ring,
            "halving-doubling" => Algorithm::HalvingDoubling,
            "hierarchical" => Algorithm::Hierarchical { group: group()?, inside, between },
            "hybrid" => {
                let group = group()?;
                let ring_from = parts.next().ok_or_else(wrong)?.trim().parse::<Bytes>();
                let ring_from = ring_from.map_err(|error| error.to_string())?;
                Algorithm::Hybrid { group, inside, between, ring_from }
            }
            _ => return Err(wrong()),
        };
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self(algorithm)) }
    }
}

/// A rule of fusion by name, or a threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FusionArgument(pub(crate) Fusion);

impl FromStr for FusionArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(match text.trim() {
            "tensor" => Fusion::Tensor,
            "one-bucket" => Fusion::OneBucket,
            size => match size.parse::<Bytes>() {
                Ok(Bytes::ZERO) => return Err("0 B, expected a threshold above 0".to_owned()),
                Ok(bytes) => Fusion::Threshold(bytes),
                Err(error) => {
                    return Err(format!("expected tensor, one-bucket or a size: {error}"));
                }
            },
        }))
    }
}

/// Overlap on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// Buckets travel while backward goes on
    On,
    /// Buckets travel after backward
    Off,
}

#[derive(Debug, Args)]
pub(crate) struct CalibrateArguments {
    /// What is trained, and how ranks communicate: a configuration of `foretrain train` (TOML)
    /// [default: ResNet-50 on a GPU, a small ResNet on a CPU, made-up images]
    pub(crate) config: Option<PathBuf>,
    /// The profile (JSON); the raw measurements come beside it
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// How long all may take, such as "5 min"
    #[arg(long, value_name = "TIME", default_value = "5 min")]
    pub(crate) time: SimDuration,
    /// What to measure [default: all there is]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) only: Vec<Part>,
    /// Batches of one rank at which layers are timed [default: the configuration's, halved and halved
    /// again]
    #[arg(long, value_name = "IMAGES", value_delimiter = ',',
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) batches: Vec<u64>,
    /// Sizes of messages and all-reduces
    #[arg(long, value_delimiter = ',', default_value = "1 KiB..256 MiB")]
    pub(crate) sizes: Vec<Sizes>,
    /// All-reduces: ring, halving-doubling, hierarchical:GROUP, hybrid:GROUP:SIZE [default: those that
    /// the ranks can do]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) all_reduce: Vec<AllReduceArgument>,
    /// Rules of fusion for whole steps: a threshold, tensor or one-bucket [default: the configuration's]
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    pub(crate) fusion: Vec<FusionArgument>,
    /// Overlap for whole steps [default: both]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) overlap: Vec<Switch>,
    /// Steps of each run at most
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(5..=100_000))]
    pub(crate) steps: u32,
    /// Steps for the variation of compute at most
    #[arg(long, value_name = "STEPS", default_value_t = 2000,
          value_parser = clap::value_parser!(u32).range(20..=100_000))]
    pub(crate) jitter_steps: u32,
    /// Steps before those that count, in each run
    #[arg(long, value_name = "STEPS", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) warmup_steps: u32,
    /// The seed of orders and of the bootstrap
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// What one accelerator costs, such as "2.5 USD/h"
    #[arg(long)]
    pub(crate) price: Option<Price>,
    /// What one accelerator and its share of the node draw, such as "700 W"
    #[arg(long)]
    pub(crate) power: Option<Power>,
    /// Fit these raw measurements again, and measure nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "recordings"])]
    pub(crate) from: Option<PathBuf>,
    /// Fit these recordings of `foretrain train`, of all ranks and any batches, and measure nothing
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "config")]
    pub(crate) recordings: Vec<PathBuf>,
    /// How to print the summary
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub(crate) format: ReportFormat,
    #[command(flatten)]
    pub(crate) launch: LaunchArguments,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// A profile of `foretrain calibrate`, or - for stdin
    pub(crate) profile: PathBuf,
    /// Profiles whose all-reduces and steps it is held against, such as those of more nodes [default:
    /// its own]
    #[arg(long, value_name = "PROFILE", num_args = 1..)]
    pub(crate) against: Vec<PathBuf>,
    /// The largest mean error of steps, and of all-reduces
    #[arg(long, value_name = "PERCENT", default_value = "5 %")]
    pub(crate) threshold: Fraction,
    /// The largest error of any step [default: none]
    #[arg(long, value_name = "PERCENT")]
    pub(crate) worst: Option<Fraction>,
    /// How to print the comparison
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Draw what was measured and what the simulator says (.svg or .png)
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    #[command(subcommand)]
    pub(crate) source: ImportSource,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImportSource {
    /// What nccl-tests printed, or wrote as JSON, becomes a profile
    NcclTests(NcclTestsArguments),
    /// Traces of PyTorch's profiler, of the ranks of one run, become a profile
    Kineto(KinetoArguments),
    /// What NCCL wrote to NCCL_TOPO_DUMP_FILE becomes the cluster of a scenario, on stdout
    NcclTopology(NcclTopologyArguments),
}

#[derive(Debug, Args)]
pub(crate) struct NcclTestsArguments {
    /// The output of all_reduce_perf, or - for stdin
    pub(crate) file: PathBuf,
    /// The profile (JSON); the raw measurements come beside it
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Ranks, where the output does not say
    #[arg(long, requires = "nodes")]
    pub(crate) ranks: Option<u32>,
    /// Nodes, where the output does not say
    #[arg(long, requires = "ranks")]
    pub(crate) nodes: Option<u32>,
    /// Take rows in place instead of out of place
    #[arg(long)]
    pub(crate) in_place: bool,
    /// Take rows whose results were wrong
    #[arg(long)]
    pub(crate) accept_wrong: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KinetoArguments {
    /// Files of export_chrome_trace (.json or .json.gz), one of each rank
    #[arg(required = true, value_name = "TRACE")]
    pub(crate) traces: Vec<PathBuf>,
    /// The profile (JSON); the raw measurements come beside it
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Images of a rank's step [default: as the first convolution or linear layer has them]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) batch: Option<u64>,
    /// Threads of a rank, which a trace does not say
    #[arg(long)]
    pub(crate) threads: Option<u32>,
    /// What a step takes without the profiler, which slows it, such as "847 ms"
    #[arg(long, value_name = "TIME")]
    pub(crate) unprofiled_step: Option<SimDuration>,
}

#[derive(Debug, Args)]
pub(crate) struct NcclTopologyArguments {
    /// The dump (XML), or - for stdin
    pub(crate) file: PathBuf,
    /// Nodes like it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) nodes: u32,
    /// The accelerator's name in the catalogue, where the dump does not tell
    #[arg(long)]
    pub(crate) accelerator: Option<String>,
    /// Latency of NVLink, such as "3.4 us" [default: the catalogue's]
    #[arg(long, value_name = "TIME")]
    pub(crate) nvlink_latency: Option<SimDuration>,
    /// Latency of PCIe [default: the catalogue's]
    #[arg(long, value_name = "TIME")]
    pub(crate) pcie_latency: Option<SimDuration>,
    /// Latency between nodes [default: the catalogue's]
    #[arg(long, value_name = "TIME")]
    pub(crate) network_latency: Option<SimDuration>,
    /// Write every link, also where the machine is regular
    #[arg(long)]
    pub(crate) every_link: bool,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people
    Table,
    /// For programs
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct TraceArguments {
    /// Recordings of ranks of one run, or - for stdin
    #[arg(required = true, value_name = "RECORDING")]
    pub(crate) recordings: Vec<PathBuf>,
    /// The trace (.json) [default: stdout]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// A kind of file that people write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaOf {
    /// What `foretrain simulate` reads
    Scenario,
    /// Configurations of training runs
    Train,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaArguments {
    /// The kind of file
    #[arg(value_enum, default_value_t = SchemaOf::Scenario)]
    pub(crate) of: SchemaOf,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}
