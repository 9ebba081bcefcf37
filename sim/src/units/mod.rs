//! Typed quantities, with units in text both ways.
//!
//! Every quantity a user writes carries its unit (`"100 Gbit/s"`, `"64 MiB"`, `"1.5 us"`); a bare
//! number is an error that says how to mend it. Simulated time is an integer count of picoseconds,
//! so that sums, maxima and comparisons are exact and the same on every machine.

mod data;
mod rates;
pub(crate) mod text;
mod time;

pub use data::{Bandwidth, Bytes};
pub use rates::{ComputeRate, Fraction, ImageRate, LongDuration, Money, Power, Price};
pub use text::UnitError;
pub use time::{SimDuration, SimTime};
