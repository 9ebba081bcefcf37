//! Lines through medians, and where one line ends and the next begins.
//!
//! A message of S bytes takes t = α + β·S (Hockney, "The communication challenge for MPP",
//! Parallel Computing 20, 1994), with another α and β in each protocol of the library. Sizes span
//! eight orders of magnitude, so errors are relative: a line minimises Σ ρ(u), u = ln(t/(α + β·S))/s,
//! where s is the relative standard deviation of t and ρ is Huber's ("Robust estimation of a location
//! parameter", Annals of Mathematical Statistics 35, 1964): u²/2 up to k, k·|u| − k²/2 beyond.

use std::ops::Range;

/// Huber's k: 95 % as efficient as least squares where the noise is normal.
const HUBER: f64 = 1.345;

/// The fewest sizes of a segment: some protocols serve no more of the sizes that are measured by
/// doubling. Of the published all-reduces, sizes left out are foretold better with two than with
/// three.
pub(super) const FEWEST_SIZES: usize = 2;

/// So many sizes a segment are measured on average at least, so that some remain, beyond the two
/// that any line passes through, to say how wrong the lines are.
const SIZES_PER_SEGMENT: usize = 3;

/// More protocols than any library has; a limit on the search.
const MOST_SEGMENTS: usize = 8;

/// Lines are refined until no time moves by more than this, relatively.
const CONVERGED: f64 = 1e-8;

const MOST_ROUNDS: usize = 50;

/// The median time of one size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// S.
    pub(super) bytes: f64,
    /// ln t.
    pub(super) ln_seconds: f64,
    /// s, the standard deviation of ln t.
    pub(super) deviation: f64,
}

/// α and β of one segment, neither negative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Line {
    pub(super) latency_s: f64,
    pub(super) seconds_per_byte: f64,
}

impl Line {
    pub(super) fn seconds(&self, bytes: f64) -> f64 {
        self.latency_s + self.seconds_per_byte * bytes
    }

    /// ln(t / (α + β·S)).
    pub(super) fn residual(&self, point: &Point) -> f64 {
        point.ln_seconds - self.seconds(point.bytes).ln()
    }
}

fn huber_loss(u: f64) -> f64 {
    let u = u.abs();
    if u <= HUBER { u * u / 2.0 } else { HUBER * u - HUBER * HUBER / 2.0 }
}

/// The line through `points`, by iteratively reweighted least squares from `start`.
///
/// Each round is a step of Gauss and Newton: to first order ln t − ln f = (z − f)/f with
/// z = f·(1 + ln(t/f)), which makes a linear regression of z with weights h/(f·s)²; h = min(1, k/|u|).
pub(super) fn line(points: &[Point], start: Option<Line>) -> Line {
    let mut terms: Vec<Term> = Vec::with_capacity(points.len());
    let mut line = start.unwrap_or_else(|| {
        terms.extend(points.iter().map(|point| {
            let seconds = point.ln_seconds.exp();
            Term { x: point.bytes, y: seconds, weight: (seconds * point.deviation).powi(-2) }
        }));
        weighted_line(&terms)
    });
    for _ in 0..MOST_ROUNDS {
        terms.clear();
        terms.extend(points.iter().map(|point| {
            let fitted = line.seconds(point.bytes);
            let residual = line.residual(point);
            let weight = (HUBER * point.deviation / residual.abs()).min(1.0);
            Term {
                x: point.bytes,
                // Far from the line the first order misleads; no step goes further than that.
                y: fitted * (1.0 + residual.clamp(-1.0, 1.0)),
                weight: weight * (fitted * point.deviation).powi(-2),
            }
        }));
        let next = weighted_line(&terms);
        let moved = points.iter().map(|point| {
            let before = line.seconds(point.bytes);
            ((next.seconds(point.bytes) - before) / before).abs()
        });
        let moved = moved.fold(0.0, f64::max);
        line = next;
        if moved <= CONVERGED {
            break;
        }
    }
    line
}

struct Term {
    x: f64,
    y: f64,
    weight: f64,
}

/// The least squares of y = α + β·x with α ≥ 0 and β ≥ 0.
fn weighted_line(terms: &[Term]) -> Line {
    let sum = |of: fn(&Term) -> f64| terms.iter().map(|term| term.weight * of(term)).sum::<f64>();
    let weights = sum(|_| 1.0);
    let (mean_x, mean_y) = (sum(|term| term.x) / weights, sum(|term| term.y) / weights);
    let (mut squares, mut products) = (0.0, 0.0);
    for Term { x, y, weight } in terms {
        squares += weight * (x - mean_x) * (x - mean_x);
        products += weight * (x - mean_x) * (y - mean_y);
    }
    let seconds_per_byte = products / squares;
    let latency_s = mean_y - seconds_per_byte * mean_x;
    // Where the best line breaks one bound, the best within the bounds lies on that bound.
    if seconds_per_byte.is_nan() || seconds_per_byte < 0.0 {
        Line { latency_s: mean_y, seconds_per_byte: 0.0 }
    } else if latency_s < 0.0 {
        let squares = sum(|term| term.x * term.x);
        Line { latency_s: 0.0, seconds_per_byte: sum(|term| term.x * term.y) / squares }
    } else {
        Line { latency_s, seconds_per_byte }
    }
}

