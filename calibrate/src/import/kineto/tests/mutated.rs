//! What is wrong with a file is said, and nothing that is wrong makes the reader panic.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::Value;

use super::*;

#[test]
fn says_what_is_wrong_with_a_file() {
    let whole = text(RANK_0);
    for (bytes, expected) in [
        (&whole.as_bytes()[..whole.len() / 2], "the JSON is cut short"),
        (&RANK_0[..RANK_0.len() / 2], "the file begins as gzip does but cannot be unpacked"),
        (b"", "this is neither JSON nor gzip"),
        (b"PK\x03\x04", "this is neither JSON nor gzip"),
        (b"[{\"ph\": \"X\"}]", "this is a bare list of events"),
        (
            b"{\"traceEvents\": [],\n \"x\": nan}",
            "line 2: this is not JSON: expected ident at column 8",
        ),
        (
            b"{\"events\": []}",
            "line 1: this is not a trace of torch.profiler: missing field `traceEvents`",
        ),
        (
            b"{\"traceEvents\": []}",
            "no step is marked (`ProfilerStep#`): give torch.profiler.profile a",
        ),
        (
            br#"{"traceEvents": [{"ph": "X", "cat": "Operator", "name": "a", "ts": 1, "dur": 1}]}"#,
            "this is of PyTorch before 1.12",
        ),
        (
            br#"{"traceEvents": [{"ph": "X", "cat": "cpu_op", "name": "a", "ts": -1, "dur": 1}]}"#,
            "line 1: this is not a trace of torch.profiler: an event a begins at -1 and takes 1",
        ),
        (
            br#"{"baseTimeNanoseconds": -1, "traceEvents": []}"#,
            "`baseTimeNanoseconds`: -1, expected",
        ),
    ] {
        let message = message(bytes);
        assert!(message.starts_with(expected) || message.contains(expected), "{message}");
    }
}

#[test]
fn says_what_a_step_lacks() {
    let whole = text(RANK_0);
    for (from, to, expected) in [
        ("ProfilerStep#", "Step#", "no step is marked"),
        ("evaluate_function", "evaluate", "`ProfilerStep#6`: no backward pass"),
        ("Sequence number", "number", "`ProfilerStep#6`: no forward operation has the number"),
        ("Input Dims", "Dims", "`args`: torch::autograd::AccumulateGrad has no `Input Dims`"),
        (
            "gloo:all_reduce",
            "gloo:all",
            "`ProfilerStep#6`: the all-reduce of bucket 0 was launched",
        ),
        ("\"rank\":0", "\"rank\":2", "`distributedInfo`: rank 2 of 2, expected less,"),
    ] {
        let message = message(whole.replace(from, to).as_bytes());
        assert!(message.contains(expected), "{from}: {message}");
    }
    // Without the sizes of gradients it is the transfers that are not found.
    let accelerator = text(ACCELERATOR).replace("\"correlation\"", "\"related\"");
    let message = message(accelerator.as_bytes());
    assert!(message.contains("no transfer by gloo or kernel of NCCL"), "{message}");
}

