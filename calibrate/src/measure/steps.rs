//! With which settings steps are measured.

use std::fmt;

use foretrain_sim::profile::{AllReduceEntry, FusionEntry};

/// Steps to be measured.
#[derive(Debug, Clone, PartialEq)]
pub struct StepSettings {
    /// Images of one rank's step.
    pub batch: u64,
    /// How buckets are summed.
    pub all_reduce: AllReduceEntry,
    /// Which gradients travel together.
    pub fusion: FusionEntry,
    /// Whether buckets travel while backward goes on.
    pub overlap: bool,
    /// Steps before those that count.
    pub warmup_steps: u32,
    /// Steps that count.
    pub steps: u32,
    /// Whether what happens in them is recorded.
    pub recorded: bool,
    /// Whether norms of gradients are, too.
    pub norms: bool,
}

/// What distinguishes measured steps of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepVariant {
    /// How buckets are summed.
    pub all_reduce: AllReduceEntry,
    /// Which gradients travel together.
    pub fusion: FusionEntry,
    /// Whether buckets travel while backward goes on.
    pub overlap: bool,
}

impl fmt::Display for StepVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { all_reduce, fusion, overlap } = self;
        let overlap = if *overlap { "overlap" } else { "no overlap" };
        write!(f, "{all_reduce}, fusion {fusion}, {overlap}")
    }
}

impl StepVariant {
    /// The product of all lists.
    #[must_use]
    pub fn product(
        all_reduces: &[AllReduceEntry],
        fusions: &[FusionEntry],
        overlaps: &[bool],
    ) -> Vec<Self> {
        let mut all = Vec::new();
        for &all_reduce in all_reduces {
            for fusion in fusions {
                for &overlap in overlaps {
                    all.push(Self { all_reduce, fusion: fusion.clone(), overlap });
                }
            }
        }
        all
    }
}
