//! Batch normalisation with what follows it (sum with a residual, ReLU), forward and backward.
//!
//! Ioffe and Szegedy, arXiv 1502.03167. With m and v the mean and the (biased) variance of a
//! channel over the images that share statistics, n values in all, and s = 1 / √(v + ε):
//!
//! - forward: y = γ s (x − m) + β, then y + r, then max(y, 0);
//! - backward, with z the gradient of y where y > 0 and else 0, which is also that of r:
//!   dβ = Σ z, dγ = s Σ z (x − m), dx = γ s (z − dβ/n − s (x − m) dγ/n).
//!
//! Statistics come from parts of the rows (mean and sum of squared deviations of each), merged in
//! order by Chan, Golub and LeVeque's formula, so they neither cancel nor depend on threads.

use rayon::prelude::*;

use super::element::{Element, Real};
use super::scratch::Scratch;

/// Elements of a part: 64 KiB in single precision, so that the second pass finds it in the cache.
const PART_ELEMENTS: usize = 1 << 14;

/// Mean and variance of each channel over one group of images.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Statistics<R> {
    pub(super) mean: Vec<R>,
    /// Divided by the number of values.
    pub(super) variance: Vec<R>,
    /// The number of values of each channel.
    pub(super) values: usize,
}

/// How many rows a part has.
fn part_rows(channels: usize) -> usize {
    (PART_ELEMENTS / channels).max(1)
}

/// The statistics of `values`, rows of as many elements as there are channels.
pub(super) fn statistics<E: Element>(
    values: &[E],
    channels: usize,
    scratch: &Scratch<E::Real>,
) -> Statistics<E::Real> {
    let part = part_rows(channels) * channels;
    let parts = values.len().div_ceil(part);
    let mut partial = vec![E::Real::from_f64(0.0); parts * 2 * channels];
    partial.par_chunks_exact_mut(2 * channels).zip(values.par_chunks(part)).for_each(
        |(sums, values)| {
            scratch.with(|wide| {
                let values = E::widen(values, wide);
                let (mean, deviations) = sums.split_at_mut(channels);
                super::vectorised(|| part_statistics(values, mean, deviations));
            });
        },
    );
    let rows = values.len() / channels;
    let mut mean = vec![0.0; channels];
    let mut deviations = vec![0.0; channels];
    let mut seen = 0.0;
    for (part, sums) in partial.chunks_exact(2 * channels).enumerate() {
        let count = part_rows(channels).min(rows - part * part_rows(channels)) as f64;
        let total = seen + count;
        for channel in 0..channels {
            let delta = sums[channel].as_f64() - mean[channel];
            mean[channel] += delta * count / total;
            deviations[channel] +=
                sums[channels + channel].as_f64() + delta * delta * seen * count / total;
        }
        seen = total;
    }
    Statistics {
        mean: mean.into_iter().map(E::Real::from_f64).collect(),
        variance: deviations.into_iter().map(|sum| E::Real::from_f64(sum / seen)).collect(),
        values: rows,
    }
}

#[inline(always)]
fn part_statistics<R: Real>(values: &[R], mean: &mut [R], deviations: &mut [R]) {
    let channels = mean.len();
    let count = R::from_f64((values.len() / channels) as f64);
    for row in values.chunks_exact(channels) {
        mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += *value);
    }
    mean.iter_mut().for_each(|sum| *sum = *sum / count);
    for row in values.chunks_exact(channels) {
        for ((sum, value), mean) in deviations.iter_mut().zip(row).zip(&*mean) {
            let deviation = *value - *mean;
            *sum += deviation * deviation;
        }
    }
}

/// y = x · scale + shift (+ residual), then max(y, 0) if `relu`.
pub(super) fn apply<E: Element>(
    input: &[E],
    residual: Option<&[E]>,
    relu: bool,
    (scale, shift): (&[E::Real], &[E::Real]),
    output: &mut [E],
    scratch: &Scratch<E::Real>,
) {
    let part = part_rows(scale.len()) * scale.len();
    let one = |input: &[E], residual: Option<&[E]>, output: &mut [E]| {
        scratch.with(|wide_input| {
            scratch.with(|wide_residual| {
                scratch.with(|wide_output| {
                    let input = E::widen(input, wide_input);
                    let residual = residual.map(|residual| E::widen(residual, wide_residual));
                    E::update(output, wide_output, false, |output| {
                        super::vectorised(|| {
                            apply_part(input, residual, relu, (scale, shift), output);
                        });
                    });
                });
            });
        });
    };
    let parts = input.par_chunks(part).zip(output.par_chunks_mut(part));
    match residual {
        Some(residual) => parts
            .zip(residual.par_chunks(part))
            .for_each(|((input, output), residual)| one(input, Some(residual), output)),
        None => parts.for_each(|(input, output)| one(input, None, output)),
    }
}

