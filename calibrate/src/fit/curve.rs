//! Curves of time against message size, with the library's protocol switches.
//!
//! From repeats of each size to a curve: outliers are rejected and medians taken; the sizes are cut
//! into segments, each a line t = α + β·S, by dynamic programming and the Bayesian information
//! criterion; intervals come from a bootstrap of the repeats of each size, the segments kept, to
//! which model error is added where the medians, or sizes left out of the fit, lie further from the
//! lines than noise explains. Sizes left out must be foretold from the others, or the curve is
//! refused.
//!
//! Left out: model error that is smaller than the noise of the medians, which nothing can show but
//! more repeats; that the place of a switch is uncertain (a size between the last of a segment and
//! the first of the next may follow either), and that noise may be common to all sizes of a session.
//!
//! The curve may fall at a switch, as real libraries do where a protocol comes in too late. It is
//! kept as measured; [`crate::fit::series::falls`] says where.

use foretrain_sim::random::Streams;
use serde::Serialize;

use super::Refusal;
use super::estimate::{Estimate, RESAMPLES, from_draws};
use super::noise::{MedianDraws, Noise, held_out_model_deviation, model_deviation, normal};
use super::robust::{Kept, median, reject_outliers};
use super::segments::{Line, Point, line, segments, switch_bytes};

/// The fewest distinct sizes of a curve.
pub const FEWEST_SIZES: usize = 4;

/// The largest size is at least so many times the smallest.
pub const LEAST_RANGE: u64 = 8;

/// From so many repeats on, outliers can be told from noise.
pub const ENOUGH_REPEATS: usize = 5;

/// Fewer repeats than that differ by less than this factor, or are refused.
pub const LARGEST_SPREAD: f64 = 1.5;

/// The largest median error of sizes that were left out.
pub const HELD_OUT_LIMIT: f64 = 0.25;

/// A line misses the median of a size by about so much, relatively, however often it is repeated:
/// what chunking and launching add is no line. Only the choice of segments uses it, so that they do
/// not multiply as repeats grow; intervals take model error from the measurement.
pub const MODEL_ERROR: f64 = 0.02;

/// Repeats of one message size.
#[derive(Debug, Clone, PartialEq)]
pub struct SizeSamples {
    /// The size.
    pub message_bytes: u64,
    /// How long each repeat took, in any order.
    pub seconds: Vec<f64>,
}

/// One protocol: t = α + β·S.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Segment {
    /// The smallest message of the segment; 0 in the first.
    pub from_bytes: u64,
    /// How many sizes were measured in it.
    pub sizes: usize,
    /// α.
    pub latency_s: Estimate,
    /// β, the inverse of the bandwidth; 0 where the time does not grow.
    pub seconds_per_byte: Estimate,
    #[serde(skip)]
    draws: Vec<Line>,
}

impl Segment {
    fn line(&self) -> Line {
        Line { latency_s: self.latency_s.value, seconds_per_byte: self.seconds_per_byte.value }
    }
}

/// How well sizes are foretold that were left out of the fit, one after the other, and all else
/// done again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HeldOut {
    /// How many sizes were left out.
    pub points: usize,
    /// The median of |predicted/measured − 1|.
    pub median_abs_relative_error: f64,
    /// The largest: at a switch, as a size next to one may be taken for the other protocol's.
    pub max_abs_relative_error: f64,
}

impl HeldOut {
    /// Of ln of times over those foretold.
    fn new(residuals: &[f64]) -> Self {
        let errors: Vec<f64> =
            residuals.iter().map(|residual| ((-residual).exp() - 1.0).abs()).collect();
        Self {
            points: errors.len(),
            median_abs_relative_error: median(&errors),
            max_abs_relative_error: errors.iter().copied().fold(0.0, f64::max),
        }
    }
}

/// A curve of time against message size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CurveFit {
    /// The protocols, ascending in size.
    pub segments: Vec<Segment>,
    /// The smallest message measured: below, the first segment is extrapolated.
    pub smallest_bytes: u64,
    /// The largest message measured: above, the last segment is extrapolated.
    pub largest_bytes: u64,
    /// How well left-out sizes are foretold.
    pub held_out: HeldOut,
    /// The relative standard deviation of one repeat, outliers rejected; 0 without repeats.
    pub noise: f64,
    /// The relative standard deviation of sizes from the lines beyond what noise explains; 0 where
    /// noise explains all.
    pub model_error: f64,
    /// How many repeats were rejected as outliers.
    pub rejected: usize,
    /// Relative model errors, as many as lines were drawn.
    #[serde(skip)]
    model_factors: Vec<f64>,
}

