//! Ranks that die, hang, or do something else.

use std::time::Instant;

use super::*;

/// Ranks that are there must answer within this time, on a busy machine too.
const TIMEOUT: Duration = Duration::from_millis(400);

over_each_transport!(
    all_others_name_a_rank_that_panics_at_once,
    all_others_name_a_rank_that_sleeps_beyond_the_timeout,
    several_ranks_can_be_missing,
    ranks_that_do_something_else_are_told_apart,
    different_algorithms_are_told_apart,
    ranks_that_wait_for_each_other_say_where_they_are,
);

/// What every other rank reports when `culprit` does not do its part in step 1.
fn reports<T: Transport>(
    transports: Vec<T>,
    (all_reduce, timeout): (AllReduce, Duration),
    culprit: u32,
    part: impl Fn(HostCommunicator<T>) + Sync,
) -> Vec<(u32, CommunicatorError, Duration)> {
    let ranks = on_ranks(transports, settings(all_reduce, timeout), |mut communicator| {
        let rank = communicator.rank();
        let mut values = vec![rank as f32; 100];
        communicator.all_reduce("all-reduce in step 0", values[..].as_mut().into()).unwrap();
        if rank == culprit {
            part(communicator);
            return None;
        }
        let start = Instant::now();
        let name = "all-reduce of bucket 3 in step 1";
        let error = communicator.all_reduce(name, values[..].as_mut().into()).unwrap_err();
        let took = start.elapsed();
        let again = communicator.barrier("barrier at the end").unwrap_err();
        assert_eq!(again, error, "a failed communicator stays failed");
        Some((rank, error, took))
    });
    ranks.into_iter().flat_map(|rank| rank.ok().flatten()).collect()
}

/// Ways that involve everybody in different orders.
fn some_ways() -> [AllReduce; 4] {
    let hierarchical = |inside| hierarchical(2, inside, Between::HalvingDoubling);
    [
        AllReduce::default(),
        AllReduce::Direct,
        hierarchical(Inside::Ring),
        hierarchical(Inside::Tree),
    ]
}

fn all_others_name_a_rank_that_panics_at_once<T: Transport>(world: MakeWorld<T>) {
    for all_reduce in some_ways() {
        for culprit in 0..4 {
            let panic: fn(_) = |_| panic!("this rank dies, as the test wants it");
            let reports = reports(world(4), (all_reduce, PATIENCE), culprit, panic);
            assert_eq!(reports.len(), 3);
            for (rank, error, took) in reports {
                assert_eq!(error.missing(), [culprit], "rank {rank}: {error}");
                assert!(took < Duration::from_secs(5), "rank {rank} took {took:?}");
                let message = error.to_string();
                let expected =
                    format!("all-reduce of bucket 3 in step 1: rank {culprit} has ended (noticed");
                assert!(message.starts_with(&expected), "rank {rank}: {message}");
            }
        }
    }
}

fn all_others_name_a_rank_that_sleeps_beyond_the_timeout<T: Transport>(world: MakeWorld<T>) {
    for all_reduce in [AllReduce::default(), hierarchical(2, Inside::Tree, Between::Ring)] {
        // Longer than the others take to give up, so that it answers none of them.
        let sleep = |_| std::thread::sleep(4 * TIMEOUT);
        let reports = reports(world(4), (all_reduce, TIMEOUT), 2, sleep);
        assert_eq!(reports.len(), 3);
        for (rank, error, took) in reports {
            assert_eq!(error.missing(), [2], "rank {rank}: {error}");
            assert!(took < TIMEOUT + NOTICE_TIME_MAX, "rank {rank} took {took:?}");
            let message = error.to_string();
            let expected =
                "all-reduce of bucket 3 in step 1: no sign of rank 2 within 0.4 s (noticed";
            assert!(message.starts_with(expected), "rank {rank}: {message}");
        }
    }
}

fn several_ranks_can_be_missing<T: Transport>(world: MakeWorld<T>) {
    let ranks = on_ranks(world(5), settings(AllReduce::default(), TIMEOUT), |mut communicator| {
        if [1, 3].contains(&communicator.rank()) {
            std::thread::sleep(4 * TIMEOUT);
            return vec![1, 3];
        }
        communicator.barrier("barrier").unwrap_err().missing().to_vec()
    });
    for missing in ranks {
        assert_eq!(missing.unwrap(), [1, 3]);
    }
}

