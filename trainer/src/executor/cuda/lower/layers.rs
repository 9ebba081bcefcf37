//! Each kind of instruction, forward and backward.

use super::super::arguments::grid::blocks_for;
use super::super::arguments::input::UnpadFilters;
use super::super::arguments::linear::{
    AddBias, ColumnSums, ColumnSumsFinish, column_blocks, column_finish_blocks,
};
use super::super::arguments::loss::{LossSums, SoftmaxGradient, SoftmaxLoss};
use super::super::arguments::pointwise::{Dropout, Relu, ReluBackward};
use super::super::arguments::pool::{AveragePool, AveragePoolBackward, MaxPool, MaxPoolBackward};
use super::super::arguments::{Address, Arguments};
use super::super::work::{Convolution, ConvolutionPass, Product, Work};
use super::batch_norm::BatchNorm;
use super::{Lowering, target};
use crate::plan::{Kind, ParameterId, Window};

fn launch(arguments: &impl Arguments, threads: u64) -> Work {
    Work::Launch(arguments.launch(blocks_for(threads)))
}

impl Lowering<'_> {
    /// Elements of all images divided by eight, what is left over included.
    fn vectors(&self, elements: usize) -> u64 {
        ((elements * self.images) as u64).div_ceil(8)
    }

    /// The window as the GPU has it: images may have more channels.
    fn window(&self, window: &Window, weight: ParameterId) -> Window {
        match self.memory.padded_filters.filter(|filters| filters.parameter == weight) {
            Some(filters) => Window { input_channels: filters.padded, ..*window },
            None => *window,
        }
    }

    pub(super) fn forward(&self, index: usize, kind: &Kind, training: bool) -> Vec<Work> {
        let memory = self.memory;
        match *kind {
            Kind::Convolution { ref window, input, output, weight, bias } => {
                let convolution = Convolution {
                    pass: ConvolutionPass::Forward,
                    window: self.window(window, weight),
                    images: self.images,
                    format: memory.format,
                    input: memory.buffer(input.buffer),
                    filters: memory.copies[weight.get()],
                    output: memory.buffer(output.buffer),
                    accumulate: false,
                };
                let rows = window.output_pixels() * self.images;
                let bias = bias.map(|bias| {
                    self.add_bias(convolution.output, bias, rows, window.output_channels)
                });
                [Work::Convolution(convolution)].into_iter().chain(bias).collect()
            }
            Kind::BatchNorm { number, shape, input, residual, relu, output, scale, shift } => {
                let norm = BatchNorm { number, shape, input, residual, relu, output, scale, shift };
                self.batch_norm(&norm, training)
            }
            Kind::Relu { input, output } => {
                let vectors = self.vectors(memory.elements(output.buffer));
                let [x, y] = [input.buffer, output.buffer].map(|buffer| memory.buffer(buffer));
                vec![launch(&Relu { x, y, vectors }, vectors)]
            }
            Kind::Dropout { input, output } => {
                let [from, to] = [input.buffer, output.buffer].map(|buffer| memory.buffer(buffer));
                let rate = if training { self.settings.dropout_rate } else { 0.0 };
                vec![self.dropout(index, (from, to), memory.elements(output.buffer), rate, false)]
            }
            Kind::MaxPool { number, ref window, input, output } => {
                let pool = MaxPool {
                    x: memory.buffer(input.buffer),
                    y: memory.buffer(output.buffer),
                    positions: memory.positions[number],
                    images: self.images as u32,
                    channels: window.input_channels as u32,
                    input_height: window.input_height as u32,
                    input_width: window.input_width as u32,
                    output_height: window.output_height as u32,
                    output_width: window.output_width as u32,
                    kernel: window.kernel as u32,
                    stride: window.stride as u32,
                    padding: window.padding as u32,
                };
                vec![Work::Launch(pool.launch(pool.grid()))]
            }
            Kind::GlobalAveragePool { shape, input, output } => {
                let pool = AveragePool {
                    x: memory.buffer(input.buffer),
                    y: memory.buffer(output.buffer),
                    images: self.images as u32,
                    pixels: (shape.height * shape.width) as u32,
                    channels: shape.channels as u32,
                };
                vec![Work::Launch(pool.launch(pool.grid()))]
            }
            Kind::Linear { inputs, outputs, input, output, weight, bias } => {
                let out = memory.buffer(output.buffer);
                let product = Product {
                    rows: self.images,
                    columns: outputs,
                    depth: inputs,
                    left: memory.buffer(input.buffer),
                    left_transposed: false,
                    right: memory.copies[weight.get()],
                    right_transposed: false,
                    out,
                    accumulate: false,
                    format: memory.format,
                };
                vec![Work::Product(product), self.add_bias(out, bias, self.images, outputs)]
            }
            Kind::Loss { input } => {
                let [losses, ranks, sums] = memory.losses;
                let (images, smoothing) = (self.images as u32, self.settings.label_smoothing);
                let loss = SoftmaxLoss {
                    logits: memory.buffer(input.buffer),
                    labels: memory.labels,
                    losses,
                    ranks,
                    classes: memory.elements(input.buffer) as u32,
                    images,
                    smoothing: if training { smoothing as f32 } else { 0.0 },
                };
                let sums = LossSums { losses, ranks, sums, images };
                vec![Work::Launch(loss.launch(images)), Work::Launch(sums.launch(1))]
            }
        }
    }

    pub(super) fn backward(&self, index: usize, kind: &Kind) -> Vec<Work> {
        let memory = self.memory;
        match *kind {
            Kind::Convolution { ref window, input, output, weight, bias } => {
                let dy = memory.buffer(output.gradient);
                let padded = memory.padded_filters.filter(|filters| filters.parameter == weight);
                let gradient = memory.gradients[weight.get()];
                // Filters first: their gradient can travel while that of the data is computed.
                let filters = Convolution {
                    pass: ConvolutionPass::Filters,
                    window: self.window(window, weight),
                    images: self.images,
                    format: memory.format,
                    input: memory.buffer(input.buffer),
                    filters: padded.map_or(gradient, |filters| filters.gradient),
                    output: dy,
                    accumulate: false,
                };
                let mut work = vec![Work::Convolution(filters.clone())];
                if let Some(padded) = padded {
                    let unpad = UnpadFilters {
                        from: padded.gradient,
                        to: gradient,
                        rows: padded.rows as u64,
                        channels: padded.channels as u32,
                        padded: padded.padded as u32,
                    };
                    work.push(launch(&unpad, unpad.rows));
                }
                if let Some(bias) = bias {
                    let rows = window.output_pixels() * self.images;
                    work.extend(self.bias_gradient(dy, bias, rows, window.output_channels));
                }
                if input.gradient.is_some() {
                    let (dx, accumulate) = target(memory, input);
                    work.push(Work::Convolution(Convolution {
                        pass: ConvolutionPass::Data,
                        input: dx,
                        filters: memory.copies[weight.get()],
                        accumulate,
                        ..filters
                    }));
                }
                work
            }
            Kind::BatchNorm { number, shape, input, residual, relu, output, scale, shift } => {
                let norm = BatchNorm { number, shape, input, residual, relu, output, scale, shift };
                self.batch_norm_backward(&norm)
            }
            Kind::Relu { input, output } => {
                let vectors = self.vectors(memory.elements(output.buffer));
                let (dx, accumulate) = target(memory, input);
                let relu = ReluBackward {
                    y: memory.buffer(output.buffer),
                    dy: memory.buffer(output.gradient),
                    dx,
                    vectors,
                    accumulate: accumulate.into(),
                };
                vec![launch(&relu, vectors)]
            }
            Kind::Dropout { input, output } => {
                let (dx, accumulate) = target(memory, input);
                let places = (memory.buffer(output.gradient), dx);
                let rate = self.settings.dropout_rate;
                let elements = memory.elements(output.buffer);
                vec![self.dropout(index, places, elements, rate, accumulate)]
            }
            Kind::MaxPool { number, ref window, input, output } => {
                let (dx, accumulate) = target(memory, input);
                let pool = MaxPoolBackward {
                    dy: memory.buffer(output.gradient),
                    positions: memory.positions[number],
                    dx,
                    images: self.images as u32,
                    channels: window.input_channels as u32,
                    input_height: window.input_height as u32,
                    input_width: window.input_width as u32,
                    output_height: window.output_height as u32,
                    output_width: window.output_width as u32,
                    kernel: window.kernel as u32,
                    stride: window.stride as u32,
                    padding: window.padding as u32,
                    accumulate: accumulate.into(),
                };
                vec![Work::Launch(pool.launch(pool.grid()))]
            }
            Kind::GlobalAveragePool { shape, input, output } => {
                let (dx, accumulate) = target(memory, input);
                let pool = AveragePoolBackward {
                    dy: memory.buffer(output.gradient),
                    dx,
                    images: self.images as u32,
                    pixels: (shape.height * shape.width) as u32,
                    channels: shape.channels as u32,
                    accumulate: accumulate.into(),
                };
                vec![Work::Launch(pool.launch(pool.grid()))]
            }
            Kind::Linear { inputs, outputs, input, output, weight, bias } => {
                let dy = memory.buffer(output.gradient);
                let of_weights = Product {
                    rows: inputs,
                    columns: outputs,
                    depth: self.images,
                    left: memory.buffer(input.buffer),
                    left_transposed: true,
                    right: dy,
                    right_transposed: false,
                    out: memory.gradients[weight.get()],
                    accumulate: false,
                    format: memory.format,
                };
                let mut work = vec![Work::Product(of_weights)];
                work.extend(self.bias_gradient(dy, bias, self.images, outputs));
                if input.gradient.is_some() {
                    let (out, accumulate) = target(memory, input);
                    work.push(Work::Product(Product {
                        rows: self.images,
                        columns: inputs,
                        depth: outputs,
                        left: dy,
                        left_transposed: false,
                        right: memory.copies[weight.get()],
                        right_transposed: true,
                        out,
                        accumulate,
                        format: memory.format,
                    }));
                }
                work
            }
            Kind::Loss { input } => {
                let (gradient, _) = target(memory, input);
                let [input_of_step, state] = memory.step;
                let images = self.images as u32;
                let softmax = SoftmaxGradient {
                    logits: memory.buffer(input.buffer),
                    labels: memory.labels,
                    gradient,
                    input: input_of_step,
                    state,
                    classes: memory.elements(input.buffer) as u32,
                    images,
                    smoothing: self.settings.label_smoothing as f32,
                };
                vec![Work::Launch(softmax.launch(images))]
            }
        }
    }

    fn add_bias(&self, y: Address, bias: ParameterId, rows: usize, columns: usize) -> Work {
        let bias = self.memory.masters[bias.get()];
        let add = AddBias { y, bias, rows: rows as u64, columns: columns as u32 };
        launch(&add, (rows * columns) as u64)
    }

    fn bias_gradient(
        &self,
        dy: Address,
        bias: ParameterId,
        rows: usize,
        columns: usize,
    ) -> [Work; 2] {
        let (rows, columns, partial) = (rows as u64, columns as u32, self.memory.partial);
        let blocks = column_blocks(rows, columns);
        let sums = ColumnSums { from: dy, partial, rows, columns };
        let to = self.memory.gradients[bias.get()];
        let finish = ColumnSumsFinish { partial, to, blocks, columns };
        [
            Work::Launch(sums.launch(blocks)),
            Work::Launch(finish.launch(column_finish_blocks(columns))),
        ]
    }

    fn dropout(
        &self,
        instruction: usize,
        (from, to): (Address, Address),
        elements: usize,
        rate: f64,
        accumulate: bool,
    ) -> Work {
        let vectors = self.vectors(elements);
        let dropout = Dropout {
            from,
            to,
            vectors,
            input: self.memory.step[0],
            instruction: instruction as u64,
            elements_per_image: elements as u64,
            rate,
            accumulate: accumulate.into(),
        };
        launch(&dropout, vectors)
    }
}
