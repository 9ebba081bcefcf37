//! Whole networks against PyTorch: `tests/reference/*.json`, which the scripts beside them write.
//!
//! Weights and images are those of a formula (`tests/common/formula.rs`), so that the references
//! hold only what comes out.

#![expect(clippy::unwrap_used, reason = "a failure is a panic here")]

#[path = "../common/formula.rs"]
mod formula;
mod lars;
mod network;
mod rank;

use std::collections::HashMap;

use serde_json::Value;

fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/reference/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn sizes(value: &Value) -> Vec<usize> {
    serde_json::from_value(value.clone()).unwrap()
}

/// How far a tensor in PyTorch's order is from a fixture's summary of it, relative to the norm.
///
/// The norm and the probe see every element. An error of relative norm δ moves the norm by at most
/// δ and the probe, whose elements have deviation 1/√3, by about δ/√3 of the norm; single elements
/// are held to the root mean square of the tensor's.
fn distance(tensor: &[f64], expected: &Value) -> f64 {
    let found = formula::summary(tensor);
    let norm = number(&expected["norm"]);
    assert_eq!(found.at.to_vec(), sizes(&expected["at"]));
    let mut largest = ((found.norm - norm).abs() / norm)
        .max((found.probe - number(&expected["probe"])).abs() / norm);
    for (found, expected) in found.values.iter().zip(numbers(&expected["values"])) {
        let typical = norm / (tensor.len() as f64).sqrt();
        largest = largest.max((found - expected).abs() / typical.max(expected.abs()));
    }
    // A number that is none is far from all.
    if tensor.iter().all(|value| value.is_finite()) { largest } else { f64::INFINITY }
}

/// The tensors of a fixture's part, by name.
fn rows(value: &Value) -> HashMap<&str, &Value> {
    value.as_object().unwrap().iter().map(|(name, row)| (name.as_str(), row)).collect()
}
