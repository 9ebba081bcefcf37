//! Linear layers against candle.

use proptest::prelude::*;

use super::*;

/// A linear layer and how many images.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) channels: usize,
    pub(super) pixels: usize,
    pub(super) outputs: usize,
    pub(super) batch: usize,
    pub(super) accumulate: bool,
    pub(super) seed: u64,
}

impl Case {
    const fn inputs(&self) -> usize {
        self.channels * self.pixels
    }

    fn check(&self) {
        let (inputs, outputs) = (self.inputs(), self.outputs);
        let mut layer = self.layer::<f64>(2);
        layer.forward(TRAIN);
        layer.backward(TRAIN);
        // As PyTorch flattens: channels outermost.
        let x = values(self.seed, "x", self.batch * inputs);
        let x = leaf(&channels_first(&x, self.channels, self.pixels), &[self.batch, inputs]);
        let w = leaf(&values(self.seed, "weight", inputs * outputs), &[outputs, inputs]);
        let b = leaf(&values(self.seed, "bias", outputs), &[1, outputs]);
        let y = x.matmul(&w.t().unwrap()).unwrap().broadcast_add(&b).unwrap();
        assert_same("output", &layer.get(Place::Output), &flat(&y));
        let dy = tensor(&values(self.seed, "dy", self.batch * outputs), &[self.batch, outputs]);
        let gradients = (y * dy).unwrap().sum_all().unwrap().backward().unwrap();
        let dx = flat(gradients.get(&x).unwrap());
        let mut dx = channels_last(&dx, self.channels, self.pixels);
        if self.accumulate {
            let before = values(self.seed, "before", self.batch * inputs);
            dx.iter_mut().zip(before).for_each(|(dx, before)| *dx += before);
        }
        assert_same("gradient of the input", &layer.get(Place::InputGradient), &dx);
        assert_same(
            "gradient of the weights",
            &layer.gradient(0),
            &flat(gradients.get(&w).unwrap()),
        );
        assert_same("gradient of the bias", &layer.gradient(1), &flat(gradients.get(&b).unwrap()));
    }
}

/// Up to several tasks of 64 inputs or outputs.
pub(super) fn cases() -> impl Strategy<Value = Case> {
    let sizes = (1_usize..=40, 1_usize..=6, 1_usize..=150, 1_usize..=4);
    (sizes, any::<bool>(), any::<u64>()).prop_map(
        |((channels, pixels, outputs, batch), accumulate, seed)| Case {
            channels,
            pixels,
            outputs,
            batch,
            accumulate,
            seed,
        },
    )
}

impl Testable for Case {
    fn layer<E: Element>(&self, threads: usize) -> Layer<E> {
        let (inputs, outputs) = (self.inputs(), self.outputs);
        let kind = Kind::Linear {
            inputs,
            outputs,
            input: input(self.accumulate),
            output: OUTPUT,
            weight: ParameterId(0),
            bias: ParameterId(1),
        };
        let (channels, pixels) = (self.channels, self.pixels);
        let layout = ParameterLayout::Linear { outputs, channels, pixels };
        let parameters = vec![parameter(&[outputs, inputs], layout), vector(outputs)];
        let mut layer = Layer::new(kind, (inputs, outputs), parameters, batch(self.batch), threads);
        layer.set_parameter(0, &values(self.seed, "weight", inputs * outputs));
        layer.set_parameter(1, &values(self.seed, "bias", outputs));
        layer.set(Place::Input, &values(self.seed, "x", self.batch * inputs));
        layer.set(Place::OutputGradient, &values(self.seed, "dy", self.batch * outputs));
        layer.set(Place::InputGradient, &values(self.seed, "before", self.batch * inputs));
        layer
    }
}

proptest! {
    #[test]
    fn linear_layers_are_candles(case in cases()) {
        case.check();
    }
}
