//! Calibration of Foretrain: from this machine or cluster, or from measurements that others made, to a
//! profile that can be trusted, and a verdict on how well the simulator reproduces what was measured.
//!
//! ```text
//!  measure ──▶ Measurements ──▶ profile ──▶ Profile ──▶ verify ──▶ Verdict
//!  real ranks,  every repeat,    fits,       what is      the same measurement,
//!  or made up   raw              refusals    simulated    inside the simulator
//!  import ─────▶
//!  what others measured
//! ```
//!
//! - [`critical_batch`]: how epochs grow with the batch, measured at one batch and tried at others;
//! - [`import`]: measurements that others made;
//! - [`measure`]: the procedure, on real ranks and on a machine made up for tests;
//! - [`measurements`]: everything as it was measured;
//! - [`fit`]: robust statistics, each with its interval;
//! - [`profile`]: from measurements to a profile, or to the reason why not;
//! - [`published`]: training runs that others published, predicted, and what all systems share
//!   fitted to them;
//! - [`verify`]: the measurement again, in the simulator, point by point.

#![forbid(unsafe_code)]

pub mod critical_batch;
pub mod fit;
pub mod import;
pub mod measure;
pub mod measurements;
pub mod profile;
pub mod published;
pub mod verify;
