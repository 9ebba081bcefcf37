//! What a comparison found.

use std::fmt;

use foretrain_sim::recording::NumberFormat;
use serde::Serialize;

use crate::plan::Kind;

/// Norms of less than this part of what they are computed with count as this part: a bias before a
/// batch norm has a gradient that is 0 but for rounding.
pub(super) const FLOOR: f64 = 1e-4;

/// How far a tensor may be away, as a part of its norm.
///
/// Both sides compute from the same rounded numbers. A result is rounded once or twice in the device's
/// format, each time by at most u (2⁻¹¹ in f16, 2⁻⁸ in bf16), and cuDNN is free to choose algorithms
/// that round in between, as Winograd's do. 20 u is 1e-2 in f16, and 8 times that in bf16, which has
/// 3 bits of fraction less. In single precision 20 u would be 1.2e-6, but there sums of different
/// order over up to 10⁶ terms differ by far more than the results are rounded.
#[must_use]
pub const fn limit(format: NumberFormat) -> f64 {
    match format {
        NumberFormat::F16 => 1e-2,
        NumberFormat::Bf16 => 8e-2,
        NumberFormat::F32 => 1e-3,
    }
}

/// Single elements may be away this many times as far, as a part of their own size and of their
/// tensor's root mean square together.
pub(super) const ELEMENT_FACTOR: f64 = 4.0;

/// Which way an instruction was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Forward in training.
    Forward,
    /// Backward.
    Backward,
    /// Forward in evaluation.
    Evaluation,
}

impl Direction {
    /// The name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Evaluation => "evaluation",
        }
    }
}

/// One tensor that an instruction left on both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The instruction's number in forward order.
    pub instruction: usize,
    /// The instruction's name.
    pub name: String,
    /// What it computes, such as `batch norm`.
    pub operation: &'static str,
    /// Which way it was run.
    pub direction: Direction,
    /// What was compared, such as `gradient of input` or a parameter's name.
    pub tensor: String,
    /// Its elements.
    pub elements: usize,
    /// ‖device − CPU‖ / ‖CPU‖; no number (`null` in files) if a result is not finite.
    pub error: f64,
    /// The largest |device − CPU| / (|CPU| + the root mean square of all) of an element; as above.
    pub element_error: f64,
    /// What `error` must not exceed, and `element_error` not [four times](Self::is_within_limit).
    pub limit: f64,
}

impl Comparison {
    /// How near the limit it is; above 1 it is beyond.
    #[must_use]
    pub fn strain(&self) -> f64 {
        let strain =
            (self.error / self.limit).max(self.element_error / (ELEMENT_FACTOR * self.limit));
        if self.error.is_finite() && self.element_error.is_finite() {
            strain
        } else {
            f64::INFINITY
        }
    }

    /// Whether both errors are numbers and not too large: the tensor's by its limit, an element's by
    /// four times the limit.
    #[must_use]
    pub fn is_within_limit(&self) -> bool {
        self.strain() <= 1.0
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (direction, limit) = (self.direction.name(), self.limit);
        write!(
            formatter,
            "`{}` {direction} ({}), {}: {:.1e} of {limit:.0e}, an element {:.1e} of {:.0e}",
            self.name,
            self.operation,
            self.tensor,
            self.error,
            self.element_error,
            ELEMENT_FACTOR * limit,
        )
    }
}

/// All that was compared of one network in one format.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lockstep {
    /// The device's format.
    pub format: NumberFormat,
    /// Images of the passes.
    pub images: usize,
    /// What images, labels and weights follow from.
    pub seed: u64,
    /// Every tensor, in the order in which they were computed.
    pub comparisons: Vec<Comparison>,
}

impl Lockstep {
    /// What is nearest to its limit, or farthest beyond.
    #[must_use]
    pub fn worst(&self) -> Option<&Comparison> {
        self.comparisons.iter().max_by(|a, b| a.strain().total_cmp(&b.strain()))
    }

    /// What is beyond its limit.
    pub fn missed(&self) -> impl Iterator<Item = &Comparison> {
        self.comparisons.iter().filter(|comparison| !comparison.is_within_limit())
    }

    /// Whether something was compared and all of it is within its limit.
    #[must_use]
    pub fn passed(&self) -> bool {
        !self.comparisons.is_empty() && self.missed().next().is_none()
    }
}

/// ‖b − a‖ / ‖a‖ and the largest element's error; `least_norm` is what ‖a‖ counts as at least.
pub(super) fn errors(a: &[f32], b: &[f32], least_norm: f64) -> (f64, f64) {
    if a.len() != b.len() {
        return (f64::NAN, f64::NAN);
    }
    // What is infinite on the CPU is compared with nothing.
    let norm = norm(a).max(least_norm).max(f64::MIN_POSITIVE);
    let mean_square_root = norm / (a.len().max(1) as f64).sqrt();
    let (mut square_sum, mut worst) = (0.0, 0.0_f64);
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (f64::from(a), f64::from(b));
        let error = (b - a).abs();
        square_sum += error * error;
        let of_element = error / (a.abs() + mean_square_root);
        // `max` would lose what is no number.
        if of_element.is_nan() || of_element > worst {
            worst = of_element;
        }
        if worst.is_nan() {
            return (f64::NAN, f64::NAN);
        }
    }
    (square_sum.sqrt() / norm, worst)
}

