//! ReLU, dropout and pools: what is neither a matrix product nor a normalisation.

use foretrain_sim::random::place_uniform;
use num_traits::Float as _;
use rayon::prelude::*;

use super::batch_norm::{Target, pass_part, widened};
use super::element::{Element, Real};
use super::scratch::Scratch;
use crate::plan::Window;

/// Elements of a task.
const PART_ELEMENTS: usize = 1 << 14;

/// y = max(x, 0); what is no number stays none, as in PyTorch, so that it is seen in the loss.
pub(super) fn relu<E: Element>(input: &[E], output: &mut [E]) {
    let zero = E::default().to_real();
    input.par_chunks(PART_ELEMENTS).zip(output.par_chunks_mut(PART_ELEMENTS)).for_each(
        |(input, output)| {
            for (input, output) in input.iter().zip(output) {
                *output = if input.to_real() <= zero { E::default() } else { *input };
            }
        },
    );
}

/// dx = dy where y > 0.
pub(super) fn relu_backward<E: Element>(
    output: &[E],
    gradient: &[E],
    target: Target<'_, E>,
    scratch: &Scratch<E::Real>,
) {
    let accumulate = target.accumulate;
    target
        .values
        .par_chunks_mut(PART_ELEMENTS)
        .zip(output.par_chunks(PART_ELEMENTS))
        .zip(gradient.par_chunks(PART_ELEMENTS))
        .for_each(|((into, output), gradient)| {
            widened([output, gradient, &[]], scratch, |[output, gradient, _]| {
                scratch.with(|wide| {
                    E::update(into, wide, accumulate, |into| {
                        super::vectorised(|| pass_part(output, gradient, true, accumulate, into));
                    });
                });
            });
        });
}

/// Which elements a dropout keeps: a function of the place, so that backward need not remember,
/// and a rank's images fare as they would in one large batch.
#[derive(Debug, Clone, Copy)]
pub(in crate::executor) struct Dropout {
    /// The part of the elements that becomes 0.
    pub(in crate::executor) rate: f64,
    /// Names the run, the step and the layer.
    pub(in crate::executor) key: u64,
    /// The number of the first element in the global batch.
    pub(in crate::executor) first: u64,
}

impl Dropout {
    fn factor<R: Real>(&self, element: usize) -> R {
        let draw = place_uniform(self.key, self.first + element as u64);
        R::from_f64(if draw < self.rate { 0.0 } else { 1.0 / (1.0 - self.rate) })
    }

    /// Kept elements of `from`, divided by the part that is kept; stored to or added to the target.
    pub(in crate::executor) fn apply<E: Element>(&self, from: &[E], target: Target<'_, E>) {
        let accumulate = target.accumulate;
        let parts = target.values.par_chunks_mut(PART_ELEMENTS);
        parts.zip(from.par_chunks(PART_ELEMENTS)).enumerate().for_each(|(part, (into, from))| {
            for (index, (into, from)) in into.iter_mut().zip(from).enumerate() {
                let factor: E::Real = self.factor(part * PART_ELEMENTS + index);
                let value = from.to_real() * factor;
                *into = E::from_real(if accumulate { into.to_real() + value } else { value });
            }
        });
    }
}

/// The largest of each window, and which position of the window it was at: the first of equals.
/// What is no number is larger than all numbers, as in PyTorch.
pub(super) fn max_pool<E: Element>(
    window: &Window,
    input: &[E],
    output: &mut [E],
    positions: &mut [u8],
) {
    let channels = window.input_channels;
    input
        .par_chunks(window.input_elements())
        .zip(output.par_chunks_mut(window.output_elements()))
        .zip(positions.par_chunks_mut(window.output_elements()))
        .for_each(|((input, output), positions)| {
            let pixels =
                output.chunks_exact_mut(channels).zip(positions.chunks_exact_mut(channels));
            for (pixel, (output, positions)) in pixels.enumerate() {
                super::vectorised(|| max_pixel(window, input, pixel, output, positions));
            }
        });
}

