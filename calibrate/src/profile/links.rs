//! Curves of message times, and points of all-reduces.

use foretrain_sim::profile::{
    CollectiveProfile, CurvePoint, Estimate, HeldOutError, LinkProfile, LinkProfiles, LinkRange,
};

use super::{Fitting, Refused};
use crate::fit::curve::{CurveFit, SizeSamples, fit_curve};
use crate::fit::estimate::median_estimate;
use crate::fit::robust::median;
use crate::fit::series;
use crate::measurements::{CollectiveSeries, LinkSeries, Observation, Scope, SizeSeries};

/// Fewer sizes than this show no protocol switches.
const SIZES_WISHED: usize = 8;

impl Fitting<'_> {
    /// The links that were measured.
    pub(super) fn links(&mut self) -> Result<LinkProfiles, Refused> {
        let mut profiles = LinkProfiles::default();
        for LinkSeries { scope, sizes } in &self.measurements.links {
            let of_training = Observation::TrainingSizes { scope: *scope };
            let link = Some(if self.measurements.observations.contains(&of_training) {
                proportional(sizes, &scope.to_string())?
            } else {
                profile(&self.curve(sizes, &scope.to_string())?)
            });
            match scope {
                Scope::IntraNode => profiles.intra_node = link,
                Scope::InterNode => profiles.inter_node = link,
            }
        }
        Ok(profiles)
    }

    fn curve(&mut self, sizes: &[SizeSeries], about: &str) -> Result<CurveFit, Refused> {
        let samples: Vec<SizeSamples> = sizes
            .iter()
            .map(|size| SizeSamples {
                message_bytes: size.message_bytes,
                seconds: size.seconds.clone(),
            })
            .collect();
        let fit = fit_curve(&samples, &self.streams, about).map_err(Refused::of(about))?;
        if sizes.len() < SIZES_WISHED {
            let message = format!(
                "{} sizes were measured, and fewer than {SIZES_WISHED} may hide where the protocol \
                 changes: measure more sizes",
                sizes.len()
            );
            self.warn("too-few-sizes", about, message);
        }
        for found in series::falls(&fit) {
            self.warn(found.code(), about, found);
        }
        // Of all sizes, how many were slow at first: once is chance.
        let slow = sizes.iter().filter(|size| series::warm_up(&size.seconds).is_some()).count();
        if slow > sizes.len() / 2 {
            let message = format!(
                "the first repeats of {slow} of {} sizes were slow: warm up for longer",
                sizes.len()
            );
            self.warn("warm-up", about, message);
        }
        let drifts: Vec<f64> = sizes
            .iter()
            .filter_map(|size| match series::drift(&size.seconds) {
                Some(series::Finding::Drift { relative_change, .. }) => Some(relative_change),
                _ => None,
            })
            .collect();
        if drifts.len() > sizes.len() / 2 {
            let mean = 100.0 * drifts.iter().sum::<f64>() / drifts.len() as f64;
            let message = format!(
                "{} of {} sizes changed by {mean:.1} % on average from the first repeat to the last: \
                 measure again once clocks and temperature are steady",
                drifts.len(),
                sizes.len()
            );
            self.warn("drift", about, message);
        }
        Ok(fit)
    }

    /// The medians of whole all-reduces.
    pub(super) fn collectives(&mut self) -> Result<Vec<CollectiveProfile>, Refused> {
        let all = self.measurements.collectives.iter();
        all.map(|series| {
            let CollectiveSeries { all_reduce, ranks, ranks_per_node, sizes } = series;
            let points =
                sizes.iter().map(|size| point(size, &format!("all-reduce by {all_reduce}")));
            Ok(CollectiveProfile {
                all_reduce: *all_reduce,
                ranks: *ranks,
                ranks_per_node: *ranks_per_node,
                points: points.collect::<Result<Vec<_>, _>>()?,
            })
        })
        .collect()
    }
}

fn point(size: &SizeSeries, about: &str) -> Result<CurvePoint, Refused> {
    let SizeSeries { message_bytes, seconds } = size;
    let time = match seconds.as_slice() {
        // A table of medians, as others print it.
        [only] if only.is_finite() && *only > 0.0 => Some(Estimate::exact(*only)),
        all => median_estimate(all),
    };
    let time = time.ok_or_else(|| {
        let reason = format!(
            "{} repeats of {message_bytes} bytes, of which one is not a time above 0, or there are \
             none: measure again",
            seconds.len()
        );
        Refused::new(about, reason)
    })?;
    let repeats = seconds.len() as u32;
    Ok(CurvePoint { message_bytes: *message_bytes, time_us: time.scaled(1e6), repeats })
}

