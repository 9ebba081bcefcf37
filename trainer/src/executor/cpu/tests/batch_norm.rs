//! Batch norms, with what is fused to them, against their definition with candle's derivatives.

use foretrain_sim::workload::Shape;
use proptest::prelude::*;

use super::*;

const EPSILON: f64 = SETTINGS.batch_norm_epsilon;

/// A batch norm and how many images.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) shape: [usize; 3],
    pub(super) batch: usize,
    /// Images that share statistics; not always a divisor of the batch.
    pub(super) span: usize,
    pub(super) residual: bool,
    pub(super) relu: bool,
    pub(super) accumulate: [bool; 2],
    pub(super) seed: u64,
}

impl Case {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn values(&self, name: &str) -> Vec<f64> {
        values(self.seed, name, self.batch * self.elements())
    }

    /// Means away from 0, so that sums of squares would cancel.
    fn input(&self) -> Vec<f64> {
        self.values("x").into_iter().map(|x| 3.0 + 2.0 * x).collect()
    }

    fn of_channels(&self, name: &str) -> Vec<f64> {
        values(self.seed, name, self.shape[0])
    }

    fn check(&self) {
        let mut layer = self.layer::<f64>(2);
        layer.forward(TRAIN);
        let found = layer.get(Place::Output);
        layer.backward(TRAIN);

        let channels = self.shape[0];
        let rows = self.batch * self.elements() / channels;
        let x = leaf(&self.input(), &[rows, channels]);
        let r = leaf(&self.values("residual"), &[rows, channels]);
        let gamma = leaf(&self.of_channels("gamma"), &[1, channels]);
        let beta = leaf(&self.of_channels("beta"), &[1, channels]);
        let group_rows = self.span * self.elements() / channels;
        let mut parts = Vec::new();
        let mut statistics = [vec![0.0; channels], vec![0.0; channels]];
        let groups = rows.div_ceil(group_rows);
        for first in (0..rows).step_by(group_rows) {
            let rows = group_rows.min(rows - first);
            let x = x.narrow(0, first, rows).unwrap();
            let mean = x.mean_keepdim(0).unwrap();
            let centred = x.broadcast_sub(&mean).unwrap();
            let variance = centred.sqr().unwrap().mean_keepdim(0).unwrap();
            let deviation = (&variance + EPSILON).unwrap().sqrt().unwrap();
            let y = centred.broadcast_div(&deviation).unwrap().broadcast_mul(&gamma).unwrap();
            parts.push(y.broadcast_add(&beta).unwrap());
            let unbiased = (variance * (rows as f64 / (rows as f64 - 1.0).max(1.0))).unwrap();
            for (sums, more) in statistics.iter_mut().zip([mean, unbiased]) {
                sums.iter_mut()
                    .zip(flat(&more))
                    .for_each(|(sum, more)| *sum += more / groups as f64);
            }
        }
        let mut y = Tensor::cat(&parts, 0).unwrap();
        if self.residual {
            y = (y + r.as_tensor()).unwrap();
        }
        if self.relu {
            y = y.relu().unwrap();
        }
        // x, up to 5, is centred with an error of about 1e-15, which is then divided by a deviation
        // of at least √ε; gradients are that times γ and dy, which are at most 1.
        let (amplified, least) = (1e-15 / EPSILON.sqrt(), EPSILON.sqrt());
        assert_near("output", &found, &flat(&y), 10.0 * amplified);

        let dy = tensor(&self.values("dy"), &[rows, channels]);
        let gradients = (y * dy).unwrap().sum_all().unwrap().backward().unwrap();
        let of = |leaf: &Var, before: Option<Vec<f64>>| {
            let mut gradient = flat(gradients.get(leaf).unwrap());
            for (gradient, before) in gradient.iter_mut().zip(before.into_iter().flatten()) {
                *gradient += before;
            }
            gradient
        };
        let dx = of(&x, self.accumulate[0].then(|| self.values("before")));
        let found = layer.get(Place::InputGradient);
        assert_near("gradient of the input", &found, &dx, 10.0 * amplified / least);
        let dr = if self.residual {
            of(&r, self.accumulate[1].then(|| self.values("residual before")))
        } else {
            self.values("residual before")
        };
        assert_same("gradient of the residual", &layer.get(Place::ResidualGradient), &dr);
        let of_scale = layer.gradient(0);
        assert_near("gradient of γ", &of_scale, &of(&gamma, None), amplified * rows as f64);
        assert_same("gradient of β", &layer.gradient(1), &of(&beta, None));

        // From means of 0 and variances of 1, a tenth of the way; read in single precision.
        let running = layer.executor.running_statistics(0);
        let single = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
        let mean: Vec<f64> = statistics[0].iter().map(|mean| 0.1 * mean).collect();
        let variance: Vec<f64> = statistics[1].iter().map(|v| 0.9 + 0.1 * v).collect();
        assert_within("running means", &single(running.mean), &mean, 1e-7);
        assert_within("running variances", &single(running.variance), &variance, 1e-7);
    }
}

