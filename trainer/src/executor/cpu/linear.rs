//! Fully connected layers.
//!
//! Batches are small beside the weights, so it is the outputs (or inputs) that are cut into tasks,
//! and products are made transposed, so that each task writes memory of its own.

use rayon::prelude::*;

use super::batch_norm::Target;
use super::element::{Element, sized};
use super::matrix::{Matrix, MatrixMut, multiply};
use super::scratch::Scratch;

/// Outputs or inputs of a task.
const PART: usize = 64;

/// Y = X W + b; W is `inputs × outputs`.
pub(super) fn forward<E: Element>(
    input: &[E],
    weights: &[E::Real],
    bias: &[E::Real],
    output: &mut [E],
    scratch: &Scratch<E::Real>,
) {
    let outputs = bias.len();
    let (inputs, batch) = (weights.len() / outputs, output.len() / outputs);
    scratch.with(|wide| {
        let input = Matrix::new(E::widen(input, wide), batch, inputs);
        scratch.with(|transposed| {
            let transposed = sized(transposed, output.len());
            transposed.par_chunks_mut(PART * batch).enumerate().for_each(|(part, out)| {
                let columns = out.len() / batch;
                let weights = Matrix::strided(&weights[part * PART..], inputs, columns, outputs);
                let out = MatrixMut::new(out, columns, batch);
                multiply(out, false, weights.transposed(), input.transposed());
            });
            for (image, output) in output.chunks_exact_mut(outputs).enumerate() {
                for (index, (output, bias)) in output.iter_mut().zip(bias).enumerate() {
                    *output = E::from_real(transposed[index * batch + image] + *bias);
                }
            }
        });
    });
}

/// dX = dY Wᵀ.
pub(super) fn backward_data<E: Element>(
    gradient: &[E],
    weights: &[E::Real],
    outputs: usize,
    target: Target<'_, E>,
    scratch: &Scratch<E::Real>,
) {
    let (inputs, batch) = (weights.len() / outputs, gradient.len() / outputs);
    let accumulate = target.accumulate;
    scratch.with(|wide| {
        let gradient = Matrix::new(E::widen(gradient, wide), batch, outputs);
        scratch.with(|transposed| {
            let transposed = sized(transposed, inputs * batch);
            transposed.par_chunks_mut(PART * batch).enumerate().for_each(|(part, out)| {
                let rows = out.len() / batch;
                let weights = Matrix::new(&weights[part * PART * outputs..], rows, outputs);
                multiply(MatrixMut::new(out, rows, batch), false, weights, gradient.transposed());
            });
            for (image, into) in target.values.chunks_exact_mut(inputs).enumerate() {
                for (index, into) in into.iter_mut().enumerate() {
                    let value = transposed[index * batch + image];
                    *into = E::from_real(if accumulate { into.to_real() + value } else { value });
                }
            }
        });
    });
}

/// dW = Xᵀ dY.
pub(super) fn backward_weights<E: Element>(
    input: &[E],
    gradient: &[E],
    outputs: usize,
    into: &mut [E],
    scratch: &Scratch<E::Real>,
) {
    let (inputs, batch) = (into.len() / outputs, gradient.len() / outputs);
    scratch.with(|wide_input| {
        scratch.with(|wide_gradient| {
            let input = E::widen(input, wide_input);
            let gradient = Matrix::new(E::widen(gradient, wide_gradient), batch, outputs);
            into.par_chunks_mut(PART * outputs).enumerate().for_each(|(part, into)| {
                let rows = into.len() / outputs;
                let input = Matrix::strided(&input[part * PART..], batch, rows, inputs);
                scratch.with(|wide| {
                    E::update(into, wide, false, |into| {
                        let into = MatrixMut::new(into, rows, outputs);
                        multiply(into, false, input.transposed(), gradient);
                    });
                });
            });
        });
    });
}

/// db = Σ dY over the rows of `gradient`, in order.
pub(super) fn backward_bias<E: Element>(gradient: &[E], into: &mut [E]) {
    let mut sums = vec![E::default().to_real(); into.len()];
    for row in gradient.chunks_exact(into.len()) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value.to_real());
    }
    for (into, sum) in into.iter_mut().zip(sums) {
        *into = E::from_real(sum);
    }
}
