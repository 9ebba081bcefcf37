//! Scenarios: what the user wrote, checked, and turned into points to simulate.
//!
//! A scenario is a TOML text. [`Scenario::from_toml`] reads it ([`spec`]), merges its variants,
//! multiplies its sweep and resolves every point against the catalogue into a [`Case`]; whatever is
//! wrong is one [`ScenarioError`] with line, column, key, what was expected and how to mend it.
//! Nothing is simulated before everything is known to be possible.

mod anchored;
mod carried;
mod convergence;
mod cost;
mod device;
mod document;
mod failures;
mod fusion;
mod input;
mod interconnect;
mod limits;
mod machine;
mod names;
mod nccl;
mod problem;
mod profiled;
mod resolve;
mod running;
mod space;
pub mod spec;
mod sweep;

#[cfg(test)]
mod convergence_tests;
#[cfg(test)]
mod tests;

pub use crate::located::LocatedError as ScenarioError;
pub use cost::CostRates;
pub use document::text_hash;
pub use input::InputRates;
pub use machine::InputSource;
pub use names::{GradientPrecision, LinkName};
pub use resolve::Case;
pub use running::SimulationError;
pub use space::{Batch, Goals, Offer, Setup, Space};
pub use spec::schema;

use crate::collective::nccl::{NcclMachine, NcclVersion};
use crate::network::{Interconnect, Link};
use crate::profile::Profile;
use spec::{PublishedSpec, ScenarioSpec};

/// A checked scenario: points to simulate, and what was published about them.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// Where it is from.
    pub source: Option<String>,
    /// The SHA-256 of its text, in hexadecimal.
    pub hash: String,
    /// The SHA-256 of the profiles it rests on, in hexadecimal.
    pub profile_hashes: Vec<String>,
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

/// A profile that a scenario names, and its hash.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedProfile {
    /// What it says.
    pub profile: Profile,
    /// The SHA-256 of its text, in hexadecimal.
    pub hash: String,
}

/// Gives the profile of a name that a scenario has, or says why it cannot.
pub type Profiles<'a> = dyn Fn(&str) -> Result<NamedProfile, String> + 'a;

/// The network of a cluster, and where its figures are from.
#[derive(Debug, Clone)]
pub struct ClusterNetwork {
    /// What carries messages.
    pub network: Interconnect,
    /// The links inside and between nodes, all interfaces of a node together; none where the
    /// network is given link by link.
    pub links: Option<(Link, Link)>,
    /// Ranks of one node.
    pub ranks_per_node: u32,
    /// Its links, and where they are from.
    pub sources: Vec<InputSource>,
}

/// What a scenario's text says, without its variants and sweep, unchecked but for its form.
///
/// # Errors
/// If it is not TOML, or has keys or values that a scenario does not have.
pub fn read_spec(text: &str) -> Result<ScenarioSpec, ScenarioError> {
    document::read_spec(text)
}

/// The network of `accelerators` accelerators on the machines of `spec`; of all its sections only
/// `cluster` and `accelerator` count.
///
/// # Errors
/// If a name is unknown or something is missing, saying what and how to mend it.
pub fn cluster_network(
    spec: &ScenarioSpec,
    accelerators: u32,
) -> Result<ClusterNetwork, ClusterError> {
    let machine = machine::Machine::new(spec, None)?;
    let network = machine.network(accelerators)?;
    let links = machine.links(accelerators).ok();
    let sources = machine.sources.into_iter().filter(|source| source.what != "accelerator");
    Ok(ClusterNetwork {
        network,
        links: links.filter(|_| spec.cluster.graph.is_none()),
        ranks_per_node: machine.accelerators_per_node,
        sources: sources.collect(),
    })
}

/// What NCCL knows of `accelerators` accelerators on the machines of `spec`.
///
/// # Errors
/// If a name is unknown, something is missing, or NCCL does not run there.
pub fn cluster_nccl(
    spec: &ScenarioSpec,
    accelerators: u32,
    version: Option<NcclVersion>,
) -> Result<NcclMachine, ClusterError> {
    Ok(machine::Machine::new(spec, None)?.nccl(accelerators, version)?)
}

/// The one point of a scenario without variants and sweep, which names no profile.
///
/// # Errors
/// On the first thing that is wrong, saying which key and how to mend it.
pub fn resolve(spec: &ScenarioSpec) -> Result<Case, ClusterError> {
    Ok(resolve::case(spec, None, String::new(), None)?)
}

/// What is wrong with the description of a cluster or of a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterError(String);

impl From<problem::Problem> for ClusterError {
    fn from(problem: problem::Problem) -> Self {
        Self(format!("`{}`: {}", problem.key, problem.problem))
    }
}

impl std::fmt::Display for ClusterError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ClusterError {}

impl Scenario {
    /// Reads and checks a scenario that names no profile.
    ///
    /// # Errors
    /// On the first thing that is wrong, saying where it is and how to mend it.
    pub fn from_toml(text: &str, overrides: Overrides) -> Result<Self, ScenarioError> {
        Self::with_profiles(text, overrides, &|_| {
            Err("profiles cannot be read here: leave the key out".to_owned())
        })
    }

    /// Reads a scenario as offers to choose from, asking `profiles` for those that it names.
    ///
    /// # Errors
    /// On the first thing that is wrong, saying where it is and how to mend it.
    pub fn space(
        text: &str,
        overrides: Overrides,
        profiles: &Profiles<'_>,
    ) -> Result<Space, ScenarioError> {
        document::read_space(text, overrides, profiles)
    }

    /// Reads and checks a scenario, asking `profiles` for those that it names.
    ///
    /// # Errors
    /// On the first thing that is wrong, saying where it is and how to mend it.
    pub fn with_profiles(
        text: &str,
        overrides: Overrides,
        profiles: &Profiles<'_>,
    ) -> Result<Self, ScenarioError> {
        document::read(text, overrides, profiles)
    }
}
