//! Gradients: sums and coefficients against their equations, all together against candle's
//! derivatives of the definition.

use candle_core::{DType, Device, Tensor, Var};

use super::*;

/// What backward is given besides what forward left.
struct Backward {
    y: Address,
    dy: Address,
    d_gamma: Address,
    d_beta: Address,
    coefficients: Address,
}

impl Layer {
    fn backward(&mut self, relu: bool) -> Backward {
        Backward {
            y: if relu { self.put(30) } else { Address::NULL },
            dy: self.put(31),
            d_gamma: self.memory.put_elements(self.format, &numbers(32, self.channels)),
            d_beta: self.memory.put_elements(self.format, &numbers(33, self.channels)),
            coefficients: self.memory.take(12 * self.channels),
        }
    }

    fn gradient_sums(&self, backward: &Backward, blocks: u32) -> BatchNormGradientSums {
        BatchNormGradientSums {
            x: self.x,
            y: backward.y,
            dy: backward.dy,
            mean: self.mean,
            partial: self.partial,
            rows: self.rows as u64,
            channels: self.channels as u32,
            blocks,
        }
    }

    fn gradient_finish(&self, backward: &Backward, blocks: u32) -> BatchNormGradientFinish {
        BatchNormGradientFinish {
            partial: self.partial,
            gamma: self.gamma,
            inverse: self.inverse,
            d_gamma: backward.d_gamma,
            d_beta: backward.d_beta,
            coefficients: backward.coefficients,
            rows: self.rows as u64,
            channels: self.channels as u32,
            blocks,
            accumulate: 0,
        }
    }

    fn gradient_apply(&mut self, backward: &Backward) -> BatchNormGradientApply {
        BatchNormGradientApply {
            x: self.x,
            y: backward.y,
            dy: backward.dy,
            mean: self.mean,
            coefficients: backward.coefficients,
            dx: self.put(34),
            d_residual: Address::NULL,
            vectors: (self.rows * self.channels / 8) as u64,
            channels: self.channels as u32,
            accumulate: 0,
            accumulate_residual: 0,
        }
    }

    /// z.
    fn passed(&mut self, backward: &Backward) -> Vec<f64> {
        let dy = wide(&self.elements(backward.dy));
        if backward.y == Address::NULL {
            return dy;
        }
        let y = self.elements(backward.y);
        dy.iter().zip(y).map(|(dy, y)| if y > 0.0 { *dy } else { 0.0 }).collect()
    }
}

#[test]
fn sums_and_coefficients_are_their_equations_on_every_grid() {
    for format in FORMATS {
        for (case, (rows, channels)) in SIZES.into_iter().enumerate() {
            let mut layer = Layer::new(format, (rows, channels), &numbers(9, rows * channels));
            layer.mean = layer.memory.put(&numbers(40, channels));
            let inverse: Vec<f32> = numbers(41, channels).iter().map(|s| 2.0 + s).collect();
            layer.inverse = layer.memory.put(&inverse);
            let backward = layer.backward(case % 2 == 0);
            let suited = statistics_blocks(rows as u64, channels as u32);
            let blocks = if case < 4 { suited } else { 3 };
            let arguments = layer.gradient_sums(&backward, blocks);
            let mut found = Vec::new();
            for grid in [arguments.grid(), 1, 4] {
                run(format, &arguments, grid);
                let count = 2 * blocks as usize * channels;
                found.push(bits(&layer.memory.get::<f32>(layer.partial, count)));
            }
            assert!(found.iter().all(|other| *other == found[0]));
            for accumulate in [1, 0] {
                check_finish(&mut layer, &backward, blocks, accumulate);
            }
        }
    }
}

