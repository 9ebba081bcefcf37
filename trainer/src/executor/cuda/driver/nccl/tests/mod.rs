//! Ranks as threads, over an NCCL that sums in main memory.

mod failures;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foretrain_sim::collective::Algorithm;
use foretrain_sim::recording::NumberFormat;
use foretrain_sim::units::Bytes;
use half::{bf16, f16};

use super::super::super::arguments::Address;
use super::fake::{Behaviour, FAKE, FakeStream, behave};
use super::*;
use crate::communicator::{
    AllReduce, Communicator, CommunicatorSettings, HostCommunicator, ThreadTransport,
};

/// Long enough for threads on a busy machine.
const PATIENT: Duration = Duration::from_secs(60);
/// For what fails by time, and no less than what threads may be late.
const SHORT: Duration = Duration::from_secs(1);

/// A rank of a test.
struct Rank {
    host: HostCommunicator<ThreadTransport>,
    behaviour: Arc<Behaviour>,
    stream: Box<FakeStream>,
}

impl Rank {
    fn join(
        &mut self,
        all_reduce: AllReduce,
        timeout: Duration,
    ) -> Result<NcclCommunicator, NcclError> {
        let behaviour = Arc::clone(&self.behaviour);
        let bind: Bind = Arc::new(move || {
            behaviour.binds.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        NcclCommunicator::join(&FAKE, &mut self.host, all_reduce, timeout, bind)
    }

    /// Gives an all-reduce and waits for its end.
    fn sum(&self, nccl: &mut NcclCommunicator, values: &mut [f32]) -> Result<(), NcclError> {
        let at = address(values);
        nccl.all_reduce("sum", at, values.len(), NumberFormat::F32, &*self.stream)?;
        nccl.wait("sum", || Ok(self.stream.has_ended()))
    }
}

fn address<T>(values: &mut [T]) -> Address {
    Address(values.as_mut_ptr().expose_provenance() as u64)
}

/// Runs ranks that behave as told, and returns what each returns.
fn with_ranks<T: Send>(
    world: u32,
    behaviour: impl Fn(u32) -> Behaviour,
    run: impl Fn(u32, Rank) -> T + Sync,
) -> Vec<T> {
    let settings = CommunicatorSettings { timeout: PATIENT, ..CommunicatorSettings::default() };
    std::thread::scope(|scope| {
        let ranks = (0..).zip(ThreadTransport::world(world)).map(|(rank, transport)| {
            let (behaviour, run) = (Arc::new(behaviour(rank)), &run);
            scope.spawn(move || {
                behave(&behaviour);
                let host = HostCommunicator::new(transport, settings).unwrap();
                run(rank, Rank { host, behaviour, stream: FakeStream::new() })
            })
        });
        let ranks: Vec<_> = ranks.collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

fn normal(_: u32) -> Behaviour {
    Behaviour::default()
}

/// Flat ones, and for each group that divides the ranks hierarchical ones and hybrid ones that go one
/// way and the other at twelve bytes.
fn algorithms(world: u32) -> Vec<AllReduce> {
    let mut all = vec![AllReduce::default(), AllReduce::Direct];
    for group in (1..=world).filter(|group| world.is_multiple_of(*group)) {
        all.push(AllReduce::Simulated(Algorithm::hierarchical(group)));
        for ring_from in [12, 13] {
            all.push(AllReduce::Simulated(Algorithm::hybrid(group, Bytes::new(ring_from))));
        }
    }
    all
}

#[test]
fn every_algorithm_gives_the_sums_of_every_world() {
    for world in 1..=8 {
        for all_reduce in algorithms(world) {
            let slow = |rank| Behaviour { polls: rank % 3, ..Behaviour::default() };
            let sums = with_ranks(world, slow, |rank, mut own| {
                let mut nccl = own.join(all_reduce, PATIENT).unwrap();
                assert_eq!((nccl.rank(), nccl.world()), (rank, world));
                let mut values = [1.0, f32::from(rank as u8), f32::from(10 * rank as u8)];
                own.sum(&mut nccl, &mut values).unwrap();
                own.sum(&mut nccl, &mut values[..1]).unwrap();
                values
            });
            let ranks = world as f32;
            let line = ranks * (ranks - 1.0) / 2.0;
            let expected = vec![[ranks * ranks, line, 10.0 * line]; world as usize];
            assert_eq!(sums, expected, "{all_reduce:?} of {world}");
        }
    }
}

#[test]
fn numbers_of_all_formats_are_summed() {
    let sums = with_ranks(4, normal, |rank, mut own| {
        let hierarchical = AllReduce::Simulated(Algorithm::hierarchical(2));
        let mut nccl = own.join(hierarchical, PATIENT).unwrap();
        let number = f32::from(rank as u8) - 0.5;
        let mut half = [f16::from_f32(number); 5];
        let mut brain = [bf16::from_f32(number); 3];
        let (at_half, at_brain) = (address(&mut half), address(&mut brain));
        // Both are given before one is waited for.
        nccl.all_reduce("half", at_half, 5, NumberFormat::F16, &*own.stream).unwrap();
        nccl.all_reduce("brain", at_brain, 3, NumberFormat::Bf16, &*own.stream).unwrap();
        nccl.wait("step", || Ok(own.stream.has_ended())).unwrap();
        (half.map(f32::from), brain.map(f32::from))
    });
    assert_eq!(sums, vec![([4.0; 5], [4.0; 3]); 4]);
}

#[test]
fn each_rank_calls_what_the_algorithm_says_and_cleans_up() {
    let hybrid = AllReduce::Simulated(Algorithm::hybrid(2, Bytes::new(12)));
    let logs = with_ranks(4, normal, |_, mut own| {
        let mut nccl = own.join(hybrid, PATIENT).unwrap();
        own.sum(&mut nccl, &mut [1.0; 2]).unwrap();
        own.sum(&mut nccl, &mut [1.0; 3]).unwrap();
        assert_eq!(own.sum(&mut nccl, &mut []), Ok(()));
        drop(nccl);
        // To join, for each of two sums, and in the thread in which the communicators go.
        assert_eq!(own.behaviour.binds.load(Ordering::Relaxed), 4);
        own.behaviour.log()
    });
    for (rank, log) in logs.iter().enumerate() {
        let (team, position) = (rank / 2, rank % 2);
        let master = position == 0;
        let mut expected = vec![
            format!("init {rank} of 4"),
            format!("split {team} {position}"),
            format!("split {} {team}", if master { 0 } else { -1 }),
        ];
        expected.push("Reduce of 2 among 2".to_owned());
        expected.extend(master.then(|| "AllReduce of 2 among 2".to_owned()));
        expected.push("Broadcast of 2 among 2".to_owned());
        expected.push("AllReduce of 3 among 4".to_owned());
        let comms = if master { 3 } else { 2 };
        expected.extend(std::iter::repeat_n("finalize".to_owned(), comms));
        expected.extend(std::iter::repeat_n("destroy".to_owned(), comms));
        assert_eq!(*log, expected, "rank {rank}");
    }
}

#[test]
fn a_world_of_one_calls_nothing() {
    for all_reduce in algorithms(1) {
        let logs = with_ranks(1, normal, |_, mut own| {
            let mut nccl = own.join(all_reduce, PATIENT).unwrap();
            let mut values = [3.0, 5.0];
            own.sum(&mut nccl, &mut values).unwrap();
            assert_eq!(values, [3.0, 5.0]);
            drop(nccl);
            assert_eq!(own.behaviour.binds.load(Ordering::Relaxed), 0);
            own.behaviour.log()
        });
        assert_eq!(logs, [Vec::<String>::new()]);
    }
}

#[test]
fn work_is_given_without_waiting_for_other_ranks() {
    with_ranks(2, normal, |rank, mut own| {
        let mut nccl = own.join(AllReduce::default(), PATIENT).unwrap();
        let mut values = [1.0_f32];
        if rank == 1 {
            // Rank 0 comes here only after it has given its work.
            own.host.barrier("given").unwrap();
        }
        nccl.all_reduce("sum", address(&mut values), 1, NumberFormat::F32, &*own.stream).unwrap();
        if rank == 0 {
            assert!(!own.stream.has_ended());
            own.host.barrier("given").unwrap();
        }
        nccl.wait("sum", || Ok(own.stream.has_ended())).unwrap();
        assert_eq!(values, [2.0]);
    });
}

#[test]
fn wrong_uses_are_refused_and_leave_the_communicator_in_order() {
    with_ranks(2, normal, |rank, mut own| {
        let tree = AllReduce::Simulated(Algorithm::Tree);
        let refusal = own.join(tree, PATIENT).unwrap_err().to_string();
        assert!(refusal.starts_with("tree is not done among GPUs"), "{refusal}");
        let zero = own.join(AllReduce::default(), Duration::ZERO).unwrap_err().to_string();
        assert_eq!(zero, "`timeout_s` is 0: it must be finite and above 0");

        let mut nccl = own.join(AllReduce::default(), PATIENT).unwrap();
        let mut give = |at, elements, format| {
            let given = nccl.all_reduce("sum", Address(at), elements, format, &*own.stream);
            given.unwrap_err().to_string()
        };
        assert_eq!(
            give(0, 1, NumberFormat::F32),
            format!(
                "sum: rank {rank} gives the address 0x0 for f32 numbers: expected one on the GPU, and \
                 a multiple of 4"
            )
        );
        let odd = give(0x1001, 1, NumberFormat::Bf16);
        assert!(odd.contains("the address 0x1001 for bf16 numbers"), "{odd}");
        let many = give(0x1000, usize::MAX / 2, NumberFormat::F32);
        assert!(many.contains("expected no more than there is memory for"), "{many}");
        let far = give(u64::MAX - 7, 4, NumberFormat::F32);
        assert!(far.contains("expected no more than there is memory for"), "{far}");

        assert_eq!(nccl.failure(), None);
        let mut values = [1.0];
        own.sum(&mut nccl, &mut values).unwrap();
        assert_eq!(values, [2.0]);
    });
}
