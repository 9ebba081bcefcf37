//! What a profile says of a point, where the scenario says nothing else.

use super::carried::{self, Measurement};
use super::input::InputRates;
use super::machine::InputSource;
use super::problem::Problem;
use super::spec::ScenarioSpec;
use crate::catalogue::Accelerator;
use crate::compute::{ComputeTimes, Device, Optimizer, Precision};
use crate::jitter::{Jitter, SlowRank};
use crate::network::Rank;
use crate::profile::{ComputeProfile, Profile};
use crate::recording::NumberFormat;
use crate::units::{Bandwidth, Bytes, Power, Price};
use crate::workload::{Network, NetworkName};

/// Larger batches no accelerator has; their times would overflow.
const BATCH_MAX: u64 = 1_000_000;

/// Where everything of this module is from.
const FROM: &str = "profile";

/// The accelerator that was measured, for a scenario that names none. What only a roofline would
/// need is not known of it.
pub(super) fn accelerator(profile: &Profile) -> Accelerator {
    let cost = profile.cost.unwrap_or_default();
    Accelerator {
        name: "measured".to_owned(),
        title: profile.machine.device.clone(),
        aliases: Vec::new(),
        year: 0,
        compute_units: 1,
        compute_capability: None,
        matrix_rates: std::collections::BTreeMap::new(),
        vector_rate: None,
        memory: Bytes::new(profile.machine.memory_bytes.unwrap_or(u64::MAX)),
        memory_bandwidth: Bandwidth::from_bytes_per_s(u64::MAX),
        board_power: Power::new(cost.watts_per_accelerator.unwrap_or(0.0)),
        host_link: None,
        price_per_hour: cost.usd_per_accelerator_hour.map(Price::new),
        price_source: None,
        price_date: None,
        source: FROM.to_owned(),
        note: None,
    }
}

/// What is trained, in which precision and by which rule, and what its layers take.
pub(super) struct Measured {
    pub(super) model: Network,
    pub(super) precision: Precision,
    pub(super) optimizer: Optimizer,
    /// Bytes of a gradient element on the wire, unless the scenario says otherwise.
    pub(super) wire_bytes: u64,
    pub(super) times: ComputeTimes,
    /// The batches that were measured, if the point's is not among them.
    pub(super) extrapolated: Option<(u64, u64)>,
    pub(super) source: InputSource,
    /// The device model that the times are from; none where they were measured.
    pub(super) device: Option<Device>,
}

