//! Convolutions as matrix products.
//!
//! With P the matrix of patches (a row for each output pixel, [`super::patches`]), W the filters
//! (`depth × outputs`) and Y the output:
//!
//! - forward: Y = P W;
//! - gradient of the filters: dW = Pᵀ dY;
//! - gradient of the data: dP = dY Wᵀ, added up where patches overlap.
//!
//! P is never stored as a whole: each task makes the rows it needs and multiplies them while they
//! are in the cache. Where the window is one pixel, P is the input itself. Work is cut by sizes
//! only, not by the number of threads, so results do not depend on that.

use std::ops::Range;

use rayon::prelude::*;

use super::element::{Element, Real, sized};
use super::matrix::{Matrix, MatrixMut, multiply};
use super::patches::{Columns, gather, scatter};
use super::scratch::Scratch;
use crate::plan::Window;

/// Elements of patches made at a time: 4 MiB in single precision.
const PATCH_ELEMENTS: usize = 1 << 20;
/// Output pixels of a task at least: fewer would pack the filters too often for too little work.
const ROWS_MIN: usize = 128;
/// Output pixels of a task at most.
const ROWS_MAX: usize = 1024;
/// Tasks into which a small layer is cut at least, if it has the rows.
const TASKS: usize = 16;

/// How many output pixels a task takes.
fn tile_rows(rows: usize, depth: usize) -> usize {
    let largest = (PATCH_ELEMENTS / depth).clamp(ROWS_MIN, ROWS_MAX);
    let fewest = (rows / ROWS_MIN).clamp(1, TASKS);
    // A power of two, so that as many threads have the same to do.
    let fewest = 1 << fewest.ilog2();
    rows.div_ceil(rows.div_ceil(largest).next_multiple_of(fewest))
}

/// Y = P W + b.
pub(super) fn forward<E: Element>(
    window: &Window,
    images: &[E],
    weights: &[E::Real],
    bias: Option<&[E::Real]>,
    output: &mut [E],
    scratch: &Scratch<E::Real>,
) {
    let outputs = window.output_channels;
    let rows = output.len() / outputs;
    let tile = tile_rows(rows, window.depth());
    output.par_chunks_mut(tile * outputs).enumerate().for_each(|(index, output)| {
        let first = index * tile;
        let rows = first..first + output.len() / outputs;
        scratch.with(|wide| {
            E::update(output, wide, false, |output| {
                scratch.with(|patches| {
                    product(window, images, weights, rows, output, patches);
                });
                if let Some(bias) = bias {
                    for pixel in output.chunks_exact_mut(outputs) {
                        pixel.iter_mut().zip(bias).for_each(|(value, bias)| *value += *bias);
                    }
                }
            });
        });
    });
}

/// Y = P W for some output pixels.
fn product<E: Element>(
    window: &Window,
    images: &[E],
    weights: &[E::Real],
    rows: Range<usize>,
    output: &mut [E::Real],
    patches: &mut Vec<E::Real>,
) {
    let (depth, outputs) = (window.depth(), window.group_outputs());
    let count = rows.len();
    for group in 0..window.groups {
        let weights = Matrix::new(&weights[group * depth * outputs..], depth, outputs);
        let patches = patch_rows(window, images, rows.clone(), group, patches);
        let output = MatrixMut::strided(
            &mut output[group * outputs..],
            count,
            outputs,
            window.output_channels,
        );
        multiply(output, false, patches, weights);
    }
}

/// P for some output pixels: the images themselves where the window is a pixel.
fn patch_rows<'a, E: Element>(
    window: &Window,
    images: &'a [E],
    rows: Range<usize>,
    group: usize,
    patches: &'a mut Vec<E::Real>,
) -> Matrix<'a, E::Real> {
    let depth = window.depth();
    let count = rows.len();
    if window.is_pointwise() {
        let channels = window.input_channels;
        let pixels = &images[rows.start * channels..rows.end * channels];
        let pixels = E::widen(pixels, patches);
        return Matrix::strided(&pixels[group * depth..], count, depth, channels);
    }
    let patches = sized(patches, count * depth);
    super::vectorised(|| {
        gather(window, images, rows, group, &Columns::all(window), patches);
    });
    Matrix::new(patches, count, depth)
}

