//! What is wrong with a key of a scenario, before its place in the text is known.

pub(super) use crate::located::{Problem, unknown};

pub(super) fn at_least_one(key: &str, value: u32) -> Result<u32, Problem> {
    if value == 0 { Err(Problem::new(key, "0, expected at least 1")) } else { Ok(value) }
}
