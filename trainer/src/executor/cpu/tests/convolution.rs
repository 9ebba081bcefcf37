//! Convolutions against candle.
//!
//! The gradients of candle's own `conv2d` are wrong for some images that are not square, so its
//! operation is the reference of forward only; gradients are those of the definition as a sum over
//! the positions under the window, which forward holds to `conv2d` as well.

use proptest::prelude::*;

use super::*;
use crate::plan::Window;

/// A convolution and how many images.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) window: Window,
    pub(super) batch: usize,
    pub(super) bias: bool,
    pub(super) accumulate: bool,
    pub(super) seed: u64,
}

impl Case {
    /// `[inputs, outputs]` of each group, `[height, width]`, `[kernel, stride, padding]`.
    pub(super) fn new(
        groups: usize,
        [inputs, outputs]: [usize; 2],
        [input_height, input_width]: [usize; 2],
        [kernel, stride, padding]: [usize; 3],
        batch: usize,
    ) -> Self {
        let window = Window {
            input_channels: groups * inputs,
            input_height,
            input_width,
            output_channels: groups * outputs,
            output_height: (input_height + 2 * padding - kernel) / stride + 1,
            output_width: (input_width + 2 * padding - kernel) / stride + 1,
            kernel,
            stride,
            padding,
            groups,
        };
        Self { window, batch, bias: true, accumulate: false, seed: 1 }
    }

    fn filters(&self) -> [usize; 4] {
        let Window { kernel, output_channels, .. } = self.window;
        [output_channels, self.window.group_inputs(), kernel, kernel]
    }

    fn input(&self) -> Vec<f64> {
        values(self.seed, "x", self.batch * self.window.input_elements())
    }

    fn gradient(&self) -> Vec<f64> {
        values(self.seed, "dy", self.batch * self.window.output_elements())
    }

    /// What is in the memory of the gradient before; large, so that nobody keeps it by mistake.
    fn before(&self) -> Vec<f64> {
        values(self.seed, "before", self.batch * self.window.input_elements())
    }

    /// Input and output pixels.
    fn pixels(&self) -> (usize, usize) {
        (self.window.input_height * self.window.input_width, self.window.output_pixels())
    }

    fn check(&self) {
        let window = self.window;
        let (input_pixels, output_pixels) = self.pixels();
        let mut layer = self.layer::<f64>(2);
        layer.forward(TRAIN);
        let found = layer.get(Place::Output);
        layer.backward(TRAIN);

        let x = channels_first(&self.input(), window.input_channels, input_pixels);
        let shape = [self.batch, window.input_channels, window.input_height, window.input_width];
        let x = leaf(&x, &shape);
        let filters = self.filters();
        let w = leaf(&values(self.seed, "weight", filters.iter().product()), &filters);
        let b = leaf(&values(self.seed, "bias", filters[0]), &[1, filters[0], 1, 1]);
        let bias = |y: Tensor| if self.bias { y.broadcast_add(&b).unwrap() } else { y };
        let operation = x.conv2d(&w, window.padding, window.stride, 1, window.groups).unwrap();
        let y = bias(definition(&window, &x, &w));
        let nhwc =
            |values: &Tensor, channels, pixels| channels_last(&flat(values), channels, pixels);
        let expected = nhwc(&bias(operation), window.output_channels, output_pixels);
        assert_same("output", &found, &expected);
        let of_sum = nhwc(&y, window.output_channels, output_pixels);
        assert_same("the definition's output", &of_sum, &expected);

        let dy = channels_first(&self.gradient(), window.output_channels, output_pixels);
        let gradients = (y.clone() * tensor(&dy, y.dims())).unwrap().sum_all().unwrap();
        let gradients = gradients.backward().unwrap();
        let mut dx = nhwc(gradients.get(&x).unwrap(), window.input_channels, input_pixels);
        if self.accumulate {
            dx.iter_mut().zip(self.before()).for_each(|(dx, before)| *dx += before);
        }
        assert_same("gradient of the input", &layer.get(Place::InputGradient), &dx);
        assert_same(
            "gradient of the filters",
            &layer.gradient(0),
            &flat(gradients.get(&w).unwrap()),
        );
        if self.bias {
            let db = flat(gradients.get(&b).unwrap());
            assert_same("gradient of the bias", &layer.gradient(1), &db);
        }
    }
}

impl Testable for Case {
    fn layer<E: Element>(&self, threads: usize) -> Layer<E> {
        let window = self.window;
        let layout = ParameterLayout::Convolution {
            groups: window.groups,
            outputs: window.group_outputs(),
            inputs: window.group_inputs(),
            positions: window.kernel * window.kernel,
        };
        let ids: Vec<ParameterId> = [0, 1].map(ParameterId).to_vec();
        let kind = Kind::Convolution {
            window,
            input: input(self.accumulate),
            output: OUTPUT,
            weight: ids[0],
            bias: self.bias.then_some(ids[1]),
        };
        let mut parameters = vec![parameter(&self.filters(), layout)];
        if self.bias {
            parameters.push(vector(window.output_channels));
        }
        let sizes = (window.input_elements(), window.output_elements());
        let mut layer = Layer::new(kind, sizes, parameters, batch(self.batch), threads);
        let elements = self.filters().iter().product();
        layer.set_parameter(0, &values(self.seed, "weight", elements));
        if self.bias {
            layer.set_parameter(1, &values(self.seed, "bias", window.output_channels));
        }
        layer.set(Place::Input, &self.input());
        layer.set(Place::OutputGradient, &self.gradient());
        layer.set(Place::InputGradient, &self.before());
        layer
    }
}

