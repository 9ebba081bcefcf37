//! Every kind of instruction against other implementations: candle's operations and their
//! derivatives, PyTorch's results, or the definition in loops.
//!
//! Each test runs an executor whose plan has one instruction, so that what is tested is what
//! trains.

mod batch_norm;
mod convolution;
mod dropout;
#[path = "../../../../tests/common/formula.rs"]
mod formula;
mod fully_connected;
mod half_precision;
mod layers;
mod loading;
mod loss;
mod pools;
mod precision;

use candle_core::{DType, Device, Tensor, Var};

use super::*;
use crate::optimizer::Role;
use crate::plan::{BatchNormInfo, GradientTarget, Operand, Output, Parameter, ParameterLayout};

/// Forward in training, gradients as they are.
const TRAIN: Pass =
    Pass { mode: Mode::Train, gradient_factor: 1.0, dropout_key: 7, first_image: 0 };

const SETTINGS: ExecutorSettings = ExecutorSettings {
    batch: NonZeroUsize::MIN,
    batch_norm_span: None,
    batch_norm_momentum: 0.1,
    batch_norm_epsilon: 1e-5,
    label_smoothing: 0.0,
    dropout_rate: 0.5,
};

/// The buffers of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Input,
    Residual,
    Output,
    InputGradient,
    ResidualGradient,
    OutputGradient,
}

impl Place {
    const fn buffer(self) -> BufferId {
        BufferId(self as usize)
    }
}

/// The operand of a layer: reads `from`, gives its gradient `to`.
const fn operand(from: Place, to: Place, accumulate: bool) -> Operand {
    let gradient = Some(GradientTarget { buffer: to.buffer(), accumulate });
    Operand { buffer: from.buffer(), gradient }
}

const fn input(accumulate: bool) -> Operand {
    operand(Place::Input, Place::InputGradient, accumulate)
}

const OUTPUT: Output =
    Output { buffer: Place::Output.buffer(), gradient: Place::OutputGradient.buffer() };

/// A parameter of a layer.
fn parameter(shape: &[usize], layout: ParameterLayout) -> Parameter {
    let role = if shape.len() > 1 { Role::Weight } else { Role::Bias };
    Parameter { name: "parameter".to_owned(), role, shape: shape.to_vec(), layout }
}

fn vector(elements: usize) -> Parameter {
    parameter(&[elements], ParameterLayout::Vector)
}

/// One instruction with its executor.
struct Layer<E: Element> {
    executor: CpuExecutor<E>,
}

impl<E: Element> Layer<E> {
    /// `input` and `output` are elements of an image.
    fn new(
        kind: Kind,
        (input, output): (usize, usize),
        parameters: Vec<Parameter>,
        settings: ExecutorSettings,
        threads: usize,
    ) -> Self {
        let norms = match &kind {
            Kind::BatchNorm { shape, .. } => {
                let channels = shape.channels as usize;
                vec![BatchNormInfo { name: "bn".to_owned(), channels }]
            }
            _ => Vec::new(),
        };
        let sizes = [input, output, output, input, output, output];
        let plan = Arc::new(Plan::without_sharing(vec![kind], &sizes, parameters, norms, input));
        let buckets = Arc::new(Buckets::one(&plan));
        let threads = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let executor = CpuExecutor::new(plan, buckets, settings, Arc::new(threads)).unwrap();
        Self { executor }
    }

    /// Sets a buffer.
    fn set(&mut self, place: Place, values: &[f64]) {
        let [into] = self.executor.memory.arena.buffers([Some(place.buffer())]);
        assert_eq!(into.len(), values.len(), "{place:?}");
        for (into, &value) in into.iter_mut().zip(values) {
            *into = E::from_real(E::Real::from_f64(value));
        }
    }

    fn get(&mut self, place: Place) -> Vec<f64> {
        let [values] = self.executor.memory.arena.buffers([Some(place.buffer())]);
        values.iter().map(|value| value.to_real().as_f64()).collect()
    }