/// The segments of `points`, ascending in size, that have the least Bayesian information
/// criterion: 2·Σ ρ(u) + (3K − 1)·ln N of N sizes and K segments, each with α and β, and K − 1
/// switches (Schwarz, "Estimating the dimension of a model", Annals of Statistics 6, 1978).
///
/// The best K segments of the first n points are the best K − 1 of the first m and the line
/// through the others, for the best m (Bai and Perron, "Computation and analysis of multiple
/// structural change models", Journal of Applied Econometrics 18, 2003).
pub(super) fn segments(points: &[Point]) -> Vec<(Range<usize>, Line)> {
    let n = points.len();
    let mut losses = vec![vec![f64::INFINITY; n + 1]; n];
    for (start, losses) in losses.iter_mut().enumerate() {
        for end in start + FEWEST_SIZES..=n {
            let points = &points[start..end];
            let line = line(points, None);
            let loss = |point: &Point| huber_loss(line.residual(point) / point.deviation);
            losses[end] = points.iter().map(loss).sum();
        }
    }
    // least[k][end]: the loss of k + 1 segments of the first `end` points, and where the last of
    // them starts.
    let mut least: Vec<Vec<(f64, usize)>> = vec![losses[0].iter().map(|&loss| (loss, 0)).collect()];
    while least.len() < MOST_SEGMENTS.min(n / SIZES_PER_SEGMENT) {
        let before = &least[least.len() - 1];
        let cut = |end| {
            (0..end)
                .map(|start| (before[start].0 + losses[start][end], start))
                .min_by(|a, b| a.0.total_cmp(&b.0))
                .unwrap_or((f64::INFINITY, 0))
        };
        let next = (0..=n).map(cut).collect();
        least.push(next);
    }
    let criterion = |k: usize| 2.0 * least[k][n].0 + (3 * k + 2) as f64 * (n as f64).ln();
    let mut k =
        (0..least.len()).min_by(|&a, &b| criterion(a).total_cmp(&criterion(b))).unwrap_or_default();
    let mut ranges = Vec::new();
    let mut end = n;
    loop {
        let start = least[k][end].1;
        ranges.push((start..end, line(&points[start..end], None)));
        if k == 0 {
            break;
        }
        (end, k) = (start, k - 1);
    }
    ranges.reverse();
    ranges
}

/// Where the library changes its protocol: the geometric middle between the last size of a segment
/// and the first of the next, since sizes are measured by doubling.
pub(super) fn switch_bytes(last: f64, next: f64) -> f64 {
    (last * next).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[(f64, f64)]) -> Vec<Point> {
        let point = |&(bytes, seconds): &(f64, f64)| Point {
            bytes,
            ln_seconds: f64::ln(seconds),
            deviation: 0.02,
        };
        values.iter().map(point).collect()
    }

    /// Two equations, two unknowns: 3 = α + 1·β, 7 = α + 3·β; so β = 2 and α = 1.
    #[test]
    fn a_line_passes_through_two_points() {
        let line = line(&points(&[(1.0, 3.0), (3.0, 7.0)]), None);
        assert!((line.latency_s - 1.0).abs() < 1e-9 && (line.seconds_per_byte - 2.0).abs() < 1e-9);
    }

    /// Unbounded, α of (1, 1), (2, 3) would be −1. With α = 0, Σ ln²(t/(β·S)) is least where
    /// ln β is the mean of ln 1 and ln 1.5 (with s large enough that no point is an outlier).
    #[test]
    fn a_latency_below_zero_is_zero() {
        let mut points = points(&[(1.0, 1.0), (2.0, 3.0)]);
        points.iter_mut().for_each(|point| point.deviation = 1.0);
        let line = line(&points, None);
        assert_eq!(line.latency_s, 0.0);
        assert!((line.seconds_per_byte - 1.5_f64.sqrt()).abs() < 1e-9, "{line:?}");
    }

    #[test]
    fn a_falling_line_is_flat() {
        let line = line(&points(&[(1.0, 1.01), (2.0, 1.0), (4.0, 0.99)]), None);
        assert_eq!(line.seconds_per_byte, 0.0);
        assert!((line.latency_s - 1.0).abs() < 1e-3);
    }

    #[test]
    fn one_size_off_the_line_hardly_moves_it() {
        let mut values: Vec<_> = (0..12).map(|n| f64::from(1 << n)).map(|s| (s, 5.0 + s)).collect();
        values[6].1 *= 1.5;
        let line = line(&points(&values), None);
        assert!((line.latency_s / 5.0 - 1.0).abs() < 0.01, "{line:?}");
        assert!((line.seconds_per_byte - 1.0).abs() < 0.01, "{line:?}");
    }

    #[test]
    fn a_jump_starts_a_segment_and_its_absence_does_not() {
        let sizes = (0..12).map(|n| f64::from(1 << n));
        let found = |jump: f64| {
            let time = |s: f64| if s < 60.0 { 5.0 + s } else { jump + s };
            let values: Vec<_> = sizes.clone().map(|s| (s, time(s))).collect();
            segments(&points(&values))
                .into_iter()
                .map(|(range, _)| (range.start, range.end))
                .collect::<Vec<_>>()
        };
        assert_eq!(found(5.0), [(0, 12)]);
        assert_eq!(found(90.0), [(0, 6), (6, 12)]);
    }
}
