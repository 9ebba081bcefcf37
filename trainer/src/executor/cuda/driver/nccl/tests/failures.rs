//! Ranks that are missing, and an NCCL that fails.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::super::super::super::device::DeviceError;
use super::super::fake::{REMOTE_ERROR, SYSTEM_ERROR};
use super::*;

#[test]
fn a_rank_that_never_joins_is_noticed_and_named() {
    let logs = with_ranks(3, normal, |rank, mut own| {
        if rank == 2 {
            // It takes part in the exchange of the identifier and ends.
            let name = format!("joining NCCL 2.28.9 for {:?}", AllReduce::default());
            own.host.all_gather(&name, &[]).unwrap();
            return own.behaviour.log();
        }
        let error = own.join(AllReduce::default(), SHORT).unwrap_err();
        let sentence = error.to_string();
        let start = format!("joining NCCL: rank {rank} waited 1 s for ncclCommInitRankConfig: ");
        assert!(sentence.starts_with(&start), "{sentence}");
        let error = who_is_missing(&mut own.host, error);
        assert_eq!(error.missing(), [2], "{error}");
        own.behaviour.log()
    });
    assert_eq!(logs[0], ["init 0 of 3", "abort"]);
    assert_eq!(logs[1], ["init 1 of 3", "abort"]);
    assert!(logs[2].is_empty());
}

#[test]
fn a_rank_that_never_sums_is_noticed_and_named() {
    for all_reduce in [AllReduce::default(), AllReduce::Simulated(Algorithm::hierarchical(2))] {
        with_ranks(4, normal, |rank, mut own| {
            let mut nccl = own.join(all_reduce, SHORT).unwrap();
            let mut values = [1.0; 4];
            own.sum(&mut nccl, &mut values).unwrap();
            if rank == 3 {
                return;
            }
            let error = own.sum(&mut nccl, &mut values).unwrap_err();
            let sentence = error.to_string();
            let start = format!("sum: rank {rank} waited 1 s for the work on the GPU to end: ");
            assert!(sentence.starts_with(&start), "{sentence}");
            // Once failed it stays so, and calls nothing more.
            let calls = own.behaviour.log();
            assert_eq!(own.sum(&mut nccl, &mut values), Err(error.clone()));
            assert_eq!(nccl.wait("later", || Ok(true)), Err(error.clone()));
            assert_eq!(nccl.failure(), Some(&error));
            drop(nccl);
            assert_eq!(own.behaviour.log(), calls);
            let comms = calls.iter().filter(|call| *call == "abort").count();
            let expected = match all_reduce {
                AllReduce::Simulated(Algorithm::Hierarchical { .. }) if rank % 2 == 0 => 3,
                AllReduce::Simulated(Algorithm::Hierarchical { .. }) => 2,
                _ => 1,
            };
            assert_eq!(comms, expected, "{calls:?}");
            assert!(!calls.iter().any(|call| call == "destroy" || call == "abort alone"));
            let error = who_is_missing(&mut own.host, error);
            assert_eq!(error.missing(), [3], "{error}");
            assert_eq!(error.collective(), Some("sum"));
        });
    }
}

#[test]
fn an_error_of_nccl_is_noticed_long_before_the_time_limit() {
    let hangs = |rank| Behaviour { hangs_after: (rank == 1).then_some(1), ..Behaviour::default() };
    let start = Instant::now();
    with_ranks(2, hangs, |rank, mut own| {
        // The other rank has only the time limit to notice it by.
        let timeout = if rank == 1 { PATIENT } else { SHORT };
        let mut nccl = own.join(AllReduce::default(), timeout).unwrap();
        let mut values = [1.0; 4];
        own.sum(&mut nccl, &mut values).unwrap();
        let at = address(&mut values);
        nccl.all_reduce("sum", at, 4, NumberFormat::F32, &*own.stream).unwrap();
        let has_ended = || {
            if rank == 1 {
                // Not before it is waited for.
                own.behaviour.broken.store(REMOTE_ERROR, Ordering::Relaxed);
            }
            Ok(own.stream.has_ended())
        };
        let error = nccl.wait("sum", has_ended).unwrap_err();
        if rank == 1 {
            assert_eq!(
                error.to_string(),
                "sum: NCCL failed on rank 1 while the GPU worked: remote process exited (6): \
                 NET/Socket : it is closed; set NCCL_DEBUG=INFO to see what NCCL does"
            );
        }
        let error = who_is_missing(&mut own.host, error);
        assert_eq!(error.missing(), [0; 0]);
        let sentence = error.to_string();
        assert!(sentence.ends_with("(all 2 ranks answer: NCCL itself failed)"), "{sentence}");
    });
    assert!(start.elapsed() < PATIENT / 2);
}

#[test]
fn ranks_in_different_collectives_are_told_apart_by_the_roll_call() {
    with_ranks(2, normal, |rank, mut own| {
        let mut nccl = own.join(AllReduce::default(), SHORT).unwrap();
        let mut values = [1.0; 4];
        let (name, count) = [("bucket 0", 4), ("bucket 1", 2)][rank as usize];
        let at = address(&mut values);
        nccl.all_reduce(name, at, count, NumberFormat::F32, &*own.stream).unwrap();
        let error = nccl.wait(name, || Ok(own.stream.has_ended())).unwrap_err();
        let sentence = who_is_missing(&mut own.host, error).to_string();
        let end = "(all 2 ranks answer: rank 0 failed in bucket 0, rank 1 failed in bucket 1; all \
                   ranks must run the same collectives in the same order)";
        assert!(sentence.ends_with(end), "{sentence}");
    });
}

