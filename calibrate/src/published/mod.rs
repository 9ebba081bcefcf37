//! Published measurements: predicted row by row, and what all systems share fitted to them.
//!
//! ```text
//!  FILE.csv ─▶ table ─▶ scaling (runs) ── system ──▶ scenario ─▶ simulated ─▶ validation ─▶ errors
//!                       records (rates) ─▶ fit ─▶ Overheads (sim/src/catalogue/overheads.toml)
//! ```
//!
//! - [`mod@table`]: a CSV file with its columns, errors with their place;
//! - [`system`]: the machines of a row as a scenario has them;
//! - [`scaling`]: training runs, predicted from the one-node run of the same system;
//! - [`fusion`]: steps with and without overlap and fusion, from one accelerator's rate and a network
//!   anchor;
//! - [`convergence`]: laws of convergence, fitted, and rows that were left out;
//! - [`records`]: rates of one accelerator against its batch;
//! - [`mod@fit`]: what all systems share, fitted; [`interval`]: how sure a prediction is;
//! - [`validation`]: a whole file, also with every family left out in turn; [`errors`]: how far off.

pub mod convergence;
pub mod errors;
pub mod fit;
pub mod fusion;
pub mod interval;
pub mod records;
pub mod scaling;
pub mod system;
pub mod table;
pub mod validation;

#[cfg(test)]
mod tests;