/// The compute of `batch` images a rank on `accelerator`; with `overlapped` communication if there is any.
///
/// # Errors
/// The scenario asks for another network, precision or optimizer than was measured, or for an anchor.
pub(super) fn compute(
    spec: &ScenarioSpec,
    profile: &Profile,
    compute: &ComputeProfile,
    accelerator: &Accelerator,
    batch: u64,
    overlapped: bool,
) -> Result<Measured, Problem> {
    if batch > BATCH_MAX {
        let problem = format!("{batch} images, expected at most {BATCH_MAX}");
        return Err(Problem::new("training.per_accelerator_batch", problem));
    }
    let given = &spec.compute;
    let is_carried = given.measured_on.is_some();
    let of_a_roofline = [
        ("compute.anchor", given.anchor.is_some()),
        ("compute.roofline_factor", given.roofline_factor.is_some()),
        ("compute.launch", given.launch.is_some() && !is_carried),
        ("compute.launch_time", given.launch_time.is_some() && !is_carried),
        ("compute.kernels", given.kernels.is_some() && !is_carried),
        ("training.batch_norm_group", spec.training.batch_norm_group.is_some()),
    ];
    if let Some((key, _)) = of_a_roofline.iter().find(|(_, given)| *given) {
        let problem = "given beside a profile, which has measured times: leave one of them out";
        return Err(Problem::new(key, problem));
    }
    if let Some(wanted) = spec.training.model {
        check_model(wanted, compute)?;
    }
    let precision = match compute.precision {
        NumberFormat::F32 => Precision::Fp32,
        NumberFormat::F16 => Precision::Fp16Mixed,
        NumberFormat::Bf16 => Precision::Bf16Mixed,
    };
    if spec.training.precision.is_some_and(|wanted| wanted != precision) {
        let problem = format!(
            "the profile was measured in {}: leave the key out, or calibrate in this precision",
            compute.precision.name()
        );
        return Err(Problem::new("training.precision", problem));
    }
    let optimizer = if compute.optimizer == "lars" { Optimizer::Lars } else { Optimizer::Momentum };
    if spec.training.optimizer.is_some_and(|wanted| wanted != optimizer) {
        let problem = format!(
            "the profile was measured with {}: leave the key out, or calibrate with this rule",
            compute.optimizer
        );
        return Err(Problem::new("training.optimizer", problem));
    }
    let mut times = compute
        .compute_times(batch)
        .ok_or_else(|| Problem::new("profile", "it has no layer times: calibrate again"))?;
    let network = compute.network();
    let measurement = Measurement { network: &network, precision, optimizer, batch };
    let from = carried::carry(spec, accelerator, &measurement, &mut times)?;
    if let Some(slowdown) = compute.overlap_slowdown.filter(|_| overlapped) {
        times = times.with_backward_scaled(slowdown.value.max(1.0));
    }
    let batches: Vec<String> = compute.batches.iter().map(|one| one.batch.to_string()).collect();
    let origin = &profile.origin;
    Ok(Measured {
        model: network,
        precision,
        optimizer,
        wire_bytes: compute.wire.unwrap_or(compute.precision).element_bytes(),
        times,
        extrapolated: compute.measured_batches().filter(|_| compute.extrapolates(batch)),
        source: InputSource {
            what: "compute times",
            value: format!(
                "{} layers of {} measured at batch {}{}",
                compute.layers.len(),
                compute.network,
                batches.join(", "),
                from.map(|from| format!(" on {from}, carried over by data sheets"))
                    .unwrap_or_default()
            ),
            from: format!("{FROM} ({}, {})", origin.procedure, origin.measured),
        },
        device: None,
    })
}

fn check_model(wanted: NetworkName, compute: &ComputeProfile) -> Result<(), Problem> {
    let network = wanted.network();
    let shape = network.input_shape();
    let (ours, theirs) = (network.parameter_count(), compute.parameter_count());
    let pixels = [shape.channels, shape.height, shape.width];
    if ours == theirs && pixels == compute.input {
        return Ok(());
    }
    let problem = format!(
        "{} has {ours} parameters and images of {pixels:?}, and the profile's {} has {theirs} and {:?}: \
         leave the key out, or calibrate with this network",
        network.name(),
        compute.network,
        compute.input
    );
    Err(Problem::new("training.model", problem))
}

/// How compute varies, and where that is from.
pub(super) fn jitter(profile: &Profile) -> Option<(Jitter, InputSource)> {
    let measured = profile.jitter.as_ref()?;
    let slow = |(rank, factor): &(u32, f64)| SlowRank { rank: Rank(*rank), factor: *factor };
    let jitter = Jitter {
        distribution: measured.distribution,
        variation: measured.variation.value,
        // Which rank was slow says nothing of other machines.
        slow_ranks: Vec::new(),
    };
    let mut value = format!("{:.2} % from step to step", 100.0 * jitter.variation);
    if let Some(SlowRank { rank, factor }) = measured.slow_ranks.first().map(slow) {
        value += &format!("; {rank} was {factor:.2} times as slow, which is left out");
    }
    Some((jitter, InputSource { what: "jitter", value, from: FROM.to_owned() }))
}

/// How images come, with `ranks` ranks a node, and where that is from.
pub(super) fn input(profile: &Profile, ranks: u32) -> Option<(InputRates, InputSource)> {
    let measured = profile.input.as_ref()?;
    let share = f64::from(ranks) / f64::from(measured.workers_per_node.max(1));
    let read_us = measured.read_us_per_image.map_or(0.0, |time| time.value);
    let rates = InputRates {
        decode_s_per_image: share * measured.decode_us_per_image.value / 1e6,
        storage_s_per_image: share * read_us / 1e6,
        host_link: None,
        prefetch_batches: measured.prefetch_batches.max(1),
    };
    let value = format!(
        "{:.1} us an image and worker, {} workers a node",
        measured.decode_us_per_image.value, measured.workers_per_node
    );
    Some((rates, InputSource { what: "input", value, from: FROM.to_owned() }))
}
