//! Layer times: medians over steps, at each batch.

use std::collections::BTreeMap;

use foretrain_sim::profile::{BatchTimes, ComputeProfile, Estimate, PackingProfile};

use super::{Fitting, Refused};
use crate::fit::estimate::{median_estimate, percentile_bootstrap};
use crate::fit::robust::median;
use crate::fit::series;
use crate::measurements::{ComputeSeries, RecordedBucket, RecordedStep};

/// The fewest recorded steps behind a layer's time.
const STEPS_MIN: usize = 3;

/// Intervals wider than this share of the step are worth a word.
const WIDE: f64 = 0.1;

/// A relative slowdown of backward below this is none that one could tell from noise.
const SLOWDOWN_MIN: f64 = 0.005;

impl Fitting<'_> {
    /// The layers of every batch; none if nothing was recorded.
    pub(super) fn compute(&mut self) -> Result<Option<ComputeProfile>, Refused> {
        let all = self.measurements;
        let Some(network) = &all.network else { return Ok(None) };
        let alone = |series: &&ComputeSeries| !series.overlap && !series.steps.is_empty();
        let mut by_batch: BTreeMap<u64, &ComputeSeries> = BTreeMap::new();
        for series in all.compute.iter().filter(alone) {
            by_batch.entry(series.batch).or_insert(series);
        }
        if by_batch.is_empty() {
            return Ok(None);
        }
        let mut batches = Vec::new();
        for series in by_batch.values() {
            batches.push(self.batch(series, network.layers.len())?);
        }
        Ok(Some(ComputeProfile {
            network: network.name.clone(),
            input: network.input,
            precision: network.precision,
            wire: (network.wire != network.precision).then_some(network.wire),
            optimizer: network.optimizer.clone(),
            layers: network.layers.clone(),
            batches,
            overlap_slowdown: self.overlap_slowdown(),
        }))
    }

    fn batch(&mut self, series: &ComputeSeries, layers: usize) -> Result<BatchTimes, Refused> {
        let about = format!("layers at batch {}", series.batch);
        let steps = &series.steps;
        if steps.len() < STEPS_MIN {
            let reason = format!(
                "{} steps were recorded, expected at least {STEPS_MIN}: record more",
                steps.len()
            );
            return Err(Refused::new(about, reason));
        }
        if let Some(step) = steps
            .iter()
            .find(|step| step.forward_ns.len() != layers || step.backward_ns.len() != layers)
        {
            let reason = format!(
                "a step has {} forward and {} backward times, expected {layers} of each: all steps \
                 must be of the network that is named",
                step.forward_ns.len(),
                step.backward_ns.len()
            );
            return Err(Refused::new(about, reason));
        }
        let total = |of: fn(&RecordedStep) -> u64, what: &str| {
            let us: Vec<f64> = steps.iter().map(|step| of(step) as f64 / 1e3).collect();
            median_estimate(&us).ok_or_else(|| {
                Refused::new(
                    &about,
                    format!("{what} took no time in a step: the clock is too coarse"),
                )
            })
        };
        let forward_us = total(RecordedStep::forward_total_ns, "forward")?;
        let backward_us = total(RecordedStep::backward_total_ns, "backward")?;
        let optimizer_us = total(|step| step.optimizer_ns, "the update")?;
        let layer = |of: fn(&RecordedStep) -> &[u64], total: Estimate| {
            let medians: Vec<f64> = (0..layers)
                .map(|layer| {
                    let us: Vec<f64> =
                        steps.iter().map(|step| of(step)[layer] as f64 / 1e3).collect();
                    median(&us)
                })
                .collect();
            // Medians of parts do not add up to the median of the whole.
            let sum: f64 = medians.iter().sum();
            let scale = if sum > 0.0 { total.value / sum } else { 1.0 };
            medians.into_iter().map(|us| us * scale).collect::<Vec<f64>>()
        };
        let step_us: Vec<f64> = steps.iter().map(|step| step.step_ns as f64 / 1e3).collect();
        for found in [series::drift(&step_us), series::warm_up(&step_us)].into_iter().flatten() {
            self.warn(found.code(), &about, found);
        }
        if let Some(step) = median_estimate(&step_us).filter(|step| step.relative_width() > WIDE) {
            let message = format!(
                "the median step is between {:.0} and {:.0} us: measure longer, on a machine that does \
                 nothing else",
                step.low, step.high
            );
            self.warn("wide-interval", &about, message);
        }
        Ok(BatchTimes {
            batch: series.batch,
            steps: steps.len() as u32,
            host_us: host_us(series),
            forward_us,
            backward_us,
            optimizer_us,
            layer_forward_us: layer(|step| &step.forward_ns, forward_us),
            layer_backward_us: layer(|step| &step.backward_ns, backward_us),
        })
    }

    /// How many times as long backward takes while buckets travel, where both were recorded.
    fn overlap_slowdown(&self) -> Option<Estimate> {
        let all = &self.measurements.compute;
        let with = all.iter().find(|series| series.overlap && series.steps.len() >= STEPS_MIN)?;
        let without = all.iter().find(|series| {
            !series.overlap && series.batch == with.batch && series.steps.len() >= STEPS_MIN
        })?;
        let median = |series: &ComputeSeries| {
            let ns: Vec<f64> =
                series.steps.iter().map(|step| step.backward_total_ns() as f64).collect();
            median_estimate(&ns)
        };
        let (with, without) = (median(with)?, median(without)?);
        // Relative errors of a quotient add up in squares.
        let value = with.value / without.value;
        let half = (with.relative_width() / 2.0).hypot(without.relative_width() / 2.0);
        let slowdown = Estimate { value, low: value * (1.0 - half), high: value * (1.0 + half) };
        (value - 1.0 > SLOWDOWN_MIN && slowdown.low > 1.0).then_some(slowdown)
    }

    /// What packing and unpacking take: a line through all recorded buckets.
    pub(super) fn packing(&self) -> Option<PackingProfile> {
        let buckets: Vec<Vec<RecordedBucket>> = self
            .measurements
            .compute
            .iter()
            .flat_map(|series| &series.steps)
            .map(|step| step.buckets.clone())
            .filter(|buckets| !buckets.is_empty())
            .collect();
        if buckets.is_empty() {
            return None;
        }
        let line = |of: fn(&RecordedBucket) -> u64, name: &str| {
            let fit = |steps: &[Vec<RecordedBucket>]| {
                let points = steps.iter().flatten();
                line(points.map(|bucket| (bucket.bytes as f64 / 1e6, of(bucket) as f64 / 1e3)))
            };
            let fixed = percentile_bootstrap(&buckets, |steps| fit(steps).0, &self.streams, name);
            let rate = percentile_bootstrap(&buckets, |steps| fit(steps).1, &self.streams, name);
            (fixed, rate)
        };
        let (pack_us, pack_us_per_mb) = line(|bucket| bucket.pack_ns, "packing");
        let (unpack_us, unpack_us_per_mb) = line(|bucket| bucket.unpack_ns, "unpacking");
        Some(PackingProfile { pack_us, pack_us_per_mb, unpack_us, unpack_us_per_mb })
    }
}

