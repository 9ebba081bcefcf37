//! How collectives are done: by one strategy, or as NCCL would choose.

use super::algorithm::{Algorithm, AlgorithmName, Operation, Strategy};
use super::nccl::{Candidate, NcclAlgorithm, NcclMachine};
use super::pattern::Pattern;
use super::schedule::{Layout, Phase, Schedule, Stage};
use super::teams::Teams;
use super::{CollectiveError, ring};
use crate::network::{Interconnect, Link};
use crate::units::{Bandwidth, Bytes, SimDuration};

/// How collectives are done.
#[derive(Debug, Clone)]
pub enum Method {
    /// By one algorithm, whatever the size.
    Strategy(Strategy),
    /// As NCCL chooses for each size, on a machine that it knows.
    Nccl(Box<NcclMachine>),
}

impl From<Strategy> for Method {
    fn from(strategy: Strategy) -> Self {
        Self::Strategy(strategy)
    }
}

impl From<Algorithm> for Method {
    fn from(algorithm: Algorithm) -> Self {
        Self::Strategy(algorithm.into())
    }
}

/// A collective ready to run: who sends what, and over which network.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Who sends what to whom.
    pub schedule: Schedule,
    /// What carries the messages.
    pub network: Interconnect,
    /// What NCCL chose, if it was asked.
    pub chosen: Option<Candidate>,
}

impl Method {
    /// The name of the algorithm.
    #[must_use]
    pub const fn name(&self) -> AlgorithmName {
        match self {
            Self::Strategy(strategy) => strategy.algorithm.name(),
            Self::Nccl(_) => AlgorithmName::Nccl,
        }
    }

    /// The ranks of a group, of algorithms that have any.
    #[must_use]
    pub const fn group(&self) -> Option<u32> {
        match self {
            Self::Strategy(strategy) => strategy.algorithm.group(),
            Self::Nccl(_) => None,
        }
    }

    /// The plan of one collective of `bytes` over the ranks of `layout`, on `network` unless NCCL
    /// chooses.
    ///
    /// What NCCL chooses becomes messages that take the time its cost model says if all ranks start
    /// together, and wait for each other where they do not:
    ///
    /// - A ring is a ring, in rounds that are all alike: of the latency L, what falls on one of R
    ///   rounds, L/R, and a bandwidth with which R messages of ceil(S/n) take S/B. (Its hops inside
    ///   nodes and between them differ; the model, too, knows only their sum.)
    /// - A tree or NVLS is one exchange through a switch, L + S/B after the last rank has come.
    ///
    /// All channels together are one, and `network` is not used: the model's latency and bandwidth
    /// have both in them.
    ///
    /// # Errors
    /// As [`Strategy::schedule`]; if NCCL's machine has other ranks.
    pub fn plan(
        &self,
        operation: Operation,
        layout: Layout,
        network: &Interconnect,
        bytes: Bytes,
    ) -> Result<Plan, CollectiveError> {
        match self {
            Self::Strategy(strategy) => Ok(Plan {
                schedule: strategy.schedule(operation, layout, bytes)?,
                network: network.clone(),
                chosen: None,
            }),
            Self::Nccl(machine) => nccl_plan(machine, operation, layout, bytes),
        }
    }
}

