//! The measurement again, inside the simulator: what the profile predicts of everything that was
//! measured, point by point.
//!
//! A profile is fitted from layers, buckets and messages between two ranks. Whole all-reduces among all
//! ranks and whole steps are no part of any fit, so reproducing them is a proof. The same on more
//! machines than the profile was measured on is a stronger one: their measurements come as profiles
//! of their own.

use foretrain_sim::collective::{
    Algorithm, ArrayReplay, CollectiveError, Folding, Layout, Method, Operation, Plan,
};
use foretrain_sim::fusion::{Fusion, gradients};
use foretrain_sim::jitter::Jitter;
use foretrain_sim::network::{Interconnect, LinkCurve, MeasuredNetwork};
use foretrain_sim::profile::{CollectiveProfile, EntryError, Estimate, Profile, StepProfile};
use foretrain_sim::random::Streams;
use foretrain_sim::step::{InputPipeline, Packing, StepSetup, run_arrays};
use foretrain_sim::units::{Bandwidth, Bytes, SimDuration};
use serde::Serialize;

use crate::fit::robust::median;

/// What kind of measurement a point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A whole all-reduce.
    AllReduce,
    /// A whole step.
    Step,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::AllReduce => "all-reduce",
            Self::Step => "step",
        })
    }
}

/// Something that was measured, and what the simulator says of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// What kind of measurement.
    pub kind: Kind,
    /// All ranks.
    pub ranks: u32,
    /// Ranks of a node.
    pub ranks_per_node: u32,
    /// How sums are done.
    pub all_reduce: String,
    /// Which gradients travel together, of a step.
    pub fusion: Option<String>,
    /// Whether buckets travel while backward goes on, of a step.
    pub overlap: Option<bool>,
    /// Images of a rank's step.
    pub per_rank_batch: Option<u64>,
    /// The data of each rank, of an all-reduce.
    pub message_bytes: Option<u64>,
    /// The median that was measured.
    pub measured_us: f64,
    /// The lower end of its interval.
    pub measured_low_us: f64,
    /// The upper end of its interval.
    pub measured_high_us: f64,
    /// What the simulator says.
    pub predicted_us: f64,
    /// How much more the simulator says, over what was measured.
    pub error_percent: f64,
}

/// Errors of points of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Errors {
    /// Of which kind.
    pub kind: Kind,
    /// Points.
    pub points: usize,
    /// Their mean, without signs.
    pub mean_abs_error_percent: f64,
    /// Half of them are smaller.
    pub median_abs_error_percent: f64,
    /// The largest.
    pub max_abs_error_percent: f64,
}

/// All points, and their errors.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// The points.
    pub points: Vec<Comparison>,
    /// The errors of each kind there is.
    pub errors: Vec<Errors>,
    /// What could not be compared, and why.
    pub not_compared: Vec<String>,
}

/// Why a profile cannot be verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// There is nothing to compare.
    #[error(
        "nothing was measured that the profile could be held against: calibrate with all-reduces or \
         steps, or give --against a profile that has them{0}"
    )]
    Nothing(
        /// What was measured and could not be compared.
        String,
    ),
}

/// More ranks than this are not measured anywhere, and would take long to simulate.
const RANKS_MAX: u32 = 1 << 16;

/// Steps that are simulated before those that count, and those.
const WARMUP_STEPS: u32 = 5;
const STEPS: u32 = 101;

/// Holds what `profile` predicts against the all-reduces and steps of `measured`.
///
/// # Errors
/// There are none that can be compared.
pub fn verify(profile: &Profile, measured: &[&Profile]) -> Result<Verdict, VerifyError> {
    let (mut points, mut not_compared) = (Vec::new(), Vec::new());
    for measured in measured {
        for collective in &measured.collectives {
            match collective_points(profile, collective) {
                Ok(more) => points.extend(more),
                Err(reason) => not_compared.push(format!(
                    "all-reduces by {} on {} ranks: {reason}",
                    collective.all_reduce, collective.ranks
                )),
            }
        }
        for step in &measured.steps {
            match step_point(profile, step) {
                Ok(point) => points.push(point),
                Err(reason) => not_compared.push(format!(
                    "steps with {} on {} ranks: {reason}",
                    step.all_reduce, step.ranks
                )),
            }
        }
    }
    not_compared.dedup();
    if points.is_empty() {
        let reasons = not_compared.iter().map(|reason| format!("; {reason}"));
        return Err(VerifyError::Nothing(reasons.collect()));
    }
    let kinds = [Kind::AllReduce, Kind::Step];
    let errors = kinds.into_iter().filter_map(|kind| errors(kind, &points)).collect();
    Ok(Verdict { points, errors, not_compared })
}