#[inline(always)]
fn max_pixel<E: Element>(
    window: &Window,
    input: &[E],
    pixel: usize,
    output: &mut [E],
    positions: &mut [u8],
) {
    let channels = window.input_channels;
    let mut first = true;
    for (position, start) in seen(window, pixel) {
        let input = &input[start..start + channels];
        if first {
            output.copy_from_slice(input);
            positions.fill(position);
            first = false;
            continue;
        }
        for ((output, at), input) in output.iter_mut().zip(&mut *positions).zip(input) {
            let (new, largest) = (input.to_real(), output.to_real());
            if (new > largest) | new.is_nan() {
                *output = *input;
                *at = position;
            }
        }
    }
}

/// The positions of the window at output `pixel` that are inside the image, with the first element
/// each sees.
fn seen(window: &Window, pixel: usize) -> impl Iterator<Item = (u8, usize)> {
    let window = *window;
    let (row, column) = (pixel / window.output_width, pixel % window.output_width);
    (0..window.kernel * window.kernel).filter_map(move |position| {
        let (down, right) = (position / window.kernel, position % window.kernel);
        let input_row = window.source(row, down, window.input_height)?;
        let input_column = window.source(column, right, window.input_width)?;
        let start = (input_row * window.input_width + input_column) * window.input_channels;
        Some((position as u8, start))
    })
}

/// Gives each gradient to the element that was the largest.
pub(super) fn max_pool_backward<E: Element>(
    window: &Window,
    gradient: &[E],
    positions: &[u8],
    target: Target<'_, E>,
    scratch: &Scratch<E::Real>,
) {
    let (channels, accumulate) = (window.input_channels, target.accumulate);
    target
        .values
        .par_chunks_mut(window.input_elements())
        .zip(gradient.par_chunks(window.output_elements()))
        .zip(positions.par_chunks(window.output_elements()))
        .for_each(|((into, gradient), positions)| {
            scratch.with(|wide| {
                E::update(into, wide, accumulate, |into| {
                    if !accumulate {
                        into.fill(E::default().to_real());
                    }
                    let pixels =
                        gradient.chunks_exact(channels).zip(positions.chunks_exact(channels));
                    for (pixel, (gradient, positions)) in pixels.enumerate() {
                        for (position, start) in seen(window, pixel) {
                            let into = &mut into[start..start + channels];
                            for ((into, at), gradient) in
                                into.iter_mut().zip(positions).zip(gradient)
                            {
                                if *at == position {
                                    *into += gradient.to_real();
                                }
                            }
                        }
                    }
                });
            });
        });
}

/// The mean of each channel over the pixels of each image.
pub(super) fn average_pool<E: Element>(
    input: &[E],
    pixels: usize,
    output: &mut [E],
    channels: usize,
) {
    let count = E::Real::from_f64(pixels as f64);
    input.par_chunks(pixels * channels).zip(output.par_chunks_mut(channels)).for_each(
        |(input, output)| {
            let mut sums = vec![E::default().to_real(); channels];
            for pixel in input.chunks_exact(channels) {
                sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value.to_real());
            }
            for (output, sum) in output.iter_mut().zip(sums) {
                *output = E::from_real(sum / count);
            }
        },
    );
}

/// Spreads each channel's gradient over the pixels.
pub(super) fn average_pool_backward<E: Element>(
    gradient: &[E],
    pixels: usize,
    target: Target<'_, E>,
    channels: usize,
) {
    let count = E::Real::from_f64(pixels as f64);
    let accumulate = target.accumulate;
    let images = target.values.par_chunks_mut(pixels * channels);
    images.zip(gradient.par_chunks(channels)).for_each(|(into, gradient)| {
        for pixel in into.chunks_exact_mut(channels) {
            for (into, gradient) in pixel.iter_mut().zip(gradient) {
                let value = gradient.to_real() / count;
                *into = E::from_real(if accumulate { into.to_real() + value } else { value });
            }
        }
    });
}