/// dX = the sum of dY Wᵀ where patches overlap, stored to or added to `images`.
pub(super) fn backward_data<E: Element>(
    window: &Window,
    output: &[E],
    weights: &[E::Real],
    images: &mut [E],
    accumulate: bool,
    scratch: &Scratch<E::Real>,
) {
    if window.is_pointwise() {
        backward_pointwise(window, output, weights, images, accumulate, scratch);
        return;
    }
    let (input_elements, output_elements) = (window.input_elements(), window.output_elements());
    let batch = images.len() / input_elements;
    // Small images go together, so that there is enough to multiply.
    let together = ROWS_MIN.div_ceil(window.output_pixels()).min(batch.div_ceil(2)).max(1);
    images.par_chunks_mut(together * input_elements).enumerate().for_each(|(index, images)| {
        let first = index * together * output_elements;
        let output = &output[first..][..images.len() / input_elements * output_elements];
        scratch.with(|wide| {
            E::update(images, wide, accumulate, |images| {
                if !accumulate {
                    images.fill(E::default().to_real());
                }
                scratch.with(|columns| {
                    scratch.with(|wide| {
                        let output = E::widen(output, wide);
                        scatter_products(window, output, weights, images, columns);
                    });
                });
            });
        });
    });
}

/// Adds dY Wᵀ to where its patches come from.
fn scatter_products<R: Real>(
    window: &Window,
    output: &[R],
    weights: &[R],
    images: &mut [R],
    columns: &mut Vec<R>,
) {
    let (depth, outputs) = (window.depth(), window.group_outputs());
    let rows = output.len() / window.output_channels;
    let tile = (PATCH_ELEMENTS / depth).clamp(ROWS_MIN, ROWS_MAX);
    for group in 0..window.groups {
        let weights = Matrix::new(&weights[group * depth * outputs..], depth, outputs);
        for first in (0..rows).step_by(tile) {
            let rows = first..rows.min(first + tile);
            let pixels = &output[rows.start * window.output_channels + group * outputs..];
            let pixels = Matrix::strided(pixels, rows.len(), outputs, window.output_channels);
            let columns = sized(columns, rows.len() * depth);
            multiply(
                MatrixMut::new(columns, rows.len(), depth),
                false,
                pixels,
                weights.transposed(),
            );
            super::vectorised(|| scatter(window, columns, rows, group, images));
        }
    }
}

fn backward_pointwise<E: Element>(
    window: &Window,
    output: &[E],
    weights: &[E::Real],
    images: &mut [E],
    accumulate: bool,
    scratch: &Scratch<E::Real>,
) {
    let (inputs, outputs) = (window.input_channels, window.output_channels);
    let (depth, group_outputs) = (window.depth(), window.group_outputs());
    let rows = images.len() / inputs;
    let tile = tile_rows(rows, depth);
    images.par_chunks_mut(tile * inputs).zip(output.par_chunks(tile * outputs)).for_each(
        |(images, output)| {
            let rows = images.len() / inputs;
            scratch.with(|wide| {
                E::update(images, wide, accumulate, |images| {
                    scratch.with(|wide| {
                        let output = E::widen(output, wide);
                        for group in 0..window.groups {
                            let first = group * depth * group_outputs;
                            let weights = Matrix::new(&weights[first..], depth, group_outputs);
                            let output = &output[group * group_outputs..];
                            multiply(
                                MatrixMut::strided(
                                    &mut images[group * depth..],
                                    rows,
                                    depth,
                                    inputs,
                                ),
                                accumulate,
                                Matrix::strided(output, rows, group_outputs, outputs),
                                weights.transposed(),
                            );
                        }
                    });
                });
            });
        },
    );
}

/// A part of dW: some columns of P in one group.
struct Piece {
    group: usize,
    columns: Columns,
}

/// Cuts the rows of dW, so that each piece is the product of a part of P's columns.
fn pieces(window: &Window) -> Vec<Piece> {
    let (positions, channels) = (window.kernel * window.kernel, window.group_inputs());
    let target = (window.depth() / TASKS).max(64);
    let mut pieces = Vec::new();
    for group in 0..window.groups {
        if channels > target {
            let parts = channels.div_ceil(target);
            let width = channels.div_ceil(parts);
            for position in 0..positions {
                for first in (0..channels).step_by(width) {
                    let columns = Columns {
                        positions: position..position + 1,
                        channels: first..channels.min(first + width),
                    };
                    pieces.push(Piece { group, columns });
                }
            }
        } else {
            let together = (target / channels).max(1);
            for first in (0..positions).step_by(together) {
                let positions = first..positions.min(first + together);
                pieces.push(Piece { group, columns: Columns { positions, channels: 0..channels } });
            }
        }
    }
    pieces
}