fn errors(kind: Kind, points: &[Comparison]) -> Option<Errors> {
    let of_kind = points.iter().filter(|point| point.kind == kind);
    let errors: Vec<f64> = of_kind.map(|point| point.error_percent.abs()).collect();
    let count = errors.len();
    (count > 0).then(|| Errors {
        kind,
        points: count,
        mean_abs_error_percent: errors.iter().sum::<f64>() / count as f64,
        median_abs_error_percent: median(&errors),
        max_abs_error_percent: errors.iter().copied().fold(0.0, f64::max),
    })
}

/// Why something could not be simulated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Impossible {
    #[error("the profile has no {0}")]
    Lacks(&'static str),
    #[error("expected at most {RANKS_MAX} ranks")]
    Ranks,
    #[error("{0}")]
    Entry(EntryError),
    #[error("{0}")]
    Collective(CollectiveError),
}

/// The profile's links, for nodes of so many ranks.
fn network(profile: &Profile, ranks: u32, ranks_per_node: u32) -> Result<Interconnect, Impossible> {
    if ranks > RANKS_MAX {
        return Err(Impossible::Ranks);
    }
    let curve = |link: &Option<foretrain_sim::profile::LinkProfile>| {
        link.as_ref().and_then(foretrain_sim::profile::LinkProfile::curve)
    };
    let (intra, inter) = (curve(&profile.links.intra_node), curve(&profile.links.inter_node));
    if intra.is_none() && ranks_per_node > 1 && ranks > 1 {
        return Err(Impossible::Lacks("link inside nodes"));
    }
    if inter.is_none() && ranks > ranks_per_node {
        return Err(Impossible::Lacks("link between nodes"));
    }
    // A link that no message takes may be anything.
    let unused = || {
        let bandwidth = Bandwidth::from_bytes_per_s(u64::MAX);
        let latency = SimDuration::ZERO;
        LinkCurve::from(foretrain_sim::network::Link { latency, bandwidth })
    };
    let (intra, inter) = (intra.unwrap_or_else(unused), inter.unwrap_or_else(unused));
    Ok(MeasuredNetwork::new(ranks_per_node, intra, inter).into())
}

fn collective_points(
    profile: &Profile,
    measured: &CollectiveProfile,
) -> Result<Vec<Comparison>, Impossible> {
    let CollectiveProfile { all_reduce, ranks, ranks_per_node, points } = measured;
    let network = network(profile, *ranks, *ranks_per_node)?;
    let method = Method::from(Algorithm::try_from(*all_reduce).map_err(Impossible::Entry)?);
    let layout = Layout { ranks: *ranks, ranks_per_node: *ranks_per_node };
    let mut all = Vec::new();
    for point in points {
        let bytes = Bytes::new(point.message_bytes);
        let plan = method
            .plan(Operation::AllReduce, layout, &network, bytes)
            .map_err(Impossible::Collective)?;
        let predicted_us = rounds_us(&plan, *ranks);
        all.push(Comparison {
            kind: Kind::AllReduce,
            ranks: *ranks,
            ranks_per_node: *ranks_per_node,
            all_reduce: all_reduce.to_string(),
            fusion: None,
            overlap: None,
            per_rank_batch: None,
            message_bytes: Some(point.message_bytes),
            ..compared(point.time_us, predicted_us)
        });
    }
    Ok(all)
}

