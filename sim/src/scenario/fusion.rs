//! Which gradients of a point travel together, some of it from the point's own all-reduce.

use super::limits::schedule_problem;
use super::machine::InputSource;
use super::problem::{Problem, unknown};
use super::resolve::Case;
use super::spec::{FusionRule, ScenarioSpec};
use crate::collective::TimingError;
use crate::fusion::Fusion;
use crate::units::{Bandwidth, Bytes, SimDuration};
use crate::workload::Network;

/// PyTorch's `DistributedDataParallel`: `bucket_cap_mb = 25`.
const PYTORCH_THRESHOLD_BYTES: u64 = 25 << 20;
/// Horovod's `HOROVOD_FUSION_THRESHOLD` and `HOROVOD_CYCLE_TIME` (to version 0.18).
const HOROVOD_THRESHOLD_BYTES: u64 = 64 << 20;
const HOROVOD_CYCLE_MS: u64 = 5;
/// The smaller of the two sizes whose all-reduces say what a latency is. Far smaller ones may go by a
/// protocol or an algorithm that no bucket takes.
const SMALL_BUCKET_BYTES: u64 = 64 << 10;

/// The rule of `spec`, but for one that follows from timed all-reduces ([`timed`]): for that, what it
/// comes to where no gradient has to wait for another.
pub(super) fn given(spec: &ScenarioSpec, model: &Network) -> Result<Fusion, Problem> {
    let fusion = &spec.fusion;
    let threshold = |default| match fusion.threshold {
        Some(Bytes::ZERO) => Err(Problem::new("fusion.threshold", "0 B, expected at least 1 B")),
        given => Ok(given.unwrap_or(Bytes::new(default))),
    };
    Ok(match fusion.rule.unwrap_or_default() {
        FusionRule::Tensor => Fusion::Tensor,
        FusionRule::OneBucket | FusionRule::MgWfbp => Fusion::OneBucket,
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

/// The rule of `spec` that follows from how long the all-reduces of `case` take, and where that is
/// from; none if it is another rule, or if all gradients are ready at once.
///
/// MG-WFBP takes an all-reduce of S bytes to last a + b·S. That is the line through the times of two
/// all-reduces, of 64 KiB and of all gradients, each alone on ranks that start together: a is where
/// it meets S = 0.
pub(super) fn timed(
    spec: &ScenarioSpec,
    case: &Case,
) -> Result<Option<(Fusion, InputSource)>, Problem> {
    let all = Bytes::new(case.model.parameter_count() * case.wire_element_bytes);
    let small = Bytes::new(SMALL_BUCKET_BYTES.min(all.get() / 2));
    let at_once = !case.overlap || case.accelerators == 1 || small == Bytes::ZERO;
    if spec.fusion.rule != Some(FusionRule::MgWfbp) || at_once {
        return Ok(None);
    }
    let (small_us, all_us) = (alone_us(case, small)?, alone_us(case, all)?);
    let us_per_byte = ((all_us - small_us) / (all.get() - small.get()) as f64).max(0.0);
    let latency_us = (small_us - us_per_byte * small.get() as f64).max(0.0);
    // A larger bucket that takes no longer: the highest rate there is, since 1/0 saturates.
    let bandwidth = Bandwidth::from_bytes_per_s((1e6 / us_per_byte).round() as u64);
    let rule = Fusion::MgWfbp { latency: SimDuration::from_seconds(latency_us / 1e6), bandwidth };
    let source = InputSource {
        what: "fusion",
        value: format!(
            "mg-wfbp, {} accelerators: {latency_us:.2} us + S / {:.3} GB/s",
            case.accelerators,
            bandwidth.bytes_per_s() as f64 / 1e9
        ),
        from: format!("all-reduces of {} B and {} B", small.get(), all.get()),
    };
    Ok(Some((rule, source)))
}

/// How long one all-reduce of `case` takes, alone and undisturbed, in microseconds.
fn alone_us(case: &Case, bytes: Bytes) -> Result<f64, Problem> {
    match case.alone_us(bytes) {
        Ok(time_us) => Ok(time_us),
        Err(TimingError::Collective(error)) => Err(schedule_problem(&error)),
        Err(error) => {
            let problem = format!("mg-wfbp needs the time of an all-reduce: {error}");
            Err(Problem::new("fusion.rule", problem))
        }
    }
}
