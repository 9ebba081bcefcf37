//! Each kind of instruction, forward and backward, on the arena.

use foretrain_sim::random::place_bits;

use super::batch_norm::{Backward, Coefficients, Statistics, Target};
use super::element::{Element, Real};
use super::pointwise::Dropout;
use super::{
    ExecutorError, ExecutorSettings, Memory, Mode, Norm, Pass, batch_norm, convolution, linear,
    loss, pointwise,
};
use crate::plan::{BufferId, GradientTarget, Kind, Operand};

/// Where the gradient of an operand goes, if anywhere.
fn target(operand: Operand) -> Option<BufferId> {
    operand.gradient.map(|target| target.buffer)
}

fn accumulate(operand: Operand) -> bool {
    operand.gradient.is_some_and(|target| target.accumulate)
}

impl<E: Element> Memory<E> {
    pub(super) fn forward(
        &mut self,
        instruction: usize,
        kind: &Kind,
        settings: &ExecutorSettings,
        pass: Pass,
    ) {
        let Self { arena, weights, scratch, .. } = self;
        match *kind {
            Kind::Convolution { ref window, input, output, weight, bias } => {
                let [input, output] = arena.buffers([Some(input.buffer), Some(output.buffer)]);
                let bias = bias.map(|bias| weights[bias.get()].as_slice());
                let weights = &weights[weight.get()];
                convolution::forward(window, input, weights, bias, output, scratch);
            }
            Kind::BatchNorm { number, shape, input, residual, relu, output, scale, shift } => {
                let buffers = [
                    Some(input.buffer),
                    residual.map(|residual| residual.buffer),
                    Some(output.buffer),
                ];
                let group = settings.group(arena.batch, pass.mode);
                let [x, shortcut, y] = arena.buffers(buffers);
                let shortcut = residual.map(|_| &*shortcut);
                let factors = [&weights[scale.get()], &weights[shift.get()]];
                let norm = &mut self.norms[number];
                let values = group * shape.elements() as usize;
                norm.note(x, values, settings, pass.mode, scratch);
                for (index, y) in y.chunks_mut(values).enumerate() {
                    let part = index * values..index * values + y.len();
                    let (scale, shift) = norm.factors(index, pass.mode, factors, settings);
                    batch_norm::apply(
                        &x[part.clone()],
                        shortcut.map(|shortcut| &shortcut[part]),
                        relu,
                        (&scale, &shift),
                        y,
                        scratch,
                    );
                }
            }
            Kind::Relu { input, output } => {
                let [input, output] = arena.buffers([Some(input.buffer), Some(output.buffer)]);
                pointwise::relu(input, output);
            }
            Kind::Dropout { input, output } => {
                let batch = arena.batch;
                let [input, output] = arena.buffers([Some(input.buffer), Some(output.buffer)]);
                let elements = input.len() / batch;
                let into = Target { values: output, accumulate: false };
                dropout(instruction, elements, settings, pass).apply(input, into);
            }
            Kind::MaxPool { number, ref window, input, output } => {
                let [input, output] = arena.buffers([Some(input.buffer), Some(output.buffer)]);
                let positions = &mut self.pools[number][..output.len()];
                pointwise::max_pool(window, input, output, positions);
            }
            Kind::GlobalAveragePool { shape, input, output } => {
                let [input, output] = arena.buffers([Some(input.buffer), Some(output.buffer)]);
                let pixels = (shape.height * shape.width) as usize;
                pointwise::average_pool(input, pixels, output, shape.channels as usize);
            }
            Kind::Linear { input, output, weight, bias, .. } => {
                let [input, output] = arena.buffers([Some(input.buffer), Some(output.buffer)]);
                let (weights, bias) = (&weights[weight.get()], &weights[bias.get()]);
                linear::forward(input, weights, bias, output, scratch);
            }
            Kind::Loss { input } => {
                let [logits] = arena.buffers([Some(input.buffer)]);
                let smoothing = match pass.mode {
                    Mode::Train => settings.label_smoothing,
                    Mode::Evaluate => 0.0,
                };
                self.loss = loss::forward(logits, &self.labels, smoothing);
            }
        }
    }

