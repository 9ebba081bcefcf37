//! Ranks together: threads, over queues and over TCP.

/// Tests of any transport, over each.
macro_rules! over_each_transport {
    ($($test:ident),* $(,)?) => {
        mod over_threads {
            $(#[test] fn $test() { super::$test(super::ThreadTransport::world); })*
        }
        mod over_tcp {
            $(#[test] fn $test() { super::$test(super::tcp::tests::world); })*
        }
    };
}

mod failures;
mod messages;
mod sums;

use std::time::Duration;

use foretrain_sim::collective::{Algorithm, Between, Inside};
use foretrain_sim::units::Bytes;

use super::*;

/// Long enough that only a fault passes it.
const PATIENCE: Duration = Duration::from_secs(60);

fn settings(all_reduce: AllReduce, timeout: Duration) -> CommunicatorSettings {
    CommunicatorSettings { all_reduce, timeout }
}

/// Makes the transports of so many ranks, in order.
type MakeWorld<T> = fn(u32) -> Vec<T>;

/// What each rank returns, in order.
fn on_ranks<T: Transport, R: Send>(
    transports: Vec<T>,
    settings: CommunicatorSettings,
    rank: impl Fn(HostCommunicator<T>) -> R + Sync,
) -> Vec<std::thread::Result<R>> {
    let rank = &rank;
    std::thread::scope(|scope| {
        let threads: Vec<_> = transports
            .into_iter()
            .map(|transport| HostCommunicator::new(transport, settings).unwrap())
            .map(|communicator| scope.spawn(move || rank(communicator)))
            .collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    })
}

fn hierarchical(group: u32, inside: Inside, between: Between) -> AllReduce {
    AllReduce::Simulated(Algorithm::Hierarchical { group, inside, between })
}

/// All that so many ranks can do.
fn all_reduces(world: u32) -> Vec<AllReduce> {
    let ring = Algorithm::Ring;
    let mut all = [ring, Algorithm::HalvingDoubling].map(AllReduce::Simulated).to_vec();
    all.push(AllReduce::Direct);
    for group in (1..=world).filter(|group| world.is_multiple_of(*group)) {
        for inside in [Inside::Ring, Inside::Tree, Inside::Direct] {
            for between in [Between::Ring, Between::HalvingDoubling] {
                all.push(hierarchical(group, inside, between));
            }
        }
        all.push(AllReduce::Simulated(Algorithm::hybrid(group, Bytes::new(64))));
    }
    all
}
