//! The configuration of a training run.

mod fingerprint;

pub use fingerprint::{Difference, Fingerprint};
