//! Softmax and cross-entropy with label smoothing.
//!
//! With p the softmax of K logits, ε the smoothing (Szegedy et al., arXiv 1512.00567) and k the
//! label, the target is t = (1 − ε) [i = k] + ε/K and the loss −Σ t ln p; its gradient is p − t.

use super::LossSum;
use super::element::{Element, Real};

/// The losses of a batch; in double precision, image by image.
pub(super) fn forward<E: Element>(logits: &[E], labels: &[u32], smoothing: f64) -> LossSum {
    let Some(classes) = logits.len().checked_div(labels.len()) else { return LossSum::default() };
    let mut sum = LossSum::default();
    for (logits, &label) in logits.chunks_exact(classes).zip(labels) {
        let logits: Vec<f64> = logits.iter().map(|logit| logit.to_real().as_f64()).collect();
        let of_label = logits[label as usize];
        let log_sum = log_sum_exp(&logits);
        let mean: f64 = logits.iter().sum::<f64>() / classes as f64;
        sum.loss += log_sum - (1.0 - smoothing) * of_label - smoothing * mean;
        // Logits that are not numbers come before all and are no hit; of equals the first counts.
        let before = logits.iter().enumerate().filter(|&(class, &logit)| {
            logit.is_nan() || logit > of_label || (logit == of_label && class < label as usize)
        });
        let rank = if of_label.is_nan() { usize::MAX } else { before.count() };
        sum.hits += u64::from(rank == 0);
        sum.hits_top5 += u64::from(rank < 5);
    }
    sum
}

fn log_sum_exp(logits: &[f64]) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln()
}

/// `(p − t) · factor`: the gradient of the mean over a global batch is with its reciprocal, times
/// the loss scale.
pub(super) fn backward<E: Element>(
    logits: &[E],
    labels: &[u32],
    smoothing: f64,
    factor: f64,
    into: &mut [E],
) {
    let Some(classes) = logits.len().checked_div(labels.len()) else { return };
    let images = logits.chunks_exact(classes).zip(into.chunks_exact_mut(classes));
    for ((logits, into), &label) in images.zip(labels) {
        let logits: Vec<f64> = logits.iter().map(|logit| logit.to_real().as_f64()).collect();
        let log_sum = log_sum_exp(&logits);
        for (class, (into, logit)) in into.iter_mut().zip(logits).enumerate() {
            let hit = if class == label as usize { 1.0 - smoothing } else { 0.0 };
            let target = hit + smoothing / classes as f64;
            *into = E::from_real(E::Real::from_f64(((logit - log_sum).exp() - target) * factor));
        }
    }
}