#[test]
fn each_call_that_fails_is_named_with_what_nccl_says() {
    let hierarchical = AllReduce::Simulated(Algorithm::hierarchical(2));
    for (function, call) in [
        ("init", "ncclCommInitRankConfig"),
        ("split", "ncclCommSplit"),
        ("reduce", "ncclReduce"),
        ("all-reduce", "ncclAllReduce"),
        ("broadcast", "ncclBroadcast"),
    ] {
        let refuses =
            |_| Behaviour { refuses: Some((function, SYSTEM_ERROR)), ..Behaviour::default() };
        let outcomes = with_ranks(4, refuses, |rank, mut own| {
            let joined = own.join(hierarchical, SHORT);
            let outcome = joined.and_then(|mut nccl| {
                // In `broadcast` the ranks of a group come to one after the other has failed.
                let outcome = own.sum(&mut nccl, &mut [1.0; 4]);
                assert_eq!(nccl.failure().cloned(), outcome.clone().err());
                outcome
            });
            (rank, outcome.map_err(|error| error.to_string()))
        });
        for (rank, outcome) in outcomes {
            if function == "all-reduce" && rank % 2 == 1 {
                // Its master failed, for which it waits.
                assert!(outcome.unwrap_err().contains("waited 1 s"));
                continue;
            }
            let collective = if call.contains("Comm") { "joining NCCL" } else { "sum" };
            let status = if function == "init" {
                "invalid argument (4)"
            } else {
                "unhandled system error (2)"
            };
            let expected = format!(
                "{collective}: {call} of rank {rank} failed: {status}: NET/Socket : it is closed; set \
                 NCCL_DEBUG=INFO to see what NCCL does"
            );
            assert_eq!(outcome, Err(expected));
        }
    }
}

#[test]
fn calls_that_are_never_done_end_at_the_time_limit() {
    let hierarchical = AllReduce::Simulated(Algorithm::hierarchical(2));
    for (function, call) in [
        ("init", "ncclCommInitRankConfig"),
        ("split", "ncclCommSplit"),
        ("reduce", "ncclReduce"),
        ("broadcast", "ncclBroadcast"),
    ] {
        let hangs = |_| Behaviour { never_done: Some(function), ..Behaviour::default() };
        with_ranks(4, hangs, |rank, mut own| {
            let joined = own.join(hierarchical, SHORT);
            let outcome = joined.and_then(|mut nccl| own.sum(&mut nccl, &mut [1.0; 4]));
            let sentence = outcome.unwrap_err().to_string();
            let middle = format!(": rank {rank} waited 1 s for {call}: ");
            assert!(sentence.contains(&middle), "{sentence}");
            assert!(own.behaviour.log().contains(&"abort".to_owned()));
        });
    }
}

#[test]
fn without_an_identifier_all_ranks_fail_at_once() {
    let refuses = |_| Behaviour { refuses: Some(("id", SYSTEM_ERROR)), ..Behaviour::default() };
    let sentences = with_ranks(2, refuses, |_, mut own| {
        own.join(AllReduce::default(), PATIENT).unwrap_err().to_string()
    });
    assert!(
        sentences[0]
            .starts_with("joining NCCL: ncclGetUniqueId of rank 0 failed: unhandled system"),
        "{}",
        sentences[0]
    );
    assert_eq!(
        sentences[1],
        "joining NCCL: rank 0 sent 0 bytes, expected 128: see what it printed"
    );
}

#[test]
fn ranks_with_different_algorithms_do_not_join() {
    with_ranks(2, normal, |rank, mut own| {
        let all_reduce = [AllReduce::default(), AllReduce::Direct][rank as usize];
        let error = own.join(all_reduce, PATIENT).unwrap_err();
        assert!(matches!(error, NcclError::Host(_)), "{error}");
        assert_eq!(who_is_missing(&mut own.host, error.clone()), error);
        assert!(own.behaviour.log().is_empty());
    });
}

#[test]
fn a_gpu_that_fails_is_told_and_its_work_aborted() {
    with_ranks(2, normal, |rank, mut own| {
        let mut nccl = own.join(AllReduce::default(), SHORT).unwrap();
        let fault = || DeviceError::Call { call: "cuEventQuery".into(), problem: "fault".into() };
        let error = nccl.wait("step 3", || Err(fault())).unwrap_err();
        let expected = format!("step 3: the GPU of rank {rank} failed: cuEventQuery failed: fault");
        assert_eq!(error.to_string(), expected);
        assert_eq!(own.behaviour.log().last().unwrap(), "abort");
    });
}

#[test]
fn an_abort_that_hangs_holds_nobody_up() {
    let hangs = |_| Behaviour { abort_hangs: true.into(), ..Behaviour::default() };
    with_ranks(2, hangs, |rank, mut own| {
        let mut nccl = own.join(AllReduce::default(), SHORT).unwrap();
        if rank == 1 {
            return;
        }
        let start = Instant::now();
        own.sum(&mut nccl, &mut [1.0]).unwrap_err();
        drop(nccl);
        let waited = start.elapsed();
        assert!(waited < PATIENT / 4, "{waited:?}");
        assert!(!own.behaviour.log().contains(&"abort".to_owned()));
        // What hung goes on in its thread, so that the stream can end.
        own.behaviour.abort_hangs.store(false, Ordering::Relaxed);
    });
}

#[test]
fn a_communicator_that_is_dropped_over_unfinished_work_is_aborted() {
    let hangs = |_| Behaviour { never_done: Some("finalize"), ..Behaviour::default() };
    with_ranks(2, hangs, |_, mut own| {
        let nccl = own.join(AllReduce::default(), SHORT).unwrap();
        drop(nccl);
        let log = own.behaviour.log();
        assert_eq!(log[1..], ["finalize", "abort"]);
    });
}