    pub(super) fn backward(
        &mut self,
        instruction: usize,
        kind: &Kind,
        settings: &ExecutorSettings,
        pass: Pass,
    ) -> Result<(), ExecutorError> {
        let Self { arena, weights, gradients, scratch, .. } = self;
        match *kind {
            Kind::Convolution { ref window, input, output, weight, bias } => {
                let buffers = [Some(input.buffer), Some(output.gradient), target(input)];
                let [x, dy, dx] = arena.buffers(buffers);
                // Filters first: their gradient can travel while that of the data is computed.
                convolution::backward_weights(window, x, dy, gradients.of(weight)?, scratch);
                if let Some(bias) = bias {
                    linear::backward_bias(dy, gradients.of(bias)?);
                }
                if let Some(GradientTarget { accumulate, .. }) = input.gradient {
                    let weights = &weights[weight.get()];
                    convolution::backward_data(window, dy, weights, dx, accumulate, scratch);
                }
            }
            Kind::BatchNorm { number, shape, input, residual, relu, output, scale, shift } => {
                let buffers = [
                    Some(input.buffer),
                    relu.then_some(output.buffer),
                    Some(output.gradient),
                    target(input),
                    residual.and_then(target),
                ];
                let values = settings.group(arena.batch, pass.mode) * shape.elements() as usize;
                let [x, y, dy, dx, shortcut] = arena.buffers(buffers);
                let norm = &self.norms[number];
                let gamma = &weights[scale.get()];
                let zero = E::Real::from_f64(0.0);
                let mut scale_sums = vec![zero; gamma.len()];
                let mut shift_sums = vec![zero; gamma.len()];
                for (index, statistics) in norm.groups.iter().enumerate() {
                    let part = index * values..x.len().min((index + 1) * values);
                    let backward = Backward {
                        input: &x[part.clone()],
                        output: relu.then(|| &y[part.clone()]),
                        gradient: &dy[part.clone()],
                    };
                    let sums = batch_norm::sums(backward, &statistics.mean, scratch);
                    let (of_scale, [of_gradient, of_deviation, constant]) =
                        statistics.backward(gamma, &sums, settings);
                    scale_sums.iter_mut().zip(of_scale).for_each(|(sum, more)| *sum += more);
                    shift_sums.iter_mut().zip(sums.0).for_each(|(sum, more)| *sum += more);
                    let coefficients = Coefficients {
                        mean: &statistics.mean,
                        of_gradient: &of_gradient,
                        of_deviation: &of_deviation,
                        constant: &constant,
                    };
                    let into =
                        Target { values: &mut dx[part.clone()], accumulate: accumulate(input) };
                    let shortcut =
                        residual.filter(|residual| residual.gradient.is_some()).map(|residual| {
                            Target {
                                values: &mut shortcut[part.clone()],
                                accumulate: accumulate(residual),
                            }
                        });
                    batch_norm::data(backward, &coefficients, into, shortcut, scratch);
                }
                round(&scale_sums, gradients.of(scale)?);
                round(&shift_sums, gradients.of(shift)?);
            }
            Kind::Relu { input, output } => {
                let buffers = [Some(output.buffer), Some(output.gradient), target(input)];
                let [y, dy, dx] = arena.buffers(buffers);
                let into = Target { values: dx, accumulate: accumulate(input) };
                pointwise::relu_backward(y, dy, into, scratch);
            }
            Kind::Dropout { input, output } => {
                let batch = arena.batch;
                let [dy, dx] = arena.buffers([Some(output.gradient), target(input)]);
                let elements = dy.len() / batch;
                let into = Target { values: dx, accumulate: accumulate(input) };
                dropout(instruction, elements, settings, pass).apply(dy, into);
            }
            Kind::MaxPool { number, ref window, input, output } => {
                let [dy, dx] = arena.buffers([Some(output.gradient), target(input)]);
                let positions = &self.pools[number][..dy.len()];
                let into = Target { values: dx, accumulate: accumulate(input) };
                pointwise::max_pool_backward(window, dy, positions, into, scratch);
            }
            Kind::GlobalAveragePool { shape, input, output } => {
                let [dy, dx] = arena.buffers([Some(output.gradient), target(input)]);
                let pixels = (shape.height * shape.width) as usize;
                let into = Target { values: dx, accumulate: accumulate(input) };
                pointwise::average_pool_backward(dy, pixels, into, shape.channels as usize);
            }
            Kind::Linear { outputs, input, output, weight, bias, .. } => {
                let buffers = [Some(input.buffer), Some(output.gradient), target(input)];
                let [x, dy, dx] = arena.buffers(buffers);
                linear::backward_weights(x, dy, outputs, gradients.of(weight)?, scratch);
                linear::backward_bias(dy, gradients.of(bias)?);
                if input.gradient.is_some() {
                    let into = Target { values: dx, accumulate: accumulate(input) };
                    linear::backward_data(dy, &weights[weight.get()], outputs, into, scratch);
                }
            }
            Kind::Loss { input } => {
                let [logits, into] = arena.buffers([Some(input.buffer), target(input)]);
                let (smoothing, factor) = (settings.label_smoothing, pass.gradient_factor);
                loss::backward(logits, &self.labels, smoothing, factor, into);
            }
        }
        Ok(())
    }
}

