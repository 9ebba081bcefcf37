//! Which collective, by which algorithm, in how many channels and chunks: from a choice to a
//! schedule.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pattern::Pattern;
use super::schedule::{Layout, Phase, Schedule, Stage};
use super::teams::Teams;
use super::{
    CollectiveError, DIRECT_GROUP_MAX, RANKS_MAX, halving_doubling, hierarchical, ring, torus, tree,
};
use crate::units::Bytes;

/// What a collective leaves on the ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// The sum of all ranks' data, on every rank.
    #[default]
    AllReduce,
    /// A part of the sum on each rank.
    ReduceScatter,
    /// Every rank's part, on all ranks.
    AllGather,
}

impl Operation {
    /// Whether something is summed.
    #[must_use]
    pub const fn reduces(self) -> bool {
        matches!(self, Self::AllReduce | Self::ReduceScatter)
    }

    /// Whether parts are spread to all ranks.
    #[must_use]
    pub const fn gathers(self) -> bool {
        matches!(self, Self::AllReduce | Self::AllGather)
    }

    /// What a link carries over the size of the data, among n ranks: (n−1)/n each way (nccl-tests,
    /// `doc/PERFORMANCE.md`).
    #[must_use]
    pub fn bus_factor(self, ranks: u32) -> f64 {
        let ways = if self == Self::AllReduce { 2.0 } else { 1.0 };
        ways * f64::from(ranks.saturating_sub(1)) / f64::from(ranks)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AllReduce => "all-reduce",
            Self::ReduceScatter => "reduce-scatter",
            Self::AllGather => "all-gather",
        })
    }
}

/// How ranks of a group reduce to their master, and it broadcasts to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Inside {
    /// Along rings, as Jia et al. do.
    #[default]
    Ring,
    /// Along binomial trees.
    Tree,
    /// Everybody with everybody at once.
    Direct,
    /// In the switch that joins the group (NVLS).
    InNetwork,
}

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ring => "ring",
            Self::Tree => "tree",
            Self::Direct => "direct",
            Self::InNetwork => "in-network",
        })
    }
}

/// How the masters of groups all-reduce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Between {
    /// Along a ring, as Jia et al. do.
    #[default]
    Ring,
    /// By recursive halving and doubling.
    HalvingDoubling,
    /// Along two binary trees.
    Tree,
    /// In the switches of the network (SHARP).
    InNetwork,
}

impl fmt::Display for Between {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ring => "ring",
            Self::HalvingDoubling => "halving-doubling",
            Self::Tree => "tree",
            Self::InNetwork => "in-network",
        })
    }
}

/// How a collective is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// One ring over all ranks.
    Ring,
    /// Reduce in groups of consecutive ranks, all-reduce between their masters, broadcast in groups.
    Hierarchical {
        /// Ranks of one group.
        group: u32,
        /// In groups.
        inside: Inside,
        /// Between masters.
        between: Between,
    },
    /// Hierarchical for small messages, ring for large ones (Jia et al. 2018, arXiv 1807.11205).
    Hybrid {
        /// Ranks of one group of the hierarchical part.
        group: u32,
        /// In groups.
        inside: Inside,
        /// Between masters.
        between: Between,
        /// The smallest message that goes by ring.
        ring_from: Bytes,
    },
    /// Rings along rows of consecutive ranks and down columns across them.
    Torus {
        /// Ranks of one row.
        group: u32,
    },
    /// Recursive halving and doubling between partners at powers of two.
    HalvingDoubling,
    /// Two binary trees over all ranks.
    Tree,
    /// Summed by the network: in the switch of each node, then between nodes.
    InNetwork,
}

/// The name of an algorithm.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum AlgorithmName {
    /// One ring over all ranks.
    #[default]
    Ring,
    /// Reduce in groups, all-reduce between their masters, broadcast in groups.
    Hierarchical,
    /// Hierarchical for small messages, ring for large ones.
    Hybrid,
    /// Rings along rows of consecutive ranks and down columns across them.
    Torus,
    /// Recursive halving and doubling between partners at powers of two.
    HalvingDoubling,
    /// Two binary trees over all ranks.
    Tree,
    /// Summed by the network: in the switch of each node, then between nodes.
    InNetwork,
    /// Whatever NCCL would choose: ring, tree or NVLS, and its protocol.
    Nccl,
}

