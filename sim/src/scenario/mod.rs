//! Scenarios: what the user wrote, checked, and turned into points to simulate.
//!
//! A scenario is a TOML text. [`Scenario::from_toml`] reads it ([`spec`]), merges its variants,
//! multiplies its sweep and resolves every point against the catalogue into a [`Case`]; whatever is
//! wrong is one [`ScenarioError`] with line, column, key, what was expected and how to mend it.
//! Nothing is simulated before everything is known to be possible.

mod document;
mod input;
mod limits;
mod machine;
mod names;
mod problem;
mod resolve;
pub mod spec;
mod sweep;

#[cfg(test)]
mod tests;

pub use document::ScenarioError;
pub use input::InputRates;
pub use machine::InputSource;
pub use names::{GradientPrecision, LinkName};
pub use resolve::{Case, CostRates};
pub use spec::schema;

use spec::PublishedSpec;

/// A checked scenario: points to simulate, and what was published about them.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// Where it is from.
    pub source: Option<String>,
    /// The SHA-256 of its text, in hexadecimal.
    pub hash: String,
    /// The points, curve by curve.
    pub cases: Vec<Case>,
    /// Published measurements to hold against the forecast.
    pub published: Vec<PublishedSpec>,
}

/// What a command line may change of a scenario.
#[derive(Debug, Clone, Copy, Default)]
pub struct Overrides {
    /// The seed of all random streams.
    pub seed: Option<u64>,
    /// Measured steps of each point.
    pub steps: Option<u32>,
}

impl Scenario {
    /// Reads and checks a scenario.
    ///
    /// # Errors
    /// On the first thing that is wrong, saying where it is and how to mend it.
    pub fn from_toml(text: &str, overrides: Overrides) -> Result<Self, ScenarioError> {
        document::read(text, overrides)
    }
}