#[inline(always)]
fn apply_part<R: Real>(
    input: &[R],
    residual: Option<&[R]>,
    relu: bool,
    (scale, shift): (&[R], &[R]),
    output: &mut [R],
) {
    let channels = scale.len();
    let zero = R::from_f64(0.0);
    let rows = input.chunks_exact(channels).zip(output.chunks_exact_mut(channels));
    let factors = || scale.iter().zip(shift);
    let clamp = |value: R| if relu && value <= zero { zero } else { value };
    match residual {
        Some(residual) => {
            for ((input, output), residual) in rows.zip(residual.chunks_exact(channels)) {
                let values = input.iter().zip(residual).zip(output).zip(factors());
                for (((input, residual), output), (scale, shift)) in values {
                    *output = clamp(*input * *scale + *shift + *residual);
                }
            }
        }
        None => {
            for (input, output) in rows {
                for ((input, output), (scale, shift)) in input.iter().zip(output).zip(factors()) {
                    *output = clamp(*input * *scale + *shift);
                }
            }
        }
    }
}

/// What backward reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backward<'a, E> {
    /// x.
    pub(super) input: &'a [E],
    /// y after the ReLU, if there is one: its gradient passes where y > 0.
    pub(super) output: Option<&'a [E]>,
    /// The gradient of y after the ReLU.
    pub(super) gradient: &'a [E],
}

impl<'a, E: Element> Backward<'a, E> {
    /// The output, or in its place anything as long.
    fn mask(&self) -> &'a [E] {
        self.output.unwrap_or(self.gradient)
    }
}

/// Σ z and Σ z (x − m) for each channel.
pub(super) fn sums<E: Element>(
    backward: Backward<'_, E>,
    mean: &[E::Real],
    scratch: &Scratch<E::Real>,
) -> (Vec<E::Real>, Vec<E::Real>) {
    let channels = mean.len();
    let part = part_rows(channels) * channels;
    let parts = backward.input.len().div_ceil(part);
    let relu = backward.output.is_some();
    let mut partial = vec![E::Real::from_f64(0.0); parts * 2 * channels];
    partial
        .par_chunks_exact_mut(2 * channels)
        .zip(backward.input.par_chunks(part))
        .zip(backward.mask().par_chunks(part))
        .zip(backward.gradient.par_chunks(part))
        .for_each(|(((sums, input), mask), gradient)| {
            widened([input, mask, gradient], scratch, |[input, mask, gradient]| {
                let (first, second) = sums.split_at_mut(channels);
                super::vectorised(|| sum_part([input, mask, gradient], relu, mean, first, second));
            });
        });
    let mut total = vec![0.0; 2 * channels];
    for sums in partial.chunks_exact(2 * channels) {
        total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum.as_f64());
    }
    let round = |sums: &[f64]| sums.iter().map(|&sum| E::Real::from_f64(sum)).collect();
    (round(&total[..channels]), round(&total[channels..]))
}

#[inline(always)]
fn sum_part<R: Real>(
    [input, mask, gradient]: [&[R]; 3],
    relu: bool,
    mean: &[R],
    first: &mut [R],
    second: &mut [R],
) {
    let zero = R::from_f64(0.0);
    let channels = mean.len();
    let rows = input.chunks_exact(channels).zip(mask.chunks_exact(channels));
    for ((input, mask), gradient) in rows.zip(gradient.chunks_exact(channels)) {
        let values = input.iter().zip(mask).zip(gradient).zip(mean);
        let sums = first.iter_mut().zip(&mut *second);
        for ((((input, mask), gradient), mean), (first, second)) in values.zip(sums) {
            let z = passed(relu, *mask, *gradient, zero);
            *first += z;
            *second += z * (*input - *mean);
        }
    }
}

/// The gradient if the ReLU let the value pass, as it does what is no number; without a branch, for
/// vectors.
#[inline(always)]
fn passed<R: Real>(relu: bool, mask: R, gradient: R, zero: R) -> R {
    if relu & (mask <= zero) { zero } else { gradient }
}