/// ‖a‖.
pub(super) fn norm(a: &[f32]) -> f64 {
    a.iter().map(|&a| f64::from(a).powi(2)).sum::<f64>().sqrt()
}

/// What an instruction computes, in words.
pub(super) const fn operation(kind: &Kind) -> &'static str {
    match kind {
        Kind::Convolution { .. } => "convolution",
        Kind::BatchNorm { .. } => "batch norm",
        Kind::Relu { .. } => "ReLU",
        Kind::Dropout { .. } => "dropout",
        Kind::MaxPool { .. } => "max pool",
        Kind::GlobalAveragePool { .. } => "average pool",
        Kind::Linear { .. } => "linear",
        Kind::Loss { .. } => "loss",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_by_hand() {
        // ‖a‖ = 5, ‖b − a‖ = 1; the root mean square is 5 / √2.
        let (error, of_element) = errors(&[3.0, 4.0], &[3.0, 5.0], 0.0);
        assert!((error - 0.2).abs() < 1e-12);
        assert!((of_element - 1.0 / (4.0 + 12.5_f64.sqrt())).abs() < 1e-12);
        // As if ‖a‖ were 100.
        let (error, of_element) = errors(&[3.0, 4.0], &[3.0, 5.0], 100.0);
        assert!((error - 0.01).abs() < 1e-12);
        assert!((of_element - 1.0 / (4.0 + 5000_f64.sqrt())).abs() < 1e-12);
        assert_eq!(errors(&[0.0; 3], &[0.0; 3], 0.0), (0.0, 0.0));
        assert!(errors(&[0.0; 3], &[0.0, 0.0, 1e-6], 0.0).0 > 1e100);
        for (a, b) in [
            (&[1.0, 2.0][..], &[f32::NAN, 2.0][..]),
            (&[f32::NAN, 2.0], &[1.0, 2.0]),
            (&[f32::INFINITY, 2.0], &[f32::INFINITY, 2.0]),
            (&[1.0, 2.0], &[f32::INFINITY, 2.0]),
            (&[1.0, 2.0], &[1.0]),
        ] {
            let (error, of_element) = errors(a, b, 0.0);
            assert!(!error.is_finite() || !of_element.is_finite(), "{a:?}, {b:?}");
        }
    }

    /// One element of many hardly changes a norm, but is seen alone.
    #[test]
    fn a_single_element_is_noticed() {
        let a = vec![1.0; 1 << 20];
        let mut b = a.clone();
        b[77] = 2.0;
        let (error, of_element) = errors(&a, &b, 0.0);
        assert!(error < 1.1e-3 && (of_element - 0.5).abs() < 1e-6, "{error} {of_element}");
        let least = ELEMENT_FACTOR * limit(NumberFormat::Bf16);
        assert!(error < limit(NumberFormat::F16) && of_element > least);
    }

    fn comparison(error: f64, element_error: f64) -> Comparison {
        Comparison {
            instruction: 3,
            name: "conv1".to_owned(),
            operation: "convolution",
            direction: Direction::Backward,
            tensor: "output".to_owned(),
            elements: 7,
            error,
            element_error,
            limit: 1e-2,
        }
    }

    #[test]
    fn both_errors_must_be_within_their_limits() {
        for (error, element_error, is_within) in [
            (0.0, 0.0, true),
            (1e-2, 4e-2, true),
            (1.1e-2, 0.0, false),
            (0.0, 4.1e-2, false),
            (f64::NAN, 0.0, false),
            (0.0, f64::NAN, false),
            (f64::INFINITY, 0.0, false),
        ] {
            let comparison = comparison(error, element_error);
            assert_eq!(comparison.is_within_limit(), is_within, "{comparison}");
        }
    }

    #[test]
    fn the_worst_is_named_and_no_number_is_worst() {
        let mut found =
            Lockstep { format: NumberFormat::F16, images: 2, seed: 1, comparisons: Vec::new() };
        assert!(!found.passed() && found.worst().is_none());
        found.comparisons = vec![comparison(5e-3, 0.0), comparison(1e-3, 1e-3)];
        assert!(found.passed());
        assert_eq!(found.worst().map(|worst| worst.error), Some(5e-3));
        found.comparisons.push(comparison(f64::NAN, 0.0));
        found.comparisons.push(comparison(1.0, 0.0));
        assert!(!found.passed() && found.missed().count() == 2);
        assert!(found.worst().is_some_and(|worst| worst.error.is_nan()));
        let json = serde_json::to_value(&found).unwrap();
        assert!(json["comparisons"][2]["error"].is_null(), "{json}");
        assert_eq!(json["comparisons"][0]["direction"], "backward");
        assert_eq!(
            found.comparisons[0].to_string(),
            "`conv1` backward (convolution), output: 5.0e-3 of 1e-2, an element 0.0e0 of 4e-2"
        );
    }

    /// 20 u in the two halves.
    #[test]
    fn limits_follow_from_the_formats() {
        assert!((limit(NumberFormat::F16) / 2_f64.powi(-11) - 20.0).abs() < 1.0);
        assert!((limit(NumberFormat::Bf16) / limit(NumberFormat::F16) - 8.0).abs() < 1e-9);
        assert!(limit(NumberFormat::F32) < limit(NumberFormat::F16));
    }
}
