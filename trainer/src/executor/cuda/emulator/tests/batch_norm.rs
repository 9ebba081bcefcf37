//! Batch norms against their equations in double precision.

mod gradients;
mod outputs;

use foretrain_sim::random::place_uniform;
use proptest::prelude::*;

use super::super::super::arguments::batch_norm::*;
use super::super::super::arguments::grid::Tiling;
use super::super::super::arguments::optimizer::StepState;
use super::*;

const EPSILON: f32 = 1e-5;

/// Rows and channels: none to spare, more channels than a tile, more than 2048, widths that are no
/// power of two.
const SIZES: [(usize, usize); 8] =
    [(1, 8), (7, 8), (300, 8), (300, 24), (70, 96), (7, 264), (1, 384), (9, 2056)];

/// Numbers between −1 and 1.
pub(super) fn numbers(seed: u64, count: usize) -> Vec<f32> {
    (0..count as u64).map(|place| (2.0 * place_uniform(seed, place) - 1.0) as f32).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// How far a number of this format is from what was rounded to it, relatively.
pub(super) fn rounding(format: NumberFormat) -> f64 {
    match format {
        NumberFormat::F16 => 2.0_f64.powi(-11),
        NumberFormat::Bf16 => 2.0_f64.powi(-8),
        _ => 2.0_f64.powi(-24),
    }
}

/// How far the smallest numbers of half precision are from what was rounded to them.
const SMALLEST: f64 = 1.0 / (1_u64 << 25) as f64;

/// `scale` is how large the terms are that a number is the sum of.
fn assert_near(what: &str, got: &[f32], expected: &[f64], scale: &[f64], relative: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (index, ((got, expected), scale)) in got.iter().zip(expected).zip(scale).enumerate() {
        let error = (f64::from(*got) - expected).abs();
        assert!(error <= relative * scale, "{what} at {index}: {got}, not {expected}, of {scale}");
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// A batch norm's numbers in a memory.
struct Layer {
    format: NumberFormat,
    rows: usize,
    channels: usize,
    memory: Memory,
    x: Address,
    gamma: Address,
    beta: Address,
    running: [Address; 2],
    next: [Address; 2],
    mean: Address,
    inverse: Address,
    scale: Address,
    shift: Address,
    partial: Address,
}

const BLOCKS_MAX: usize = 16;

impl Layer {
    fn new(format: NumberFormat, (rows, channels): (usize, usize), x: &[f32]) -> Self {
        let elements = rows * channels;
        let mut memory =
            Memory::new(elements * 4 * 14 + channels * 4 * (2 * BLOCKS_MAX + 32) + 8192);
        let x = memory.put_elements(format, x);
        let [gamma, beta, mean, variance] = [1, 2, 3, 4].map(|seed| numbers(seed, channels));
        let gamma = memory.put(&gamma);
        let beta = memory.put(&beta);
        let running = [memory.put(&mean), memory.put(&variance)];
        let mut place = || memory.take(channels * 4);
        let [mean, inverse, scale, shift] = [(); 4].map(|()| place());
        let next = [place(), place()];
        let partial = memory.take(channels * 8 * BLOCKS_MAX);
        Self {
            format,
            rows,
            channels,
            memory,
            x,
            gamma,
            beta,
            running,
            next,
            mean,
            inverse,
            scale,
            shift,
            partial,
        }
    }

    fn of_channels(&mut self, at: Address) -> Vec<f32> {
        self.memory.get(at, self.channels)
    }

    fn elements(&mut self, at: Address) -> Vec<f32> {
        self.memory.get_elements(self.format, at, self.rows * self.channels)
    }

    fn put(&mut self, seed: u64) -> Address {
        self.memory.put_elements(self.format, &numbers(seed, self.rows * self.channels))
    }

    fn statistics(&mut self, blocks: u32, grid: u32) -> Vec<u32> {
        let (rows, channels) = (self.rows as u64, self.channels as u32);
        let (x, partial) = (self.x, self.partial);
        let arguments = BatchNormStatistics { x, partial, rows, channels, blocks };
        run(self.format, &arguments, grid);
        bits(&self.memory.get::<f32>(partial, 2 * blocks as usize * self.channels))
    }

    fn finish_arguments(&self, blocks: u32, weight: f32, first: u32) -> BatchNormFinish {
        BatchNormFinish {
            x: self.x,
            partial: self.partial,
            gamma: self.gamma,
            beta: self.beta,
            mean: self.mean,
            inverse: self.inverse,
            scale: self.scale,
            shift: self.shift,
            running_mean: self.running[0],
            running_variance: self.running[1],
            next_mean: self.next[0],
            next_variance: self.next[1],
            rows: self.rows as u64,
            channels: self.channels as u32,
            blocks,
            epsilon: EPSILON,
            weight,
            first,
        }
    }

    fn finish(&mut self, blocks: u32, weight: f32, first: u32, grid: u32) {
        let arguments = self.finish_arguments(blocks, weight, first);
        run(self.format, &arguments, grid);
    }

    /// Mean and biased variance of each channel, from the definition.
    fn expected(&mut self) -> [Vec<f64>; 2] {
        let x = wide(&self.elements(self.x));
        let column = |channel: usize| x.iter().skip(channel).step_by(self.channels);
        let rows = self.rows as f64;
        let mean: Vec<f64> =
            (0..self.channels).map(|channel| column(channel).sum::<f64>() / rows).collect();
        let variance = (0..self.channels)
            .map(|c| column(c).map(|x| (x - mean[c]).powi(2)).sum::<f64>() / rows)
            .collect();
        [mean, variance]
    }

    /// Compares everything that the statistics give; the next running statistics began with `begun`.
    fn check(&mut self, begun: &[Vec<f64>; 2], weight: f32) {
        let [mean, variance] = self.expected();
        let rows = self.rows as f64;
        let unbiased: Vec<f64> =
            variance.iter().map(|v| v * rows / (rows - 1.0).max(1.0)).collect();
        let inverse: Vec<f64> =
            variance.iter().map(|v| 1.0 / (v + f64::from(EPSILON)).sqrt()).collect();
        let [gamma, beta] = [self.gamma, self.beta].map(|at| wide(&self.of_channels(at)));
        let scale: Vec<f64> = gamma.iter().zip(&inverse).map(|(gamma, s)| gamma * s).collect();
        let product: Vec<f64> = mean.iter().zip(&scale).map(|(mean, scale)| mean * scale).collect();
        let shift: Vec<f64> = beta.iter().zip(&product).map(|(beta, mean)| beta - mean).collect();
        let sizes = |values: &[f64], more: &[f64]| -> Vec<f64> {
            values.iter().zip(more).map(|(a, b)| a.abs() + b.abs()).collect()
        };
        let none = vec![0.0; self.channels];
        // A mean is as exact as the deviations that it is the mean of; 1e-6 of them is 16 roundings.
        let deviations: Vec<f64> = variance.iter().map(|v| v.sqrt()).collect();
        let got = self.of_channels(self.mean);
        assert_near("mean", &got, &mean, &sizes(&mean, &deviations), 1e-6);
        assert_near("inverse", &self.of_channels(self.inverse), &inverse, &inverse, 1e-5);
        assert_near("scale", &self.of_channels(self.scale), &scale, &sizes(&scale, &none), 1e-5);
        let got = self.of_channels(self.shift);
        assert_near("shift", &got, &shift, &sizes(&product, &beta), 1e-5);
        for (index, (what, values)) in
            [("running mean", &mean), ("running variance", &unbiased)].into_iter().enumerate()
        {
            let running = wide(&self.of_channels(self.running[index]));
            let changes = values.iter().zip(&running).map(|(v, old)| f64::from(weight) * (v - old));
            let expected: Vec<f64> =
                begun[index].iter().zip(changes).map(|(begun, change)| begun + change).collect();
            let got = self.of_channels(self.next[index]);
            assert_near(what, &got, &expected, &sizes(&running, values), 1e-5);
        }
    }
}

#[test]
fn statistics_are_their_definition_on_every_grid() {
    for format in FORMATS {
        for (rows, channels) in SIZES {
            let mut layer = Layer::new(format, (rows, channels), &numbers(9, rows * channels));
            let suited = statistics_blocks(rows as u64, channels as u32);
            for blocks in [suited, 3] {
                let grids = [blocks * Tiling::new(channels as u32).tiles, 1, 4];
                let [first, others @ ..] = grids.map(|grid| layer.statistics(blocks, grid));
                others.iter().for_each(|other| assert_eq!(&first, other));
                let before = layer.running.map(|at| wide(&layer.of_channels(at)));
                let grid = layer.finish_arguments(blocks, 0.1, 1).grid();
                layer.finish(blocks, 0.1, 1, grid);
                layer.check(&before, 0.1);
                let places = [layer.mean, layer.inverse, layer.scale, layer.shift, layer.next[1]];
                let found = places.map(|at| bits(&layer.of_channels(at)));
                layer.finish(blocks, 0.1, 1, 2);
                assert_eq!(found, places.map(|at| bits(&layer.of_channels(at))));
            }
        }
    }
}

/// Two groups, each with half the momentum: the running statistics follow the mean of both, and are
/// taken over only if the step counts.
#[test]
fn groups_are_followed_in_turn() {
    let (rows, channels, momentum) = (20, 24, 0.1_f32);
    let mut layer = Layer::new(NumberFormat::F32, (rows, channels), &numbers(5, rows * channels));
    let before = layer.running.map(|at| wide(&layer.of_channels(at)));
    let other = layer.put(6);
    let mut means = [vec![0.0; channels], vec![0.0; channels]];
    for (first, x) in [(1, layer.x), (0, other)] {
        layer.x = x;
        let next = layer.next.map(|at| wide(&layer.of_channels(at)));
        layer.statistics(2, 2);
        layer.finish(2, momentum / 2.0, first, 3);
        layer.check(if first == 1 { &before } else { &next }, momentum / 2.0);
        let [mean, variance] = layer.expected();
        let unbiased = variance.iter().map(|v| v * rows as f64 / (rows - 1) as f64).collect();
        for (means, of_group) in means.iter_mut().zip([mean, unbiased]) {
            means.iter_mut().zip(of_group).for_each(|(mean, of_group)| *mean += of_group / 2.0);
        }
    }
    for (index, means) in means.iter().enumerate() {
        let got = layer.of_channels(layer.next[index]);
        let follow = |(old, mean): (&f64, &f64)| old + f64::from(momentum) * (mean - old);
        let expected: Vec<f64> = before[index].iter().zip(means).map(follow).collect();
        assert_near("after both", &got, &expected, &vec![1.0; channels], 1e-6);
    }
    for skipped in [1, 0] {
        let state = StepState {
            last_learning_rate: 0.1,
            skipped_steps: 0,
            loss_scale: 1.0,
            good_steps: 0,
            skipped,
            last_loss_scale: 1.0,
        };
        let state = layer.memory.put(&state.to_bytes());
        let [next, running] = [layer.next[0], layer.running[0]];
        let arguments = CommitStatistics { next, running, elements: channels as u64, state };
        run(layer.format, &arguments, arguments.grid());
        let followed = wide(&layer.of_channels(running));
        let next = wide(&layer.of_channels(next));
        assert_eq!(followed, if skipped == 1 { before[0].clone() } else { next });
    }
}

/// The deviation is 1, or with bfloat16, in which 1000 has neighbours 4 away, 16.
#[test]
fn sums_do_not_cancel_where_the_mean_is_large() {
    let (rows, channels) = (300, 24);
    for (format, deviation) in FORMATS.into_iter().zip([1.0, 16.0, 1.0_f32]) {
        let x = numbers(3, rows * channels);
        let x: Vec<f32> = x.into_iter().map(|x| 1e3 + 3.0_f32.sqrt() * deviation * x).collect();
        let mut layer = Layer::new(format, (rows, channels), &x);
        layer.statistics(4, 4);
        layer.finish(4, 1.0, 1, 3);
        let before = layer.running.map(|at| wide(&layer.of_channels(at)));
        layer.check(&before, 1.0);
        let [_, variance] = layer.expected();
        let square = f64::from(deviation * deviation);
        assert!(variance.iter().all(|v| (0.8..1.2).contains(&(v / square))), "{variance:?}");
    }
}

#[test]
fn a_variance_is_never_negative_and_what_is_no_number_is_seen() {
    let mut x = vec![2.5; 40];
    x[33] = f32::NAN;
    let mut layer = Layer::new(NumberFormat::F32, (5, 8), &x);
    layer.statistics(2, 1);
    // S2 / n below (S1 / n)², as if it had been rounded so.
    let mut sums = layer.memory.get::<f32>(layer.partial, 32);
    sums[2] = 5.0;
    sums[8 + 2] = 4.9;
    for (to, sum) in layer.memory.slice(layer.partial, 32).iter_mut().zip(sums) {
        *to = sum;
    }
    layer.finish(2, 1.0, 1, 1);
    let constant = 1.0 / EPSILON.sqrt();
    for (channel, inverse) in layer.of_channels(layer.inverse).into_iter().enumerate() {
        match channel {
            1 => assert!(inverse.is_nan()),
            _ => assert!((inverse / constant - 1.0).abs() < 1e-6, "{channel}: {inverse}"),
        }
    }
    let mean = layer.of_channels(layer.mean);
    assert_eq!((mean[0], mean[2]), (2.5, 3.5));
    assert!(mean[1].is_nan() && layer.of_channels(layer.next[1])[1].is_nan());
    assert_eq!(layer.of_channels(layer.next[1])[0], 0.0);
}

#[test]
fn evaluation_takes_the_running_statistics() {
    for channels in [8, 2056] {
        let mut layer = Layer::new(NumberFormat::Bf16, (1, channels), &numbers(1, channels));
        let variance: Vec<f32> = numbers(8, channels).into_iter().map(|v| v + 1.0).collect();
        layer.running[1] = layer.memory.put(&variance);
        let arguments = BatchNormRunning {
            mean: layer.running[0],
            variance: layer.running[1],
            gamma: layer.gamma,
            beta: layer.beta,
            scale: layer.scale,
            shift: layer.shift,
            channels: channels as u32,
            epsilon: EPSILON,
        };
        let [mean, gamma, beta] =
            [layer.running[0], layer.gamma, layer.beta].map(|at| wide(&layer.of_channels(at)));
        for grid in [1, arguments.grid()] {
            run(layer.format, &arguments, grid);
            let [scale, shift] = [layer.scale, layer.shift].map(|at| layer.of_channels(at));
            for c in 0..channels {
                let deviation = (f64::from(variance[c]) + f64::from(EPSILON)).sqrt();
                let expected = gamma[c] / deviation;
                assert!((f64::from(scale[c]) - expected).abs() <= 1e-6 * expected.abs());
                let expected = beta[c] - mean[c] * expected;
                let size = beta[c].abs() + (mean[c] * gamma[c] / deviation).abs();
                assert!((f64::from(shift[c]) - expected).abs() <= 1e-6 * size);
            }
        }
    }
}

proptest! {
    /// A block sums at most 256 channels; every part has rows, and what is written stays small.
    #[test]
    fn parts_have_rows_and_their_sums_stay_small(rows in 1_u64..1 << 24, vectors in 1_u32..1025) {
        let channels = 8 * vectors;
        let (blocks, tiling) = (statistics_blocks(rows, channels), Tiling::new(channels));
        prop_assert!(blocks > 0);
        prop_assert!(u64::from(blocks - 1) * u64::from(tiling.lanes) < rows);
        prop_assert!(u64::from(blocks) * 2 * u64::from(channels) <= 1056 * 2 * 256);
        prop_assert!(tiling.width <= 32 && tiling.width * tiling.lanes <= 256);
        prop_assert!((tiling.tiles - 1) * tiling.width < vectors);
        prop_assert!(vectors <= tiling.tiles * tiling.width);
        // Large tensors keep 132 multiprocessors busy.
        if rows * u64::from(vectors) >= 132 * 256 * 16 {
            prop_assert!(blocks * tiling.tiles >= 132, "{} blocks", blocks * tiling.tiles);
        }
    }
}