impl CurveFit {
    /// The time of a message of `message_bytes`, in seconds.
    #[must_use]
    pub fn seconds(&self, message_bytes: u64) -> f64 {
        self.segment(message_bytes).map_or(f64::NAN, |at| at.line().seconds(message_bytes as f64))
    }

    /// The time of a message of `message_bytes`, in seconds, with its interval.
    #[must_use]
    pub fn estimate(&self, message_bytes: u64) -> Estimate {
        let draws = self.segment(message_bytes).map_or(&[][..], |segment| &segment.draws);
        let bytes = message_bytes as f64;
        let draws: Vec<f64> = draws
            .iter()
            .zip(&self.model_factors)
            .map(|(line, factor)| line.seconds(bytes) * factor)
            .collect();
        from_draws(self.seconds(message_bytes), &draws)
    }

    fn segment(&self, message_bytes: u64) -> Option<&Segment> {
        self.segments.iter().rfind(|segment| segment.from_bytes <= message_bytes)
    }
}

/// One measured size.
struct Size {
    message_bytes: u64,
    kept: Kept,
}

/// Fits a curve to `samples`, whose sizes and repeats may come in any order: the result is the same
/// bit for bit. `name` says what was measured and keys the random numbers of the intervals.
///
/// # Errors
///
/// A [`Refusal`] where the measurement says too little.
pub fn fit_curve(
    samples: &[SizeSamples],
    streams: &Streams,
    name: &str,
) -> Result<CurveFit, Refusal> {
    let sizes = sizes(samples)?;
    let kept: Vec<Kept> = sizes.iter().map(|size| size.kept.clone()).collect();
    let noise = Noise::pooled(&kept);
    let mut draws = median_draws(&sizes, &noise, streams, name);
    let points: Vec<Point> = sizes
        .iter()
        .zip(&draws)
        .map(|(size, draws)| Point {
            bytes: size.message_bytes as f64,
            ln_seconds: size.kept.ln_median(),
            deviation: root_mean_square(draws).hypot(MODEL_ERROR),
        })
        .collect();
    let cut = segments(&points);

    let deviations: Vec<f64> = draws.iter().map(|draws| root_mean_square(draws)).collect();
    let residuals: Vec<(f64, f64)> = cut
        .iter()
        .flat_map(|(range, line)| range.clone().map(move |at| (at, line)))
        .map(|(at, line)| (line.residual(&points[at]), deviations[at]))
        .collect();
    let held_out = held_out_residuals(&points);
    let parameters = 2 * cut.len();
    let model_error = model_deviation(&residuals, parameters).max(held_out_model_deviation(
        &held_out,
        &deviations,
        parameters,
    ));
    if model_error > 0.0 {
        add_model_error(&mut draws, &sizes, model_error, streams, name);
    }

    let segments = cut
        .iter()
        .map(|(range, fitted)| {
            let mut perturbed = points[range.clone()].to_vec();
            let lines: Vec<Line> = (0..RESAMPLES)
                .map(|draw| {
                    for (at, point) in range.clone().zip(&mut perturbed) {
                        point.ln_seconds = points[at].ln_seconds + draws[at][draw];
                    }
                    line(&perturbed, Some(*fitted))
                })
                .collect();
            let of = |value, part: fn(&Line) -> f64| {
                from_draws(value, &lines.iter().map(part).collect::<Vec<_>>())
            };
            Segment {
                from_bytes: first_bytes(&points, range.start),
                sizes: range.len(),
                latency_s: of(fitted.latency_s, |line| line.latency_s),
                seconds_per_byte: of(fitted.seconds_per_byte, |line| line.seconds_per_byte),
                draws: lines,
            }
        })
        .collect();

    let mut stream = streams.stream(name, "model error");
    let fit = CurveFit {
        segments,
        smallest_bytes: sizes.first().map_or(0, |size| size.message_bytes),
        largest_bytes: sizes.last().map_or(0, |size| size.message_bytes),
        held_out: HeldOut::new(&held_out),
        noise: noise.deviation,
        model_error,
        rejected: kept.iter().map(|kept| kept.rejected).sum(),
        model_factors: (0..RESAMPLES).map(|_| (model_error * normal(&mut stream)).exp()).collect(),
    };
    accepted(fit, &sizes)
}

