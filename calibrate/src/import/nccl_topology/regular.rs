//! Nodes that few words describe: what joins the accelerators, as many interfaces for each.

use std::collections::{BTreeMap, BTreeSet};

use foretrain_sim::network::NodeTopology;
use foretrain_sim::units::Bandwidth;

use super::bandwidth::nvlink;
use super::paths::{LinkOf, Nearness};
use super::{NcclTopology, Nic};

/// How the accelerators of a node are joined.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Inside {
    pub(super) topology: NodeTopology,
    /// NVLinks of an accelerator.
    pub(super) nvlinks: u32,
    /// All of them together.
    pub(super) bandwidth: Bandwidth,
    pub(super) sm: u32,
}

/// NVLinks between accelerators of one quad of a DGX-1 with V100, and between counterparts: those of
/// [`NodeTopology::HybridCubeMesh`].
const V100_QUAD: [(usize, usize, u32); 6] =
    [(0, 1, 1), (0, 2, 1), (0, 3, 2), (1, 2, 2), (1, 3, 1), (2, 3, 2)];
const V100_ACROSS: [u32; 4] = [2, 2, 1, 1];

impl NcclTopology {
    /// What joins the accelerators, if it is NVLink of a regular kind.
    pub(super) fn inside(&self) -> Option<Inside> {
        let sm = self.gpus.first()?.sm;
        if self.gpus.len() < 2 || self.gpus.iter().any(|gpu| gpu.sm != sm) {
            return None;
        }
        let counts = self.nvlink_counts();
        let inside = |topology, nvlinks: u32| {
            let bandwidth = nvlink(sm).bytes_per_s().saturating_mul(nvlinks.into());
            Some(Inside {
                topology,
                nvlinks,
                bandwidth: Bandwidth::from_bytes_per_s(bandwidth),
                sm,
            })
        };
        let to_switch = self.gpus[0].switch_nvlinks;
        let to_peers = counts.iter().flatten().any(|count| *count > 0);
        if to_switch > 0 {
            let same = self.gpus.iter().all(|gpu| gpu.switch_nvlinks == to_switch);
            return (same && !to_peers).then(|| inside(NodeTopology::Switch {}, to_switch))?;
        }
        if !to_peers || self.gpus.iter().any(|gpu| gpu.switch_nvlinks > 0) {
            return None;
        }
        let each = counts[0][1];
        let is_mesh = (0..counts.len())
            .all(|from| (0..counts.len()).all(|to| from == to || counts[from][to] == each));
        if is_mesh {
            return inside(NodeTopology::Mesh {}, each.saturating_mul(counts.len() as u32 - 1));
        }
        let cube_mesh = [6, 4].into_iter().find(|&all| counts == hybrid_cube_mesh(all))?;
        inside(NodeTopology::HybridCubeMesh { nvlinks: Some(cube_mesh) }, cube_mesh)
    }

    /// What one interface carries, where all are alike and each accelerator is near to those that
    /// [`foretrain_sim::network::Cluster`] gives it: of m, number ⌊am/n⌋ on to the a-th of n. What
    /// interfaces share on PCIe is divided among them.
    pub(super) fn outside(&self) -> Option<(Bandwidth, &Nic)> {
        let first = self.nics.first()?;
        let alike = |nic: &Nic| {
            let kind = |nic: &Nic| (nic.bandwidth, nic.latency, nic.is_infiniband);
            kind(nic) == kind(first)
        };
        if !self.nics.iter().all(alike) {
            return None;
        }
        let (gpus, nics) = (self.gpus.len(), self.nics.len());
        let mut crossed = BTreeMap::<LinkOf, BTreeSet<usize>>::new();
        for gpu in 0..gpus {
            let start = gpu * nics / gpus;
            let end = ((gpu + 1) * nics / gpus).max(start + 1);
            let nearest = self.nearest(gpu);
            for nic in start..end {
                let (nearness, links) = self.path(gpu, nic);
                if !nearest.contains(&nic) || nearness == Nearness::Sys {
                    return None;
                }
                for link in links {
                    crossed.entry(link).or_default().insert(nic);
                }
            }
        }
        let shares = crossed.into_iter().map(|(link, nics)| {
            let link = match link {
                LinkOf::Gpu(place) => Some(self.gpus[place].link),
                LinkOf::Nic(place) => self.nics[place].link,
                LinkOf::Switch(place) => Some(self.switches[place].link),
            };
            link.map_or(u64::MAX, |link| link.bandwidth.bytes_per_s() / nics.len() as u64)
        });
        let least = shares.min().unwrap_or(u64::MAX).min(first.bandwidth.bytes_per_s());
        Some((Bandwidth::from_bytes_per_s(least), first))
    }
}

/// The NVLinks of a hybrid cube mesh of accelerators with `all` each: 6, or 4 and one to each peer.
fn hybrid_cube_mesh(all: u32) -> Vec<Vec<u32>> {
    let mut counts = vec![vec![0; 8]; 8];
    let mut join = |a: usize, b: usize, count| {
        let count = if all == 4 { 1 } else { count };
        (counts[a][b], counts[b][a]) = (count, count);
    };
    for (a, b, count) in V100_QUAD {
        join(a, b, count);
        join(a + 4, b + 4, count);
    }
    for (a, count) in V100_ACROSS.into_iter().enumerate() {
        join(a, a + 4, count);
    }
    counts
}
