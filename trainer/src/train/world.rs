//! All ranks of this process.

use std::time::Instant;

use super::rank::RankRun;
use super::replica::Seat;
use super::{NobodyWatches, Report, Setup, TrainError, Watch};
use crate::communicator::{
    AllReduce, Communicator, CommunicatorSettings, HostCommunicator, ThreadTransport, Transport,
};
use crate::config::{Algorithm, CommunicationConfig};

/// Where the ranks of a run are.
pub enum Place<T> {
    /// All are threads of this process.
    Threads,
    /// This process is one of them, connected to the others by a transport.
    Process {
        /// What connects it.
        transport: T,
        /// Ranks on this machine, who share its cores.
        local_ranks: u32,
        /// Which of them this is: whose GPU it takes.
        local_rank: u32,
    },
}

impl<T> std::fmt::Debug for Place<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Threads => f.write_str("Threads"),
            Self::Process { local_ranks, .. } => write!(f, "Process({local_ranks} local ranks)"),
        }
    }
}

/// Trains as the one rank of `communicator`, whose all-reduces are done as they are set there: for
/// several runs among ranks that stay connected. The rank is the `local_rank`-th of `local_ranks` on
/// its machine.
///
/// # Errors
/// Whatever made the rank fail.
pub fn run_rank(
    setup: &Setup,
    communicator: Box<dyn Communicator>,
    (local_rank, local_ranks): (u32, u32),
    watch: &mut dyn Watch,
) -> Result<Report, TrainError> {
    let seat = Seat { local_ranks, local_rank };
    RankRun::new(setup, communicator, seat, Instant::now())?.run(watch)
}

/// Trains until the end of the schedule, the target or the limit of steps.
///
/// # Errors
/// Whatever made a rank fail; if several did, the one that the others only noticed.
pub fn run<T: Transport + 'static>(
    setup: &Setup,
    place: Place<T>,
    watch: &mut dyn Watch,
) -> Result<Report, TrainError> {
    let start = Instant::now();
    match place {
        Place::Threads => threads(setup, start, watch),
        Place::Process { transport, local_ranks, local_rank } => {
            let communicator = communicator(setup, transport)?;
            let seat = Seat { local_ranks, local_rank };
            RankRun::new(setup, communicator, seat, start)?.run(watch)
        }
    }
}

fn communicator<T: Transport + 'static>(
    setup: &Setup,
    transport: T,
) -> Result<Box<dyn Communicator>, TrainError> {
    let config = &setup.config.communication;
    let settings =
        CommunicatorSettings { all_reduce: all_reduce(config), timeout: config.timeout() };
    Ok(Box::new(HostCommunicator::new(transport, settings)?))
}

/// What the configuration calls an algorithm.
#[must_use]
pub fn all_reduce(config: &CommunicationConfig) -> AllReduce {
    use foretrain_sim::collective::{Algorithm as Simulated, Between, Inside};
    let group = config.group.unwrap_or(1);
    let (inside, between) = (Inside::Direct, Between::Ring);
    match config.algorithm {
        Algorithm::Ring => AllReduce::Simulated(Simulated::Ring),
        Algorithm::Direct => AllReduce::Direct,
        Algorithm::Hierarchical => {
            AllReduce::Simulated(Simulated::Hierarchical { group, inside, between })
        }
        Algorithm::Hybrid => AllReduce::Simulated(Simulated::Hybrid {
            group,
            inside,
            between,
            ring_from: config.ring_from.unwrap_or(foretrain_sim::units::Bytes::ZERO),
        }),
    }
}

fn threads(setup: &Setup, start: Instant, watch: &mut dyn Watch) -> Result<Report, TrainError> {
    let world = setup.world;
    let mut transports = ThreadTransport::world(world).into_iter();
    let Some(first) = transports.next() else {
        return Err(TrainError::Thread("there are no ranks".to_owned()));
    };
    let results = std::thread::scope(|scope| {
        let mut others = Vec::new();
        for (rank, transport) in (1..).zip(transports) {
            let work = move || {
                let communicator = communicator(setup, transport)?;
                let seat = Seat { local_ranks: world, local_rank: rank };
                RankRun::new(setup, communicator, seat, start)?.run(&mut NobodyWatches)
            };
            let thread = std::thread::Builder::new()
                .name(format!("rank-{rank}"))
                .spawn_scoped(scope, work)
                .map_err(|error| TrainError::Thread(error.to_string()))?;
            others.push((rank, thread));
        }
        let own = communicator(setup, first)
            .and_then(|communicator| {
                let seat = Seat { local_ranks: world, local_rank: 0 };
                RankRun::new(setup, communicator, seat, start)
            })
            .and_then(|run| run.run(watch));
        let mut results = vec![own];
        for (rank, thread) in others {
            results.push(thread.join().unwrap_or(Err(TrainError::Panic { rank })));
        }
        Ok::<_, TrainError>(results)
    })?;
    let (mut reports, mut errors) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(report) => reports.push(report),
            Err(error) => errors.push(error),
        }
    }
    // The cause, if one rank knows it; else what the first noticed.
    errors.sort_by_key(TrainError::is_echo);
    match (errors.into_iter().next(), reports.into_iter().next()) {
        (Some(error), _) => Err(error),
        (None, Some(report)) => Ok(report),
        (None, None) => Err(TrainError::Thread("no rank came to an end".to_owned())),
    }
}