/// What NCCL chooses, as messages: see [`Method::plan`].
fn nccl_plan(
    machine: &NcclMachine,
    operation: Operation,
    layout: Layout,
    bytes: Bytes,
) -> Result<Plan, CollectiveError> {
    let ranks = layout.ranks;
    if machine.ranks() != ranks {
        return Err(CollectiveError::Ranks(ranks));
    }
    let Some(chosen) = machine.choose(operation, bytes, None) else {
        return Err(CollectiveError::NotDone { algorithm: AlgorithmName::Nccl, operation });
    };
    let teams = Teams::blocks(ranks);
    let (phases, link) = if chosen.algorithm == NcclAlgorithm::Ring {
        let phases = ring::phases(operation, ranks, bytes);
        let rounds: u64 = phases.iter().map(|phase| u64::from(phase.rounds())).sum();
        let latency = SimDuration::from_ps(chosen.latency.as_ps() / rounds.max(1));
        let share = rounds as f64 / f64::from(ranks);
        let bytes_per_s = chosen.bandwidth.bytes_per_s() as f64 * share;
        let bandwidth = Bandwidth::from_bytes_per_s(bytes_per_s.round() as u64);
        (phases, Link { latency, bandwidth })
    } else {
        let name = match chosen.algorithm {
            NcclAlgorithm::Tree => "up and down NCCL's trees",
            _ => "through NVLink SHARP",
        };
        let phase = Phase::new(name, teams, Pattern::Switch, bytes);
        let link = Link { latency: chosen.latency, bandwidth: chosen.bandwidth };
        (vec![Phase { stage: Stage::Inside, ..phase }], link)
    };
    let schedule = Schedule::new(Layout::flat(ranks), phases);
    Ok(Plan { schedule, network: Interconnect::uniform(link), chosen: Some(chosen) })
}

#[cfg(test)]
mod tests {
    use super::super::nccl::{NcclIntraNode, NcclNetwork, NcclSpec, NcclVersion};
    use super::super::{ArrayReplay, Noise, replay_events};
    use super::*;
    use crate::catalogue::{ComputeCapability, Nvlink};
    use crate::units::SimTime;

    fn machine(nodes: u32) -> NcclMachine {
        NcclMachine::new(NcclSpec {
            version: NcclVersion::V2_20,
            nodes,
            ranks_per_node: 8,
            compute_capability: ComputeCapability::HOPPER,
            intra_node: NcclIntraNode::Nvlink(Nvlink {
                links: 18,
                links_to_peer: 18,
                switched: true,
            }),
            network: Some(NcclNetwork {
                nics_per_node: 8,
                nic_bandwidth: "400 Gbit/s".parse().unwrap(),
                host_cpu: Default::default(),
                latency: SimDuration::ZERO,
                simple_only: false,
            }),
        })
        .unwrap()
    }

    #[test]
    fn ranks_that_start_together_take_the_time_of_the_cost_model() {
        let mut seen = std::collections::BTreeSet::new();
        for nodes in [1, 2, 4, 16] {
            let machine = machine(nodes);
            let layout = Layout { ranks: 8 * nodes, ranks_per_node: 8 };
            let unused = Interconnect::uniform("1 GB/s, 1 us".parse().unwrap());
            for operation in [Operation::AllReduce, Operation::ReduceScatter, Operation::AllGather]
            {
                for size in (10..34).map(|power| Bytes::new(1 << power)) {
                    let method = Method::Nccl(Box::new(machine.clone()));
                    let plan = method.plan(operation, layout, &unused, size).unwrap();
                    let chosen = plan.chosen.unwrap();
                    seen.insert(format!("{} {}", chosen.algorithm, chosen.protocol));
                    let mut times = vec![0; layout.ranks as usize];
                    ArrayReplay::new(&plan.schedule, &plan.network).run(&mut times);
                    let (took, expected) = (times[0] as f64, chosen.time.as_ps() as f64);
                    // Rounds are in whole bytes and picoseconds.
                    assert!((took / expected - 1.0).abs() < 0.002, "{chosen:?}: {took}");
                    if size.get() == 1 << 20 && nodes < 4 {
                        let starts = vec![Some(SimTime::ZERO); times.len()];
                        let events =
                            replay_events(&plan.schedule, &plan.network, &starts, Noise::NONE);
                        let times: Vec<_> = times.into_iter().map(SimTime::from_ps).collect();
                        assert_eq!(events.as_ref(), Ok(&times));
                    }
                }
            }
        }
        assert!(seen.len() >= 5, "{seen:?}");
    }
}
