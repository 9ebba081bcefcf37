//! Batch norms, group of images by group of images.

use foretrain_sim::workload::Shape;

use super::super::arguments::batch_norm::{
    BatchNormApply, BatchNormFinish, BatchNormGradientApply, BatchNormGradientFinish,
    BatchNormGradientSums, BatchNormRunning, BatchNormStatistics, statistics_blocks,
};
use super::super::arguments::{Address, Arguments};
use super::super::work::Work;
use super::{Lowering, target};
use crate::plan::{Operand, Output, ParameterId};

/// A batch norm as the plan has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchNorm {
    pub(super) number: usize,
    pub(super) shape: Shape,
    pub(super) input: Operand,
    pub(super) residual: Option<Operand>,
    pub(super) relu: bool,
    pub(super) output: Output,
    pub(super) scale: ParameterId,
    pub(super) shift: ParameterId,
}

/// Images that share statistics.
struct Group {
    number: usize,
    images: usize,
    /// Bytes before its first image.
    skip: usize,
}

impl Lowering<'_> {
    /// The groups of the batch, and how many there are.
    fn groups(&self, elements: usize) -> impl ExactSizeIterator<Item = Group> + use<> {
        let span = self.settings.batch_norm_span.map_or(self.images, |span| span.get());
        let span = span.min(self.images);
        let image_bytes = elements * self.memory.format.element_bytes() as usize;
        let images = self.images;
        (0..images.div_ceil(span)).map(move |number| {
            let first = number * span;
            Group { number, images: span.min(images - first), skip: first * image_bytes }
        })
    }

    pub(super) fn batch_norm(&self, norm: &BatchNorm, training: bool) -> Vec<Work> {
        let memory = self.memory;
        let place = &memory.norms[norm.number];
        let channels = norm.shape.channels as u32;
        let pixels = norm.shape.height * norm.shape.width;
        let [gamma, beta] = [norm.scale, norm.shift].map(|id| memory.masters[id.get()]);
        let [scale, shift] = place.factors;
        let epsilon = self.settings.batch_norm_epsilon as f32;
        let apply = |skip: usize, images: usize| {
            let vectors = pixels * images as u64 * norm.shape.channels / 8;
            let residual = norm.residual.map(|residual| memory.buffer(residual.buffer).add(skip));
            let apply = BatchNormApply {
                x: memory.buffer(norm.input.buffer).add(skip),
                residual: residual.unwrap_or(Address::NULL),
                y: memory.buffer(norm.output.buffer).add(skip),
                scale,
                shift,
                vectors,
                channels,
                relu: norm.relu.into(),
            };
            Work::Launch(apply.launch(apply.grid()))
        };
        if !training {
            let [mean, variance] = place.running;
            let running =
                BatchNormRunning { mean, variance, gamma, beta, scale, shift, channels, epsilon };
            return vec![Work::Launch(running.launch(running.grid())), apply(0, self.images)];
        }
        let mut work = Vec::new();
        let groups = self.groups(norm.shape.elements() as usize);
        let weight = (self.settings.batch_norm_momentum / groups.len() as f64) as f32;
        for Group { number, images, skip } in groups {
            let x = memory.buffer(norm.input.buffer).add(skip);
            let rows = pixels * images as u64;
            let blocks = statistics_blocks(rows, channels);
            let partial = memory.partial;
            let statistics = BatchNormStatistics { x, partial, rows, channels, blocks };
            work.push(Work::Launch(statistics.launch(statistics.grid())));
            let [mean, inverse] = place.groups[number];
            let finish = BatchNormFinish {
                x,
                partial,
                gamma,
                beta,
                mean,
                inverse,
                scale,
                shift,
                running_mean: place.running[0],
                running_variance: place.running[1],
                next_mean: place.next[0],
                next_variance: place.next[1],
                rows,
                channels,
                blocks,
                epsilon,
                weight,
                first: (number == 0).into(),
            };
            work.push(Work::Launch(finish.launch(finish.grid())));
            work.push(apply(skip, images));
        }
        work
    }

    pub(super) fn batch_norm_backward(&self, norm: &BatchNorm) -> Vec<Work> {
        let memory = self.memory;
        let place = &memory.norms[norm.number];
        let channels = norm.shape.channels as u32;
        let pixels = norm.shape.height * norm.shape.width;
        let (dx, accumulate) = target(memory, norm.input);
        let (d_residual, accumulate_residual) =
            norm.residual.map_or((Address::NULL, false), |residual| target(memory, residual));
        let skipped = |at: Address, skip: usize| {
            if at == Address::NULL { at } else { at.add(skip) }
        };
        let mut work = Vec::new();
        for Group { number, images, skip } in self.groups(norm.shape.elements() as usize) {
            let x = memory.buffer(norm.input.buffer).add(skip);
            let dy = memory.buffer(norm.output.gradient).add(skip);
            let y =
                if norm.relu { memory.buffer(norm.output.buffer).add(skip) } else { Address::NULL };
            let [mean, inverse] = place.groups[number];
            let rows = pixels * images as u64;
            let blocks = statistics_blocks(rows, channels);
            let partial = memory.partial;
            let sums = BatchNormGradientSums { x, y, dy, mean, partial, rows, channels, blocks };
            let finish = BatchNormGradientFinish {
                partial,
                gamma: memory.masters[norm.scale.get()],
                inverse,
                d_gamma: memory.gradients[norm.scale.get()],
                d_beta: memory.gradients[norm.shift.get()],
                coefficients: place.coefficients,
                rows,
                channels,
                blocks,
                accumulate: (number > 0).into(),
            };
            let vectors = rows * norm.shape.channels / 8;
            let apply = BatchNormGradientApply {
                x,
                y,
                dy,
                mean,
                coefficients: place.coefficients,
                dx: skipped(dx, skip),
                d_residual: skipped(d_residual, skip),
                vectors,
                channels,
                accumulate: accumulate.into(),
                accumulate_residual: accumulate_residual.into(),
            };
            work.push(Work::Launch(sums.launch(sums.grid())));
            work.push(Work::Launch(finish.launch(finish.grid())));
            work.push(Work::Launch(apply.launch(apply.grid())));
        }
        work
    }
}