/// The sizes in ascending order, checked, and without outliers.
fn sizes(samples: &[SizeSamples]) -> Result<Vec<Size>, Refusal> {
    let mut samples: Vec<&SizeSamples> = samples.iter().collect();
    samples.sort_by_key(|samples| samples.message_bytes);
    let sizes = samples
        .chunk_by(|a, b| a.message_bytes == b.message_bytes)
        .map(|rows| {
            let seconds: Vec<f64> =
                rows.iter().flat_map(|row| row.seconds.iter().copied()).collect();
            checked(rows[0].message_bytes, &seconds)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let (Some(first), Some(last)) = (sizes.first(), sizes.last()) else {
        return Err(Refusal::TooFewSizes { found: 0, expected: FEWEST_SIZES });
    };
    if sizes.len() < FEWEST_SIZES {
        return Err(Refusal::TooFewSizes { found: sizes.len(), expected: FEWEST_SIZES });
    }
    let (smallest_bytes, largest_bytes) = (first.message_bytes, last.message_bytes);
    if largest_bytes / LEAST_RANGE < smallest_bytes {
        let expected_ratio = LEAST_RANGE;
        return Err(Refusal::TooNarrow { smallest_bytes, largest_bytes, expected_ratio });
    }
    Ok(sizes)
}

fn checked(message_bytes: u64, seconds: &[f64]) -> Result<Size, Refusal> {
    if message_bytes == 0 {
        return Err(Refusal::EmptyMessage);
    }
    if seconds.is_empty() {
        return Err(Refusal::NoTimes { message_bytes });
    }
    if let Some(&seconds) = seconds.iter().find(|value| !(value.is_finite() && **value > 0.0)) {
        return Err(Refusal::BadTime { message_bytes, seconds });
    }
    let repeats = seconds.len();
    let (fastest, slowest) = seconds
        .iter()
        .fold((f64::INFINITY, 0.0_f64), |(low, high), &value| (low.min(value), high.max(value)));
    if repeats < ENOUGH_REPEATS && slowest / fastest >= LARGEST_SPREAD {
        return Err(Refusal::TooFewRepeats {
            message_bytes,
            repeats,
            slowest_over_fastest: slowest / fastest,
            limit: LARGEST_SPREAD,
            expected_repeats: ENOUGH_REPEATS,
        });
    }
    Ok(Size { message_bytes, kept: reject_outliers(seconds) })
}

/// The smallest message of the segment that starts with the point at `start`.
fn first_bytes(points: &[Point], start: usize) -> u64 {
    let before = start.checked_sub(1);
    before
        .map_or(0, |before| switch_bytes(points[before].bytes, points[start].bytes).round() as u64)
}

/// How much ln of each size's median might differ, so many times. Each size has random numbers of
/// its own.
fn median_draws(sizes: &[Size], noise: &Noise, streams: &Streams, name: &str) -> Vec<Vec<f64>> {
    let mut medians = MedianDraws::new(noise);
    let mut draws = |(at, size): (usize, &Size)| {
        let mut stream = streams.stream(name, &format!("repeats of {} bytes", size.message_bytes));
        medians.draw(at, size.kept.ln_seconds.len(), RESAMPLES, &mut stream)
    };
    sizes.iter().enumerate().map(&mut draws).collect()
}

fn add_model_error(
    draws: &mut [Vec<f64>],
    sizes: &[Size],
    model_error: f64,
    streams: &Streams,
    name: &str,
) {
    for (draws, size) in draws.iter_mut().zip(sizes) {
        let purpose = format!("model error at {} bytes", size.message_bytes);
        let mut stream = streams.stream(name, &purpose);
        draws.iter_mut().for_each(|draw| *draw += model_error * normal(&mut stream));
    }
}

fn root_mean_square(values: &[f64]) -> f64 {
    (values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64).sqrt()
}

/// ln of each size's time over what the other sizes foretell.
fn held_out_residuals(points: &[Point]) -> Vec<f64> {
    let error = |left_out: usize| {
        let mut others = points.to_vec();
        let point = others.remove(left_out);
        let cut = segments(&others);
        cut.iter()
            .rfind(|(range, _)| first_bytes(&others, range.start) as f64 <= point.bytes)
            .map_or(f64::NAN, |(_, line)| line.residual(&point))
    };
    (0..points.len()).map(error).collect()
}

/// Refuses a curve that says too little.
fn accepted(fit: CurveFit, sizes: &[Size]) -> Result<CurveFit, Refusal> {
    for size in sizes {
        let Estimate { value, low, high } = fit.estimate(size.message_bytes);
        if high - low > value {
            return Err(Refusal::TooNoisy {
                message_bytes: size.message_bytes,
                seconds: value,
                low_s: low,
                high_s: high,
            });
        }
    }
    let median_abs_relative_error = fit.held_out.median_abs_relative_error;
    if median_abs_relative_error > HELD_OUT_LIMIT {
        return Err(Refusal::HeldOut { median_abs_relative_error, limit: HELD_OUT_LIMIT });
    }
    Ok(fit)
}
