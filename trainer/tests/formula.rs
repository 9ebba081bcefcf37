//! The formula of the references' tensors in Rust against the one in Python, bit by bit.

#![expect(clippy::unwrap_used, reason = "a failure is a panic here")]

#[path = "common/formula.rs"]
mod formula;

use serde_json::Value;

fn fixture() -> Value {
    serde_json::from_str(include_str!("reference/formula.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[test]
fn elements_are_pythons() {
    let fixture = fixture();
    let of_names = fixture["u"].as_object().unwrap();
    assert_eq!(of_names.len(), 3);
    for (name, expected) in of_names {
        assert_eq!(formula::u(name, 5), numbers(expected), "{name}");
    }
    assert_eq!(formula::images("input", 5), numbers(&fixture["images"]));
    assert!(formula::u("any", 10_000).iter().all(|u| (-1.0..1.0).contains(u)));
}

#[test]
fn labels_are_pythons() {
    let expected = &fixture()["labels"]["labels"];
    let labels: Vec<usize> = serde_json::from_value(expected.clone()).unwrap();
    assert_eq!(formula::labels(150, 1000), labels);
}

#[test]
fn parameters_and_summaries_are_pythons() {
    let fixture = fixture();
    let parameters = fixture["parameters"].as_object().unwrap();
    assert_eq!(parameters.len(), 8);
    for (name, expected) in parameters {
        let shape: Vec<usize> = serde_json::from_value(expected["shape"].clone()).unwrap();
        let found = formula::summary(&formula::parameter(name, &shape));
        assert_eq!(serde_json::json!(found.at), expected["at"], "{name}");
        // Elements are the same bits; sums depend on their order.
        assert_eq!(found.values.to_vec(), numbers(&expected["values"]), "{name}");
        for (found, expected) in
            [(found.norm, &expected["norm"]), (found.probe, &expected["probe"])]
        {
            let expected = expected.as_f64().unwrap();
            assert!((found / expected - 1.0).abs() < 1e-11, "{name}: {found} is not {expected}");
        }
    }
}