pub(super) fn cases() -> impl Strategy<Value = Case> {
    let shape = [1_usize..=9, 1..=6, 2..=6];
    let marks = any::<[bool; 4]>();
    (shape, 1_usize..=5, 1_usize..=5, marks, any::<u64>()).prop_map(
        |(shape, batch, span, [residual, relu, first, second], seed)| Case {
            shape,
            batch,
            span: span.min(batch),
            residual,
            relu,
            accumulate: [first, second],
            seed,
        },
    )
}

/// 2 × 40 × 37 × 12 elements are more than the two parts of 2¹⁴ that are summed apart.
pub(super) const LARGE: Case = Case {
    shape: [12, 40, 37],
    batch: 2,
    span: 2,
    residual: true,
    relu: true,
    accumulate: [false, true],
    seed: 5,
};

impl Testable for Case {
    fn layer<E: Element>(&self, threads: usize) -> Layer<E> {
        let [channels, height, width] = self.shape.map(|size| size as u64);
        let residual = operand(Place::Residual, Place::ResidualGradient, self.accumulate[1]);
        let kind = Kind::BatchNorm {
            number: 0,
            shape: Shape::new(channels, height, width),
            input: input(self.accumulate[0]),
            residual: self.residual.then_some(residual),
            relu: self.relu,
            output: OUTPUT,
            scale: ParameterId(0),
            shift: ParameterId(1),
        };
        let parameters = vec![vector(self.shape[0]), vector(self.shape[0])];
        // There is room for a multiple of the span.
        let room = self.batch.next_multiple_of(self.span);
        let settings =
            ExecutorSettings { batch_norm_span: NonZeroUsize::new(self.span), ..batch(room) };
        let sizes = (self.elements(), self.elements());
        let mut layer = Layer::new(kind, sizes, parameters, settings, threads);
        layer.executor.memory.arena.batch = self.batch;
        for (index, name) in ["gamma", "beta"].into_iter().enumerate() {
            layer.set_parameter(index, &self.of_channels(name));
        }
        layer.set(Place::Input, &self.input());
        layer.set(Place::Residual, &self.values("residual"));
        layer.set(Place::OutputGradient, &self.values("dy"));
        layer.set(Place::InputGradient, &self.values("before"));
        layer.set(Place::ResidualGradient, &self.values("residual before"));
        layer
    }
}

/// Asserts that no element differs by more than `most`.
#[track_caller]
fn assert_near(what: &str, found: &[f64], expected: &[f64], most: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let error = (found - expected).abs();
        assert!(error <= most, "{what}: {found}, expected {expected} ± {most:e}");
    }
}

proptest! {
    #[test]
    fn batch_norms_are_their_definition(case in cases()) {
        case.check();
    }
}

#[test]
fn large_batch_norms_are_their_definition() {
    LARGE.check();
    Case { span: 1, ..LARGE }.check();
}

/// Evaluation reads the running statistics and leaves them alone.
#[test]
fn evaluation_uses_the_running_statistics() {
    let case = Case { relu: false, residual: false, ..LARGE };
    let mut layer = case.layer::<f64>(1);
    let mean: Vec<f32> = case.of_channels("mean").into_iter().map(|v| v as f32).collect();
    let variance = case.of_channels("variance").into_iter().map(|v| (v + 2.0) as f32).collect();
    let statistics = RunningStatistics { mean, variance };
    layer.executor.set_running_statistics(0, &statistics).unwrap();
    layer.forward(Pass { mode: Mode::Evaluate, ..TRAIN });
    assert_eq!(layer.executor.running_statistics(0), statistics);
    let (gamma, beta) = (case.of_channels("gamma"), case.of_channels("beta"));
    let expected: Vec<f64> = case
        .input()
        .into_iter()
        .enumerate()
        .map(|(index, x)| {
            let channel = index % 12;
            let deviation = (f64::from(statistics.variance[channel]) + 1e-5).sqrt();
            (x - f64::from(statistics.mean[channel])) / deviation * gamma[channel] + beta[channel]
        })
        .collect();
    assert_same("output", &layer.get(Place::Output), &expected);
}

/// A channel that does not vary has a deviation of √ε and no gradient but for the shift.
#[test]
fn channels_that_do_not_vary_are_finite() {
    let case = Case { shape: [3, 1, 1], batch: 1, span: 1, ..LARGE };
    let mut layer = case.layer::<f32>(1);
    layer.forward(TRAIN);
    layer.backward(TRAIN);
    assert!(layer.get(Place::InputGradient).iter().all(|value| value.is_finite()));
    assert!(layer.executor.running_statistics(0).variance.iter().all(|value| *value == 0.9));
}
