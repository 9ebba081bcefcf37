//! Published all-reduces inside one node, one time a size.

use std::collections::BTreeMap;

use foretrain_sim::random::Streams;

use super::super::Refusal;
use super::super::curve::{FEWEST_SIZES, SizeSamples, fit_curve};

/// The one-node sets, by set, ranks and software: times of one algorithm each.
fn sets() -> BTreeMap<String, Vec<SizeSamples>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/published/allreduce.csv");
    let mut reader = csv::Reader::from_path(path).expect("the published measurements");
    let mut sets: BTreeMap<String, Vec<SizeSamples>> = BTreeMap::new();
    for row in reader.deserialize::<BTreeMap<String, String>>() {
        let row = row.expect("a row");
        if row["nodes"] == "1" {
            let set = format!("{}, {} ranks, {}", row["set"], row["accelerators"], row["software"]);
            let message_bytes = row["message_bytes"].parse().expect("bytes");
            let seconds = row["time_us"].parse::<f64>().expect("microseconds") * 1e-6;
            let sample = SizeSamples { message_bytes, seconds: vec![seconds] };
            sets.entry(set).or_default().push(sample);
        }
    }
    sets
}

#[test]
fn sizes_left_out_of_published_curves_are_foretold() {
    let mut curves = 0;
    for (set, samples) in sets() {
        match fit_curve(&samples, &Streams::new(1), &set) {
            Ok(fit) => {
                println!("{set}: {:?}, model error {:.3}", fit.held_out, fit.model_error);
                assert!(fit.held_out.median_abs_relative_error <= 0.05, "{set}: {fit:?}");
                curves += 1;
            }
            // The sets by number of ranks have one size each.
            Err(refusal) => assert!(
                matches!(refusal, Refusal::TooFewSizes { found: 1, expected: FEWEST_SIZES }),
                "{set}: {refusal}"
            ),
        }
    }
    assert_eq!(curves, 4);
}
