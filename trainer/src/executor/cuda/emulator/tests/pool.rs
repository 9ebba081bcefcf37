//! Pools against their definition in loops.

use proptest::prelude::*;

use super::super::super::arguments::pool::*;
use super::batch_norm::{numbers, rounding};
use super::*;

/// A max pool, and on which data.
#[derive(Debug, Clone, Copy)]
struct Case {
    format: NumberFormat,
    images: usize,
    channels: usize,
    input: [usize; 2],
    kernel: usize,
    stride: usize,
    padding: usize,
    /// Whole numbers, so that there are equals, and some that are no numbers.
    coarse: bool,
    accumulate: bool,
    grid: u32,
    seed: u64,
}

/// What a max pool gives.
struct Pooled {
    y: Vec<f32>,
    positions: Vec<u8>,
    /// For each element of the input, the elements of the output it is the largest of.
    winners: Vec<Vec<usize>>,
}

impl Case {
    fn output(&self) -> [usize; 2] {
        self.input.map(|size| (size + 2 * self.padding - self.kernel) / self.stride + 1)
    }

    fn data(&self) -> Vec<f32> {
        let values =
            numbers(self.seed, self.images * self.channels * self.input[0] * self.input[1]);
        let coarse = |x: f32| match (3.0 * x).round() {
            _ if !self.coarse => x,
            _ if x > 0.95 => f32::NAN,
            x => x,
        };
        values.into_iter().map(coarse).collect()
    }

    fn expected(&self, x: &[f32]) -> Pooled {
        let [height, width] = self.output();
        let mut pooled =
            Pooled { y: Vec::new(), positions: Vec::new(), winners: vec![Vec::new(); x.len()] };
        let pixels =
            (0..self.images).flat_map(|image| (0..height * width).map(move |pixel| (image, pixel)));
        for ((image, pixel), channel) in
            pixels.flat_map(|pixel| (0..self.channels).map(move |channel| (pixel, channel)))
        {
            let mut best: Option<(usize, usize)> = None;
            for position in 0..self.kernel * self.kernel {
                let down = pixel / width * self.stride + position / self.kernel;
                let right = pixel % width * self.stride + position % self.kernel;
                let inside = |at: usize, size: usize| {
                    (self.padding..size + self.padding).contains(&at).then(|| at - self.padding)
                };
                let (Some(down), Some(right)) =
                    (inside(down, self.input[0]), inside(right, self.input[1]))
                else {
                    continue;
                };
                let place = (image * self.input[0] + down) * self.input[1] + right;
                let place = place * self.channels + channel;
                // The first of equals; of what is no number the last, as PyTorch has it.
                if best.is_none_or(|(best, _)| x[place] > x[best] || x[place].is_nan()) {
                    best = Some((place, position));
                }
            }
            let (place, position) = best.unwrap();
            pooled.winners[place].push(pooled.y.len());
            pooled.y.push(x[place]);
            pooled.positions.push(position as u8);
        }
        pooled
    }