fn check_finish(layer: &mut Layer, backward: &Backward, blocks: u32, accumulate: u32) {
    let (format, channels) = (layer.format, layer.channels);
    let places = [backward.d_gamma, backward.d_beta];
    let before = places.map(|at| wide(&layer.memory.get_elements(format, at, channels)));
    let arguments = layer.gradient_finish(backward, blocks);
    let arguments = BatchNormGradientFinish { accumulate, ..arguments };
    run(format, &arguments, if accumulate == 1 { arguments.grid() } else { 2 });
    let got = places.map(|at| wide(&layer.memory.get_elements(format, at, channels)));
    let coefficients = wide(&layer.memory.get::<f32>(backward.coefficients, 3 * channels));
    let z = layer.passed(backward);
    let x = wide(&layer.elements(layer.x));
    let [mean, gamma, inverse] =
        [layer.mean, layer.gamma, layer.inverse].map(|at| wide(&layer.of_channels(at)));
    for c in 0..channels {
        let terms = || (c..z.len()).step_by(channels).map(|i| [z[i] * (x[i] - mean[c]), z[i]]);
        let sum = |of: usize| terms().map(|term| term[of]).sum::<f64>();
        let size = |of: usize| terms().map(|term| term[of].abs()).sum::<f64>();
        let (s, n) = (inverse[c], layer.rows as f64);
        for (of, factor) in [(0, s), (1, 1.0)] {
            let there = if accumulate == 1 { before[of][c] } else { 0.0 };
            let expected = there + factor * sum(of);
            let allowed = rounding(format) * expected.abs() + 1e-6 * factor * size(of) + SMALLEST;
            let got = got[of][c];
            assert!((got - expected).abs() <= allowed, "{format:?} {of}: {got}, not {expected}");
        }
        let factor = gamma[c] * s;
        let expected = [factor, -factor * s * s * sum(0) / n, -factor * sum(1) / n];
        let sizes = [factor.abs(), factor.abs() * s * s * size(0) / n, factor.abs() * size(1) / n];
        for (of, (expected, size)) in expected.into_iter().zip(sizes).enumerate() {
            let got = coefficients[of * channels + c];
            assert!(
                (got - expected).abs() <= 1e-6 * size,
                "coefficient {of}: {got}, not {expected}"
            );
        }
    }
}

#[test]
fn gradients_of_inputs_are_their_equation_on_every_grid() {
    for format in FORMATS {
        for (case, (rows, channels)) in SIZES.into_iter().enumerate() {
            let mut layer = Layer::new(format, (rows, channels), &numbers(9, rows * channels));
            layer.mean = layer.memory.put(&numbers(40, channels));
            let backward = layer.backward(case % 2 == 0);
            let of_rows = numbers(43, 3 * channels);
            layer.memory.slice(backward.coefficients, 3 * channels).copy_from_slice(&of_rows);
            let before = [50, 51].map(|seed| layer.put(seed));
            let before = before.map(|at| wide(&layer.elements(at)));
            let mut arguments = layer.gradient_apply(&backward);
            arguments.accumulate = u32::from(case / 2 % 2 == 0);
            arguments.accumulate_residual = 1 - arguments.accumulate;
            let mut found = Vec::new();
            for (grid, residual) in [(arguments.grid(), true), (1, true), (4, false)] {
                arguments.dx = layer.put(50);
                arguments.d_residual = if residual { layer.put(51) } else { Address::NULL };
                run(format, &arguments, grid);
                let dx = layer.elements(arguments.dx);
                let d_residual = residual.then(|| layer.elements(arguments.d_residual));
                found.push((dx, d_residual));
            }
            assert!(found[1..].iter().all(|(dx, _)| bits(dx) == bits(&found[0].0)));
            assert_eq!(found[0].1, found[1].1);

            let z = layer.passed(&backward);
            let x = wide(&layer.elements(layer.x));
            let mean = wide(&layer.of_channels(layer.mean));
            let of_rows = wide(&of_rows);
            for (index, z) in z.into_iter().enumerate() {
                let c = index % channels;
                let terms = [
                    of_rows[c] * z,
                    of_rows[channels + c] * (x[index] - mean[c]),
                    of_rows[2 * channels + c],
                    if arguments.accumulate == 1 { before[0][index] } else { 0.0 },
                ];
                let (expected, size) =
                    (terms.iter().sum::<f64>(), terms.iter().map(|term| term.abs()).sum::<f64>());
                let allowed =
                    rounding(format) * expected.abs() + 5.0 * 2.0_f64.powi(-24) * size + SMALLEST;
                let got = f64::from(found[0].0[index]);
                assert!((got - expected).abs() <= allowed, "{format:?}: {got}, not {expected}");
                let there = if arguments.accumulate_residual == 1 { before[1][index] } else { 0.0 };
                let got = f64::from(found[0].1.as_ref().unwrap()[index]);
                let allowed = rounding(format) * (there + z).abs() + SMALLEST;
                assert!((got - there - z).abs() <= allowed, "{format:?}: {got}, not {there} + {z}");
            }
        }
    }
}

