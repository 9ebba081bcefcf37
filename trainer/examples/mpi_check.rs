//! Holds ranks that communicate by MPI to those that are threads.
//!
//! ```text
//! mpirun -n 4 mpi_check sums     every all-reduce by MPI and by threads: the same bits?
//! mpirun -n 4 mpi_check hang     rank 2 stops taking part: do the others name it in time?
//! mpirun -n 4 --enable-recovery mpi_check die      rank 2 aborts: the same
//! ```
//!
//! `sums` ends with code 0. In the others ranks print what they saw, beginning with `as expected`
//! or with `WRONG`, and are then ended by `MPI_Abort`. `die` needs a launcher that does not itself
//! end all processes with the first.

#![expect(clippy::print_stdout, reason = "an example says what it sees")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use foretrain_sim::collective::{Algorithm, Between, Inside};
use foretrain_sim::random::Streams;
use foretrain_sim::units::Bytes;
use foretrain_trainer::communicator::mpi::{MpiTransport, MpiWorld};
use foretrain_trainer::communicator::{
    AllReduce, Buffer, Communicator, CommunicatorError, CommunicatorSettings, HostCommunicator,
    NOTICE_TIME_MAX, ThreadTransport,
};
use half::{bf16, f16};
use rand::Rng;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Elements: none, fewer than ranks, odd, longer than a strip, longer than an eager message of MPI.
const COUNTS: [usize; 7] = [0, 1, 3, 24, 1000, 4097, 300_001];

/// The number of parts that long messages are sent in is what this makes of them.
const PART_BYTES: usize = 100_000;

/// Long enough for processes that compare what threads give meanwhile.
const PATIENCE: Duration = Duration::from_secs(120);

/// In the failures' modes.
const TIMEOUT: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let mode = std::env::args().nth(1).unwrap_or_default();
    let outcome = MpiWorld::initialize().map_err(Error::from).and_then(|(world, transport)| {
        // As in training: a thread of its own communicates.
        let check = std::thread::spawn(move || match mode.as_str() {
            "sums" => sums(transport.with_part_bytes_max(PART_BYTES)),
            "hang" => missing(transport, || std::thread::sleep(Duration::from_secs(60))),
            "die" => missing(transport, || std::process::abort()),
            _ => Err("usage: mpi_check sums|hang|die".into()),
        });
        let outcome = check.join().map_err(|_| Error::from("a panic"))?;
        if let Err(error) = &outcome {
            println!("WRONG: {error}");
        }
        drop(world);
        outcome
    });
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All ways that so many ranks know.
fn all_reduces(world: u32) -> Vec<AllReduce> {
    let mut all = vec![AllReduce::Direct];
    all.extend([Algorithm::Ring, Algorithm::HalvingDoubling].map(AllReduce::Simulated));
    for group in (2..=world).filter(|group| world.is_multiple_of(*group)) {
        for inside in [Inside::Ring, Inside::Tree, Inside::Direct] {
            for between in [Between::Ring, Between::HalvingDoubling] {
                let algorithm = Algorithm::Hierarchical { group, inside, between };
                all.push(AllReduce::Simulated(algorithm));
            }
        }
        all.push(AllReduce::Simulated(Algorithm::hybrid(group, Bytes::new(1000))));
    }
    all
}

/// The bits that this rank ends with: of every type and size, after the other.
fn bits(communicator: &mut dyn Communicator) -> Result<Vec<u64>, CommunicatorError> {
    let mut bits = Vec::new();
    for count in COUNTS {
        let entity = format!("rank {}", communicator.rank());
        let mut stream = Streams::new(7).stream(&entity, "gradient");
        // Of both signs, and of sizes from 2^-8 to 2^8.
        let mut number = || {
            let bits = stream.next_u64();
            let fraction = (bits >> 11) as f64 * 2.0_f64.powi(-53) - 0.5;
            fraction * 2.0_f64.powi((bits % 17) as i32 - 8)
        };
        let doubles: Vec<f64> = (0..count).map(|_| number()).collect();
        macro_rules! reduce {
            ($convert:expr) => {{
                let mut values: Vec<_> = doubles.iter().copied().map($convert).collect();
                let name = format!("all-reduce of {count}");
                communicator.all_reduce(&name, Buffer::from(&mut values[..]))?;
                bits.extend(values.iter().map(|value| u64::from(value.to_bits())));
            }};
        }
        reduce!(f16::from_f64);
        reduce!(bf16::from_f64);
        reduce!(|value| value as f32);
        reduce!(|value: f64| value);
    }
    Ok(bits)
}

/// By MPI and by threads.
fn sums(transport: MpiTransport) -> Result<(), Error> {
    let settings = CommunicatorSettings { timeout: PATIENCE, ..CommunicatorSettings::default() };
    let mut communicator = HostCommunicator::new(transport, settings)?;
    let (rank, world) = (communicator.rank(), communicator.world());
    for all_reduce in all_reduces(world) {
        communicator.set_all_reduce(all_reduce)?;
        let by_mpi = bits(&mut communicator)?;
        let settings = CommunicatorSettings { all_reduce, ..settings };
        let by_threads = std::thread::scope(|scope| {
            let threads: Vec<_> = ThreadTransport::world(world)
                .into_iter()
                .map(|transport| {
                    scope.spawn(move || {
                        let mut communicator = HostCommunicator::new(transport, settings)?;
                        bits(&mut communicator).map_err(Error::from)
                    })
                })
                .collect();
            let bits = threads.into_iter().map(|thread| thread.join().map_err(|_| "a panic")?);
            bits.collect::<Result<Vec<_>, Error>>()
        })?;
        if by_threads.iter().any(|bits| *bits != by_mpi) {
            return Err(format!("rank {rank}: MPI and threads differ by {all_reduce:?}").into());
        }
        if rank == 0 {
            println!("{} numbers the same: {all_reduce:?}", by_mpi.len());
        }
    }
    let mut weights = [f64::from(rank); 5];
    communicator.broadcast("broadcast", Buffer::from(&mut weights[..]))?;
    let ranks = communicator.all_gather("all-gather", &[rank as u8])?;
    if weights != [0.0; 5] || ranks != (0..world).map(|rank| vec![rank as u8]).collect::<Vec<_>>() {
        return Err(format!("rank {rank}: {weights:?}, {ranks:?}").into());
    }
    Ok(())
}

/// Rank 2 stops after a while.
fn missing(transport: MpiTransport, stop: impl Fn()) -> Result<(), Error> {
    let settings = CommunicatorSettings { timeout: TIMEOUT, ..CommunicatorSettings::default() };
    let mut communicator = HostCommunicator::new(transport, settings)?;
    let mut values = vec![1.0_f32; 1_000_000];
    let rank = communicator.rank();
    for step in 0.. {
        if rank == 2 && step == 5 {
            stop();
            return Ok(());
        }
        let start = Instant::now();
        let name = format!("all-reduce of bucket 0 in step {step}");
        let values = Buffer::from(&mut values[..]);
        if let Err(error) = communicator.all_reduce(&name, values) {
            let took = start.elapsed();
            let expected = error.missing() == [2] && step == 5 && took < TIMEOUT + NOTICE_TIME_MAX;
            let verdict = if expected { "as expected" } else { "WRONG" };
            println!("{verdict}: rank {rank} after {:.1} s: {error}", took.as_secs_f64());
            return Ok(());
        }
    }
    Ok(())
}
