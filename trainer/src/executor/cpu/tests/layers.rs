//! PyTorch's results for every kind of layer: `tests/reference/layers.json`.

use foretrain_sim::workload::Shape;
use serde_json::Value;

use super::*;
use crate::plan::Window;

fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../../tests/reference/layers.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

fn sizes(value: &Value) -> Vec<usize> {
    serde_json::from_value(value.clone()).unwrap()
}

fn number(case: &Value, name: &str) -> usize {
    case[name].as_u64().unwrap_or_else(|| panic!("no {name}")) as usize
}

/// A case's layer and what is common to all: shapes without the batch, channels first.
struct Reference<'a> {
    case: &'a Value,
    layer: Layer<f64>,
    input: [usize; 2],
    output: [usize; 2],
}

/// Channels and pixels of a shape whose first size is the batch.
fn channels_and_pixels(shape: &[usize]) -> [usize; 2] {
    [shape[1], shape[2..].iter().product()]
}

impl<'a> Reference<'a> {
    fn new(case: &'a Value, kind: Kind, parameters: Vec<(&str, Parameter)>) -> Self {
        let shape = sizes(&case["input_shape"]);
        let input = channels_and_pixels(&shape);
        let output = match case.get("output_shape") {
            Some(shape) => channels_and_pixels(&sizes(shape)),
            None => input,
        };
        let elements = (input[0] * input[1], output[0] * output[1]);
        let (names, tensors): (Vec<_>, Vec<_>) = parameters.into_iter().unzip();
        let mut layer = Layer::new(kind, elements, tensors, batch(shape[0]), 2);
        for (index, name) in names.into_iter().enumerate() {
            let shape = layer.executor.plan.parameters()[index].shape.clone();
            layer.set_parameter(index, &formula::parameter(name, &shape));
        }
        let mut reference = Self { case, layer, input, output };
        reference.images(Place::Input, "input");
        reference
    }

    fn images(&mut self, place: Place, name: &str) {
        let count = self.layer.get(place).len();
        let [channels, pixels] = self.input;
        let images = formula::images(name, count);
        self.layer.set(place, &channels_last(&images, channels, pixels));
    }

    /// Output and gradients; `names` are those of the parameters.
    fn check(&mut self, what: &str, names: &[&str]) {
        let count = self.layer.get(Place::Output).len();
        let dy = channels_last(&formula::u("dy", count), self.output[0], self.output[1]);
        self.layer.set(Place::OutputGradient, &dy);
        self.layer.forward(TRAIN);
        let [channels, pixels] = self.output;
        let output = channels_first(&self.layer.get(Place::Output), channels, pixels);
        close(what, &output, &self.case["output"]);
        self.layer.backward(TRAIN);
        let gradients = &self.case["gradients"];
        let [channels, pixels] = self.input;
        let input = channels_first(&self.layer.get(Place::InputGradient), channels, pixels);
        close(&format!("{what}, gradient of the input"), &input, &gradients["input"]);
        if let Some(expected) = gradients.get("residual") {
            let found = self.layer.get(Place::ResidualGradient);
            close(what, &channels_first(&found, channels, pixels), expected);
        }
        for (index, name) in names.iter().enumerate() {
            close(&format!("{what}, {name}"), &self.layer.gradient(index), &gradients[name]);
        }
    }
}

/// Two implementations in double precision differ in the order of sums only.
fn close(what: &str, found: &[f64], expected: &Value) {
    assert_within(what, found, &numbers(expected), 1e-12);
}

/// Whether a case is another network's part, so that none is left out by a misspelled name.
fn cases<'a>(fixture: &'a Value, prefix: &str) -> Vec<(&'a String, &'a Value)> {
    let all = fixture.as_object().unwrap().iter();
    all.filter(|(name, _)| name.starts_with(prefix)).collect()
}

#[test]
fn convolutions_are_pytorchs() {
    let fixture = fixture();
    let cases = cases(&fixture, "conv_");
    assert_eq!(cases.len(), 14);
    for (name, case) in cases {
        let (input_shape, output_shape) =
            (sizes(&case["input_shape"]), sizes(&case["output_shape"]));
        let window = Window {
            input_channels: input_shape[1],
            input_height: input_shape[2],
            input_width: input_shape[3],
            output_channels: output_shape[1],
            output_height: output_shape[2],
            output_width: output_shape[3],
            kernel: number(case, "kernel"),
            stride: number(case, "stride"),
            padding: number(case, "padding"),
            groups: number(case, "groups"),
        };
        let bias = case["bias"].as_bool().unwrap();
        let shape = [window.output_channels, window.group_inputs(), window.kernel, window.kernel];
        let layout = ParameterLayout::Convolution {
            groups: window.groups,
            outputs: window.group_outputs(),
            inputs: window.group_inputs(),
            positions: window.kernel * window.kernel,
        };
        let kind = Kind::Convolution {
            window,
            input: input(false),
            output: OUTPUT,
            weight: ParameterId(0),
            bias: bias.then_some(ParameterId(1)),
        };
        let mut parameters = vec![("conv.weight", parameter(&shape, layout))];
        if bias {
            parameters.push(("conv.bias", vector(window.output_channels)));
        }
        let names: Vec<&str> = parameters.iter().map(|(name, _)| *name).collect();
        Reference::new(case, kind, parameters).check(name, &names);
    }
}

