//! What an update rule sees of a tensor: its master weights, its gradient, its role.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Elements of a block. Tensors are read and updated in blocks, by several threads; sums are over
/// blocks in their order, so that results do not depend on the threads.
pub(super) const BLOCK: usize = 1 << 16;
/// Elements converted at a time: 4 KiB of `f32`, which stay in the first-level cache.
const CHUNK: usize = 1024;
/// Partial sums of a norm; CHUNK is a multiple, so element i always goes to sum i mod LANES.
const LANES: usize = 8;

/// What a tensor is in its network; rules treat biases and batch norm apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The weights of a convolution or a fully connected layer.
    Weight,
    /// The bias of a convolution or a fully connected layer.
    Bias,
    /// γ or β of a batch norm.
    BatchNorm,
}

/// A tensor in a step. All slices have the length of the tensor, in any fixed order of elements.
#[derive(Debug)]
pub struct TensorState<'a> {
    /// Unique in the network; saved states are found by it.
    pub name: &'a str,
    /// What it is.
    pub role: Role,
    /// The single-precision master weights.
    pub weights: &'a mut [f32],
    /// The gradient of the loss, averaged over all ranks.
    pub gradient: Gradient<'a>,
}

/// A gradient: `values / scale`.
#[derive(Debug, Clone, Copy)]
pub struct Gradient<'a> {
    /// The gradient times the scale.
    pub values: Values<'a>,
    /// The loss scale; times the number of ranks if `values` are a sum over the ranks.
    pub scale: f32,
}

