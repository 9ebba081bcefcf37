//! Who is told what is being measured.

use std::time::Duration;

use super::steps::StepVariant;

/// What is being measured.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// Messages and all-reduces, checked and timed once, to see how long they take.
    Check,
    /// Messages and all-reduces, in rounds.
    Rounds,
    /// Layers.
    Compute {
        /// Images of a rank's step.
        batch: u64,
        /// Whether buckets travel while backward goes on.
        overlap: bool,
    },
    /// Whole steps.
    Steps {
        /// With which settings.
        variant: StepVariant,
    },
    /// Variation of compute.
    Jitter,
    /// Norms of gradients.
    Noise,
    /// Decoding.
    Input,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Check => f.write_str("checking sums of every size"),
            Self::Rounds => f.write_str("timing messages and all-reduces"),
            Self::Compute { batch, overlap } => {
                let with = if *overlap { ", buckets meanwhile" } else { "" };
                write!(f, "timing layers at batch {batch}{with}")
            }
            Self::Steps { variant } => write!(f, "timing steps: {variant}"),
            Self::Jitter => f.write_str("timing many steps"),
            Self::Noise => f.write_str("taking norms of gradients"),
            Self::Input => f.write_str("timing the input"),
        }
    }
}

/// Who is told how it goes.
pub trait Progress {
    /// Something begins that has so many parts, and takes about so long, if that is known.
    fn begin(&mut self, stage: Stage, parts: u32, takes: Option<Duration>);

    /// A part of it is done.
    fn done(&mut self);
}

/// Nobody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NobodyLooks;

impl Progress for NobodyLooks {
    fn begin(&mut self, _: Stage, _: u32, _: Option<Duration>) {}

    fn done(&mut self) {}
}
