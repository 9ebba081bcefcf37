//! The fits against known truths and published measurements.

mod coverage;
mod curves;
mod published;

use foretrain_sim::random::{Stream, Streams};

use super::curve::{ENOUGH_REPEATS, SizeSamples};
use super::estimate::uniform;
use super::noise::normal;

/// A library whose protocols are known: each from a size on, with α in seconds and bytes a second.
pub(super) type Truth = &'static [(u64, f64, f64)];

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// One protocol: 20 µs, 50 GB/s.
const ONE: Truth = &[(0, 20e-6, 50e9)];

/// Up to 16 KiB 5 µs and 10 GB/s, then 30 µs and 40 GB/s.
const TWO: Truth = &[(0, 5e-6, 10e9), (16 * KIB + 1, 30e-6, 40e9)];

/// As [`TWO`], and from 2 MiB on 20 µs and 150 GB/s, which is faster at once: the curve falls.
const THREE: Truth = &[(0, 5e-6, 10e9), (16 * KIB + 1, 30e-6, 40e9), (2 * MIB, 20e-6, 150e9)];

/// What was measured: 1 KiB to 256 MiB by doubling.
fn sizes() -> impl Iterator<Item = u64> + Clone {
    (0..19).map(|n| KIB << n)
}

fn true_seconds(truth: Truth, message_bytes: u64) -> f64 {
    let at = truth.iter().rfind(|(from, _, _)| *from <= message_bytes).expect("starts at 0");
    at.1 + message_bytes as f64 / at.2
}

/// A repeat's time: lognormal noise, and one in twenty takes 2 to 10 times as long.
fn disturbed(stream: &mut Stream, seconds: f64, noise: f64) -> f64 {
    let slow = if uniform(stream) < 0.05 { 2.0 + 8.0 * uniform(stream) } else { 1.0 };
    seconds * slow * (noise * normal(stream)).exp()
}

fn measured(truth: Truth, repeats: usize, noise: f64, seed: u64) -> Vec<SizeSamples> {
    let size = |message_bytes: u64| {
        let entity = format!("{message_bytes} bytes");
        let mut stream = Streams::new(seed).stream(&entity, "synthetic measurement");
        let seconds = true_seconds(truth, message_bytes);
        let repeat = |stream: &mut Stream| match repeats {
            // Nobody could tell which one is disturbed.
            0..ENOUGH_REPEATS => seconds * (noise * normal(stream)).exp(),
            _ => disturbed(stream, seconds, noise),
        };
        let seconds = (0..repeats).map(|_| repeat(&mut stream)).collect();
        SizeSamples { message_bytes, seconds }
    };
    sizes().map(size).collect()
}