#[test]
fn says_what_does_not_belong_together() {
    let run = |change: &dyn Fn(String) -> String| {
        let other = read(change(text(RANK_1)).as_bytes()).unwrap();
        let first = read(RANK_0).unwrap();
        let both = [("a".to_owned(), first), ("b".to_owned(), other)];
        measurements(&both, &Options::default()).map_err(|error| error.to_string())
    };
    assert!(run(&|same| same).is_ok());
    for (from, to, expected) in [
        ("\"rank\":1", "\"rank\":0", "a and b are both of rank 0"),
        ("\"world_size\":2", "\"world_size\":4", "of different runs: of 4 ranks and of 2"),
        ("\"backend\":\"gloo\"", "\"backend\":\"mpi\"", "the same kind of machine"),
        ("ProfilerStep#", "ProfilerStep#1", "no step in common"),
        ("aten::max_pool2d", "aten::avg_pool2d", "layers, gradients or buckets differ"),
        // Ten seconds later.
        (
            "1790857026000000000",
            "1790857036000000000",
            "ended on one rank before it began on another",
        ),
    ] {
        let error = run(&|trace| {
            assert!(trace.contains(from.trim_matches('"')), "{from}");
            trace.replace(from, to).replace(&from.replace(':', ": "), &to.replace(':', ": "))
        });
        let error = error.unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let error = measurements(&[], &Options::default()).unwrap_err().to_string();
    assert!(error.contains("no trace was given"), "{error}");
    let without_update = text(RANK_0).replace("Optimizer.step#", "Optimizer.");
    let traces = [("a".to_owned(), read(without_update.as_bytes()).unwrap())];
    let error = measurements(&traces, &Options::default()).unwrap_err().to_string();
    assert!(error.contains("nothing was updated"), "{error}");
}

/// Reads `bytes` and makes of it what can be made, alone and with `others`; whether it could be read.
fn use_all(bytes: &[u8], others: &[(String, Trace)]) -> bool {
    let Ok(trace) = read(bytes) else { return false };
    for step in &trace.steps {
        let sum = step.parts.named().iter().map(|part| part.1).sum::<u64>();
        assert_eq!(sum, step.duration_ns);
    }
    for unprofiled_step in [None, Some(1.0)] {
        for others in [&[], others] {
            let options = Options { unprofiled_step, ..Options::default() };
            let mut traces = vec![("mutated".to_owned(), trace.clone())];
            traces.extend_from_slice(others);
            if let Ok(measurements) = measurements(&traces, &options)
                && let Ok(profile) = crate::profile::fit(&measurements, None)
            {
                let _ = profile.check();
            }
        }
    }
    true
}

/// One change of one event: which, how, after which other, and to which value.
type Change = (prop::sample::Index, u8, prop::sample::Index, prop::sample::Index);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let index = any::<prop::sample::Index>;
    prop::collection::vec((index(), 0_u8..8, index(), index()), 0..12)
}

/// `trace` with changed events.
fn changed(trace: &str, changes: &[Change]) -> String {
    const KEYS: [&str; 6] = ["ts", "dur", "name", "tid", "cat", "args"];
    const ARGS: [&str; 6] =
        ["Sequence number", "correlation", "Input Dims", "Input type", "In msg nelems", "dtype"];
    let values: Value = serde_json::from_str(
        r#"[null, -1, 0, 1, 0.001, 1e99, 18446744073709551615, 4000000000000000, 99999999999,
            "x", [], {}, [[0]], [[-1]], [[4294967296, 4294967296, 4294967296]], [["float"]]]"#,
    )
    .unwrap();
    let values = values.as_array().unwrap();
    let mut document: Value = serde_json::from_str(trace).unwrap();
    for (at, how, other, value) in changes {
        let events = document["traceEvents"].as_array_mut().unwrap();
        let (at, other) = (at.index(events.len()), events[other.index(events.len())].clone());
        let (key, arg) = (KEYS[value.index(KEYS.len())], ARGS[value.index(ARGS.len())]);
        let value = values[value.index(values.len())].clone();
        match how {
            0 => drop(events.remove(at)),
            1 => events.push(other),
            2 | 3 => events[at][key] = other[key].clone(),
            4 => events[at]["ts"] = value,
            5 => events[at]["dur"] = value,
            _ if !events[at]["args"].is_object() => {}
            6 => events[at]["args"][arg] = other["args"][arg].clone(),
            _ => events[at]["args"][arg] = value,
        }
    }
    document.to_string()
}

#[test]
fn no_changed_event_makes_the_reader_panic() {
    let other = [("other".to_owned(), read(made_up::trace(1).as_bytes()).unwrap())];
    let originals = [(made_up::trace(0), &other[..]), (text(ACCELERATOR), &[])];
    let (mut all, mut read) = (0, 0);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for (original, others) in &originals {
        for _ in 0..300 {
            let changes = changes().new_tree(&mut runner).unwrap().current();
            all += 1;
            read += usize::from(use_all(changed(original, &changes).as_bytes(), others));
        }
    }
    // Neither all nor nothing gets through.
    assert!((all / 3..all).contains(&read), "{read} of {all}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_bytes_make_the_reader_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        end in any::<prop::sample::Index>(),
        cut in prop::bool::weighted(0.2),
    ) {
        let mut bytes = text(ACCELERATOR).into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        use_all(&bytes, &[]);
        // Packed, too.
        let mut packed = ACCELERATOR.to_vec();
        let at = end.index(packed.len());
        packed[at] ^= 1;
        use_all(&packed, &[]);
    }
}
