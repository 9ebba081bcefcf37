//! Every operation of a device against the CPU's, one at a time.
//!
//! A plan is run on the CPU in single precision and on a device, instruction by instruction: forward
//! in training, backward, forward in evaluation. Before each instruction what it reads is rounded to
//! the device's format on the CPU, and written over what the device has there, so both compute from the
//! same numbers and errors do not add up; what it writes is filled with what is no number, so what it
//! leaves out shows. Afterwards all that it wrote is [compared](Comparison).
//!
//! How far whole [steps], whose errors do add up, stay together is looked at apart.

mod access;
mod case;
mod report;
pub mod steps;
#[cfg(test)]
mod tests;

pub use access::rounded;
pub use case::{Case, cases, steps_cases};
pub use report::{Comparison, Direction, Lockstep, limit};

use std::sync::Arc;

use foretrain_sim::recording::NumberFormat;

use self::report::{FLOOR, errors, norm, operation};
use super::device::Device;
use super::executor::DeviceExecutor;
use crate::executor::cpu::CpuExecutor;
use crate::executor::{Executor as _, ExecutorError, LossSum, Mode, Pass, RunningStatistics};
use crate::optimizer::Role;
use crate::plan::{BufferId, Kind, Operand, Output, ParameterId, Plan};

/// What the sum of the losses is multiplied by before backward. Gradients of a batch norm's input grow
/// small towards the images, and f16 has no numbers below 2⁻²⁴; weights' gradients are sums over all
/// pixels, and it has none above 65,504.
const GRADIENT_FACTOR: f64 = 64.0;

/// Both sides, and what was found.
struct Sides<'a, D: Device> {
    plan: &'a Plan,
    cpu: &'a mut CpuExecutor<f32>,
    device: &'a mut DeviceExecutor<D>,
    format: NumberFormat,
    pass: Pass,
    comparisons: Vec<Comparison>,
}

/// Runs both sides, which have the same plan, on the images and weights of `case` that follow from
/// `seed`.
///
/// # Errors
/// They do not fit, or the device failed. What is computed wrongly is no error but stands in the
/// result.
pub fn lockstep<D: Device>(
    case: &Case,
    (cpu, device): (&mut CpuExecutor<f32>, &mut DeviceExecutor<D>),
    seed: u64,
) -> Result<Lockstep, ExecutorError> {
    let plan = Arc::clone(device.plan());
    let format = device.memory().format;
    let mut weights = case.weights(&plan, seed);
    // Biases, and what batch norms multiply by and add, stay in single precision on the device too.
    for (id, values) in weights.masters_mut() {
        if plan.parameters()[id.get()].role == Role::Weight {
            values.iter_mut().for_each(|value| *value = rounded(format, *value));
        }
    }
    for id in plan.parameter_ids() {
        cpu.load_weights(id, weights.of(id))?;
        device.load_weights(id, weights.of(id))?;
    }
    for (number, norm) in plan.batch_norms().iter().enumerate() {
        let statistics = case.running_statistics(norm.channels, number, seed);
        cpu.set_running_statistics(number, &statistics)?;
        device.set_running_statistics(number, &statistics)?;
    }
    let batch = case.batch(seed, |value| rounded(format, value))?;
    let pass = Pass {
        mode: Mode::Train,
        gradient_factor: GRADIENT_FACTOR / case.images as f64,
        dropout_key: seed,
        first_image: 30,
    };
    let comparisons = Vec::new();
    let mut sides = Sides { plan: &plan, cpu, device, format, pass, comparisons };
    sides.cpu.load_batch(&batch)?;
    sides.device.load_batch(&batch)?;
    let instructions = plan.instructions().len();
    for instruction in 0..instructions {
        sides.forward(instruction)?;
    }
    sides.running_statistics()?;
    for instruction in (0..instructions).rev() {
        sides.backward(instruction)?;
    }
    sides.pass.mode = Mode::Evaluate;
    sides.cpu.load_batch(&batch)?;
    sides.device.load_batch(&batch)?;
    for instruction in 0..instructions {
        sides.forward(instruction)?;
    }
    let comparisons = sides.comparisons;
    Ok(Lockstep { format, images: case.images, seed, comparisons })
}