/// A gradient to store or to add to.
#[derive(Debug)]
pub(in crate::executor) struct Target<'a, E> {
    pub(in crate::executor) values: &'a mut [E],
    pub(in crate::executor) accumulate: bool,
}

/// For each channel: dx = of_gradient · z + of_deviation · (x − mean) + constant.
#[derive(Debug)]
pub(super) struct Coefficients<'a, R> {
    pub(super) mean: &'a [R],
    pub(super) of_gradient: &'a [R],
    pub(super) of_deviation: &'a [R],
    pub(super) constant: &'a [R],
}

/// The gradients of x and of the residual.
pub(super) fn data<E: Element>(
    backward: Backward<'_, E>,
    coefficients: &Coefficients<'_, E::Real>,
    input: Target<'_, E>,
    residual: Option<Target<'_, E>>,
    scratch: &Scratch<E::Real>,
) {
    let channels = coefficients.mean.len();
    let part = part_rows(channels) * channels;
    let relu = backward.output.is_some();
    let store_input = |read: [&[E]; 3], into: &mut [E]| {
        widened(read, scratch, |[x, mask, gradient]| {
            scratch.with(|wide| {
                E::update(into, wide, input.accumulate, |into| {
                    let accumulate = input.accumulate;
                    super::vectorised(|| {
                        input_part([x, mask, gradient], relu, coefficients, accumulate, into);
                    });
                });
            });
        });
    };
    let parts = backward
        .input
        .par_chunks(part)
        .zip(backward.mask().par_chunks(part))
        .zip(backward.gradient.par_chunks(part))
        .zip(input.values.par_chunks_mut(part));
    match residual {
        None => parts.for_each(|(((x, mask), gradient), into)| {
            store_input([x, mask, gradient], into);
        }),
        Some(residual) => parts.zip(residual.values.par_chunks_mut(part)).for_each(
            |((((x, mask), gradient), into), shortcut)| {
                store_input([x, mask, gradient], into);
                widened([mask, gradient, &[]], scratch, |[mask, gradient, _]| {
                    scratch.with(|wide| {
                        E::update(shortcut, wide, residual.accumulate, |into| {
                            let accumulate = residual.accumulate;
                            super::vectorised(|| {
                                pass_part(mask, gradient, relu, accumulate, into);
                            });
                        });
                    });
                });
            },
        ),
    }
}

#[inline(always)]
fn input_part<R: Real>(
    [input, mask, gradient]: [&[R]; 3],
    relu: bool,
    coefficients: &Coefficients<'_, R>,
    accumulate: bool,
    into: &mut [R],
) {
    let zero = R::from_f64(0.0);
    let Coefficients { mean, of_gradient, of_deviation, constant } = *coefficients;
    let channels = mean.len();
    let rows = input.chunks_exact(channels).zip(mask.chunks_exact(channels));
    let rows = rows.zip(gradient.chunks_exact(channels)).zip(into.chunks_exact_mut(channels));
    for (((input, mask), gradient), into) in rows {
        let values = input.iter().zip(mask).zip(gradient).zip(into);
        let factors = mean.iter().zip(of_gradient).zip(of_deviation).zip(constant);
        for ((((input, mask), gradient), into), (((mean, a), b), c)) in values.zip(factors) {
            let z = passed(relu, *mask, *gradient, zero);
            let value = *a * z + *b * (*input - *mean) + *c;
            *into = if accumulate { *into + value } else { value };
        }
    }
}

/// The gradient that passes a ReLU, stored or added.
#[inline(always)]
pub(super) fn pass_part<R: Real>(
    mask: &[R],
    gradient: &[R],
    relu: bool,
    accumulate: bool,
    into: &mut [R],
) {
    let zero = R::from_f64(0.0);
    for ((into, mask), gradient) in into.iter_mut().zip(mask).zip(gradient) {
        let z = passed(relu, *mask, *gradient, zero);
        *into = if accumulate { *into + z } else { z };
    }
}

/// Runs `work` with the widened values of each of `read`.
pub(super) fn widened<E: Element, Out>(
    read: [&[E]; 3],
    scratch: &Scratch<E::Real>,
    work: impl FnOnce([&[E::Real]; 3]) -> Out,
) -> Out {
    scratch.with(|first| {
        scratch.with(|second| {
            scratch.with(|third| {
                let [a, b, c] = read;
                work([E::widen(a, first), E::widen(b, second), E::widen(c, third)])
            })
        })
    })
}