    fn check(&self) {
        let format = self.format;
        let x = self.data();
        let [output_height, output_width] = self.output();
        let outputs = self.images * output_height * output_width * self.channels;
        let mut memory = Memory::new(16 * (x.len() + outputs) + 4096);
        let place = memory.put_elements(format, &x);
        let x = memory.get_elements(format, place, x.len());
        let expected = self.expected(&x);
        let forward = MaxPool {
            x: place,
            y: memory.take_elements(format, outputs),
            positions: memory.take(outputs),
            images: self.images as u32,
            channels: self.channels as u32,
            input_height: self.input[0] as u32,
            input_width: self.input[1] as u32,
            output_height: output_height as u32,
            output_width: output_width as u32,
            kernel: self.kernel as u32,
            stride: self.stride as u32,
            padding: self.padding as u32,
        };
        run(format, &forward, self.grid);
        let bits = |values: &[f32]| {
            values.iter().map(|y| if y.is_nan() { 0 } else { y.to_bits() }).collect::<Vec<_>>()
        };
        let y = memory.get_elements(format, forward.y, outputs);
        assert_eq!(bits(&y), bits(&expected.y));
        assert_eq!(memory.get::<u8>(forward.positions, outputs), expected.positions);

        let dy = memory.put_elements(format, &numbers(self.seed + 1, outputs));
        let dx = memory.put_elements(format, &numbers(self.seed + 2, x.len()));
        let before = memory.get_elements(format, dx, x.len());
        let backward = MaxPoolBackward {
            dy,
            positions: forward.positions,
            dx,
            images: forward.images,
            channels: forward.channels,
            input_height: forward.input_height,
            input_width: forward.input_width,
            output_height: forward.output_height,
            output_width: forward.output_width,
            kernel: forward.kernel,
            stride: forward.stride,
            padding: forward.padding,
            accumulate: u32::from(self.accumulate),
        };
        run(format, &backward, self.grid);
        let dy = memory.get_elements(format, dy, outputs);
        let dx = memory.get_elements(format, dx, x.len());
        for (index, winners) in expected.winners.iter().enumerate() {
            let there = if self.accumulate { f64::from(before[index]) } else { 0.0 };
            let terms = winners.iter().map(|winner| f64::from(dy[*winner]));
            let expected = there + terms.clone().sum::<f64>();
            let size = there.abs() + terms.map(f64::abs).sum::<f64>();
            // As many sums in single precision as there are terms, then one rounding.
            let sums = winners.len() as f64 * 2.0_f64.powi(-24) * size;
            let allowed = rounding(format) * expected.abs() + sums + 2.0_f64.powi(-25);
            let got = f64::from(dx[index]);
            assert!((got - expected).abs() <= allowed, "{index}: {got}, not {expected}");
        }
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let sizes = (1_usize..=5, 1_usize..=3)
        .prop_flat_map(|(kernel, stride)| (Just(kernel), Just(stride), 0..kernel));
    let image = sizes.prop_flat_map(|(kernel, stride, padding)| {
        let side = kernel.saturating_sub(2 * padding).max(1)..=kernel + 6;
        (Just((kernel, stride, padding)), [side.clone(), side])
    });
    let data = (0_usize..3, 1_usize..=3, 1_usize..=5, any::<[bool; 2]>(), 1_u32..=5, any::<u32>());
    (image, data).prop_map(|(((kernel, stride, padding), input), data)| {
        let (format, images, vectors, [coarse, accumulate], grid, seed) = data;
        Case {
            format: FORMATS[format],
            images,
            channels: 8 * vectors,
            input,
            kernel,
            stride,
            padding,
            coarse,
            accumulate,
            grid,
            seed: u64::from(seed),
        }
    })
}

proptest! {
    #[test]
    fn max_pools_are_their_definition(case in cases()) {
        case.check();
    }
}

/// The pool after ResNet's first convolution, small, and those of AlexNet, on the grids they get.
#[test]
fn max_pools_of_models_are_their_definition() {
    for (input, [kernel, stride, padding], channels) in
        [([14, 14], [3, 2, 1], 64), ([13, 13], [3, 2, 0], 256), ([9, 6], [2, 2, 0], 96)]
    {
        for format in FORMATS {
            let case = Case {
                format,
                images: 2,
                channels,
                input,
                kernel,
                stride,
                padding,
                coarse: true,
                accumulate: false,
                grid: 8,
                seed: 7,
            };
            case.check();
        }
    }
}

#[test]
fn average_pools_are_means_on_every_grid() {
    for format in FORMATS {
        for (images, pixels, channels) in
            [(1, 1, 8), (3, 49, 24), (2, 50, 96), (2, 300, 8), (2, 4, 2056)]
        {
            let mut memory =
                Memory::new((images * pixels * channels) * 8 + images * channels * 4 + 4096);
            let count = images * pixels * channels;
            let x = memory.put_elements(format, &numbers(1, count));
            let forward = AveragePool {
                x,
                y: memory.take_elements(format, images * channels),
                images: images as u32,
                pixels: pixels as u32,
                channels: channels as u32,
            };
            let mut found = Vec::new();
            for grid in [forward.grid(), 1, 2] {
                run(format, &forward, grid);
                found.push(memory.get_elements(format, forward.y, images * channels));
            }
            assert!(found.iter().all(|other| *other == found[0]));
            let x = memory.get_elements(format, x, count);
            for (index, y) in found[0].iter().enumerate() {
                let first = index / channels * pixels * channels + index % channels;
                let of_channel = x[first..].iter().step_by(channels).take(pixels);
                let mean = of_channel.map(|x| f64::from(*x)).sum::<f64>() / pixels as f64;
                // Of at most 300 numbers up to 1, in single precision.
                let allowed = rounding(format) * mean.abs() + 1e-6;
                assert!((f64::from(*y) - mean).abs() <= allowed, "{format:?}: {y}, not {mean}");
            }

            let dx = memory.put_elements(format, &numbers(2, count));
            let before = memory.get_elements(format, dx, count);
            for (accumulate, grid) in [(1, 2), (0, 1)] {
                let backward = AveragePoolBackward {
                    dy: forward.y,
                    dx,
                    images: forward.images,
                    pixels: forward.pixels,
                    channels: forward.channels,
                    accumulate,
                };
                run(format, &backward, grid);
                let got = memory.get_elements(format, dx, count);
                for (index, got) in got.into_iter().enumerate() {
                    let image = index / (pixels * channels);
                    let dy = f64::from(found[0][image * channels + index % channels]);
                    let there = if accumulate == 1 { f64::from(before[index]) } else { 0.0 };
                    let expected = there + dy / pixels as f64;
                    let allowed = rounding(format) * expected.abs()
                        + 2.0_f64.powi(-23) * (there.abs() + dy.abs())
                        + 2.0_f64.powi(-25);
                    assert!((f64::from(got) - expected).abs() <= allowed, "{format:?}: {got}");
                }
            }
        }
    }
}