/// Σ over positions under the window of the pixels there times the filters' column.
fn definition(window: &Window, x: &Tensor, w: &Tensor) -> Tensor {
    let Window { kernel, stride, padding, groups, .. } = *window;
    let (rows, columns) = (window.output_height, window.output_width);
    let (inputs, outputs) = (window.group_inputs(), window.group_outputs());
    let batch = x.dims()[0];
    let padded = x.pad_with_zeros(2, padding, padding).unwrap();
    let padded = padded.pad_with_zeros(3, padding, padding).unwrap();
    let places = |offset: usize, count: usize| {
        let places: Vec<u32> = (0..count).map(|n| (offset + n * stride) as u32).collect();
        Tensor::new(places, &Device::Cpu).unwrap()
    };
    let groups: Vec<Tensor> = (0..groups)
        .map(|group| {
            let x = padded.narrow(1, group * inputs, inputs).unwrap().contiguous().unwrap();
            let w = w.narrow(0, group * outputs, outputs).unwrap();
            let products = (0..kernel * kernel).map(|position| {
                let (down, right) = (position / kernel, position % kernel);
                let seen = x.index_select(&places(down, rows), 2).unwrap();
                let seen = seen.index_select(&places(right, columns), 3).unwrap();
                // images × pixels × inputs
                let seen = seen.flatten_from(2).unwrap().transpose(1, 2).unwrap();
                let seen = seen.contiguous().unwrap().reshape((batch * rows * columns, inputs));
                let w = w.narrow(2, down, 1).unwrap().narrow(3, right, 1).unwrap();
                let w = w.reshape((outputs, inputs)).unwrap().t().unwrap();
                seen.unwrap().matmul(&w.contiguous().unwrap()).unwrap()
            });
            let sum = products.reduce(|a, b| (a + b).unwrap()).unwrap();
            let sum = sum.reshape((batch, rows * columns, outputs)).unwrap();
            let sum = sum.transpose(1, 2).unwrap().contiguous().unwrap();
            sum.reshape((batch, outputs, rows, columns)).unwrap()
        })
        .collect();
    Tensor::cat(&groups, 1).unwrap()
}

/// Geometries of networks and others; the image is at least as large as the window.
pub(super) fn cases() -> impl Strategy<Value = Case> {
    let kernel = prop_oneof![4 => 1_usize..=7, 1 => Just(11_usize)];
    let sizes = (kernel, 1_usize..=4, 0_usize..=5).prop_map(|(kernel, stride, padding)| {
        // A window that sees padding alone is in no network.
        [kernel, stride, padding.min(kernel - 1)]
    });
    let image = sizes.prop_flat_map(|[kernel, stride, padding]| {
        let least = kernel.saturating_sub(2 * padding).max(1);
        let side = least..=least + 9;
        (Just([kernel, stride, padding]), side.clone(), side)
    });
    let rest =
        (1_usize..=3, 1_usize..=5, 1_usize..=5, 1_usize..=3, any::<[bool; 2]>(), any::<u64>());
    (image, rest).prop_map(
        |((sizes, height, width), (groups, inputs, outputs, batch, marks, seed))| {
            let case = Case::new(groups, [inputs, outputs], [height, width], sizes, batch);
            Case { bias: marks[0], accumulate: marks[1], seed, ..case }
        },
    )
}

proptest! {
    #[test]
    fn convolutions_are_candles(case in cases()) {
        case.check();
    }
}

/// Sizes at which work is cut in every way that there is; the numbers follow from the constants in
/// [`super::convolution`](crate::executor::cpu::convolution).
pub(super) fn large() -> Vec<(&'static str, Case)> {
    vec![
        // 2 × 27 × 25 = 1350 output pixels: several tasks forward, of uneven size.
        ("several tasks", Case::new(1, [3, 5], [27, 25], [3, 1, 1], 2)),
        ("several tasks of one pixel", Case::new(1, [6, 5], [27, 25], [1, 1, 0], 2)),
        ("several tasks in groups", Case::new(2, [3, 4], [27, 25], [1, 1, 0], 2)),
        // 9 pixels: images go backward in threes, the last two together.
        ("images together", Case::new(1, [4, 6], [3, 3], [3, 1, 1], 5)),
        // 2209 output pixels in one image: three tiles when patches are added up, and two parts of
        // the pixels for the filters, whose 27 rows are one piece.
        ("parts of the pixels", Case::new(1, [3, 4], [47, 47], [3, 1, 1], 1)),
        ("parts of the pixels, stride 2", Case::new(1, [3, 4], [93, 94], [7, 2, 3], 1)),
        // 72 channels are more than the 64 of a piece: two for each position.
        ("pieces of channels", Case::new(1, [72, 3], [5, 6], [3, 1, 1], 2)),
        ("pieces of channels of one pixel", Case::new(1, [150, 3], [5, 6], [1, 1, 0], 2)),
        // 16 pieces or more, and more than 1024 pixels: a second tile is added to the first.
        ("pieces in tiles", Case::new(1, [130, 2], [34, 34], [3, 1, 1], 1)),
        ("pieces of positions in groups", Case::new(2, [24, 3], [9, 7], [5, 1, 2], 3)),
    ]
}

#[test]
fn large_convolutions_are_candles() {
    for (what, case) in large() {
        for accumulate in [false, true] {
            println!("{what}, accumulate: {accumulate}");
            Case { accumulate, ..case }.check();
        }
    }
}
