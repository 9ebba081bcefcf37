//! `[communication]`: how gradients are summed over the ranks.

use std::time::Duration;

use foretrain_sim::fusion::Fusion;
use foretrain_sim::located::Problem;
use foretrain_sim::recording::NumberFormat;
use foretrain_sim::units::{Bytes, SimDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const MIB: u64 = 1 << 20;
/// 60 s.
const TIMEOUT_PS: u64 = 60_000_000_000_000;

/// Who sends what to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// Parts of the sum go around one ring over all ranks.
    #[default]
    Ring,
    /// Every rank gets its part from all others, sums it in the order of ranks, and sends the sum
    /// to all: bits do not depend on what is fused.
    Direct,
    /// Reduce in groups, ring between their masters, broadcast in groups (Jia et al. 2018).
    Hierarchical,
    /// Hierarchical below `ring_from`, ring from there (Jia et al. 2018).
    Hybrid,
}

/// What carries messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Memory: ranks are threads of one process.
    #[default]
    Threads,
    /// Connections of this program's own: ranks are processes.
    Tcp,
    /// MPI: ranks are processes.
    Mpi,
}

/// What sums the gradients of GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// NVIDIA's library, from GPU to GPU; the transport only brings the ranks together.
    #[default]
    Nccl,
    /// The ranks' processors, over the transport.
    Host,
}

/// The rules that merge gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FusionName {
    /// Each tensor travels alone.
    Tensor,
    /// All tensors travel together after the backward pass.
    OneBucket,
    /// A bucket is closed as soon as it holds at least the threshold.
    #[default]
    Threshold,
    /// A bucket is closed after each of the layers listed in `after`.
    Segments,
}

/// Which gradients travel together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FusionConfig {
    /// The rule.
    pub rule: FusionName,
    /// The size that closes a bucket (threshold); 25 MiB by default.
    pub threshold: Option<Bytes>,
    /// The layers after whose gradients a bucket is closed (segments).
    pub after: Option<Vec<String>>,
}

/// How gradients are summed over the ranks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CommunicationConfig {
    /// Who sends what to whom.
    pub algorithm: Algorithm,
    /// Ranks of one group (hierarchical, hybrid); it must divide the ranks.
    #[schemars(range(min = 1))]
    pub group: Option<u32>,
    /// The smallest bucket that goes by ring (hybrid).
    pub ring_from: Option<Bytes>,
    /// The format of gradients on the wire; that of forward and backward by default.
    pub wire: Option<NumberFormat>,
    /// Which gradients travel together.
    pub fusion: FusionConfig,
    /// Whether buckets travel during the backward pass.
    pub overlap: bool,
    /// How long a rank waits for others before it says who does not answer.
    pub timeout: SimDuration,
    /// What carries messages.
    pub transport: Transport,
    /// What sums the gradients of GPUs; `nccl` by default.
    pub backend: Option<Backend>,
}

impl Default for CommunicationConfig {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            group: None,
            ring_from: None,
            wire: None,
            fusion: FusionConfig::default(),
            overlap: true,
            timeout: SimDuration::from_ps(TIMEOUT_PS),
            transport: Transport::default(),
            backend: None,
        }
    }
}

impl CommunicationConfig {
    /// How long a rank waits for others.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_nanos(self.timeout.as_ps() / 1000)
    }

    /// What sums the gradients of GPUs.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend.unwrap_or_default()
    }

    /// Which gradients travel together.
    #[must_use]
    pub fn fusion(&self) -> Fusion {
        let FusionConfig { rule, threshold, after } = &self.fusion;
        match rule {
            FusionName::Tensor => Fusion::Tensor,
            FusionName::OneBucket => Fusion::OneBucket,
            FusionName::Threshold => Fusion::Threshold(threshold.unwrap_or(Bytes::new(25 * MIB))),
            FusionName::Segments => Fusion::Segments(after.clone().unwrap_or_default()),
        }
    }

    pub(super) fn check(&self) -> Result<(), Problem> {
        let error =
            |key: &str, problem: &str| Err(Problem::new(&format!("communication.{key}"), problem));
        let grouped = matches!(self.algorithm, Algorithm::Hierarchical | Algorithm::Hybrid);
        match self.group {
            Some(_) if !grouped => {
                return error("group", "this is for hierarchical and hybrid: leave it out");
            }
            None if grouped => {
                return error("group", "the ranks of one group are missing: give them");
            }
            Some(0) => return error("group", "0, expected at least 1"),
            _ => {}
        }
        match (self.algorithm, self.ring_from) {
            (Algorithm::Hybrid, None) => {
                let problem = "the smallest bucket that goes by ring is missing: give it";
                return error("ring_from", problem);
            }
            (Algorithm::Hybrid, _) | (_, None) => {}
            _ => return error("ring_from", "this is for hybrid: leave it out"),
        }
        let FusionConfig { rule, threshold, after } = &self.fusion;
        if threshold.is_some() && *rule != FusionName::Threshold {
            return error("fusion.threshold", "this is for rule threshold: leave it out");
        }
        if *threshold == Some(Bytes::ZERO) {
            return error("fusion.threshold", "0, expected above 0; rule tensor sends each alone");
        }
        if after.is_some() != (*rule == FusionName::Segments) {
            let problem = if after.is_some() {
                "this is for rule segments: leave it out"
            } else {
                "the layers are missing: list them"
            };
            return error("fusion.after", problem);
        }
        if self.timeout() < Duration::from_millis(1) {
            return error("timeout", "expected at least 1 ms");
        }
        Ok(())
    }
}
