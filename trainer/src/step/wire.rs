//! Buckets on their way: from the format of the gradients to that of the wire, and to the update.

use foretrain_sim::recording::NumberFormat;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::communicator::Buffer;
use crate::executor::GradientBuffer;
use crate::optimizer::Values;

impl GradientBuffer {
    /// Numbers of `format`, all 0.
    pub(super) fn zeros(format: NumberFormat, elements: usize) -> Self {
        match format {
            NumberFormat::F16 => Self::F16(vec![f16::ZERO; elements]),
            NumberFormat::Bf16 => Self::Bf16(vec![bf16::ZERO; elements]),
            NumberFormat::F32 => Self::F32(vec![0.0; elements]),
        }
    }

    /// How many numbers there are.
    pub(crate) fn elements(&self) -> usize {
        match self {
            Self::F16(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    /// Whether the numbers can travel in `format` as they are. Double precision, which is for
    /// comparisons only, always travels as it is.
    pub(super) const fn travels_as(&self, format: NumberFormat) -> bool {
        matches!(
            (self, format),
            (Self::F16(_), NumberFormat::F16)
                | (Self::Bf16(_), NumberFormat::Bf16)
                | (Self::F32(_), NumberFormat::F32)
                | (Self::F64(_), _)
        )
    }

    /// Rounds all numbers of `from` into this format.
    pub(super) fn cast_from(&mut self, from: &Self) {
        fn each<T: Copy>(from: &GradientBuffer, into: &mut [T], round: impl Fn(f64) -> T) {
            from.for_each(|index, value| into[index] = round(value));
        }
        match (self, from) {
            (Self::F32(into), Self::F16(from)) => from.convert_to_f32_slice(into),
            (Self::F32(into), Self::Bf16(from)) => from.convert_to_f32_slice(into),
            (Self::F16(into), Self::F32(from)) => into.convert_from_f32_slice(from),
            (Self::Bf16(into), Self::F32(from)) => into.convert_from_f32_slice(from),
            (Self::F16(into), from) => each(from, into, f16::from_f64),
            (Self::Bf16(into), from) => each(from, into, bf16::from_f64),
            (Self::F32(into), from) => each(from, into, |value| value as f32),
            (Self::F64(into), from) => each(from, into, |value| value),
        }
    }

    fn for_each(&self, mut visit: impl FnMut(usize, f64)) {
        match self {
            Self::F16(values) => {
                values.iter().enumerate().for_each(|(index, value)| visit(index, value.to_f64()));
            }
            Self::Bf16(values) => {
                values.iter().enumerate().for_each(|(index, value)| visit(index, value.to_f64()));
            }
            Self::F32(values) => {
                values.iter().enumerate().for_each(|(index, &value)| visit(index, value.into()));
            }
            Self::F64(values) => {
                values.iter().enumerate().for_each(|(index, &value)| visit(index, value));
            }
        }
    }

    /// Σ v².
    pub(super) fn square_sum(&self) -> f64 {
        let mut sum = 0.0;
        self.for_each(|_, value| sum += value * value);
        sum
    }

    /// As numbers to communicate.
    pub(super) fn buffer(&mut self) -> Buffer<'_> {
        match self {
            Self::F16(values) => Buffer::F16(values),
            Self::Bf16(values) => Buffer::Bf16(values),
            Self::F32(values) => Buffer::F32(values),
            Self::F64(values) => Buffer::F64(values),
        }
    }

    /// `elements` numbers from `first` on, for the optimizer; none in double precision.
    pub(super) fn values(&self, first: usize, elements: usize) -> Option<Values<'_>> {
        let range = first..first + elements;
        match self {
            Self::F16(values) => Some(Values::F16(&values[range])),
            Self::Bf16(values) => Some(Values::Bf16(&values[range])),
            Self::F32(values) => Some(Values::F32(&values[range])),
            Self::F64(_) => None,
        }
    }
}
