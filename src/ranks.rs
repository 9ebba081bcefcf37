//! How the ranks of a command find each other.

use foretrain_trainer::communicator::tcp::{Meeting, TcpTransport};
use foretrain_trainer::config::Config;
use foretrain_trainer::launch::{self, Launch, LaunchFlags};

use crate::cli::LaunchArguments;
use crate::failure::Failure;

/// Which rank this process is.
pub(crate) fn find(arguments: &LaunchArguments) -> Result<Launch, Failure> {
    let LaunchArguments { rank, world, local_rank, .. } = *arguments;
    let flags = LaunchFlags { rank, world, local_rank, master: arguments.master.clone() };
    Launch::find(flags, |name| std::env::var(name).ok())
        .map_err(|error| Failure::Usage(error.to_string()))
}

/// Refuses several processes where all ranks are threads of one.
pub(crate) fn only_one(launch: &Launch) -> Result<(), Failure> {
    if launch.world > 1 {
        return Err(Failure::Usage(format!(
            "this is {launch}, but with communication.transport = \"threads\" all ranks are in \
             one process: set it to \"tcp\", or start one process and set training.ranks"
        )));
    }
    Ok(())
}

/// Meets the other ranks over TCP.
pub(crate) fn meet(config: &Config, launch: &Launch) -> Result<TcpTransport, Failure> {
    let Launch { rank, world, .. } = *launch;
    if world == 1 {
        return Err(Failure::Usage(format!(
            "this is {launch}, but communication.transport = \"tcp\" is for several processes: start \
             them by torchrun, srun or mpirun, or each with --rank, --world and --master, or set it \
             to \"threads\""
        )));
    }
    let Some(master) = launch.master.clone() else {
        return Err(Failure::Usage(format!(
            "this is {launch}, and nobody says where its ranks meet: give --master HOST:PORT, or set \
             MASTER_ADDR and MASTER_PORT, to the host of rank 0 and a free port there"
        )));
    };
    let job = format!("{} {}", launch.job.as_deref().unwrap_or_default(), config.name);
    let meeting = Meeting { rank, world, master, job, timeout: config.communication.timeout() };
    TcpTransport::connect(&meeting).map_err(|error| Failure::Runtime(error.to_string()))
}

#[cfg(not(feature = "mpi"))]
/// That this build has no MPI.
pub(crate) fn no_mpi(place: &str) -> Failure {
    Failure::Usage(format!(
        "{place}: `communication.transport`: this build has no MPI: build with `--features mpi`, \
         or set it to \"tcp\" or \"threads\""
    ))
}

/// Does `work` as a rank that MPI connects: given the transport, who it is, and which of how many
/// ranks of its machine. If it fails, it ends the others too.
#[cfg(feature = "mpi")]
pub(crate) fn over_mpi<R>(
    launch: &Launch,
    work: impl FnOnce(
        foretrain_trainer::communicator::mpi::MpiTransport,
        &str,
        (u32, u32),
    ) -> Result<R, Failure>,
) -> Result<(u32, R), Failure> {
    use foretrain_trainer::communicator::Transport as _;
    use foretrain_trainer::communicator::mpi::MpiWorld;

    let (world, transport) =
        MpiWorld::initialize().map_err(|error| Failure::Runtime(error.to_string()))?;
    let (rank, ranks) = (transport.rank(), transport.world());
    let result: Result<R, Failure> = (|| {
        if launch.world > 1 && (launch.rank, launch.world) != (rank, ranks) {
            return Err(Failure::Usage(format!(
                "this is {launch}, but MPI says rank {rank} of {ranks}: start all ranks by one mpirun"
            )));
        }
        let who = match launch.world {
            1 => format!("rank {rank} of {ranks} (from MPI)"),
            _ => launch.to_string(),
        };
        let local_ranks = local_ranks().unwrap_or(ranks);
        let local_rank = if launch.world > 1 { launch.local_rank } else { rank % local_ranks };
        work(transport, &who, (local_rank, local_ranks))
    })();
    match result {
        Ok(outcome) => {
            drop(world);
            Ok((rank, outcome))
        }
        Err(failure) => {
            failure.report();
            // Ends the others too, which may not know.
            world.abort(i32::from(failure.code()))
        }
    }
}

/// Ranks on this machine, if the launcher says so.
pub(crate) fn local_ranks() -> Option<u32> {
    launch::local_ranks(|name| std::env::var(name).ok())
}

/// The processor's name, and how many of its cores there are.
pub(crate) fn device() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    let model = model.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    format!("{model}, {cores} cores")
}
