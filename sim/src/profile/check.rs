//! What can be simulated: numbers within bounds that no machine exceeds, so that nothing overflows or
//! takes for ever.

use std::ops::RangeInclusive;

use super::{ComputeProfile, Estimate, LinkProfile, Profile, ProfileError};
use crate::collective::RANKS_MAX;

/// A day; no part of a step takes longer.
const TIME_US: RangeInclusive<f64> = 0.0..=86_400e6;
/// Of times that were measured: what took none was not measured.
const MEASURED_US: RangeInclusive<f64> = f64::MIN_POSITIVE..=86_400e6;
const GBYTE_PER_S: RangeInclusive<f64> = 1e-9..=1e9;
const SLOWDOWN: RangeInclusive<f64> = 0.1..=1000.0;
const BATCHES: RangeInclusive<u64> = 1..=1_000_000;
const PIXELS: RangeInclusive<u64> = 1..=1_000_000;
const PARAMETERS: RangeInclusive<u64> = 1..=1_000_000_000_000;
const MESSAGE_BYTES: RangeInclusive<u64> = 1..=1 << 44;
const WORKERS: RangeInclusive<u32> = 1..=1024;

type Checked = Result<(), ProfileError>;

fn within<T: PartialOrd + std::fmt::Display>(
    value: T,
    range: &RangeInclusive<T>,
    key: impl Into<String>,
) -> Checked {
    if range.contains(&value) {
        return Ok(());
    }
    let (low, high) = (range.start(), range.end());
    Err(ProfileError::at(key, format!("{value}, expected {low} to {high}")))
}

fn time(estimate: Estimate, key: impl Into<String>) -> Checked {
    within(estimate.value, &TIME_US, key)
}

fn ranks(ranks: u32, ranks_per_node: u32, key: &str) -> Checked {
    within(ranks, &(1..=RANKS_MAX), format!("{key}.ranks"))?;
    within(ranks_per_node, &(1..=RANKS_MAX), format!("{key}.ranks_per_node"))
}

impl Profile {
    /// Whether it can be simulated.
    ///
    /// # Errors
    /// On the first number that cannot.
    pub fn check(&self) -> Checked {
        ranks(self.machine.ranks, self.machine.ranks_per_node, "machine")?;
        if let Some(compute) = &self.compute {
            compute.check()?;
        }
        if let Some(packing) = self.packing {
            for (name, estimate) in [
                ("pack_us", packing.pack_us),
                ("pack_us_per_mb", packing.pack_us_per_mb),
                ("unpack_us", packing.unpack_us),
                ("unpack_us_per_mb", packing.unpack_us_per_mb),
            ] {
                time(estimate, format!("packing.{name}"))?;
            }
        }
        let links =
            [("intra_node", &self.links.intra_node), ("inter_node", &self.links.inter_node)];
        for (name, link) in links {
            if let Some(link) = link {
                link.check(name)?;
            }
        }
        for (index, collective) in self.collectives.iter().enumerate() {
            let key = format!("collectives[{index}]");
            ranks(collective.ranks, collective.ranks_per_node, &key)?;
            for (point, at) in collective.points.iter().enumerate() {
                let key = format!("{key}.points[{point}]");
                within(at.message_bytes, &MESSAGE_BYTES, format!("{key}.message_bytes"))?;
                within(at.time_us.value, &MEASURED_US, format!("{key}.time_us"))?;
            }
        }
        for (index, step) in self.steps.iter().enumerate() {
            let key = format!("steps[{index}]");
            ranks(step.ranks, step.ranks_per_node, &key)?;
            within(step.per_rank_batch, &BATCHES, format!("{key}.per_rank_batch"))?;
            within(step.wire_element_bytes, &(1..=8), format!("{key}.wire_element_bytes"))?;
            within(step.step_us.value, &MEASURED_US, format!("{key}.step_us"))?;
        }
        if let Some(jitter) = &self.jitter {
            within(jitter.variation.value, &(0.0..=1.0), "jitter.variation")?;
        }
        if let Some(input) = &self.input {
            time(input.decode_us_per_image, "input.decode_us_per_image")?;
            if let Some(read) = input.read_us_per_image {
                time(read, "input.read_us_per_image")?;
            }
            within(input.workers_per_node, &WORKERS, "input.workers_per_node")?;
            within(input.prefetch_batches, &WORKERS, "input.prefetch_batches")?;
        }
        if let Some(cost) = self.cost {
            let numbers = [
                ("cost.usd_per_accelerator_hour", cost.usd_per_accelerator_hour),
                ("cost.watts_per_accelerator", cost.watts_per_accelerator),
            ];
            for (key, number) in numbers {
                within(number.unwrap_or(0.0), &(0.0..=1e9), key)?;
            }
        }
        Ok(())
    }
}

impl ComputeProfile {
    fn check(&self) -> Checked {
        let times = &self.batches;
        if times.is_empty() || self.layers.is_empty() {
            let problem = "no layer was measured: leave `compute` out, or measure again";
            return Err(ProfileError::at("compute", problem));
        }
        if !times.is_sorted_by(|left, right| left.batch < right.batch) {
            return Err(ProfileError::at("compute.batches", "expected increasing batches"));
        }
        for pixels in self.input {
            within(pixels, &PIXELS, "compute.input")?;
        }
        let tensors = self.layers.iter().flat_map(|layer| &layer.tensors);
        let mut parameters = 0_u64;
        for tensor in tensors {
            within(tensor.elements, &PARAMETERS, format!("compute.layers: {}", tensor.name))?;
            parameters = parameters.saturating_add(tensor.elements);
        }
        within(parameters, &(0..=*PARAMETERS.end()), "compute.layers")?;
        if let Some(slowdown) = self.overlap_slowdown {
            within(slowdown.value, &SLOWDOWN, "compute.overlap_slowdown")?;
        }
        for (index, times) in times.iter().enumerate() {
            let key = |name: &str| format!("compute.batches[{index}].{name}");
            within(times.batch, &BATCHES, key("batch"))?;
            time(times.host_us, key("host_us"))?;
            time(times.optimizer_us, key("optimizer_us"))?;
            for (name, layers) in [
                ("layer_forward_us", &times.layer_forward_us),
                ("layer_backward_us", &times.layer_backward_us),
            ] {
                if layers.len() != self.layers.len() {
                    let (found, expected) = (layers.len(), self.layers.len());
                    let problem = format!("{found} times, but there are {expected} layers");
                    return Err(ProfileError::at(key(name), problem));
                }
                for &layer in layers {
                    within(layer, &TIME_US, key(name))?;
                }
                within(layers.iter().sum(), &TIME_US, key(name))?;
            }
        }
        Ok(())
    }
}

impl LinkProfile {
    fn check(&self, name: &str) -> Checked {
        if self.ranges.is_empty() {
            let problem = "expected at least one range of sizes";
            return Err(ProfileError::at(format!("links.{name}.ranges"), problem));
        }
        for (index, range) in self.ranges.iter().enumerate() {
            let key = |of: &str| format!("links.{name}.ranges[{index}].{of}");
            time(range.latency_us, key("latency_us"))?;
            within(range.gbyte_per_s.value, &GBYTE_PER_S, key("gbyte_per_s"))?;
        }
        Ok(())
    }
}
