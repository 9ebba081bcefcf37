//! The traces of a run as raw measurements.
//!
//! *Times.* Forward, backward and update are the trace's. Copies into buckets and hooks run within
//! backward, on the thread or stream that computes, and stay in its times, so that packing takes
//! nothing more; copies out of buckets are their unpacking. What transfers take from the processors
//! while backward goes on is in its times too. What is no part with a name (before the first layer,
//! between, after the update) is the host's.
//!
//! *Links.* Gloo all-reduces by a ring; NCCL is taken as if it did. With n ranks a bucket of S bytes is
//! 2(n−1) rounds of messages of S/n bytes. Small broadcasts, where there are any, say what a message of
//! nothing takes. Training makes few sizes, all large: where they make no curve, the link is
//! proportional to the size ([`Observation::TrainingSizes`]).

use foretrain_sim::collective::AlgorithmName;
use foretrain_sim::profile::{AllReduceEntry, FusionEntry, MachineEntry};
use foretrain_sim::random::Streams;

use super::network::Traced;
use super::run::Run;
use super::spans::between;
use super::{ImportError, Step, Trace};
use crate::fit::curve::{SizeSamples, fit_curve};
use crate::fit::estimate::median_estimate;
use crate::fit::robust::median;
use crate::measurements::{
    CollectiveSeries, ComputeSeries, LinkSeries, Measurements, Observation, RecordedBucket,
    RecordedStep, Scope, SizeSeries, StepSeries, VERSION,
};

/// What a trace does not say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Options {
    /// Images of a rank's step; none to take the first size of the input of the first convolution or
    /// linear layer.
    pub batch: Option<u64>,
    /// Threads of a rank on CPUs, if they are known.
    pub threads: Option<u32>,
    /// The command.
    pub command: String,
    /// When it was recorded; none to take it from the trace.
    pub measured: Option<String>,
    /// The seed of the bootstrap.
    pub seed: u64,
    /// Seconds of the median step without the profiler: compute is scaled so that steps take this.
    pub unprofiled_step: Option<f64>,
}

/// The raw measurements of the traces of one or more ranks of one run, each with the name that errors
/// call it by.
///
/// Layer times are the first rank's. Of [`Options::unprofiled_step`], everything but transfers and
/// copies between backward and update is scaled, in the recorded steps and in the series of steps.
///
/// # Errors
/// The traces are of different runs, no batch can be told, several ranks trained without all-reduces, a
/// step had no update, or is to take less than its transfers alone.
pub fn measurements(
    traces: &[(String, Trace)],
    options: &Options,
) -> Result<Measurements, ImportError> {
    let run = Run::new(traces)?;
    let first = run.first();
    let steps: Vec<&Step> = run.steps.iter().map(|ranks| ranks[0]).collect();
    let traced = Traced::new(steps[steps.len() - 1])?;
    check(first, &steps, &traced)?;
    let batch = options.batch.or(traced.batch).filter(|batch| *batch > 0).ok_or_else(|| {
        ImportError::new(
            "no convolution or linear layer says how many images a step has: give the batch of a rank",
        )
    })?;
    let mut observations = observations(&run, &traced);
    let factor = factor(&steps, options.unprofiled_step, &mut observations)?;
    let of_rank = |rank: usize| -> Vec<RecordedStep> {
        let steps = run.steps.iter().map(|ranks| ranks[rank]);
        steps.map(|step| recorded(step, &traced, factor)).collect()
    };
    let recorded = of_rank(0);
    let rank_compute_ns = (0..run.traces.len())
        .map(|rank| of_rank(rank).iter().map(RecordedStep::compute_ns).collect())
        .collect();
    let ranks_per_node = if run.scope == Scope::InterNode { 1 } else { first.ranks };
    let ring = AllReduceEntry::plain(AlgorithmName::Ring);
    let steps_series = StepSeries {
        ranks: first.ranks,
        ranks_per_node,
        per_rank_batch: batch,
        all_reduce: ring,
        fusion: if first.ranks > 1 { traced.fusion.clone() } else { FusionEntry::OneBucket },
        wire_element_bytes: traced.wire.bytes,
        overlap: first.ranks > 1,
        periods_s: recorded.iter().map(|step| step.step_ns as f64 / 1e9).collect(),
    };
    let sizes = if first.ranks > 1 { all_reduces(&run) } else { Vec::new() };
    let links = links(&run, &sizes, options.seed, &mut observations);
    let collectives = (!sizes.is_empty()).then_some(CollectiveSeries {
        all_reduce: ring,
        ranks: first.ranks,
        ranks_per_node,
        sizes,
    });
    Ok(Measurements {
        measurements: VERSION,
        foretrain: env!("CARGO_PKG_VERSION").to_owned(),
        procedure: "kineto".to_owned(),
        command: options.command.clone(),
        measured: options.measured.clone().unwrap_or_else(|| date(steps[0].start_ns)),
        seed: options.seed,
        machine: machine(first, ranks_per_node, options),
        network: Some(traced.network),
        compute: vec![ComputeSeries {
            batch,
            overlap: false,
            steps: recorded,
            rank_compute_ns,
            periods_s: Vec::new(),
        }],
        links,
        collectives: collectives.into_iter().collect(),
        steps: vec![steps_series],
        input: None,
        norms: None,
        observations,
        usd_per_accelerator_hour: None,
        watts_per_accelerator: None,
    })
}

