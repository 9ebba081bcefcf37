//! What is wrong with a key of a scenario, before its place in the text is known.

use crate::units::text::nearest;

/// What is wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) key: String,
    pub(super) problem: String,
}

impl Problem {
    pub(super) fn new(key: &str, problem: impl Into<String>) -> Self {
        Self { key: key.to_owned(), problem: problem.into() }
    }
}

/// Says that `wanted` is no known `kind`, with the nearest name that is.
pub(super) fn unknown(kind: &str, wanted: &str, names: &[&str]) -> String {
    let expected = names.join(", ");
    match nearest(wanted, names) {
        Some(near) => {
            format!("unknown {kind} `{wanted}`: did you mean `{near}`? Expected one of {expected}")
        }
        None => format!("unknown {kind} `{wanted}`, expected one of {expected}"),
    }
}

pub(super) fn at_least_one(key: &str, value: u32) -> Result<u32, Problem> {
    if value == 0 { Err(Problem::new(key, "0, expected at least 1")) } else { Ok(value) }
}