impl AlgorithmName {
    /// Whether it has groups.
    #[must_use]
    pub const fn has_groups(self) -> bool {
        matches!(self, Self::Hierarchical | Self::Hybrid | Self::Torus)
    }
}

impl fmt::Display for AlgorithmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ring => "ring",
            Self::Hierarchical => "hierarchical",
            Self::Hybrid => "hybrid",
            Self::Torus => "torus",
            Self::HalvingDoubling => "halving-doubling",
            Self::Tree => "tree",
            Self::InNetwork => "in-network",
            Self::Nccl => "nccl",
        })
    }
}

impl Algorithm {
    /// The ranks of a group, of those that have any.
    #[must_use]
    pub const fn group(self) -> Option<u32> {
        match self {
            Self::Hierarchical { group, .. }
            | Self::Hybrid { group, .. }
            | Self::Torus { group } => Some(group),
            _ => None,
        }
    }

    /// Hierarchical as Jia et al.: rings in groups and between masters.
    #[must_use]
    pub const fn hierarchical(group: u32) -> Self {
        Self::Hierarchical { group, inside: Inside::Ring, between: Between::Ring }
    }

    /// Hybrid as Jia et al.
    #[must_use]
    pub const fn hybrid(group: u32, ring_from: Bytes) -> Self {
        Self::Hybrid { group, inside: Inside::Ring, between: Between::Ring, ring_from }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> AlgorithmName {
        match self {
            Self::Ring => AlgorithmName::Ring,
            Self::Hierarchical { .. } => AlgorithmName::Hierarchical,
            Self::Hybrid { .. } => AlgorithmName::Hybrid,
            Self::Torus { .. } => AlgorithmName::Torus,
            Self::HalvingDoubling => AlgorithmName::HalvingDoubling,
            Self::Tree => AlgorithmName::Tree,
            Self::InNetwork => AlgorithmName::InNetwork,
        }
    }

    /// The schedule of one all-reduce of `bytes` over `ranks`, one a node, in one channel.
    ///
    /// # Errors
    /// As [`Strategy::schedule`].
    pub fn schedule(self, ranks: u32, bytes: Bytes) -> Result<Schedule, CollectiveError> {
        Strategy::from(self).schedule(Operation::AllReduce, Layout::flat(ranks), bytes)
    }
}

/// An algorithm and how the data is split for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strategy {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Parts of the data that go side by side, each by the same algorithm with the ranks of a node
    /// in other parts; at least one.
    pub channels: u32,
    /// The size of the chunks in which a channel's data goes through groups one after the other, and of
    /// the blocks of two trees. Without it the data goes through groups as a whole, and trees take
    /// [`TREE_BLOCK`].
    pub chunk: Option<Bytes>,
}

/// The block of two trees unless a chunk is given: a step of NCCL's buffer, 4 MiB in 8 steps
/// (`NCCL_BUFFSIZE` and `NCCL_STEPS`, NCCL 2.20).
pub const TREE_BLOCK: Bytes = Bytes::new(512 << 10);

/// More chunks than this gain nothing that one could see.
const CHUNKS_MAX: u64 = 1024;
/// More channels than this no one has.
pub const CHANNELS_MAX: u32 = 64;

impl From<Algorithm> for Strategy {
    fn from(algorithm: Algorithm) -> Self {
        Self { algorithm, channels: 1, chunk: None }
    }
}

impl Strategy {
    /// The schedule of one collective of `bytes` (of the whole, where parts are scattered or
    /// gathered).
    ///
    /// # Errors
    /// If groups do not divide the ranks, there are no or too many ranks or channels, or the
    /// algorithm does not do the operation.
    pub fn schedule(
        self,
        operation: Operation,
        layout: Layout,
        bytes: Bytes,
    ) -> Result<Schedule, CollectiveError> {
        let ranks = layout.ranks;
        if !(1..=RANKS_MAX).contains(&ranks) {
            return Err(CollectiveError::Ranks(ranks));
        }
        if !(1..=CHANNELS_MAX).contains(&self.channels) {
            return Err(CollectiveError::Channels(self.channels));
        }
        let algorithm = self.algorithm.for_size(ranks, bytes)?;
        let bytes = bytes.div_ceil(u64::from(self.channels));
        let chunks = self.chunks(algorithm, layout, bytes);
        let bytes = bytes.div_ceil(chunks);
        let block = self.chunk.unwrap_or(TREE_BLOCK);
        let phases = algorithm.phases(operation, layout, bytes, block)?;
        Ok(Schedule::new(layout, phases).pipelined(chunks as u32).in_channels(self.channels))
    }

