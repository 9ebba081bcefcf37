//! Formats: in which activations are kept, and in which is computed.
//!
//! Half-precision values are widened to single precision before any arithmetic and rounded once
//! when they are stored, as tensor cores do with single-precision accumulation.

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::AddAssign;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::executor::GradientBuffer;

/// A format in which is computed.
pub trait Real:
    Element<Real = Self> + num_traits::Float + AddAssign + Sum + Debug + Send + Sync + 'static
{
    /// From double precision, rounded.
    fn from_f64(value: f64) -> Self;

    /// From single precision.
    fn from_f32(value: f32) -> Self;

    /// To double precision.
    fn as_f64(self) -> f64;
}

/// A format in which activations and gradients are kept.
pub trait Element: Copy + Default + Debug + Send + Sync + 'static {
    /// The format in which is computed.
    type Real: Real;

    /// What the format is called.
    const NAME: &'static str;

    /// Rounds.
    fn from_real(value: Self::Real) -> Self;

    /// Widens.
    fn to_real(self) -> Self::Real;

    /// `values` widened: themselves, or a copy in `scratch`.
    fn widen<'a>(values: &'a [Self], scratch: &'a mut Vec<Self::Real>) -> &'a [Self::Real];

    /// Widens `values` into as many elements of `into`.
    fn widen_into(values: &[Self], into: &mut [Self::Real]);

    /// Lets `write` set all of `values`, directly or through `scratch`. Only with `load` are the
    /// values that `write` finds those of before.
    fn update<R>(
        values: &mut [Self],
        scratch: &mut Vec<Self::Real>,
        load: bool,
        write: impl FnOnce(&mut [Self::Real]) -> R,
    ) -> R;

    /// A bucket of gradients.
    fn into_buffer(values: Vec<Self>) -> GradientBuffer;

    /// The gradients of a bucket of this format.
    fn from_buffer(buffer: GradientBuffer) -> Option<Vec<Self>>;
}

/// `scratch` as `length` elements, of any value.
pub(super) fn sized<T: Copy + Default>(scratch: &mut Vec<T>, length: usize) -> &mut [T] {
    if scratch.len() < length {
        scratch.resize(length, T::default());
    }
    &mut scratch[..length]
}

/// How a format's numbers become a bucket, and a bucket's become them.
macro_rules! buckets {
    ($variant:ident) => {
        fn into_buffer(values: Vec<Self>) -> GradientBuffer {
            GradientBuffer::$variant(values)
        }

        fn from_buffer(buffer: GradientBuffer) -> Option<Vec<Self>> {
            match buffer {
                GradientBuffer::$variant(values) => Some(values),
                _ => None,
            }
        }
    };
}

macro_rules! real {
    ($real:ident, $variant:ident, $name:literal) => {
        impl Real for $real {
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as Self
            }

            #[inline(always)]
            fn from_f32(value: f32) -> Self {
                value.into()
            }

            #[inline(always)]
            fn as_f64(self) -> f64 {
                f64::from(self)
            }
        }

        impl Element for $real {
            type Real = Self;
            const NAME: &'static str = $name;

            #[inline(always)]
            fn from_real(value: Self) -> Self {
                value
            }

            #[inline(always)]
            fn to_real(self) -> Self {
                self
            }

            #[inline(always)]
            fn widen<'a>(values: &'a [Self], _: &'a mut Vec<Self>) -> &'a [Self] {
                values
            }

            #[inline(always)]
            fn widen_into(values: &[Self], into: &mut [Self]) {
                into.copy_from_slice(values);
            }

            #[inline(always)]
            fn update<R>(
                values: &mut [Self],
                _: &mut Vec<Self>,
                _: bool,
                write: impl FnOnce(&mut [Self]) -> R,
            ) -> R {
                write(values)
            }

            buckets!($variant);
        }
    };
}

real!(f32, F32, "f32");
real!(f64, F64, "f64");

macro_rules! half_precision {
    ($half:ident, $variant:ident, $name:literal) => {
        impl Element for $half {
            type Real = f32;
            const NAME: &'static str = $name;

            #[inline(always)]
            fn from_real(value: f32) -> Self {
                Self::from_f32(value)
            }

            #[inline(always)]
            fn to_real(self) -> f32 {
                self.to_f32()
            }

            #[inline(always)]
            fn widen<'a>(values: &'a [Self], scratch: &'a mut Vec<f32>) -> &'a [f32] {
                let wide = sized(scratch, values.len());
                values.convert_to_f32_slice(wide);
                wide
            }

            #[inline(always)]
            fn widen_into(values: &[Self], into: &mut [f32]) {
                values.convert_to_f32_slice(into);
            }

            #[inline(always)]
            fn update<R>(
                values: &mut [Self],
                scratch: &mut Vec<f32>,
                load: bool,
                write: impl FnOnce(&mut [f32]) -> R,
            ) -> R {
                let wide = sized(scratch, values.len());
                if load {
                    values.convert_to_f32_slice(wide);
                }
                let result = write(wide);
                values.convert_from_f32_slice(wide);
                result
            }

            buckets!($variant);
        }
    };
}

half_precision!(f16, F16, "f16");
half_precision!(bf16, Bf16, "bf16");