fn tensor(values: &[f64], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap().to_dtype(DType::F64).unwrap()
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Forward and backward as they follow each other, with a residual and a ReLU.
#[test]
fn all_together_are_the_derivatives_of_the_definition() {
    let (format, rows, channels) = (NumberFormat::F32, 41, 24);
    let x: Vec<f32> = numbers(9, rows * channels).iter().map(|x| 3.0 + 2.0 * x).collect();
    let mut layer = Layer::new(format, (rows, channels), &x);
    let residual = layer.put(60);
    let leaf = |values: &[f32], rows: usize| {
        Var::from_tensor(&tensor(&wide(values), &[rows, channels])).unwrap()
    };
    let of_x = leaf(&x, rows);
    let of_residual = leaf(&layer.elements(residual), rows);
    let [gamma, beta] = [layer.gamma, layer.beta].map(|at| leaf(&layer.of_channels(at), 1));
    let mean = of_x.mean_keepdim(0).unwrap();
    let centred = of_x.broadcast_sub(&mean).unwrap();
    let variance = centred.sqr().unwrap().mean_keepdim(0).unwrap();
    let deviation = (variance + f64::from(EPSILON)).unwrap().sqrt().unwrap();
    let y = centred.broadcast_div(&deviation).unwrap().broadcast_mul(&gamma).unwrap();
    let y = y.broadcast_add(&beta).unwrap().add(of_residual.as_tensor()).unwrap().relu().unwrap();

    let blocks = 3;
    layer.statistics(blocks, 3);
    layer.finish(blocks, 0.1, 1, 3);
    let apply = BatchNormApply {
        x: layer.x,
        residual,
        y: layer.memory.take_elements(format, rows * channels),
        scale: layer.scale,
        shift: layer.shift,
        vectors: (rows * channels / 8) as u64,
        channels: channels as u32,
        relu: 1,
    };
    run(format, &apply, 2);
    let ones = vec![1.0; rows * channels];
    assert_near("y", &layer.elements(apply.y), &flat(&y), &ones, 1e-5);

    let backward = Backward { y: apply.y, ..layer.backward(false) };
    run(format, &layer.gradient_sums(&backward, blocks), 3);
    run(format, &layer.gradient_finish(&backward, blocks), 3);
    let mut arguments = layer.gradient_apply(&backward);
    arguments.d_residual = layer.put(61);
    run(format, &arguments, 2);
    let dy = tensor(&wide(&layer.elements(backward.dy)), &[rows, channels]);
    let gradients = (y * dy).unwrap().sum_all().unwrap().backward().unwrap();
    let of = |leaf: &Var| flat(gradients.get(leaf).unwrap());
    assert_near("dx", &layer.elements(arguments.dx), &of(&of_x), &ones, 1e-5);
    let got = layer.elements(arguments.d_residual);
    assert_near("of the residual", &got, &of(&of_residual), &ones, 1e-5);
    for (place, leaf) in [(backward.d_gamma, &gamma), (backward.d_beta, &beta)] {
        assert_near("of a channel", &layer.of_channels(place), &of(leaf), &ones, 1e-5);
    }
}