/// dW = Pᵀ dY.
///
/// Where there are many output pixels and few pieces, parts of the pixels are summed apart and
/// then together, in an order that depends on the sizes only.
pub(super) fn backward_weights<E: Element>(
    window: &Window,
    images: &[E],
    output: &[E],
    gradient: &mut [E],
    scratch: &Scratch<E::Real>,
) {
    let rows = output.len() / window.output_channels;
    let pieces = pieces(window);
    let parts = TASKS.div_ceil(pieces.len()).min(rows / ROWS_MAX).max(1);
    if parts == 1 {
        let tasks = cut(window, &pieces, gradient);
        tasks.into_par_iter().for_each(|(piece, gradient)| {
            scratch.with(|wide| {
                E::update(gradient, wide, false, |gradient| {
                    piece_product(window, images, output, 0..rows, piece, gradient, scratch);
                });
            });
        });
        return;
    }
    let part_rows = rows.div_ceil(parts);
    scratch.with(|sums| {
        let sums = sized(sums, parts * gradient.len());
        let tasks: Vec<_> = sums
            .chunks_exact_mut(gradient.len())
            .enumerate()
            .flat_map(|(part, sums)| {
                let rows = part * part_rows..rows.min((part + 1) * part_rows);
                let pieces = cut(window, &pieces, sums);
                pieces.into_iter().map(move |(piece, sums)| (rows.clone(), piece, sums))
            })
            .collect();
        tasks.into_par_iter().for_each(|(rows, piece, sums)| {
            piece_product(window, images, output, rows, piece, sums, scratch);
        });
        scratch.with(|wide| {
            let elements = gradient.len();
            E::update(gradient, wide, false, |gradient| {
                super::vectorised(|| {
                    gradient.copy_from_slice(&sums[..elements]);
                    for part in sums[elements..].chunks_exact(elements) {
                        gradient.iter_mut().zip(part).for_each(|(sum, part)| *sum += *part);
                    }
                });
            });
        });
    });
}

/// Each piece with its part of `gradient`.
fn cut<'a, T>(
    window: &Window,
    pieces: &'a [Piece],
    mut gradient: &'a mut [T],
) -> Vec<(&'a Piece, &'a mut [T])> {
    let mut tasks = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let (part, rest) = gradient.split_at_mut(piece.columns.len() * window.group_outputs());
        tasks.push((piece, part));
        gradient = rest;
    }
    tasks
}

/// Some rows of dW from some output pixels.
fn piece_product<E: Element>(
    window: &Window,
    images: &[E],
    output: &[E],
    rows: Range<usize>,
    piece: &Piece,
    gradient: &mut [E::Real],
    scratch: &Scratch<E::Real>,
) {
    let (outputs, group_outputs) = (window.output_channels, window.group_outputs());
    let width = piece.columns.len();
    let tile = (PATCH_ELEMENTS / width).clamp(ROWS_MIN, ROWS_MAX);
    scratch.with(|wide_output| {
        scratch.with(|patches| {
            let mut accumulate = false;
            for first in rows.clone().step_by(tile) {
                let rows = first..rows.end.min(first + tile);
                let output = E::widen(&output[first * outputs..rows.end * outputs], wide_output);
                let output = &output[piece.group * group_outputs..];
                let output = Matrix::strided(output, rows.len(), group_outputs, outputs);
                let patches = if window.is_pointwise() {
                    let channels = window.input_channels;
                    let pixels = &images[first * channels..rows.end * channels];
                    let pixels = E::widen(pixels, patches);
                    let skip = piece.group * window.group_inputs() + piece.columns.channels.start;
                    Matrix::strided(&pixels[skip..], rows.len(), width, channels)
                } else {
                    let patches = sized(patches, rows.len() * width);
                    let count = rows.len();
                    super::vectorised(|| {
                        gather(window, images, rows, piece.group, &piece.columns, patches);
                    });
                    Matrix::new(patches, count, width)
                };
                multiply(
                    MatrixMut::new(gradient, width, group_outputs),
                    accumulate,
                    patches.transposed(),
                    output,
                );
                accumulate = true;
            }
        });
    });
}