    /// Chunks overlap where messages in groups and between them have links of their own, which is
    /// where groups are nodes; elsewhere they would only add latency.
    fn chunks(self, algorithm: Algorithm, layout: Layout, bytes: Bytes) -> u64 {
        let overlaps = match algorithm {
            Algorithm::Hierarchical { group, .. } | Algorithm::Torus { group } => {
                group > 1 && group == layout.ranks_per_node && group < layout.ranks
            }
            Algorithm::InNetwork => {
                layout.ranks_per_node > 1 && layout.ranks > layout.ranks_per_node
            }
            _ => false,
        };
        match self.chunk {
            Some(chunk) if overlaps => {
                bytes.get().div_ceil(chunk.get().max(1)).clamp(1, CHUNKS_MAX)
            }
            _ => 1,
        }
    }
}

impl Algorithm {
    /// What hybrid does with so many bytes; the others are what they are.
    ///
    /// # Errors
    /// If groups do not divide the ranks, whatever the size.
    pub fn for_size(self, ranks: u32, bytes: Bytes) -> Result<Self, CollectiveError> {
        let Self::Hybrid { group, inside, between, ring_from } = self else { return Ok(self) };
        // Groups that do not divide are an error whatever the size of this message.
        check_group(ranks, group)?;
        let hierarchical = Self::Hierarchical { group, inside, between };
        Ok(if bytes >= ring_from { Self::Ring } else { hierarchical })
    }

    fn phases(
        self,
        operation: Operation,
        layout: Layout,
        bytes: Bytes,
        block: Bytes,
    ) -> Result<Vec<Phase>, CollectiveError> {
        let ranks = layout.ranks;
        let only_all_reduce = || match operation {
            Operation::AllReduce => Ok(()),
            _ => Err(CollectiveError::NotDone { algorithm: self.name(), operation }),
        };
        Ok(match self {
            Self::Ring => ring::phases(operation, ranks, bytes),
            Self::Torus { group } => {
                check_group(ranks, group)?;
                torus::phases(operation, ranks, group, bytes)
            }
            Self::HalvingDoubling => {
                halving_doubling::phases(operation, Teams::blocks(ranks), bytes)
            }
            Self::Hierarchical { group, inside, between }
            | Self::Hybrid { group, inside, between, .. } => {
                only_all_reduce()?;
                check_group(ranks, group)?;
                if inside == Inside::Direct && group > DIRECT_GROUP_MAX {
                    return Err(CollectiveError::DirectGroup(group));
                }
                hierarchical::phases(ranks, group, (inside, between), bytes, block)
            }
            Self::Tree => {
                only_all_reduce()?;
                tree::phases(Teams::blocks(ranks), bytes, block)
            }
            Self::InNetwork => {
                only_all_reduce()?;
                in_network(layout, bytes)?
            }
        })
    }
}

/// Over one switch each rank sends what it has and gets the sum. As NVLS does it (NCCL 2.17 and
/// later), a rank reads the sum of its own part, ceil(S/n), through the switch, to which everybody
/// sends that part; and then it stores the part to everybody through the switch: S + ceil(S/n) leave
/// and reach each rank. Between nodes the masters send S and get S (SHARP).
fn in_network(layout: Layout, bytes: Bytes) -> Result<Vec<Phase>, CollectiveError> {
    let Layout { ranks, ranks_per_node } = layout;
    if ranks <= ranks_per_node {
        let bytes = bytes + bytes.div_ceil(u64::from(ranks));
        let phase =
            Phase::new("reduce in the switch", Teams::blocks(ranks), Pattern::Switch, bytes);
        return Ok(vec![Phase { stage: Stage::Inside, ..phase }]);
    }
    if !ranks.is_multiple_of(ranks_per_node) {
        return Err(CollectiveError::PartialNodes { ranks_per_node, ranks });
    }
    let how = (Inside::InNetwork, Between::InNetwork);
    Ok(hierarchical::phases(ranks, ranks_per_node, how, bytes, TREE_BLOCK))
}

/// Refuses groups that do not divide the ranks.
fn check_group(ranks: u32, group: u32) -> Result<(), CollectiveError> {
    if group == 0 || !ranks.is_multiple_of(group) {
        return Err(CollectiveError::GroupDoesNotDivide { group, ranks });
    }
    Ok(())
}