impl<D: Device> Sides<'_, D> {
    fn forward(&mut self, instruction: usize) -> Result<(), ExecutorError> {
        let kind = &self.plan.instructions()[instruction].kind;
        let direction = match self.pass.mode {
            Mode::Train => Direction::Forward,
            Mode::Evaluate => Direction::Evaluation,
        };
        for operand in kind.operands() {
            self.align(operand.buffer)?;
        }
        let output = output(kind).map(|output| output.buffer);
        if let Some(output) = output {
            self.spoil(output)?;
        }
        self.cpu.forward(instruction, self.pass);
        self.device.forward(instruction, self.pass)?;
        let images = self.plan.images();
        for operand in kind.operands().filter(|operand| operand.buffer == images) {
            self.compare_buffer((instruction, direction), "images", operand.buffer)?;
        }
        if let Some(output) = output {
            self.compare_buffer((instruction, direction), "output", output)?;
        }
        match *kind {
            Kind::BatchNorm { number, .. } if self.pass.mode == Mode::Train => {
                self.compare_statistics(instruction, number)
            }
            Kind::Loss { .. } => {
                let (cpu, device) = (self.cpu.loss()?, self.device.loss()?);
                let loss = |sum: LossSum| [sum.loss as f32];
                let hits = |sum: LossSum| [sum.hits as f32, sum.hits_top5 as f32];
                self.exact((instruction, direction), "loss", (&loss(cpu), &loss(device)), 0.0);
                self.exact((instruction, direction), "hits", (&hits(cpu), &hits(device)), 0.0);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn backward(&mut self, instruction: usize) -> Result<(), ExecutorError> {
        let kind = &self.plan.instructions()[instruction].kind;
        for buffer in read_backward(kind) {
            self.align(buffer)?;
        }
        let targets = kind.operands().zip(["input", "residual"]);
        let targets: Vec<_> = targets
            .filter_map(|(operand, name)| operand.gradient.map(|target| (target, name)))
            .collect();
        for (target, _) in &targets {
            if !target.accumulate {
                self.spoil(target.buffer)?;
            }
        }
        let parameters: Vec<ParameterId> = kind.parameters().collect();
        for &id in &parameters {
            let elements = self.plan.parameters()[id.get()].elements();
            self.device.write_gradient(id, &vec![f32::NAN; elements])?;
        }
        self.cpu.backward(instruction, self.pass)?;
        self.device.backward(instruction, self.pass)?;
        let at = (instruction, Direction::Backward);
        for (target, name) in targets {
            self.compare_buffer(at, &format!("gradient of {name}"), target.buffer)?;
        }
        let mut gradients = Vec::new();
        for id in parameters {
            let of_cpu: Vec<f32> =
                self.cpu.gradient(id)?.into_iter().map(|value| value as f32).collect();
            gradients.push((id, of_cpu, self.device.read_gradient(id)?));
        }
        let all = gradients.iter().map(|(_, of_cpu, _)| norm(of_cpu).powi(2)).sum::<f64>().sqrt();
        for (id, of_cpu, of_device) in gradients {
            let tensor = format!("gradient of {}", self.plan.parameters()[id.get()].name);
            self.compare(at, tensor, (&of_cpu, &of_device), (FLOOR * all, limit(self.format)));
        }
        Ok(())
    }

    /// Gives the device what the CPU has in a buffer, rounded on both sides.
    fn align(&mut self, buffer: BufferId) -> Result<(), ExecutorError> {
        // Images are rounded already; that the device takes them as they are is part of the comparison.
        if buffer == self.plan.images() {
            return Ok(());
        }
        let values = self.cpu.buffer(buffer);
        values.iter_mut().for_each(|value| *value = rounded(self.format, *value));
        self.device.write_buffer(buffer, values)
    }

    /// Fills a buffer on the device with what is no number.
    fn spoil(&mut self, buffer: BufferId) -> Result<(), ExecutorError> {
        let elements = self.cpu.buffer(buffer).len();
        self.device.write_buffer(buffer, &vec![f32::NAN; elements])
    }

    fn compare_buffer(
        &mut self,
        at: (usize, Direction),
        tensor: &str,
        buffer: BufferId,
    ) -> Result<(), ExecutorError> {
        let of_device = self.device.read_buffer(buffer)?;
        let of_cpu = self.cpu.buffer(buffer).to_vec();
        self.compare(at, tensor.to_owned(), (&of_cpu, &of_device), (0.0, limit(self.format)));
        Ok(())
    }

    fn compare_statistics(
        &mut self,
        instruction: usize,
        number: usize,
    ) -> Result<(), ExecutorError> {
        let single = |values: &Vec<f64>| values.iter().map(|&v| v as f32).collect::<Vec<_>>();
        let of_device = self.device.group_statistics(number)?;
        let of_cpu = self.cpu.group_statistics(number);
        for (group, (cpu, device)) in of_cpu.iter().zip(&of_device).enumerate() {
            let [mean, inverse] = cpu.each_ref().map(single);
            // A mean may be 0 but for rounding, of numbers that are as large as they deviate.
            let deviation = inverse.iter().map(|inverse| inverse.recip()).collect::<Vec<_>>();
            let at = (instruction, Direction::Forward);
            let tensor = |what: &str| format!("{what} of group {group}");
            self.exact(at, tensor("mean"), (&mean, &device[0]), FLOOR * norm(&deviation));
            self.exact(at, tensor("1 / √(v + ε)"), (&inverse, &device[1]), 0.0);
        }
        Ok(())
    }

    /// Compares the running statistics that training left, and makes the device's those of the CPU.
    fn running_statistics(&mut self) -> Result<(), ExecutorError> {
        for (instruction, of_plan) in self.plan.instructions().iter().enumerate() {
            let Kind::BatchNorm { number, .. } = of_plan.kind else { continue };
            let of_cpu = self.cpu.running_statistics(number)?;
            let of_device = self.device.running_statistics(number)?;
            let at = (instruction, Direction::Forward);
            let RunningStatistics { mean, variance } = &of_device;
            self.exact(at, "running mean", (&of_cpu.mean, mean), 0.0);
            self.exact(at, "running variance", (&of_cpu.variance, variance), 0.0);
            self.device.set_running_statistics(number, &of_cpu)?;
        }
        Ok(())
    }

    /// Compares what the device keeps in single precision.
    fn exact(
        &mut self,
        at: (usize, Direction),
        tensor: impl Into<String>,
        sides: (&[f32], &[f32]),
        least_norm: f64,
    ) {
        self.compare(at, tensor.into(), sides, (least_norm, limit(NumberFormat::F32)));
    }

    fn compare(
        &mut self,
        (instruction, direction): (usize, Direction),
        tensor: String,
        (of_cpu, of_device): (&[f32], &[f32]),
        (least_norm, limit): (f64, f64),
    ) {
        let of_plan = &self.plan.instructions()[instruction];
        let (error, element_error) = errors(of_cpu, of_device, least_norm);
        self.comparisons.push(Comparison {
            instruction,
            name: of_plan.name.clone(),
            operation: operation(&of_plan.kind),
            direction,
            tensor,
            elements: of_cpu.len(),
            error,
            element_error,
            limit,
        });
    }
}

/// What an instruction writes forward.
const fn output(kind: &Kind) -> Option<Output> {
    match *kind {
        Kind::Convolution { output, .. }
        | Kind::BatchNorm { output, .. }
        | Kind::Relu { output, .. }
        | Kind::Dropout { output, .. }
        | Kind::MaxPool { output, .. }
        | Kind::GlobalAveragePool { output, .. }
        | Kind::Linear { output, .. } => Some(output),
        Kind::Loss { .. } => None,
    }
}

/// The buffers that backward reads: activations, the gradient of the output, gradients to add to.
fn read_backward(kind: &Kind) -> Vec<BufferId> {
    let activation = match *kind {
        Kind::Convolution { input, .. } | Kind::Linear { input, .. } | Kind::Loss { input } => {
            [Some(input.buffer), None]
        }
        Kind::BatchNorm { input, output, relu, .. } => {
            [Some(input.buffer), relu.then_some(output.buffer)]
        }
        Kind::Relu { output, .. } => [Some(output.buffer), None],
        Kind::Dropout { .. } | Kind::MaxPool { .. } | Kind::GlobalAveragePool { .. } => [None; 2],
    };
    let added = |operand: Operand| {
        operand.gradient.filter(|target| target.accumulate).map(|target| target.buffer)
    };
    let gradient = output(kind).map(|output| output.gradient);
    activation
        .into_iter()
        .flatten()
        .chain(gradient)
        .chain(kind.operands().filter_map(added))
        .collect()
}
