use proptest::prelude::*;

use super::*;

/// Made up for these tests after the form that nccl-tests print: of about 2019 through mpirun, of
/// 2.17 through srun with two tables, and its JSON.
const OLD: &str = include_str!("../../../tests/data/nccl-tests-made-up-2019.txt");
const NEW: &str = include_str!("../../../tests/data/nccl-tests-made-up-2025.txt");
const JSON: &str = include_str!("../../../tests/data/nccl-tests-made-up-2025.json");

fn message(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn reads_the_text_of_old_versions_between_other_lines() {
    let runs = read(OLD).unwrap();
    assert_eq!(runs.len(), 1);
    let run = &runs[0];
    assert_eq!((run.operation, run.operation_named), (Operation::AllReduce, true));
    assert_eq!(run.tests_version, None);
    assert_eq!(run.nccl_version.as_deref(), Some("2.4.8"));
    assert_eq!((run.ranks, run.nodes, run.ranks_per_node), (8, 1, 8));
    assert_eq!(run.devices, ["Tesla V100-SXM2-16GB"]);
    assert_eq!(run.rows.len(), 6);
    let last = Row {
        message_bytes: 134_217_728,
        element_type: ElementType { name: "float", bytes: 4 },
        reduction: Some("sum".to_owned()),
        out_of_place_time_us: Some(1858.02),
        in_place_time_us: Some(1865.52),
        // The columns `error` are no counts.
        wrong: None,
    };
    assert_eq!(run.rows[5], last);
    // Without the command line, columns and counts tell.
    let unnamed = OLD.replace("all_reduce_perf", "a.out");
    let run = &read(&unnamed).unwrap()[0];
    assert_eq!((run.operation, run.operation_named), (Operation::AllReduce, false));
}

#[test]
fn reads_all_tables_of_new_versions() {
    let runs = read(NEW).unwrap();
    let operations: Vec<Operation> = runs.iter().map(|run| run.operation).collect();
    assert_eq!(operations, [Operation::AllReduce, Operation::ReduceScatter]);
    for run in &runs {
        assert_eq!(run.tests_version.as_deref(), Some("2.17.1"));
        assert_eq!(run.nccl_version.as_deref(), Some("2.27.3"));
        assert_eq!((run.ranks, run.nodes, run.ranks_per_node), (16, 2, 8));
        assert_eq!(run.devices, ["NVIDIA A100-SXM4-80GB"]);
    }
    assert_eq!(runs[0].rows[5].out_of_place_time_us, Some(85016.3));
    assert_eq!(runs[1].rows[0].message_bytes, 1 << 20);
    assert_eq!(runs[1].rows[2].wrong, Some(0));
}

#[test]
fn reads_json() {
    let runs = read(JSON).unwrap();
    let run = &runs[0];
    assert_eq!((run.operation, run.rows.len()), (Operation::AllGather, 3));
    // Two processes of eight devices each, of which the first is listed.
    assert_eq!((run.ranks, run.nodes, run.ranks_per_node), (16, 2, 8));
    assert_eq!(run.nccl_version.as_deref(), Some("2.28.5"));
    let row = &run.rows[1];
    assert_eq!((row.element_type.bytes, row.reduction.as_deref()), (2, None));
    assert_eq!(row.out_of_place_time_us, Some(26.730_667));
    assert!(read(&JSON.replace("\"graph\":0", "\"graph\":0,\"novel\":[1,{}]")).is_ok());
    assert_eq!(
        message(&JSON.replace("\"ngpus\":8", "\"ngpus\":1")),
        "`results`: rank 8 is listed where 1 was expected: the list is not whole"
    );
    let cut = &JSON[..JSON.len() - 9];
    assert!(message(cut).starts_with("line 1: the JSON is cut short"), "{}", message(cut));
    assert_eq!(
        message(&JSON.replace("\"time\":26.730667", "\"time\":\"nan\"")),
        "`results[1].out_of_place.time`: \"nan\", expected a number of at least 0"
    );
    assert!(message(&JSON.replace("bfloat16\",\"redop", "float3\",\"redop")).contains("`float3`"));
    let problem = message(&JSON.replace("\"bus_bw\":36.775738", "\"bus_bw\":39.227454"));
    assert!(problem.starts_with("`results[1], busbw`: 39.227454 GB/s, but"), "{problem}");
}

/// 2,097,152 bytes in 51.71 us are 40.556 GB/s, times 2·15/16 76.04, times 2·7/8 70.97; and
/// 134,217,728 in 1375.09 us 97.607 GB/s, of which 170.81 are too few for 16.
#[test]
fn bandwidths_tell_of_another_number_of_ranks() {
    // Without the second node, and without rows that have too few digits to tell.
    let kept = |line: &&str| {
        let small = ["       512          ", "     32768          "];
        !line.contains("made-up-b") && !small.iter().any(|size| line.contains(size))
    };
    let fewer: Vec<&str> = NEW.lines().filter(kept).collect();
    assert_eq!(
        message(&fewer.join("\n")),
        "line 20: `busbw`: 76.05 GB/s, but 2097152 bytes in 51.71 us are 70.97 GB/s of an \
         all-reduce by 8 ranks: that is the bandwidth of about 16 ranks, so the list of ranks is \
         another run's"
    );
    let wrong = NEW.replace("97.61  183.01", "97.61  170.81");
    assert!(message(&wrong).starts_with("line 31: `busbw`: 170.81 GB/s"), "{}", message(&wrong));
}

#[test]
fn wrong_results_are_refused_unless_asked_for() {
    let wrong = NEW.replacen("1.95       0", "1.95      12", 1);
    let problem = message(&wrong);
    assert!(problem.starts_with("line 29: `#wrong`: 12 results were wrong"), "{problem}");
    let options = Options { accept_wrong: true, ..Options::default() };
    let runs = read_with(&wrong, options).unwrap();
    assert_eq!(runs[0].rows[2].wrong, Some(12));
    let old = OLD.replace("values : 0 OK", "values : 3 FAILED");
    assert!(message(&old).starts_with("line 18: 3 results were wrong"), "{}", message(&old));
    assert!(read_with(&old, options).is_ok());
    assert_eq!(read(&NEW.replace("       0  ", "     N/A  ")).unwrap()[0].rows[2].wrong, Some(0));
}

#[test]
fn what_is_not_sure_is_refused() {
    for (text, expected) in [
        (String::new(), "no table of nccl-tests"),
        ("{".to_owned(), "line 1: the JSON is cut short"),
        (NEW.replace("all_reduce_perf", "alltoall_perf"), "line 25: a table of `alltoall_perf`"),
        (NEW.replace("#wrong     time", "#wrong  cputime"), "line 25: times of the CPU"),
        (
            NEW.replace("-1    51.71", "-1host:1:1 [0] NCCL INFO Channel 00/02\n    51.71"),
            "line 30: 7 values right of the type, expected 10",
        ),
        (NEW.replace("1375.09", "13x5.09"), "line 31: `time`: `13x5.09`, expected a number"),
        (NEW.replace("Group  0 Pid  41915", "Group  1 Pid  41915"), "line 25: several groups"),
        (
            NEW.replace("made-up-b device  7", "made-up-c device  7"),
            "line 25: 8 ranks on made-up-a and 7 on made-up-b",
        ),
        (NEW.replace("Rank  7", "Rank  0"), "line 25: rank 0 is listed twice"),
        (NEW.replace("Rank  7", "Rank  x"), "line 14: a rank's line"),
        (OLD.replace("Rank", "rank"), "line 18: the table has no lines `#  Rank"),
    ] {
        let problem = message(&text);
        assert!(problem.starts_with(expected), "{problem}\n{expected}");
    }
    let until = |line: usize| NEW.lines().take(line).collect::<Vec<_>>().join("\n");
    assert!(message(&until(26)).starts_with("line 25: the table has no row"));
    assert!(message(&until(25)).starts_with("line 25: the table has no row"));
    assert!(message(&until(24)).starts_with("no table"));
    let rows: Vec<&str> = NEW.lines().filter(|line| !line.contains('#')).collect();
    assert!(message(&rows.join("\n")).starts_with("line 2: a row before any header"));
    let unlisted = OLD.replace("Rank", "rank");
    let placement = |ranks, nodes| Options {
        placement: Some(Placement { ranks, nodes }),
        ..Options::default()
    };
    let run = &read_with(&unlisted, placement(8, 2)).unwrap()[0];
    assert_eq!((run.ranks, run.nodes, run.ranks_per_node), (8, 2, 4));
    for (ranks, nodes) in [(4, 1), (8, 3), (8, 0), (0, 0), (1, 1), (u32::MAX, 1)] {
        assert!(read_with(&unlisted, placement(ranks, nodes)).is_err(), "{ranks} {nodes}");
    }
}

#[test]
fn nccl_version_numbers_are_of_two_kinds() {
    assert_eq!(text::nccl_version(2_708), "2.7.8");
    assert_eq!(text::nccl_version(21_805), "2.18.5");
}

proptest! {
    #[test]
    fn no_text_panics(text in "(# ?(size|count|type|time|Rank|nThread)|[0-9.e+ -]{0,9}|float|\n|\\PC){0,40}") {
        let _ = read(&text);
    }

    #[test]
    fn no_change_panics(
        which in 0..3_usize,
        changes in proptest::collection::vec((any::<u16>(), 0..4_usize, "[0-9a-z#:\\[\\]{}\" \n.-]{0,4}"), 1..8),
    ) {
        let mut text = [OLD, NEW, JSON][which].to_owned();
        for (at, length, new) in changes {
            let start = usize::from(at) % text.len().max(1);
            text.replace_range(start..(start + length).min(text.len()), &new);
        }
        let _ = read(&text);
        let _ = read_with(&text, Options {
            accept_wrong: true,
            placement: Some(Placement { ranks: 8, nodes: 1 }),
        });
    }
}
