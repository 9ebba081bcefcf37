//! Pools and ReLU: against their definition in loops, as candle does not derive all pools.

use foretrain_sim::workload::Shape;
use proptest::prelude::*;

use super::*;
use crate::plan::Window;

/// A max pool and how many images.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) window: Window,
    pub(super) batch: usize,
    pub(super) accumulate: bool,
    /// Whole numbers, so that there are equals.
    pub(super) coarse: bool,
    pub(super) seed: u64,
}

impl Case {
    pub(super) fn new(
        channels: usize,
        [input_height, input_width]: [usize; 2],
        [kernel, stride, padding]: [usize; 3],
    ) -> Self {
        let window = Window {
            input_channels: channels,
            input_height,
            input_width,
            output_channels: channels,
            output_height: (input_height + 2 * padding - kernel) / stride + 1,
            output_width: (input_width + 2 * padding - kernel) / stride + 1,
            kernel,
            stride,
            padding,
            groups: 1,
        };
        Self { window, batch: 1, accumulate: false, coarse: false, seed: 1 }
    }

    fn input(&self) -> Vec<f64> {
        let values = values(self.seed, "x", self.batch * self.window.input_elements());
        let coarse = |x: f64| if self.coarse { (2.0 * x).round() } else { x };
        values.into_iter().map(coarse).collect()
    }

    fn check(&self) {
        let Window { input_height, input_width, output_height, output_width, .. } = self.window;
        let Window { kernel, stride, padding, input_channels: channels, .. } = self.window;
        let x = self.input();
        let dy = values(self.seed, "dy", self.batch * self.window.output_elements());
        let mut y = Vec::new();
        let mut dx = vec![0.0; x.len()];
        if self.accumulate {
            dx = values(self.seed, "before", x.len());
        }
        for image in 0..self.batch {
            for row in 0..output_height {
                for column in 0..output_width {
                    for channel in 0..channels {
                        let mut best: Option<usize> = None;
                        for position in 0..kernel * kernel {
                            let down = (row * stride + position / kernel).checked_sub(padding);
                            let right = (column * stride + position % kernel).checked_sub(padding);
                            let (Some(down), Some(right)) = (down, right) else { continue };
                            if down >= input_height || right >= input_width {
                                continue;
                            }
                            let pixel = (image * input_height + down) * input_width + right;
                            let index = pixel * channels + channel;
                            // The first of equals, as PyTorch has it.
                            if best.is_none_or(|best| x[index] > x[best]) {
                                best = Some(index);
                            }
                        }
                        let best = best.unwrap();
                        dx[best] += dy[y.len()];
                        y.push(x[best]);
                    }
                }
            }
        }
        let mut layer = self.layer::<f64>(2);
        layer.forward(TRAIN);
        layer.backward(TRAIN);
        assert_eq!(layer.get(Place::Output), y);
        assert_same("gradient", &layer.get(Place::InputGradient), &dx);
    }
}

impl Testable for Case {
    fn layer<E: Element>(&self, threads: usize) -> Layer<E> {
        let window = self.window;
        let kind =
            Kind::MaxPool { number: 0, window, input: input(self.accumulate), output: OUTPUT };
        let sizes = (window.input_elements(), window.output_elements());
        let mut layer = Layer::new(kind, sizes, Vec::new(), batch(self.batch), threads);
        layer.set(Place::Input, &self.input());
        let (inputs, outputs) = (self.batch * sizes.0, self.batch * sizes.1);
        layer.set(Place::OutputGradient, &values(self.seed, "dy", outputs));
        layer.set(Place::InputGradient, &values(self.seed, "before", inputs));
        layer
    }
}

/// As PyTorch, at most half the window is padding.
pub(super) fn cases() -> impl Strategy<Value = Case> {
    let sizes = (1_usize..=4, 1_usize..=4, 0_usize..=2)
        .prop_map(|(kernel, stride, padding)| [kernel, stride, padding.min(kernel / 2)]);
    let image = sizes.prop_flat_map(|sizes| {
        let side = sizes[0]..=sizes[0] + 7;
        (Just(sizes), side.clone(), side)
    });
    (image, 1_usize..=5, 1_usize..=3, any::<[bool; 2]>(), any::<u64>()).prop_map(
        |((sizes, height, width), channels, batch, [accumulate, coarse], seed)| {
            let case = Case::new(channels, [height, width], sizes);
            Case { batch, accumulate, coarse, seed, ..case }
        },
    )
}

