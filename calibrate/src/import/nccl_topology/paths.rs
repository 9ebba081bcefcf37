//! How near things are to each other on a node.

use super::{NcclTopology, Parent};

/// How near an interface is to an accelerator: NCCL's types of paths (`PATH_PIX` and so on).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Nearness {
    /// Below one switch.
    Pix,
    /// With several switches between, and no CPU.
    Pxb,
    /// Through one CPU.
    Phb,
    /// From CPU to CPU.
    Sys,
}

/// A PCIe link, by what is at its lower end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LinkOf {
    Gpu(usize),
    Nic(usize),
    Switch(usize),
}

impl NcclTopology {
    /// What is above, from `parent` to its CPU.
    fn above(&self, parent: Parent) -> Vec<Parent> {
        let mut above = vec![parent];
        let mut at = parent;
        while let Parent::Switch(place) = at {
            let Some(switch) = self.switches.get(place) else { break };
            at = switch.parent;
            above.push(at);
        }
        above
    }

    /// How near an interface is to an accelerator, and the PCIe links between them.
    pub(super) fn path(&self, gpu: usize, nic: usize) -> (Nearness, Vec<LinkOf>) {
        let of_gpu = self.above(self.gpus[gpu].parent);
        let of_nic = self.above(self.nics[nic].parent);
        let common = of_gpu.iter().find_map(|parent| {
            of_nic.iter().position(|other| other == parent).map(|place| (parent, place))
        });
        let (nearness, gpu_side, nic_side) = match common {
            Some((common, nic_side)) => {
                let gpu_side = of_gpu.iter().position(|parent| parent == common).unwrap_or(0);
                let nearness = match common {
                    Parent::Cpu(_) => Nearness::Phb,
                    Parent::Switch(_) if gpu_side + nic_side == 0 => Nearness::Pix,
                    Parent::Switch(_) => Nearness::Pxb,
                };
                (nearness, gpu_side, nic_side)
            }
            None => (Nearness::Sys, of_gpu.len(), of_nic.len()),
        };
        let switches = of_gpu[..gpu_side].iter().chain(&of_nic[..nic_side]);
        let switches = switches.filter_map(|parent| match parent {
            Parent::Switch(place) => Some(LinkOf::Switch(*place)),
            Parent::Cpu(_) => None,
        });
        let ends = [LinkOf::Gpu(gpu), LinkOf::Nic(nic)];
        (nearness, ends.into_iter().chain(switches).collect())
    }

    /// The interfaces that are nearest to an accelerator.
    pub(super) fn nearest(&self, gpu: usize) -> Vec<usize> {
        let nearness = |nic: &usize| self.path(gpu, *nic).0;
        let nics = 0..self.nics.len();
        let Some(least) = nics.clone().map(|nic| nearness(&nic)).min() else { return Vec::new() };
        nics.filter(|nic| nearness(nic) == least).collect()
    }

    /// The nearest interfaces of each accelerator, each beginning with another one where several
    /// accelerators have the same.
    pub(super) fn nearest_of_all(&self) -> Vec<Vec<usize>> {
        let all: Vec<_> = (0..self.gpus.len()).map(|gpu| self.nearest(gpu)).collect();
        let rotated = all.iter().enumerate().map(|(gpu, nearest)| {
            let same = all.iter().filter(|other| *other == nearest).count();
            let before = all[..gpu].iter().filter(|other| *other == nearest).count();
            let mut nearest = nearest.clone();
            let by = before * nearest.len() / same;
            nearest.rotate_left(by);
            nearest
        });
        rotated.collect()
    }

    /// How many NVLinks join each two accelerators.
    pub(super) fn nvlink_counts(&self) -> Vec<Vec<u32>> {
        let mut listed = vec![vec![0_u32; self.gpus.len()]; self.gpus.len()];
        for (from, gpu) in self.gpus.iter().enumerate() {
            for &(to, count) in &gpu.peer_nvlinks {
                listed[from][to] = listed[from][to].saturating_add(count);
            }
        }
        // Each end lists them, unless it could not.
        let gpus = 0..self.gpus.len();
        let between = |a: usize, b: usize| listed[a][b].max(listed[b][a]);
        gpus.clone().map(|a| gpus.clone().map(|b| between(a, b)).collect()).collect()
    }
}