fn batch_norm(case: &Value, residual: bool, relu: bool) -> Reference<'_> {
    let shape = sizes(&case["input_shape"]);
    let [channels, height, width] = [1, 2, 3].map(|at: usize| shape[at] as u64);
    let kind = Kind::BatchNorm {
        number: 0,
        shape: Shape::new(channels, height, width),
        input: input(false),
        residual: residual.then_some(operand(Place::Residual, Place::ResidualGradient, false)),
        relu,
        output: OUTPUT,
        scale: ParameterId(0),
        shift: ParameterId(1),
    };
    let parameters = vec![("bn.weight", vector(shape[1])), ("bn.bias", vector(shape[1]))];
    let mut reference = Reference::new(case, kind, parameters);
    let statistic = |name: &str| {
        let values = formula::parameter(name, &shape[1..2]);
        values.into_iter().map(|value| value as f32).collect::<Vec<_>>()
    };
    let statistics = RunningStatistics {
        mean: statistic("bn.running_mean"),
        variance: statistic("bn.running_var"),
    };
    reference.layer.executor.set_running_statistics(0, &statistics).unwrap();
    reference
}

/// Running statistics go in and out in single precision.
const SINGLE: f64 = 2e-7;

#[test]
fn batch_norms_are_pytorchs() {
    let fixture = fixture();
    let cases = [
        ("batch_norm", false, false),
        ("batch_norm_wide", false, false),
        ("batch_norm_relu", false, true),
        ("batch_norm_add_relu", true, true),
    ];
    for (name, residual, relu) in cases {
        let mut reference = batch_norm(&fixture[name], residual, relu);
        if residual {
            reference.images(Place::Residual, "residual");
        }
        reference.check(name, &["bn.weight", "bn.bias"]);
        let expect = |reference: &Reference<'_>, after: &str| {
            let found = reference.layer.executor.running_statistics(0);
            let expected = &reference.case[after];
            for (found, part) in [(found.mean, "running_mean"), (found.variance, "running_var")] {
                let found: Vec<f64> = found.into_iter().map(f64::from).collect();
                let expected = numbers(&expected[format!("bn.{part}")]);
                assert_within(&format!("{name}, {part}"), &found, &expected, SINGLE);
            }
        };
        expect(&reference, "running_after_1");
        reference.images(Place::Input, "input2");
        reference.layer.forward(TRAIN);
        expect(&reference, "running_after_2");
    }
}

#[test]
fn evaluation_of_batch_norms_is_pytorchs() {
    let fixture = fixture();
    let mut reference = batch_norm(&fixture["batch_norm_evaluation"], false, false);
    reference.layer.forward(Pass { mode: Mode::Evaluate, ..TRAIN });
    let found = reference.layer.get(Place::Output);
    let found = channels_first(&found, reference.input[0], reference.input[1]);
    assert_within("evaluation", &found, &numbers(&reference.case["output"]), SINGLE);
}

#[test]
fn pools_and_relu_are_pytorchs() {
    let fixture = fixture();
    let cases = cases(&fixture, "max_pool");
    assert_eq!(cases.len(), 4);
    for (name, case) in cases {
        let shape = sizes(&case["input_shape"]);
        let sizes = ["kernel", "stride", "padding"].map(|size| number(case, size));
        let window = pools::Case::new(shape[1], [shape[2], shape[3]], sizes).window;
        let kind = Kind::MaxPool { number: 0, window, input: input(false), output: OUTPUT };
        Reference::new(case, kind, Vec::new()).check(name, &[]);
    }
    let kind = Kind::Relu { input: input(false), output: OUTPUT };
    Reference::new(&fixture["relu"], kind, Vec::new()).check("relu", &[]);
    let case = &fixture["global_average_pool"];
    let shape = sizes(&case["input_shape"]);
    let shape = Shape::new(shape[1] as u64, shape[2] as u64, shape[3] as u64);
    let kind = Kind::GlobalAveragePool { shape, input: input(false), output: OUTPUT };
    Reference::new(case, kind, Vec::new()).check("average pool", &[]);
}

#[test]
fn linear_layers_are_pytorchs() {
    let fixture = fixture();
    let case = &fixture["linear"];
    let (inputs, outputs) = (sizes(&case["input_shape"])[1], number(case, "outputs"));
    let kind = Kind::Linear {
        inputs,
        outputs,
        input: input(false),
        output: OUTPUT,
        weight: ParameterId(0),
        bias: ParameterId(1),
    };
    let layout = ParameterLayout::Linear { outputs, channels: inputs, pixels: 1 };
    let weight = ("fc.weight", parameter(&[outputs, inputs], layout));
    let parameters = vec![weight, ("fc.bias", vector(outputs))];
    Reference::new(case, kind, parameters).check("linear", &["fc.weight", "fc.bias"]);
}

#[test]
fn cross_entropies_are_pytorchs() {
    let fixture = fixture();
    let cases = cases(&fixture, "cross_entropy");
    assert_eq!(cases.len(), 3);
    for (name, case) in cases {
        let shape = sizes(&case["input_shape"]);
        let label_smoothing = case["smoothing"].as_f64().unwrap();
        let settings = ExecutorSettings { label_smoothing, ..batch(shape[0]) };
        let kind = Kind::Loss { input: input(false) };
        let mut layer = Layer::<f64>::new(kind, (shape[1], shape[1]), Vec::new(), settings, 1);
        let labels = sizes(&case["labels"]).into_iter().map(|label| label as u32);
        layer.executor.memory.labels = labels.collect();
        layer.set(Place::Input, &formula::images("input", shape[0] * shape[1]));
        let pass = Pass { gradient_factor: 1.0 / shape[0] as f64, ..TRAIN };
        layer.forward(pass);
        layer.backward(pass);
        let loss = layer.executor.loss().loss / shape[0] as f64;
        let expected = case["loss"].as_f64().unwrap();
        assert!((loss - expected).abs() < 1e-12 * expected, "{name}: {loss}");
        close(name, &layer.get(Place::InputGradient), &case["gradients"]["input"]);
    }
}
