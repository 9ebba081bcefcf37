//! Recorded traces of ResNet-50 and one of an accelerator that was made up; `tests/data/kineto` has the
//! scripts that made them, and `analyse.py`, another reader, whose numbers are expected here.

mod made_up;
mod mutated;
mod recorded;

use std::io::Read;

use super::*;

const RANK_0: &[u8] = include_bytes!("../../../tests/data/kineto/resnet50-rank0.json.gz");
const RANK_1: &[u8] = include_bytes!("../../../tests/data/kineto/resnet50-rank1.json.gz");

/// Made up by `gpu_made_up.py`.
const ACCELERATOR: &[u8] = include_bytes!("../../../tests/data/kineto/gpu-made-up.json.gz");

fn text(packed: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    text
}

fn recorded() -> Vec<(String, Trace)> {
    let named = [("rank0.json.gz", RANK_0), ("rank1.json.gz", RANK_1)];
    named.map(|(name, bytes)| (name.to_owned(), read(bytes).unwrap())).into()
}

fn message(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}