/// Elements in one of the formats in which gradients travel.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// IEEE half precision.
    F16(&'a [f16]),
    /// The upper half of single precision.
    Bf16(&'a [bf16]),
    /// Single precision.
    F32(&'a [f32]),
}

impl Values<'_> {
    /// The number of elements.
    #[must_use]
    pub fn len(self) -> usize {
        match self {
            Values::F16(values) => values.len(),
            Values::Bf16(values) => values.len(),
            Values::F32(values) => values.len(),
        }
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether any element is infinite or not a number.
    ///
    /// To be asked after the all-reduce: sums carry inf and NaN to every rank, so all ranks answer
    /// alike without another message.
    #[must_use]
    pub fn overflowed(self) -> bool {
        fn any<T: Copy + Sync>(values: &[T], is_finite: impl Fn(T) -> bool + Sync) -> bool {
            // Without a way out of the inner loop, so that it runs on vectors.
            values
                .par_chunks(CHUNK)
                .any(|chunk| chunk.iter().fold(false, |any, &value| any | !is_finite(value)))
        }
        match self {
            Values::F16(values) => any(values, f16::is_finite),
            Values::Bf16(values) => any(values, bf16::is_finite),
            Values::F32(values) => any(values, f32::is_finite),
        }
    }

    /// Casts the elements from `start` on to single precision; `into` must not reach past the end.
    fn cast(self, start: usize, into: &mut [f32]) {
        let range = start..start + into.len();
        match self {
            Values::F16(values) => values[range].convert_to_f32_slice(into),
            Values::Bf16(values) => values[range].convert_to_f32_slice(into),
            Values::F32(values) => into.copy_from_slice(&values[range]),
        }
    }
}

impl Gradient<'_> {
    /// ‖values / scale‖₂ after the cast to single precision, as LARS sees it.
    #[must_use]
    pub fn norm(self) -> f64 {
        square_sum(self.values.len(), |range| {
            let mut sum = SquareSum::default();
            self.for_each_chunk(range, |_, chunk| sum.add(chunk));
            sum.total()
        })
        .sqrt()
    }

    /// Calls `visit` with the index of the first element and the elements of one part of `range`
    /// after the other, cast to single precision and divided by the scale.
    pub(super) fn for_each_chunk(self, range: Range<usize>, mut visit: impl FnMut(usize, &[f32])) {
        let mut buffer = [0.0_f32; CHUNK];
        for start in range.clone().step_by(CHUNK) {
            let chunk = &mut buffer[..CHUNK.min(range.end - start)];
            self.values.cast(start, chunk);
            if self.scale != 1.0 {
                chunk.iter_mut().for_each(|value| *value /= self.scale);
            }
            visit(start, chunk);
        }
    }
}

/// ‖values‖₂, accumulated in double precision in an order that depends on the length only.
#[must_use]
pub fn norm(values: &[f32]) -> f64 {
    square_sum(values.len(), |range| {
        let mut sum = SquareSum::default();
        sum.add(&values[range]);
        sum.total()
    })
    .sqrt()
}

/// The sum over all blocks, each summed by `of_block`.
fn square_sum(length: usize, of_block: impl Fn(Range<usize>) -> f64 + Sync) -> f64 {
    let blocks = length.div_ceil(BLOCK);
    let block = |index: usize| of_block(index * BLOCK..length.min((index + 1) * BLOCK));
    (0..blocks).into_par_iter().map(block).collect::<Vec<f64>>().into_iter().sum()
}

/// Σ x², in LANES interleaved sums. The square of an `f32` is exact in `f64`.
#[derive(Default)]
struct SquareSum([f64; LANES]);

impl SquareSum {
    /// All parts but the last must be multiples of LANES long.
    fn add(&mut self, values: &[f32]) {
        for group in values.chunks(LANES) {
            for (sum, &value) in self.0.iter_mut().zip(group) {
                *sum += f64::from(value) * f64::from(value);
            }
        }
    }

    fn total(&self) -> f64 {
        self.0.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_norm_is_the_root_of_the_sum_of_squares_in_any_format() {
        // 3² + 4² + 12² = 169 = 13².
        let values = [3.0, -4.0, 12.0];
        assert_eq!(norm(&values), 13.0);
        let halves = values.map(f16::from_f32);
        let brains = values.map(bf16::from_f32);
        for values in [Values::F16(&halves), Values::Bf16(&brains), Values::F32(&values)] {
            assert_eq!(Gradient { values, scale: 1.0 }.norm(), 13.0);
            assert_eq!(Gradient { values, scale: 4.0 }.norm(), 3.25);
        }
        assert_eq!(norm(&[]), 0.0);
    }

    #[test]
    fn a_norm_in_parts_is_the_norm_at_once() {
        for length in [1, 7, 8, 1023, 1024, 1025, 5000, BLOCK, BLOCK + 1, 3 * BLOCK - 1] {
            let values: Vec<f32> = (0..length).map(|i| 1.0 / (i as f32 + 1.5)).collect();
            let gradient = Gradient { values: Values::F32(&values), scale: 1.0 };
            assert_eq!(gradient.norm().to_bits(), norm(&values).to_bits(), "{length}");
        }
    }

    #[test]
    fn a_norm_survives_squares_that_leave_single_precision() {
        // (10³⁰)² overflows f32 and (10⁻³⁰)² underflows it.
        for size in [1e30_f32, 1e-30] {
            assert!((norm(&[size; 4]) / (2.0 * f64::from(size)) - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn inf_and_nan_are_overflows_in_any_format() {
        let fine = [1.0_f32, f32::MIN_POSITIVE, -65504.0];
        assert!(!Values::F32(&fine).overflowed());
        assert!(!Values::F16(&fine.map(f16::from_f32)).overflowed());
        assert!(!Values::Bf16(&fine.map(bf16::from_f32)).overflowed());
        for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let values = [0.0, bad];
            assert!(Values::F32(&values).overflowed());
            assert!(Values::F16(&values.map(f16::from_f32)).overflowed());
            assert!(Values::Bf16(&values.map(bf16::from_f32)).overflowed());
        }
        // The largest f16 is 65504; 65536 becomes inf.
        assert!(Values::F16(&[f16::from_f32(65536.0)]).overflowed());
        assert!(!Values::F32(&[]).overflowed());
    }
}