fn check(trace: &Trace, steps: &[&Step], traced: &Traced) -> Result<(), ImportError> {
    if let Some(step) = steps.iter().find(|step| step.parts.optimizer_ns == 0) {
        let problem = "nothing was updated (`Optimizer.step#`), expected an optimizer of torch.optim \
                       within every step";
        return Err(ImportError::new(problem).with_key(&*step.name));
    }
    if trace.ranks > 1 && (steps[0].buckets.is_empty() || traced.gradient_bytes() == 0) {
        return Err(ImportError::new(format!(
            "this is of {} ranks, but backward launches no all-reduce of gradients: expected \
             DistributedDataParallel, without no_sync",
            trace.ranks
        )));
    }
    Ok(())
}

fn machine(trace: &Trace, ranks_per_node: u32, options: &Options) -> MachineEntry {
    let device = match (&trace.accelerator, options.threads) {
        (Some(name), _) => name.clone(),
        (None, Some(1)) => "CPU, 1 thread".to_owned(),
        (None, Some(threads)) => format!("CPU, {threads} threads"),
        (None, None) => "CPU".to_owned(),
    };
    let backend = trace.backend.as_deref().unwrap_or("");
    MachineEntry {
        device,
        threads: options.threads.filter(|_| trace.accelerator.is_none()).unwrap_or(0),
        ranks: trace.ranks,
        ranks_per_node,
        transport: match &trace.nccl_version {
            Some(version) => format!("NCCL {version}"),
            None => backend.to_owned(),
        },
        driver: None,
        memory_bytes: trace.memory_bytes,
    }
}

/// By what compute is multiplied so that the median step takes `wanted_s`.
fn factor(
    steps: &[&Step],
    wanted_s: Option<f64>,
    observations: &mut Vec<Observation>,
) -> Result<f64, ImportError> {
    let seconds = |ns: u64| ns as f64 / 1e9;
    // What is scaled of each step, and what is not.
    let parts: Vec<(f64, f64)> = steps
        .iter()
        .map(|step| {
            let exposed_ns = exposed_ns(step);
            (seconds(step.duration_ns.saturating_sub(exposed_ns)), seconds(exposed_ns))
        })
        .collect();
    let step_s = |factor: f64| {
        let steps = parts.iter().map(|(scaled, exposed)| factor * scaled + exposed);
        let steps: Vec<f64> = steps.collect();
        // As the profile takes it, without outliers.
        median_estimate(&steps).map_or_else(|| median(&steps), |estimate| estimate.value)
    };
    let (recorded, exposed) = (step_s(1.0), step_s(0.0));
    let mut say = |what: String| {
        observations.push(Observation::Traced { about: "steps".to_owned(), what });
    };
    let Some(wanted_s) = wanted_s else {
        say("they were recorded under the profiler, which slows them: give what a step takes without \
             it"
        .to_owned());
        return Ok(1.0);
    };
    if !(wanted_s.is_finite() && wanted_s > exposed && parts.iter().all(|part| part.0 > 0.0)) {
        return Err(ImportError::new(format!(
            "a step without the profiler is to take {wanted_s} s, and transfers that nothing hides take \
             {exposed:.6} s of it alone: expected more, in seconds"
        )));
    }
    // With the least of what is scaled, every step takes at least as long as wanted.
    let least = parts.iter().map(|part| part.0).fold(f64::INFINITY, f64::min);
    let (mut low, mut high) = (0.0, wanted_s / least);
    for _ in 0..f64::MANTISSA_DIGITS {
        let middle = (low + high) / 2.0;
        *(if step_s(middle) < wanted_s { &mut low } else { &mut high }) = middle;
    }
    let factor = high;
    say(format!(
        "all but transfers was multiplied by {factor:.4}, so that the median step takes {wanted_s} s \
         instead of {recorded:.6} s under the profiler"
    ));
    Ok(factor)
}

/// What lies between backward and update because of buckets.
fn exposed_ns(step: &Step) -> u64 {
    step.parts.exposed_ns + step.parts.unpack_ns
}

fn recorded(step: &Step, traced: &Traced, factor: f64) -> RecordedStep {
    let scaled = |ns: u64| {
        // Numbers that nothing scales stay exact.
        if factor == 1.0 { ns } else { (ns as f64 * factor).round() as u64 }
    };
    let all = |times: Vec<u64>| times.into_iter().map(scaled).collect();
    let exposed_ns = exposed_ns(step);
    let buckets = step.buckets.iter().map(|bucket| RecordedBucket {
        bytes: bucket.bytes,
        tensors: u32::try_from(bucket.tensors).unwrap_or(u32::MAX),
        pack_ns: 0,
        all_reduce_ns: between(bucket.start_ns, bucket.end_ns),
        unpack_ns: bucket.unpack_ns,
    });
    RecordedStep {
        step_ns: scaled(step.duration_ns.saturating_sub(exposed_ns)) + exposed_ns,
        input_wait_ns: 0,
        exposed_ns,
        optimizer_ns: scaled(step.parts.optimizer_ns),
        forward_ns: all(traced.forward_ns(step)),
        backward_ns: all(traced.backward_ns(step)),
        buckets: buckets.collect(),
    }
}

