//! What is wrong with a file is said, and nothing that is wrong makes the reader panic.

use proptest::prelude::*;

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

/// Reads `bytes`, and makes of it what can be made.
fn use_all(bytes: &[u8]) {
    let Ok(trace) = read(bytes) else { return };
    for step in &trace.steps {
        let sum = step.parts.named().iter().map(|part| part.1).sum::<u64>();
        assert_eq!(sum, step.duration_ns);
    }
    for unprofiled_step in [None, Some(1.0)] {
        let options = Options { unprofiled_step, ..Options::default() };
        let traces = [("mutated".to_owned(), trace.clone())];
        if let Ok(measurements) = measurements(&traces, &options) {
            let _ = crate::profile::fit(&measurements, None);
        }
    }
}

/// The numbers and words of JSON that are exchanged for each other.
fn tokens(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut tokens = Vec::new();
    let mut start = None;
    for (at, byte) in text.bytes().enumerate() {
        let inside = !matches!(byte, b',' | b':' | b'{' | b'}' | b'[' | b']' | b'\n' | b' ');
        match (inside, start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                tokens.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    tokens
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
        use_all(&bytes);
    }

    #[test]
    fn no_exchange_of_values_makes_the_reader_panic(
        swaps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..40),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let original = made_up::trace(0);
        let tokens = tokens(&original);
        let mut values: Vec<&str> = tokens.iter().map(|range| &original[range.clone()]).collect();
        for (to, from) in swaps {
            values[to.index(tokens.len())] = values[from.index(tokens.len())];
        }
        for at in removed {
            values[at.index(tokens.len())] = "0";
        }
        let mut changed = String::new();
        let mut end = 0;
        for (range, value) in tokens.iter().zip(values) {
            changed += &original[end..range.start];
            changed += value;
            end = range.end;
        }
        changed += &original[end..];
        use_all(changed.as_bytes());
    }
}
