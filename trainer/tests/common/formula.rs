//! Tensors from a formula, the same bits as `tests/reference/formula.py` computes.
//!
//! Element i (flat index in PyTorch's layout: OIHW, NCHW) of the tensor `name` is
//!
//! u(name, i) = 2 · (mix(fnv1a64(name) + (i + 1) · 0x9e3779b97f4a7c15) >> 11) / 2⁵³ − 1
//!
//! in [−1, 1), exact in double precision; `mix` is SplitMix64's output function and all integers
//! are modulo 2⁶⁴. So the references need no stored weights, only what comes out of them.

#![allow(dead_code, reason = "each test that takes this file in uses a part of it")]

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Fowler, Noll and Vo's hash, variant 1a.
fn fnv1a64(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |bits, byte| {
        (bits ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// u(name, i) for i = 0, 1, …, `len` − 1.
pub(crate) fn u(name: &str, len: usize) -> Vec<f64> {
    let start = fnv1a64(name);
    let unit = |i| mix(start.wrapping_add(GOLDEN.wrapping_mul(i))) >> 11;
    (1..=len as u64).map(|i| unit(i) as f64 / (1_u64 << 53) as f64 * 2.0 - 1.0).collect()
}

/// A parameter or buffer by its name in PyTorch's `state_dict` and its shape there; what it is
/// follows from its name and rank.
pub(crate) fn parameter(name: &str, shape: &[usize]) -> Vec<f64> {
    let fan_in = shape.iter().skip(1).product::<usize>() as f64;
    let value = |u: f64| match (name.rsplit('.').next(), shape.len()) {
        (Some("weight"), 4) => u * (6.0 / fan_in).sqrt(),
        (Some("weight"), 2) => u * (1.0 / fan_in).sqrt(),
        // Of batch norm.
        (Some("weight"), _) => 1.0 + 0.1 * u,
        (Some("running_var"), _) => 1.0 + 0.5 * u,
        // Biases and running means.
        _ => 0.1 * u,
    };
    u(name, shape.iter().product()).into_iter().map(value).collect()
}

/// A batch of images; its name is "input" nearly everywhere.
pub(crate) fn images(name: &str, len: usize) -> Vec<f64> {
    u(name, len).into_iter().map(|u| 1.5 * u).collect()
}

/// The classes of a batch.
pub(crate) fn labels(count: usize, classes: usize) -> Vec<usize> {
    (0..count).map(|n| (7 * n + 3) % classes).collect()
}

/// A large tensor in a few numbers, as the fixtures have it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Summary {
    /// ‖x‖₂.
    pub(crate) norm: f64,
    /// Σ xᵢ · u("probe", i): it sees every element and its place.
    pub(crate) probe: f64,
    /// Where the values come from: (2 k + 1) · len / 8 for k = 0, 1, 2, 3.
    pub(crate) at: [usize; 4],
    /// The elements there.
    pub(crate) values: [f64; 4],
}

/// Sums up a tensor that is not empty, in PyTorch's layout.
pub(crate) fn summary(tensor: &[f64]) -> Summary {
    let probe = u("probe", tensor.len());
    let at = std::array::from_fn(|k| (2 * k + 1) * tensor.len() / 8);
    Summary {
        norm: tensor.iter().map(|x| x * x).sum::<f64>().sqrt(),
        probe: tensor.iter().zip(probe).map(|(x, u)| x * u).sum(),
        at,
        values: at.map(|at| tensor[at]),
    }
}