/// What all-reduces took, by size.
fn all_reduces(run: &Run<'_>) -> Vec<SizeSeries> {
    let mut sizes: Vec<SizeSeries> = Vec::new();
    for (number, bucket) in run.steps[0][0].buckets.iter().enumerate() {
        let times = run.all_reduce_ns(number).into_iter().filter(|ns| *ns > 0);
        let seconds = times.map(|ns| ns as f64 / 1e9);
        match sizes.iter_mut().find(|size| size.message_bytes == bucket.bytes) {
            Some(size) => size.seconds.extend(seconds),
            None => {
                sizes.push(SizeSeries { message_bytes: bucket.bytes, seconds: seconds.collect() })
            }
        }
    }
    sizes.retain(|size| size.message_bytes > 0 && !size.seconds.is_empty());
    sizes.sort_by_key(|size| size.message_bytes);
    sizes
}

/// Messages of the ring behind `all_reduces`, with small ones if together they make a curve.
fn links(
    run: &Run<'_>,
    all_reduces: &[SizeSeries],
    seed: u64,
    observations: &mut Vec<Observation>,
) -> Vec<LinkSeries> {
    if all_reduces.is_empty() {
        return Vec::new();
    }
    let ranks = run.first().ranks;
    let rounds = 2.0 * (f64::from(ranks) - 1.0);
    let messages = all_reduces.iter().map(|size| SizeSeries {
        message_bytes: size.message_bytes.div_ceil(u64::from(ranks)),
        seconds: size.seconds.iter().map(|seconds| seconds / rounds).collect(),
    });
    let messages: Vec<SizeSeries> = messages.collect();
    let small = run.small_messages().into_iter();
    let small = small.map(|(message_bytes, seconds)| SizeSeries { message_bytes, seconds });
    let mut with_small: Vec<SizeSeries> = small.chain(messages.iter().cloned()).collect();
    with_small.sort_by_key(|size| size.message_bytes);
    let is_curve = |sizes: &[SizeSeries]| {
        let samples: Vec<SizeSamples> = sizes
            .iter()
            .map(|size| SizeSamples {
                message_bytes: size.message_bytes,
                seconds: size.seconds.clone(),
            })
            .collect();
        fit_curve(&samples, &Streams::new(seed), &run.scope.to_string()).is_ok()
    };
    let scope = run.scope;
    let sizes = [with_small, messages.clone()].into_iter().find(|sizes| is_curve(sizes));
    let sizes = sizes.unwrap_or_else(|| {
        observations.push(Observation::TrainingSizes { scope });
        messages
    });
    vec![LinkSeries { scope, sizes }]
}

/// What is doubtful about a run.
fn observations(run: &Run<'_>, traced: &Traced) -> Vec<Observation> {
    let mut observations = Vec::new();
    let mut say = |about: &str, what: String| {
        observations.push(Observation::Traced { about: about.to_owned(), what });
    };
    let first = run.first();
    if first.ranks > 1 && !run.whole {
        say(
            "all-reduces",
            format!(
                "traces of {} of {} ranks were given, so that times include waiting for others: give \
                 those of all",
                run.traces.len(),
                first.ranks
            ),
        );
    }
    let left_out: usize = run.traces.iter().map(|trace| trace.left_out).sum();
    if left_out > 0 {
        say(
            "steps",
            format!(
                "{left_out} were left out, which are not whole, or have other layers or buckets than \
                 the last"
            ),
        );
    }
    let step = run.steps[run.steps.len() - 1][0];
    let bytes = step.buckets.iter().map(|bucket| bucket.bytes).fold(0, u64::saturating_add);
    if first.ranks > 1 && bytes != traced.gradient_bytes() {
        say(
            "buckets",
            format!(
                "they have {bytes} bytes, and the gradients that travel {}: simulated is the latter",
                traced.gradient_bytes()
            ),
        );
    }
    observations
}

/// A moment, in nanoseconds since 1970, as a date and time of ISO 8601 in UTC.
///
/// From days to years, months and days: Hinnant, "chrono-Compatible Low-Level Date Algorithms",
/// `civil_from_days`, of eras of 400 years that begin in March.
fn date(ns: i64) -> String {
    let seconds = ns.div_euclid(1_000_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let since_march_of_0 = days + 719_468;
    let (era, day_of_era) =
        (since_march_of_0.div_euclid(146_097), since_march_of_0.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + 400 * era + i64::from(month <= 2);
    let (hours, minutes, seconds) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_by_hand() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_748_736_000, "2025-06-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(date(seconds * 1_000_000_000), expected);
        }
    }
}