fn round<E: Element>(values: &[E::Real], into: &mut [E]) {
    into.iter_mut().zip(values).for_each(|(into, value)| *into = E::from_real(*value));
}

fn dropout(
    instruction: usize,
    elements: usize,
    settings: &ExecutorSettings,
    pass: Pass,
) -> Dropout {
    Dropout {
        rate: if pass.mode == Mode::Train { settings.dropout_rate } else { 0.0 },
        key: place_bits(pass.dropout_key, instruction as u64),
        first: pass.first_image * elements as u64,
    }
}

impl ExecutorSettings {
    /// How many images share statistics.
    fn group(&self, batch: usize, mode: Mode) -> usize {
        match (mode, self.batch_norm_span) {
            (Mode::Train, Some(span)) => span.get().min(batch),
            _ => batch,
        }
    }
}

impl<R: Real> Norm<R> {
    /// In training, takes the statistics of each group of `values` elements (the last may have
    /// fewer), and lets the running statistics follow their mean.
    fn note<E: Element<Real = R>>(
        &mut self,
        input: &[E],
        values: usize,
        settings: &ExecutorSettings,
        mode: Mode,
        scratch: &super::Scratch<R>,
    ) {
        if mode == Mode::Evaluate {
            return;
        }
        let channels = self.running_mean.len();
        self.groups.clear();
        for group in input.chunks(values) {
            self.groups.push(batch_norm::statistics(group, channels, scratch));
        }
        let follow = |running: &mut R, of_group: &dyn Fn(&Statistics<R>) -> f64| {
            let mean = self.groups.iter().map(of_group).sum::<f64>() / self.groups.len() as f64;
            let old = running.as_f64();
            *running = R::from_f64(old + settings.batch_norm_momentum * (mean - old));
        };
        for (channel, running) in self.running_mean.iter_mut().enumerate() {
            follow(running, &|group| group.mean[channel].as_f64());
        }
        for (channel, running) in self.running_variance.iter_mut().enumerate() {
            follow(running, &|group| {
                let values = group.values as f64;
                group.variance[channel].as_f64() * values / (values - 1.0).max(1.0)
            });
        }
    }

    /// Scale and shift of each channel for images of a group.
    fn factors(
        &self,
        group: usize,
        mode: Mode,
        [gamma, beta]: [&Vec<R>; 2],
        settings: &ExecutorSettings,
    ) -> (Vec<R>, Vec<R>) {
        let (mean, variance) = match mode {
            Mode::Train => (&self.groups[group].mean, &self.groups[group].variance),
            Mode::Evaluate => (&self.running_mean, &self.running_variance),
        };
        let scale: Vec<R> = gamma
            .iter()
            .zip(variance)
            .map(|(&gamma, &variance)| gamma * inverse_deviation(variance, settings))
            .collect();
        let shift = beta.iter().zip(mean).zip(&scale);
        let shift = shift.map(|((&beta, &mean), &scale)| beta - mean * scale).collect();
        (scale, shift)
    }
}

/// 1 / √(v + ε).
fn inverse_deviation<R: Real>(variance: R, settings: &ExecutorSettings) -> R {
    (variance + R::from_f64(settings.batch_norm_epsilon)).sqrt().recip()
}

impl<R: Real> Statistics<R> {
    /// 1 / √(v + ε) of each channel.
    pub(super) fn inverse_deviations(&self, settings: &ExecutorSettings) -> Vec<R> {
        self.variance.iter().map(|&variance| inverse_deviation(variance, settings)).collect()
    }

    /// From Σ z and Σ z (x − m): dγ, and the coefficients of dx.
    fn backward(
        &self,
        gamma: &[R],
        (gradients, products): &(Vec<R>, Vec<R>),
        settings: &ExecutorSettings,
    ) -> (Vec<R>, [Vec<R>; 3]) {
        let values = R::from_f64(self.values as f64);
        let mut of_scale = Vec::with_capacity(gamma.len());
        let mut coefficients = [(); 3].map(|()| Vec::with_capacity(gamma.len()));
        for (channel, &gamma) in gamma.iter().enumerate() {
            let inverse = inverse_deviation(self.variance[channel], settings);
            let factor = gamma * inverse;
            of_scale.push(products[channel] * inverse);
            let [of_gradient, of_deviation, constant] = &mut coefficients;
            of_gradient.push(factor);
            of_deviation.push(R::zero() - factor * inverse * inverse * products[channel] / values);
            constant.push(R::zero() - factor * gradients[channel] / values);
        }
        (of_scale, coefficients)
    }
}
