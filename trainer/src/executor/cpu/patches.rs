//! What a convolution's window sees, as a matrix, and the way back.
//!
//! A row is an output pixel, of all images one after the other; a column is an element under the
//! window, `kernel × kernel × channels`. Activations lie with their channels innermost, so each
//! piece that is copied is at least as long as there are channels.

use std::ops::Range;

use super::element::Element;
use crate::plan::Window;

/// Columns of the matrix: all `channels` of some `positions` under the window, or a part of the
/// channels of one position; `channels` count from the group's first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) positions: Range<usize>,
    pub(super) channels: Range<usize>,
}

impl Columns {
    /// Everything under the window.
    pub(super) const fn all(window: &Window) -> Self {
        Self { positions: 0..window.kernel * window.kernel, channels: 0..window.group_inputs() }
    }

    pub(super) const fn len(&self) -> usize {
        (self.positions.end - self.positions.start) * (self.channels.end - self.channels.start)
    }
}

/// A run of window positions in one row of the window, and what it covers of the image.
struct Run {
    /// Positions before the first inside the image.
    outside_before: usize,
    /// Positions inside the image.
    inside: usize,
    /// Positions after.
    outside_after: usize,
    /// The first input element of the first inside, in the image.
    start: usize,
}

/// The runs of `positions` for the output pixel at (`row`, `column`).
fn runs(
    window: &Window,
    positions: Range<usize>,
    row: usize,
    column: usize,
) -> impl Iterator<Item = Run> {
    let Window { kernel, stride, padding, input_width, input_height, input_channels, .. } = *window;
    let rows = positions.start / kernel..positions.end.div_ceil(kernel);
    rows.map(move |window_row| {
        let first = positions.start.max(window_row * kernel) - window_row * kernel;
        let end = positions.end.min((window_row + 1) * kernel) - window_row * kernel;
        // Input columns are column · stride + position − padding, to be from 0 to width − 1.
        let corner = column * stride;
        let low = first.max(padding.saturating_sub(corner)).min(end);
        let high = end.min((input_width + padding).saturating_sub(corner)).max(low);
        match window.source(row, window_row, input_height) {
            Some(input_row) if high > low => Run {
                outside_before: low - first,
                inside: high - low,
                outside_after: end - high,
                start: (input_row * input_width + corner + low - padding) * input_channels,
            },
            _ => Run { outside_before: end - first, inside: 0, outside_after: 0, start: 0 },
        }
    })
}

/// Calls `visit` with each output pixel of `rows`: its image, row and column.
fn pixels(window: &Window, rows: Range<usize>, mut visit: impl FnMut(usize, usize, usize)) {
    let (width, per_image) = (window.output_width, window.output_pixels());
    let mut image = rows.start / per_image;
    let mut row = rows.start % per_image / width;
    let mut column = rows.start % width;
    for _ in rows {
        visit(image, row, column);
        column += 1;
        if column == width {
            column = 0;
            row += 1;
            if row == window.output_height {
                row = 0;
                image += 1;
            }
        }
    }
}

/// Writes the `columns` of `group` for the output pixels `rows` of `images` to `out`, row by row.
pub(super) fn gather<E: Element>(
    window: &Window,
    images: &[E],
    rows: Range<usize>,
    group: usize,
    columns: &Columns,
    out: &mut [E::Real],
) {
    let zero = E::default().to_real();
    let channels = columns.channels.len();
    let whole = channels == window.input_channels;
    let first_channel = group * window.group_inputs() + columns.channels.start;
    let width = columns.len();
    let mut out = out.chunks_exact_mut(width);
    pixels(window, rows, |image, row, column| {
        let image = &images[image * window.input_elements()..][..window.input_elements()];
        let Some(mut out) = out.next() else { return };
        let mut next = |elements: usize| {
            let (now, later) = std::mem::take(&mut out).split_at_mut(elements);
            out = later;
            now
        };
        for run in runs(window, columns.positions.clone(), row, column) {
            next(run.outside_before * channels).fill(zero);
            if whole {
                let elements = run.inside * channels;
                E::widen_into(&image[run.start..][..elements], next(elements));
            } else {
                for position in 0..run.inside {
                    let start = run.start + position * window.input_channels + first_channel;
                    E::widen_into(&image[start..][..channels], next(channels));
                }
            }
            next(run.outside_after * channels).fill(zero);
        }
    });
}

/// Adds all columns of `group` for the output pixels `rows` to where they were taken from;
/// `images` begins with the image of output pixel 0.
pub(super) fn scatter<R: Element<Real = R> + std::ops::AddAssign>(
    window: &Window,
    columns: &[R],
    rows: Range<usize>,
    group: usize,
    images: &mut [R],
) {
    let channels = window.group_inputs();
    let whole = channels == window.input_channels;
    let first_channel = group * channels;
    let positions = 0..window.kernel * window.kernel;
    let mut columns = columns.chunks_exact(window.depth());
    let add = |from: &[R], to: &mut [R]| {
        for (to, from) in to.iter_mut().zip(from) {
            *to += *from;
        }
    };
    pixels(window, rows, |image, row, column| {
        let image = &mut images[image * window.input_elements()..][..window.input_elements()];
        let Some(mut from) = columns.next() else { return };
        for run in runs(window, positions.clone(), row, column) {
            from = &from[run.outside_before * channels..];
            let (inside, rest) = from.split_at(run.inside * channels);
            if whole {
                add(inside, &mut image[run.start..][..inside.len()]);
            } else {
                for (position, part) in inside.chunks_exact(channels).enumerate() {
                    let start = run.start + position * window.input_channels + first_channel;
                    add(part, &mut image[start..][..channels]);
                }
            }
            from = &rest[run.outside_after * channels..];
        }
    });
}
