//! `foretrain trace RECORDING...`: recorded steps for Perfetto (ui.perfetto.dev).
//!
//! Streams have the numbers of [simulated traces](crate::trace).
//!
//! | recording | trace |
//! |---|---|
//! | rank | process (`pid` = rank) |
//! | `input_wait` | complete event (`ph` = `X`) of thread 1, input |
//! | `forward`, `backward`, `optimizer` | complete events of thread 3, compute |
//! | `gradient_ready` | instant (`ph` = `i`) of thread 3 |
//! | `pack`, `all_reduce`, `unpack` | complete events of thread 4, communication |
//! | `step` | complete event of thread 5, step, with the step's `norms` |
//! | `queue` | asynchronous event (`ph` = `b`, `e`), because queued buckets overlap |
//! | nanoseconds since the start | `ts` and `dur` in microseconds |

use std::collections::BTreeMap;
use std::path::Path;

use foretrain_sim::recording::{Event, EventKind, Header, Norms, Recording, Span};
use serde_json::{Value, json};

use crate::cli::TraceArguments;
use crate::failure::Failure;
use crate::output::{self, OutputFile};

const INPUT: u32 = 1;
const COMPUTE: u32 = 3;
const COMMUNICATION: u32 = 4;
const STEP: u32 = 5;
/// The threads, from top to bottom.
const STREAMS: [(u32, &str); 4] =
    [(STEP, "step"), (INPUT, "input"), (COMPUTE, "compute"), (COMMUNICATION, "communication")];

pub(crate) fn run(arguments: &TraceArguments) -> Result<(), Failure> {
    if arguments.recordings.iter().filter(|path| *path == Path::new("-")).count() > 1 {
        return Err(Failure::Usage("- is given twice: stdin can be read once".to_owned()));
    }
    let recordings =
        arguments.recordings.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    check_one_run(arguments, &recordings)?;
    let file = arguments.output.as_deref().map(OutputFile::create).transpose()?;
    let text = trace(&recordings);
    match file {
        Some(file) => file.finish(text.as_bytes()),
        None => output::print(&text),
    }
}

fn read(path: &Path) -> Result<Recording, Failure> {
    let text = output::read_text(path)?;
    Recording::read(&text)
        .map_err(|error| Failure::Invalid(format!("{}: {error}", output::shown(path))))
}

/// Refuses ranks that did not run together, and the same rank twice.
fn check_one_run(arguments: &TraceArguments, recordings: &[Recording]) -> Result<(), Failure> {
    let files = || arguments.recordings.iter().zip(recordings);
    for (number, (path, recording)) in files().enumerate() {
        for (other_path, other) in files().take(number) {
            let (one, two) = (&recording.header, &other.header);
            let run = |header: &Header| {
                let Header { network, ranks, seed, started, .. } = header.clone();
                (network, ranks, seed, started)
            };
            let names = (output::shown(path), output::shown(other_path));
            if run(one) != run(two) {
                return Err(Failure::Invalid(format!(
                    "{} and {} are of different runs: give the ranks of one",
                    names.0, names.1
                )));
            }
            if one.rank == two.rank {
                return Err(Failure::Invalid(format!(
                    "{} and {} are both of rank {}: give each rank once",
                    names.0, names.1, one.rank
                )));
            }
        }
    }
    Ok(())
}

/// The trace, an event a line.
fn trace(recordings: &[Recording]) -> String {
    let mut events = Vec::new();
    for recording in recordings {
        let Header { rank, device, .. } = &recording.header;
        events.push(named("process_name", *rank, 0, &format!("rank {rank}, {device}")));
        for (place, (stream, title)) in STREAMS.into_iter().enumerate() {
            events.push(named("thread_name", *rank, stream, title));
            events.push(json!({
                "ph": "M", "name": "thread_sort_index", "pid": rank, "tid": stream,
                "args": { "sort_index": place },
            }));
        }
        let norms: BTreeMap<u64, Norms> = recording
            .events
            .iter()
            .filter_map(|event| match event.kind {
                EventKind::Norms(norms) => Some((event.step, norms)),
                _ => None,
            })
            .collect();
        for event in &recording.events {
            push(&mut events, &recording.header, event, norms.get(&event.step));
        }
    }
    let first = recordings.first().map(|recording| {
        let Header { foretrain, network, ranks, per_rank_batch, seed, started, .. } =
            &recording.header;
        json!({
            "foretrain": foretrain, "network": network, "ranks": ranks,
            "per_rank_batch": per_rank_batch, "seed": seed, "started": started,
        })
    });
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    format!(
        "{{\"displayTimeUnit\":\"ms\",\"otherData\":{},\"traceEvents\":[\n{}\n]}}\n",
        first.unwrap_or_default(),
        lines.join(",\n")
    )
}