/// A link of sizes that are too few or too close together for a curve: t = S/B, with the median of S/t
/// over all repeats.
fn proportional(sizes: &[SizeSeries], about: &str) -> Result<LinkProfile, Refused> {
    let per_byte = |size: &SizeSeries| -> Vec<f64> {
        let bytes = size.message_bytes as f64;
        size.seconds.iter().map(|seconds| seconds / bytes).collect()
    };
    let all: Vec<f64> = sizes.iter().flat_map(per_byte).collect();
    let seconds_per_byte = median_estimate(&all).ok_or_else(|| {
        let reason = format!(
            "{} times of messages, expected at least 2, each above 0: record more steps",
            all.len()
        );
        Refused::new(about, reason)
    })?;
    let held_out: Vec<f64> = (0..sizes.len())
        .map(|left_out| {
            let others = sizes.iter().enumerate().filter(|(index, _)| *index != left_out);
            let others: Vec<f64> = others.flat_map(|(_, size)| per_byte(size)).collect();
            100.0 * (median(&others) / median(&per_byte(&sizes[left_out])) - 1.0).abs()
        })
        .filter(|percent| percent.is_finite())
        .collect();
    let bytes = || sizes.iter().map(|size| size.message_bytes);
    Ok(LinkProfile {
        ranges: vec![LinkRange {
            from_bytes: 0,
            latency_us: Estimate::exact(0.0),
            gbyte_per_s: rate(seconds_per_byte).scaled(1e-9),
        }],
        held_out: HeldOutError {
            points: held_out.len() as u32,
            median_percent: if held_out.is_empty() { 0.0 } else { median(&held_out) },
            max_percent: held_out.iter().copied().fold(0.0, f64::max),
        },
        measured_bytes: (bytes().min().unwrap_or(0), bytes().max().unwrap_or(0)),
    })
}

/// A curve as a profile has it.
fn profile(fit: &CurveFit) -> LinkProfile {
    let ranges = fit.segments.iter().enumerate().map(|(index, segment)| LinkRange {
        // The first holds for smaller messages too.
        from_bytes: if index == 0 { 0 } else { segment.from_bytes },
        latency_us: segment.latency_s.scaled(1e6),
        gbyte_per_s: rate(segment.seconds_per_byte).scaled(1e-9),
    });
    let held_out = &fit.held_out;
    LinkProfile {
        ranges: ranges.collect(),
        held_out: HeldOutError {
            points: held_out.points as u32,
            median_percent: 100.0 * held_out.median_abs_relative_error,
            max_percent: 100.0 * held_out.max_abs_relative_error,
        },
        measured_bytes: (fit.smallest_bytes, fit.largest_bytes),
    }
}

/// Where messages take no more time for more bytes, no rate can be told: as fast as anything is.
const SECONDS_PER_BYTE_MIN: f64 = 1e-15;

fn rate(seconds_per_byte: Estimate) -> Estimate {
    let Estimate { value, low, high } = seconds_per_byte;
    let least = |value: f64| value.max(SECONDS_PER_BYTE_MIN);
    Estimate { value: least(value), low: least(low), high: least(high) }.inverse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_training_are_proportional_by_hand() {
        // 2 and 4 ns a byte: in the middle of the four repeats, in logarithms, are √8 ns.
        let size = |message_bytes: u64, ns_per_byte: f64| {
            let seconds = vec![1e-9 * ns_per_byte * message_bytes as f64; 2];
            SizeSeries { message_bytes, seconds }
        };
        let link = proportional(&[size(1000, 2.0), size(3000, 4.0)], "link").unwrap();
        assert_eq!((link.ranges.len(), link.ranges[0].latency_us), (1, Estimate::exact(0.0)));
        assert!((link.ranges[0].gbyte_per_s.value - 8_f64.sqrt().recip()).abs() < 1e-12);
        let HeldOutError { points, median_percent, max_percent } = link.held_out;
        // The larger foretells twice the smaller, the smaller half of the larger.
        assert_eq!(points, 2);
        assert!((median_percent - 75.0).abs() < 1e-9 && (max_percent - 100.0).abs() < 1e-9);
        assert_eq!(link.measured_bytes, (1000, 3000));
        let refused = proportional(&[], "link").unwrap_err().to_string();
        assert!(refused.starts_with("link: 0 times of messages"), "{refused}");
    }
}