/// What is no layer's: what is left of a recorded step, and what an unrecorded step takes longer than
/// a recorded one.
fn host_us(series: &ComputeSeries) -> Estimate {
    let us = |of: fn(&RecordedStep) -> u64| -> Vec<f64> {
        series.steps.iter().map(|step| of(step) as f64 / 1e3).collect()
    };
    let rest = us(RecordedStep::rest_ns);
    let inside = median_estimate(&rest).unwrap_or(Estimate::exact(median(&rest)));
    let between = between_us(series).unwrap_or(0.0);
    Estimate {
        value: inside.value + between,
        low: inside.low + between,
        high: inside.high + between,
    }
}

/// What lies between steps, if it can be told from noise.
fn between_us(series: &ComputeSeries) -> Option<f64> {
    let periods_us: Vec<f64> = series.periods_s.iter().map(|seconds| 1e6 * seconds).collect();
    let steps_us: Vec<f64> = series.steps.iter().map(|step| step.step_ns as f64 / 1e3).collect();
    let (period, step) = (median_estimate(&periods_us)?, median_estimate(&steps_us)?);
    let noise = (period.high - period.low).hypot(step.high - step.low) / 2.0;
    Some(period.value - step.value).filter(|between| *between > noise)
}

/// The line y = a + b·x, a and b at least 0, with the least squares of what it leaves at the median
/// of each x; proportional where there is one x.
fn line(points: impl Iterator<Item = (f64, f64)>) -> (f64, f64) {
    let mut by_x: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (x, y) in points {
        by_x.entry(x.to_bits()).or_default().push(y);
    }
    let points: Vec<(f64, f64)> =
        by_x.iter().map(|(x, ys)| (f64::from_bits(*x), median(ys))).collect();
    let count = points.len() as f64;
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(&|point| point.0), mean(&|point| point.1));
    let proportional = || (0.0, if mean_x > 0.0 { mean_y / mean_x } else { 0.0 });
    let spread = mean(&|point| (point.0 - mean_x).powi(2));
    if spread <= 0.0 || spread.is_nan() {
        return proportional();
    }
    let slope = mean(&|point| (point.0 - mean_x) * (point.1 - mean_y)) / spread;
    let fixed = mean_y - slope * mean_x;
    if slope < 0.0 {
        (mean_y.max(0.0), 0.0)
    } else if fixed < 0.0 {
        proportional()
    } else {
        (fixed, slope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_by_hand() {
        let fit = |points: &[(f64, f64)]| line(points.iter().copied());
        assert_eq!(fit(&[(1.0, 5.0), (3.0, 9.0), (1.0, 5.0)]), (3.0, 2.0));
        assert_eq!(fit(&[(2.0, 5.0)]), (0.0, 2.5));
        // Falling: what they all take. Below zero at zero: proportional to the size.
        assert_eq!(fit(&[(1.0, 4.0), (3.0, 2.0)]), (3.0, 0.0));
        assert_eq!(fit(&[(1.0, 1.0), (3.0, 9.0)]), (0.0, 2.5));
    }
}