fn named(what: &str, rank: u32, stream: u32, title: &str) -> Value {
    json!({ "ph": "M", "name": what, "pid": rank, "tid": stream, "args": { "name": title } })
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
}

/// A name of a table of the header; places were checked when it was read.
fn entry(table: impl Iterator<Item = String>, place: u32) -> String {
    table.into_iter().nth(place as usize).unwrap_or_default()
}

fn push(events: &mut Vec<Value>, header: &Header, event: &Event, norms: Option<&Norms>) {
    let (rank, step) = (event.rank, event.step);
    let span = |stream: u32, name: &str, Span { start_ns, end_ns }: Span, details: Value| {
        json!({
            "ph": "X", "name": name, "pid": rank, "tid": stream,
            "ts": us(start_ns), "dur": us(end_ns - start_ns), "args": details,
        })
    };
    let of_step = || json!({ "step": step });
    let instruction = |place| entry(header.instructions.iter().map(|one| one.name.clone()), place);
    let computed = |pass: &str, place: u32, when: Span| {
        let name = instruction(place);
        span(COMPUTE, &name, when, json!({ "step": step, "pass": pass }))
    };
    let sent = |what: &str, bucket: u32, when: Span| {
        let bytes = header.buckets.get(bucket as usize).map(|one| one.bytes);
        let details = json!({ "step": step, "bucket": bucket, "message_bytes": bytes });
        span(COMMUNICATION, &format!("{what} {bucket}"), when, details)
    };
    match event.kind {
        EventKind::Forward { instruction, span } => {
            events.push(computed("forward", instruction, span));
        }
        EventKind::Backward { instruction, span } => {
            events.push(computed("backward", instruction, span));
        }
        EventKind::GradientReady { tensor, at_ns } => {
            let name = format!("{} is ready", entry(header.tensors.iter().cloned(), tensor));
            events.push(json!({
                "ph": "i", "s": "t", "name": name, "pid": rank, "tid": COMPUTE, "ts": us(at_ns),
                "args": of_step(),
            }));
        }
        EventKind::Queue { bucket, span: Span { start_ns, end_ns } } => {
            for (phase, at_ns) in [("b", start_ns), ("e", end_ns)] {
                events.push(json!({
                    "ph": phase, "cat": "queue", "id": format!("{rank}.{step}.{bucket}"),
                    "name": format!("bucket {bucket} waits"), "pid": rank, "tid": COMMUNICATION,
                    "ts": us(at_ns), "args": of_step(),
                }));
            }
        }
        EventKind::Pack { bucket, span } => events.push(sent("pack", bucket, span)),
        EventKind::AllReduce { bucket, span } => events.push(sent("all-reduce", bucket, span)),
        EventKind::Unpack { bucket, span } => events.push(sent("unpack", bucket, span)),
        EventKind::Optimizer { span: when } => {
            events.push(span(COMPUTE, "optimizer", when, of_step()));
        }
        EventKind::InputWait { span: when } => {
            events.push(span(INPUT, "wait for input", when, of_step()));
        }
        EventKind::Step { span: when } => {
            let mut details = of_step();
            if let Some(norms) = norms {
                details["loss"] = json!(norms.loss);
                details["learning_rate"] = json!(norms.learning_rate);
                details["loss_scale"] = json!(norms.loss_scale);
                details["skipped"] = json!(norms.skipped);
                details["local_gradient_norm_sq"] = json!(norms.local_gradient_norm_sq);
                details["averaged_gradient_norm_sq"] = json!(norms.averaged_gradient_norm_sq);
            }
            events.push(span(STEP, &format!("step {step}"), when, details));
        }
        EventKind::Norms(_) => {}
    }
}