/// The mean time of several all-reduces after each other, as they are measured.
fn rounds_us(plan: &Plan, ranks: u32) -> f64 {
    const ROUNDS: u32 = 4;
    let mut replay = ArrayReplay::new(&plan.schedule, &plan.network).with_folding(Folding::On);
    let mut times = vec![0_u64; ranks as usize];
    for _ in 0..ROUNDS {
        replay.run(&mut times);
    }
    times.iter().copied().max().unwrap_or(0) as f64 / f64::from(ROUNDS) / 1e6
}

/// The times of a comparison; the rest is to be filled in.
fn compared(measured: Estimate, predicted_us: f64) -> Comparison {
    Comparison {
        kind: Kind::Step,
        ranks: 0,
        ranks_per_node: 0,
        all_reduce: String::new(),
        fusion: None,
        overlap: None,
        per_rank_batch: None,
        message_bytes: None,
        measured_us: measured.value,
        measured_low_us: measured.low,
        measured_high_us: measured.high,
        predicted_us,
        error_percent: 100.0 * (predicted_us / measured.value - 1.0),
    }
}

fn step_point(profile: &Profile, measured: &StepProfile) -> Result<Comparison, Impossible> {
    let predicted_us = step_us(profile, measured)?;
    Ok(Comparison {
        kind: Kind::Step,
        ranks: measured.ranks,
        ranks_per_node: measured.ranks_per_node,
        all_reduce: measured.all_reduce.to_string(),
        fusion: Some(measured.fusion.to_string()),
        overlap: Some(measured.overlap),
        per_rank_batch: Some(measured.per_rank_batch),
        message_bytes: None,
        ..compared(measured.step_us, predicted_us)
    })
}

/// The median of simulated steps with the settings of `measured`.
fn step_us(profile: &Profile, measured: &StepProfile) -> Result<f64, Impossible> {
    let compute = profile.compute.as_ref().ok_or(Impossible::Lacks("layer times"))?;
    let StepProfile { ranks, ranks_per_node, per_rank_batch, overlap, .. } = *measured;
    let mut times =
        compute.compute_times(per_rank_batch).ok_or(Impossible::Lacks("layer times"))?;
    if let Some(slowdown) = compute.overlap_slowdown.filter(|_| overlap && ranks > 1) {
        times = times.with_backward_scaled(slowdown.value.max(1.0));
    }
    let network = network(profile, ranks, ranks_per_node)?;
    let algorithm = Algorithm::try_from(measured.all_reduce).map_err(Impossible::Entry)?;
    let method = Method::from(algorithm);
    let layout = Layout { ranks, ranks_per_node };
    let plan = |bytes| method.plan(Operation::AllReduce, layout, &network, bytes);
    let gradients = gradients(&compute.network(), &times, measured.wire_element_bytes);
    let jitter = profile.jitter.as_ref().map_or_else(Jitter::default, |jitter| Jitter {
        distribution: jitter.distribution,
        variation: jitter.variation.value,
        slow_ranks: Vec::new(),
    });
    let setup = StepSetup {
        layout,
        compute: &times,
        gradients: &gradients,
        fusion: Fusion::from(&measured.fusion),
        overlap,
        plan: &plan,
        folding: Folding::On,
        network: &network,
        packing: match profile.packing {
            Some(packing) => Packing::Measured(packing),
            None => Packing::Copy(Bandwidth::from_bytes_per_s(u64::MAX)),
        },
        input: profile.input.as_ref().map(|input| {
            let share = f64::from(ranks_per_node) / f64::from(input.workers_per_node.max(1));
            let decode_s = share * input.decode_us_per_image.value / 1e6 * per_rank_batch as f64;
            InputPipeline {
                decode: SimDuration::from_seconds(decode_s),
                copy: SimDuration::ZERO,
                prefetch_batches: input.prefetch_batches,
            }
        }),
        jitter: &jitter,
    };
    let streams = Streams::new(profile.origin.seed);
    let mut periods = Vec::new();
    run_arrays(&setup, &streams, WARMUP_STEPS + STEPS, |step, times| {
        if step >= WARMUP_STEPS {
            periods.push((times.end[0] - times.previous_end[0]) as f64 / 1e6);
        }
    })
    .map_err(Impossible::Collective)?;
    Ok(median(&periods))
}
