//! What a step takes besides the work of its kernels, as fitted to published runs.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::compute::LaunchMode;
use crate::units::{Fraction, SimDuration};

/// A fitted value and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fitted<T> {
    /// The value that is used.
    pub value: T,
    /// Where the interval begins.
    pub low: T,
    /// Where it ends.
    pub high: T,
}

/// All that is fitted to published training runs, the same for every system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overheads {
    /// How it was fitted, and to what.
    pub source: String,
    /// What a kernel takes besides its work where a step is one CUDA graph or one compiled program.
    pub graph_kernel: Fitted<SimDuration>,
    /// What it takes where the framework starts kernel after kernel.
    pub eager_kernel: Fitted<SimDuration>,
    /// Standard deviation over mean of one rank's compute from step to step.
    pub variation: Fitted<Fraction>,
    /// What the first steps of an epoch take more than the others.
    pub epoch_start: Fitted<SimDuration>,
    /// What an evaluation takes besides its forward passes.
    pub evaluation_start: Fitted<SimDuration>,
    /// How many times as long as the roofline work takes, for systems without a measured rate.
    pub roofline_factor: Fitted<Fraction>,
    /// Standard deviation of a predicted over a published rate, of systems that were left out of the
    /// fit.
    pub scatter: Fraction,
}

impl Overheads {
    /// Those that come with this version.
    #[must_use]
    pub fn shipped() -> &'static Self {
        static SHIPPED: LazyLock<Overheads> = LazyLock::new(|| {
            #[expect(clippy::expect_used, reason = "a test reads the shipped file")]
            toml::from_str(include_str!("overheads.toml")).expect("the shipped file is well-formed")
        });
        &SHIPPED
    }

    /// What a kernel takes besides its work.
    #[must_use]
    pub const fn kernel(&self, mode: LaunchMode) -> SimDuration {
        match mode {
            LaunchMode::Graph => self.graph_kernel.value,
            LaunchMode::Eager => self.eager_kernel.value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_inside_its_interval() {
        fn inside<T: PartialOrd>(fitted: &Fitted<T>) -> bool {
            fitted.low <= fitted.value && fitted.value <= fitted.high
        }
        let shipped = Overheads::shipped();
        for fitted in [
            &shipped.graph_kernel,
            &shipped.eager_kernel,
            &shipped.epoch_start,
            &shipped.evaluation_start,
        ] {
            assert!(inside(fitted), "{fitted:?}");
        }
        assert!(inside(&shipped.variation) && inside(&shipped.roofline_factor));
        assert!(shipped.kernel(LaunchMode::Graph) < shipped.kernel(LaunchMode::Eager));
    }
}