proptest! {
    #[test]
    fn max_pools_are_their_definition(case in cases()) {
        case.check();
    }

    #[test]
    fn average_pools_are_their_definition(
        [channels, height, width] in [1_usize..=9, 1..=6, 1..=6],
        images in 1_usize..=4,
        accumulate: bool,
        seed: u64,
    ) {
        let shape = Shape::new(channels as u64, height as u64, width as u64);
        let kind = Kind::GlobalAveragePool { shape, input: input(accumulate), output: OUTPUT };
        let pixels = height * width;
        let mut layer =
            Layer::<f64>::new(kind, (channels * pixels, channels), Vec::new(), batch(images), 2);
        let x = values(seed, "x", images * channels * pixels);
        let dy = values(seed, "dy", images * channels);
        let before = values(seed, "before", x.len());
        layer.set(Place::Input, &x);
        layer.set(Place::OutputGradient, &dy);
        layer.set(Place::InputGradient, &before);
        layer.forward(TRAIN);
        layer.backward(TRAIN);
        let leaf = leaf(&x, &[images, pixels, channels]);
        let y = leaf.mean(1).unwrap();
        assert_same("output", &layer.get(Place::Output), &flat(&y));
        let gradient = (y * tensor(&dy, &[images, channels])).unwrap().sum_all().unwrap();
        let mut dx = flat(gradient.backward().unwrap().get(&leaf).unwrap());
        if accumulate {
            dx.iter_mut().zip(before).for_each(|(dx, before)| *dx += before);
        }
        assert_same("gradient", &layer.get(Place::InputGradient), &dx);
    }

    /// 40,000 elements are three tasks.
    #[test]
    fn relu_is_its_definition(elements in prop_oneof![1_usize..100, Just(40_000)], accumulate: bool, seed: u64) {
        let kind = Kind::Relu { input: input(accumulate), output: OUTPUT };
        let mut layer = Layer::<f64>::new(kind, (elements, elements), Vec::new(), batch(1), 2);
        let mut x = values(seed, "x", elements);
        x[elements / 2] = 0.0;
        let dy = values(seed, "dy", elements);
        let before = values(seed, "before", elements);
        layer.set(Place::Input, &x);
        layer.set(Place::OutputGradient, &dy);
        layer.set(Place::InputGradient, &before);
        layer.forward(TRAIN);
        layer.backward(TRAIN);
        let y: Vec<f64> = x.iter().map(|&x| x.max(0.0)).collect();
        prop_assert_eq!(layer.get(Place::Output), y);
        let dx = x.iter().zip(&dy).zip(&before).map(|((&x, &dy), &before)| {
            (if accumulate { before } else { 0.0 }) + if x > 0.0 { dy } else { 0.0 }
        });
        prop_assert_eq!(layer.get(Place::InputGradient), dx.collect::<Vec<_>>());
    }
}

/// As in PyTorch, so that what went wrong is seen in the loss and not trained on.
#[test]
fn what_is_no_number_stays_none() {
    let case = Case::new(1, [2, 2], [2, 2, 0]);
    for place in 0..4 {
        let mut x = [4.0, 3.0, 2.0, 1.0];
        x[place] = f64::NAN;
        let mut pool = case.layer::<f32>(1);
        pool.set(Place::Input, &x);
        pool.forward(TRAIN);
        assert!(pool.get(Place::Output)[0].is_nan(), "pool, {place}");
        pool.set(Place::OutputGradient, &[1.0]);
        pool.backward(TRAIN);
        let gradient = pool.get(Place::InputGradient);
        assert_eq!((gradient[place], gradient.iter().sum::<f64>()), (1.0, 1.0));
    }
    let kind = Kind::Relu { input: input(false), output: OUTPUT };
    let mut relu = Layer::<f32>::new(kind, (2, 2), Vec::new(), batch(1), 1);
    relu.set(Place::Input, &[f64::NAN, -1.0]);
    relu.set(Place::OutputGradient, &[1.0, 1.0]);
    relu.forward(TRAIN);
    relu.backward(TRAIN);
    assert!(relu.get(Place::Output)[0].is_nan());
    assert_eq!(relu.get(Place::InputGradient), [1.0, 0.0]);
}
