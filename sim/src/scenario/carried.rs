//! Layer times that were measured on one accelerator, carried to another by their data sheets.
//!
//! Of each layer, what its kernels take besides their work is a floor that both have, and the rest is
//! in the ratio of what the rooflines of both say of this layer at this batch:
//!
//! ```text
//! t(there) = L + max(t(here) − L, 0) · roofline(there) / roofline(here),   L = kernels · launch
//! ```
//!
//! So what is bound by arithmetic goes with the rates of matrix products (and with how many compute
//! units have to be filled), what is bound by memory with its bandwidth, and what is bound by launches
//! stays. The update goes with memory.

use super::device;
use super::limits::check_memory;
use super::problem::{Problem, unknown};
use super::spec::ScenarioSpec;
use crate::catalogue::{Accelerator, Catalogue};
use crate::compute::Optimizer;
use crate::compute::{ComputeTimes, Kernels, LaunchMode, LayerTime, Precision, Roofline};
use crate::units::SimDuration;
use crate::workload::{Network, NetworkName};

/// What was measured, and how it trains.
pub(super) struct Measurement<'a> {
    /// Layers by name, as far as they are known.
    pub(super) network: &'a Network,
    /// What was computed in.
    pub(super) precision: Precision,
    /// How weights were updated.
    pub(super) optimizer: Optimizer,
    /// Images of a step.
    pub(super) batch: u64,
}

/// Carries `times` from the accelerator that `compute.measured_on` names to `accelerator`, if it names
/// one; returns its title.
///
/// # Errors
/// It is unknown, one of both has no published rates, or a layer is none of the scenario's network.
pub(super) fn carry(
    spec: &ScenarioSpec,
    accelerator: &Accelerator,
    measured: &Measurement<'_>,
    times: &mut ComputeTimes,
) -> Result<Option<String>, Problem> {
    let Some(name) = &spec.compute.measured_on else { return Ok(None) };
    let key = "compute.measured_on";
    let catalogue = Catalogue::shipped();
    let from = catalogue.accelerator(name).ok_or_else(|| {
        Problem::new(key, unknown("accelerator", name, &catalogue.accelerator_names()))
    })?;
    let model = spec.training.model.map(NetworkName::network).ok_or_else(|| {
        let names = NetworkName::NAMES.join(", ");
        let problem = format!("missing: carrying layers needs what they are: one of {names}");
        Problem::new("training.model", problem)
    })?;
    check_memory(accelerator, &model, measured.precision, measured.optimizer, measured.batch)?;
    let roofline = |of: &Accelerator| {
        let mode = spec.compute.launch.unwrap_or(LaunchMode::Graph);
        let launch = device::launch(spec, Some(mode))?;
        Roofline::new(of, measured.precision, measured.optimizer)
            .map(|roofline| {
                roofline.with_kernels(spec.compute.kernels.unwrap_or(Kernels::Separate), launch)
            })
            .ok_or_else(|| Problem::new(key, format!("no peak rate of {} is published", of.title)))
    };
    let (here, there) = (roofline(from)?, roofline(accelerator)?);
    // With no launches, what is left is work.
    let work = |roofline: Roofline| {
        let kernels = spec.compute.kernels.unwrap_or(Kernels::Separate);
        roofline.with_kernels(kernels, SimDuration::ZERO).times(&model, measured.batch, 1.0)
    };
    let launches = here.times(&model, measured.batch, 0.0);
    let (work_here, work_there) = (work(here), work(there));
    let nodes = measured.network.nodes().iter().zip(&mut times.layers);
    // The first is what the host does, on no accelerator.
    for (node, time) in nodes.skip(1) {
        let (index, _) = model.node_named(&node.name).ok_or_else(|| {
            let problem = format!(
                "the profile's layer `{}` is none of {}: layers can only be carried to another \
                 accelerator if it is known what they are",
                node.name,
                model.name()
            );
            Problem::new(key, problem)
        })?;
        let at = index.get();
        let one = |time, pick: fn(&LayerTime) -> SimDuration| {
            carried(
                time,
                pick(&launches.layers[at]),
                pick(&work_here.layers[at]),
                pick(&work_there.layers[at]),
            )
        };
        time.forward = one(time.forward, |layer| layer.forward);
        time.backward = one(time.backward, |layer| layer.backward);
    }
    times.optimizer =
        carried(times.optimizer, launches.optimizer, work_here.optimizer, work_there.optimizer);
    Ok(Some(from.title.clone()))
}

/// A time whose floor stays, and whose rest is in the ratio of two others.
fn carried(
    time: SimDuration,
    floor: SimDuration,
    here: SimDuration,
    there: SimDuration,
) -> SimDuration {
    if time <= floor || here == SimDuration::ZERO {
        return time;
    }
    floor + (time - floor).scaled(there.as_seconds() / here.as_seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_stays_and_the_rest_is_in_proportion() {
        let us = |us: u64| SimDuration::from_ps(us * 1_000_000);
        // 100 us, 20 of them launches, on an accelerator half as fast: 20 + 160.
        assert_eq!(carried(us(100), us(20), us(5), us(10)), us(180));
        assert_eq!(carried(us(15), us(20), us(5), us(10)), us(15));
        assert_eq!(carried(us(15), us(2), us(0), us(10)), us(15));
    }
}

#[cfg(test)]
#[path = "carried_tests.rs"]
mod whole;
