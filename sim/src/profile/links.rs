//! Message times of links, and times of whole all-reduces, against size.

use serde::{Deserialize, Serialize};

use super::Estimate;
use super::steps::AllReduceEntry;
use crate::network::{Link, LinkCurve};
use crate::units::{Bandwidth, Bytes, SimDuration};

/// Links inside nodes and between them, as far as there were any.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LinkProfiles {
    /// Between ranks of one node.
    #[serde(default)]
    pub intra_node: Option<LinkProfile>,
    /// Between ranks of different nodes.
    #[serde(default)]
    pub inter_node: Option<LinkProfile>,
}

/// What messages take on a link: a range of sizes after the other, each α + S/B.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkProfile {
    /// The ranges, sizes increasing.
    pub ranges: Vec<LinkRange>,
    /// How well the fit predicts sizes that it was not made from.
    pub held_out: HeldOutError,
    /// The smallest and the largest message that was measured.
    pub measured_bytes: (u64, u64),
}

/// Messages from a size on, up to the next range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LinkRange {
    /// The smallest message of the range.
    pub from_bytes: u64,
    /// α: from the start of a message of no bytes to its arrival.
    pub latency_us: Estimate,
    /// B: what more bytes move at, in 10⁹ bytes a second.
    pub gbyte_per_s: Estimate,
}

/// The errors of a fit at points that it was not made from.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct HeldOutError {
    /// Points.
    pub points: u32,
    /// Half of the errors are smaller.
    pub median_percent: f64,
    /// The largest error.
    pub max_percent: f64,
}

impl LinkProfile {
    /// The curve, for simulation; none if there are no ranges.
    #[must_use]
    pub fn curve(&self) -> Option<LinkCurve> {
        let range = |range: &LinkRange| {
            let bytes_per_s = (range.gbyte_per_s.value * 1e9).round() as u64;
            let link = Link {
                latency: SimDuration::from_seconds(range.latency_us.value / 1e6),
                bandwidth: Bandwidth::from_bytes_per_s(bytes_per_s),
            };
            (Bytes::new(range.from_bytes), link)
        };
        LinkCurve::new(self.ranges.iter().map(range).collect())
    }
}

/// Times of one all-reduce among all ranks, against size, as measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CollectiveProfile {
    /// How it was done.
    pub all_reduce: AllReduceEntry,
    /// Ranks that took part.
    pub ranks: u32,
    /// Ranks of one node.
    pub ranks_per_node: u32,
    /// Where it was measured, sizes increasing.
    pub points: Vec<CurvePoint>,
}

/// The time of one size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// The data of each rank.
    pub message_bytes: u64,
    /// The median over repeats of the slowest rank's time.
    pub time_us: Estimate,
    /// Repeats behind it.
    pub repeats: u32,
}