    /// Sets a parameter from elements in PyTorch's order.
    fn set_parameter(&mut self, index: usize, outside: &[f64]) {
        let plan = Arc::clone(&self.executor.plan);
        let id = plan.parameter_ids().nth(index).unwrap();
        let inside = plan.parameters()[index].from_torch(outside);
        self.executor.load_exact_weights(id, inside.into_iter()).unwrap();
    }

    /// The gradient of a parameter in PyTorch's order.
    fn gradient(&mut self, index: usize) -> Vec<f64> {
        let plan = Arc::clone(&self.executor.plan);
        let id = plan.parameter_ids().nth(index).unwrap();
        plan.parameters()[index].to_torch(&self.executor.gradient(id).unwrap())
    }

    fn forward(&mut self, pass: Pass) {
        self.executor.forward(0, pass);
    }

    fn backward(&mut self, pass: Pass) {
        self.executor.backward(0, pass).unwrap();
    }

    /// Everything that a pass may write, as bits.
    fn bits(&mut self) -> Vec<u64> {
        let places = [Place::Output, Place::InputGradient, Place::ResidualGradient];
        let mut values: Vec<f64> = places.into_iter().flat_map(|place| self.get(place)).collect();
        for index in 0..self.executor.plan.parameters().len() {
            values.extend(self.gradient(index));
        }
        values.into_iter().map(f64::to_bits).collect()
    }
}

/// Something to test in several formats and with any number of threads.
trait Testable {
    /// The layer with everything set that it reads.
    fn layer<E: Element>(&self, threads: usize) -> Layer<E>;
}

fn batch(images: usize) -> ExecutorSettings {
    ExecutorSettings { batch: NonZeroUsize::new(images).unwrap(), ..SETTINGS }
}

/// Numbers in [−1, 1) that follow from the seed and the name.
fn values(seed: u64, name: &str, count: usize) -> Vec<f64> {
    formula::u(&format!("{seed} {name}"), count)
}

/// A leaf of candle's derivatives from values in this order.
fn leaf(values: &[f64], shape: &[usize]) -> Var {
    Var::from_tensor(&tensor(values, shape)).unwrap()
}

fn tensor(values: &[f64], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap().to_dtype(DType::F64).unwrap()
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.contiguous().unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// `images × height × width × channels` from `images × channels × height × width`.
fn channels_last(values: &[f64], channels: usize, pixels: usize) -> Vec<f64> {
    let images = values.chunks_exact(channels * pixels);
    images.flat_map(|image| transposed(image, channels, pixels)).collect()
}

/// The way back.
fn channels_first(values: &[f64], channels: usize, pixels: usize) -> Vec<f64> {
    channels_last(values, pixels, channels)
}

fn transposed(matrix: &[f64], rows: usize, columns: usize) -> impl Iterator<Item = f64> {
    (0..rows * columns).map(move |index| matrix[index % rows * columns + index / rows])
}

/// The largest difference over the largest magnitude.
fn difference(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = |values: &mut dyn Iterator<Item = f64>| {
        // A number that is none must not be lost: `max` would drop it.
        values.fold(0.0, |a: f64, b| if b.is_nan() || b > a { b } else { a })
    };
    let error = largest(&mut found.iter().zip(expected).map(|(a, b)| (a - b).abs()));
    let magnitude = largest(&mut expected.iter().map(|value| value.abs()));
    if error == 0.0 { 0.0 } else { error / magnitude }
}

/// Asserts that values are the same but for rounding in double precision.
#[track_caller]
fn assert_same(what: &str, found: &[f64], expected: &[f64]) {
    assert_within(what, found, expected, 1e-12);
}

#[track_caller]
fn assert_within(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    let difference = difference(found, expected);
    assert!(difference <= tolerance, "{what} differs by {difference:e} of the largest");
}