/// What each rank reports, if rank 1 does `other` while all others do `this`.
fn disagreement<T: Transport>(
    transports: Vec<T>,
    this: impl Fn(&mut dyn Communicator) -> Result<(), CommunicatorError> + Sync,
    other: impl Fn(&mut dyn Communicator) -> Result<(), CommunicatorError> + Sync,
) -> Vec<String> {
    let ranks =
        on_ranks(transports, settings(AllReduce::default(), PATIENCE), |mut communicator| {
            let result = if communicator.rank() == 1 {
                other(&mut communicator)
            } else {
                this(&mut communicator)
            };
            result.unwrap_err().to_string()
        });
    ranks.into_iter().map(std::thread::Result::unwrap).collect()
}

fn bucket(
    name: &str,
    count: usize,
) -> impl Fn(&mut dyn Communicator) -> Result<(), CommunicatorError> {
    move |communicator| communicator.all_reduce(name, vec![0.0_f32; count][..].as_mut().into())
}

fn ranks_that_do_something_else_are_told_apart<T: Transport>(world: MakeWorld<T>) {
    let half = |communicator: &mut dyn Communicator| {
        communicator.all_reduce("bucket 0", vec![half::f16::ONE; 12][..].as_mut().into())
    };
    let barrier = |communicator: &mut dyn Communicator| communicator.barrier("bucket 0");
    let ours = "its collective 1, all-reduce of 24 bytes of f32";
    for (reports, theirs) in [
        (
            disagreement(world(3), bucket("bucket 0", 6), bucket("bucket 1", 6)),
            "its collective 1, all-reduce of 24 bytes of f32 of another name or by another algorithm",
        ),
        (
            disagreement(world(3), bucket("bucket 0", 6), bucket("bucket 0", 7)),
            "its collective 1, all-reduce of 28 bytes of f32",
        ),
        (
            disagreement(world(3), bucket("bucket 0", 6), half),
            "its collective 1, all-reduce of 24 bytes of f16",
        ),
        (disagreement(world(3), bucket("bucket 0", 6), barrier), "its collective 1, barrier"),
    ] {
        // Whoever saw it first says what it saw; the others repeat that.
        assert!(reports.iter().any(|report| report.contains(theirs)), "{reports:?}");
        assert!(reports.iter().all(|report| report.contains(ours)), "{reports:?}");
        assert!(reports.iter().all(|report| report.starts_with("bucket ")), "{reports:?}");
    }
}

fn different_algorithms_are_told_apart<T: Transport>(world: MakeWorld<T>) {
    let errors: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = world(4)
            .into_iter()
            .map(|transport| {
                scope.spawn(move || {
                    let all_reduce = match transport.rank() {
                        3 => AllReduce::Direct,
                        _ => AllReduce::default(),
                    };
                    let settings = settings(all_reduce, TIMEOUT);
                    let mut communicator = HostCommunicator::new(transport, settings).unwrap();
                    bucket("bucket 0", 8)(&mut communicator).unwrap_err().to_string()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(errors.iter().all(|error| error.contains("by another algorithm")), "{errors:?}");
}

fn ranks_that_wait_for_each_other_say_where_they_are<T: Transport>(world: MakeWorld<T>) {
    // Rank 0 only sends in a broadcast and goes on to a barrier; rank 1 waits for a second
    // broadcast.
    let ranks = on_ranks(world(2), settings(AllReduce::default(), TIMEOUT), |mut communicator| {
        let mut weights = [0.0_f32];
        communicator.broadcast("first", weights[..].as_mut().into()).unwrap();
        if communicator.rank() == 0 {
            communicator.barrier("barrier").unwrap_err().to_string()
        } else {
            communicator.broadcast("second", weights[..].as_mut().into()).unwrap_err().to_string()
        }
    });
    let reports: Vec<String> = ranks.into_iter().map(std::thread::Result::unwrap).collect();
    let seen = "rank 0 is in its collective 2, barrier, this rank 1 in its collective 2, broadcast";
    assert!(reports.iter().all(|report| report.contains(seen)), "{reports:?}");
}

#[test]
fn bad_settings_are_refused() {
    let refuse = |all_reduce, timeout| {
        let transport = ThreadTransport::world(4).remove(0);
        HostCommunicator::new(transport, settings(all_reduce, timeout)).unwrap_err().to_string()
    };
    let timeout = refuse(AllReduce::default(), Duration::ZERO);
    assert_eq!(timeout, "`timeout_s` is 0: it must be finite and above 0");
    let tree = refuse(AllReduce::Simulated(Algorithm::Tree), TIMEOUT);
    assert!(tree.starts_with("tree can be simulated but not run on the CPU"), "{tree}");
}
