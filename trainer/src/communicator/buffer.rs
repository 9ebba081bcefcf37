//! Gradients in memory, and their sums.
//!
//! Half-precision numbers are added in single precision and rounded to the wire's type; where
//! more than two are added at once, they are rounded once.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::header::ElementType;

/// Numbers of one type, to be reduced in place.
#[derive(Debug)]
pub enum Buffer<'a> {
    /// Half precision.
    F16(&'a mut [f16]),
    /// Half as many bits as single precision, with its exponents.
    Bf16(&'a mut [bf16]),
    /// Single precision.
    F32(&'a mut [f32]),
    /// Double precision.
    F64(&'a mut [f64]),
}

macro_rules! buffer_from {
    ($($element:ty: $variant:ident),*) => {$(
        impl<'a> From<&'a mut [$element]> for Buffer<'a> {
            fn from(values: &'a mut [$element]) -> Self {
                Self::$variant(values)
            }
        }
    )*};
}

buffer_from!(f16: F16, bf16: Bf16, f32: F32, f64: F64);

/// How many numbers are converted at a time: few enough to stay in the first cache.
const STRIP: usize = 512;

/// A number on the wire.
pub(super) trait Element: Copy + Default {
    /// What numbers are added in.
    type Wide: Copy + Default + std::ops::AddAssign;
    const TYPE: ElementType;
    const BYTES: usize = size_of::<Self>();

    /// As little-endian bytes.
    fn write(values: &[Self], bytes: &mut [u8]);
    /// From little-endian bytes.
    fn read(bytes: &[u8], values: &mut [Self]);
    fn widen(values: &[Self], wide: &mut [Self::Wide]);
    fn narrow(wide: &[Self::Wide], values: &mut [Self]);

    /// Adds numbers as bytes, rounding each sum.
    fn add(bytes: &[u8], values: &mut [Self]) {
        Self::add_all(&[bytes], values, 0);
    }

    /// Sums one text of bytes a rank and the own `values`, which stand at position `own` among
    /// them, from the first to the last, into `values`; rounds each sum once.
    fn add_all(others: &[&[u8]], values: &mut [Self], own: usize) {
        let mut narrow = [Self::default(); STRIP];
        let (mut wide, mut sums) = ([Self::Wide::default(); STRIP], [Self::Wide::default(); STRIP]);
        for (strip, values) in values.chunks_mut(STRIP).enumerate() {
            let count = values.len();
            let start = strip * STRIP * Self::BYTES;
            let range = start..start + count * Self::BYTES;
            for position in 0..=others.len() {
                let addends = &mut wide[..count];
                if position == own {
                    Self::widen(values, addends);
                } else {
                    let other = others[position - usize::from(position > own)];
                    Self::read(&other[range.clone()], &mut narrow[..count]);
                    Self::widen(&narrow[..count], addends);
                }
                if position == 0 {
                    sums[..count].copy_from_slice(addends);
                    continue;
                }
                for (sum, addend) in sums.iter_mut().zip(addends) {
                    *sum += *addend;
                }
            }
            Self::narrow(&sums[..count], values);
        }
    }
}

macro_rules! element {
    ($element:ty, $wide:ty, $variant:ident, $widen:expr, $narrow:expr) => {
        impl Element for $element {
            type Wide = $wide;
            const TYPE: ElementType = ElementType::$variant;

            fn write(values: &[Self], bytes: &mut [u8]) {
                let (chunks, _) = bytes.as_chunks_mut::<{ size_of::<Self>() }>();
                for (value, chunk) in values.iter().zip(chunks) {
                    *chunk = value.to_le_bytes();
                }
            }

            fn read(bytes: &[u8], values: &mut [Self]) {
                let (chunks, _) = bytes.as_chunks::<{ size_of::<Self>() }>();
                for (value, chunk) in values.iter_mut().zip(chunks) {
                    *value = Self::from_le_bytes(*chunk);
                }
            }

            fn widen(values: &[Self], wide: &mut [$wide]) {
                $widen(values, wide);
            }

            fn narrow(wide: &[$wide], values: &mut [Self]) {
                $narrow(wide, values);
            }
        }
    };
}

fn copy<T: Copy>(from: &[T], to: &mut [T]) {
    to.copy_from_slice(from);
}

fn widen_half<T>(values: &[T], wide: &mut [f32])
where
    [T]: HalfFloatSliceExt,
{
    values.convert_to_f32_slice(wide);
}

fn narrow_half<T>(wide: &[f32], values: &mut [T])
where
    [T]: HalfFloatSliceExt,
{
    values.convert_from_f32_slice(wide);
}

element!(f16, f32, F16, widen_half, narrow_half);
element!(bf16, f32, Bf16, widen_half, narrow_half);
element!(f32, f32, F32, copy, copy);
element!(f64, f64, F64, copy, copy);

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<E: Element>(values: &[E]) -> Vec<u8> {
        let mut bytes = vec![0; size_of_val(values)];
        E::write(values, &mut bytes);
        bytes
    }

    #[test]
    fn half_precision_is_added_in_single_and_rounded_once() {
        // 2048 + 1 is a tie in f16 and rounds to 2048; 2048 + 1 + 1 is 2050.
        let (large, one) = (f16::from_f32(2048.0), f16::ONE);
        let mut values = [large];
        f16::add(&bytes(&[one]), &mut values);
        assert_eq!(values[0].to_f32(), 2048.0);
        f16::add(&bytes(&[one]), &mut values);
        assert_eq!(values[0].to_f32(), 2048.0);
        let mut values = [large];
        f16::add_all(&[&bytes(&[one]), &bytes(&[one])], &mut values, 0);
        assert_eq!(values[0].to_f32(), 2050.0);
        let mut values = [bf16::from_f32(256.0)];
        bf16::add_all(&[&bytes(&[bf16::ONE]), &bytes(&[bf16::ONE])], &mut values, 0);
        assert_eq!(values[0].to_f32(), 258.0);
    }

    #[test]
    fn addends_are_added_in_their_order() {
        // (1e8 + 1) − 1e8 is 0 in single precision, (1e8 − 1e8) + 1 is 1.
        let (large, one, minus) = (1e8_f32, 1.0_f32, -1e8_f32);
        for (own, expected) in [(0, 0.0), (1, 0.0), (2, 0.0)] {
            let mut all = vec![large, one, minus];
            let mut values = [all.remove(own)];
            let others: Vec<_> = all.iter().map(|value| bytes(&[*value])).collect();
            f32::add_all(&[&others[0], &others[1]], &mut values, own);
            assert_eq!(values[0], expected, "{own}");
        }
        let mut values = [one];
        f32::add_all(&[&bytes(&[large]), &bytes(&[minus])], &mut values, 2);
        assert_eq!(values[0], 1.0);
    }

    #[test]
    fn all_strips_are_added() {
        for count in [0, 1, STRIP - 1, STRIP, STRIP + 1, 3 * STRIP + 5] {
            let mut values: Vec<f64> = (0..count).map(|i| i as f64).collect();
            let others = bytes(&values);
            f64::add(&others, &mut values);
            assert!((0..count).all(|i| values[i] == 2.0 * i as f64), "{count}");
        }
    }
}
