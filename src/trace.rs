//! A trace for Perfetto (ui.perfetto.dev) or chrome://tracing: what some ranks did when.
//!
//! | Foretrain | trace |
//! |---|---|
//! | rank | process (`pid` = rank) |
//! | input, copy, compute, communication | thread (`tid` 1, 2, 3, 4) of its rank |
//! | forward, backward, their layers, optimizer, each bucket | complete event (`ph` = `X`) |
//! | simulated time | `ts` and `dur` in microseconds |

use std::collections::BTreeSet;

use foretrain_sim::forecast::{Engine, Header, observe};
use foretrain_sim::scenario::Case;
use foretrain_sim::step::{BucketTimes, StepTimes};
use foretrain_sim::units::SimDuration;
use serde_json::{Value, json};

use crate::failure::Failure;

const INPUT: u32 = 1;
const COPY: u32 = 2;
const COMPUTE: u32 = 3;
const COMMUNICATION: u32 = 4;
const STREAMS: [(u32, &str); 4] = [
    (INPUT, "input (decode)"),
    (COPY, "copy to device"),
    (COMPUTE, "compute"),
    (COMMUNICATION, "communication"),
];
const RANKS_DEFAULT: u32 = 8;

/// The ranks to trace, checked; the first few if none are named.
pub(crate) fn ranks(wanted: &[u32], accelerators: u32) -> Result<Vec<u32>, Failure> {
    if let Some(rank) = wanted.iter().find(|rank| **rank >= accelerators) {
        return Err(Failure::Usage(format!(
            "--trace-ranks {rank}: the traced point has ranks 0 to {}",
            accelerators - 1
        )));
    }
    if wanted.is_empty() {
        return Ok((0..accelerators.min(RANKS_DEFAULT)).collect());
    }
    let each_once: BTreeSet<u32> = wanted.iter().copied().collect();
    Ok(each_once.into_iter().collect())
}

/// The trace of the first `steps` steps of `ranks`.
pub(crate) fn trace(
    case: &Case,
    made: &Header,
    engine: Engine,
    steps: u32,
    ranks: &[u32],
) -> Result<Vec<u8>, Failure> {
    let mut events = Vec::new();
    for &rank in ranks {
        events.push(name("process_name", rank, 0, &format!("rank {rank}")));
        for (stream, title) in STREAMS {
            events.push(name("thread_name", rank, stream, title));
        }
    }
    observe(case, engine, steps, |step, times| {
        for &rank in ranks {
            Spans { case, times, rank, step, events: &mut events }.write();
        }
    })?;
    let trace = json!({
        "displayTimeUnit": "ms",
        "otherData": {
            "foretrain": made,
            "accelerators": case.accelerators,
            "series": case.series,
        },
        "traceEvents": events,
    });
    let text = serde_json::to_vec(&trace);
    text.map_err(|error| Failure::Runtime(format!("failed to write the trace: {error}")))
}

fn name(what: &str, rank: u32, stream: u32, title: &str) -> Value {
    json!({ "ph": "M", "name": what, "pid": rank, "tid": stream, "args": { "name": title } })
}

/// The spans of one rank in one step.
struct Spans<'a> {
    case: &'a Case,
    times: &'a StepTimes,
    rank: u32,
    step: u32,
    events: &'a mut Vec<Value>,
}

impl Spans<'_> {
    fn span(&mut self, stream: u32, name: &str, from: u64, to: u64, details: Value) {
        if to <= from {
            return;
        }
        self.events.push(json!({
            "ph": "X",
            "name": name,
            "pid": self.rank,
            "tid": stream,
            "ts": from as f64 / 1e6,
            "dur": (to - from) as f64 / 1e6,
            "args": details,
        }));
    }

    fn write(&mut self) {
        let (times, rank) = (self.times, self.rank as usize);
        let step = || json!({ "step": self.step });
        let (step, layers) = (step(), Value::Null);
        if let Some(input) = &times.input {
            let (from, to) = (input.decode_start[rank], input.decode_end[rank]);
            self.span(INPUT, "decode", from, to, step.clone());
            let (from, to) = (input.copy_start[rank], input.copy_end[rank]);
            self.span(COPY, "copy", from, to, step.clone());
        }
        let start = times.forward_start[rank];
        let (forward_end, backward_end) = (times.forward_end[rank], times.backward_end[rank]);
        let (update, end) = (times.optimizer_start[rank], times.end[rank]);
        self.span(COMPUTE, "wait for input", times.previous_end[rank], start, step.clone());
        self.span(COMPUTE, "forward", start, forward_end, step.clone());
        self.layers(start, true, &layers);
        self.span(COMPUTE, "backward", forward_end, backward_end, step.clone());
        self.layers(forward_end, false, &layers);
        self.span(COMPUTE, "wait for communication", backward_end, update, step.clone());
        self.span(COMPUTE, "optimizer", update, end, step);
        for (index, bucket) in times.buckets.iter().enumerate() {
            self.bucket(index, bucket);
        }
    }

    /// The layers inside forward or backward, stretched by the rank's jitter.
    fn layers(&mut self, start: u64, forward: bool, details: &Value) {
        let factor = self.times.factor[self.rank as usize];
        let layers = self.case.model.nodes().iter().zip(&self.case.compute.layers);
        let spans: Vec<(&str, SimDuration)> = if forward {
            layers.map(|(node, layer)| (node.name.as_str(), layer.forward)).collect()
        } else {
            layers.rev().map(|(node, layer)| (node.name.as_str(), layer.backward)).collect()
        };
        let mut done = SimDuration::ZERO;
        for (name, duration) in spans {
            let from = start + done.scaled(factor).as_ps();
            done += duration;
            let to = start + done.scaled(factor).as_ps();
            self.span(COMPUTE, name, from, to, details.clone());
        }
    }

    fn bucket(&mut self, index: usize, bucket: &BucketTimes) {
        let rank = self.rank as usize;
        let name = format!("bucket {index}: all-reduce {}", bucket.bytes);
        let details = json!({
            "step": self.step,
            "message_bytes": bucket.bytes.get(),
            "tensors": bucket.tensors,
        });
        let step = json!({ "step": self.step });
        self.span(COMMUNICATION, "pack", bucket.pack_start[rank], bucket.enter[rank], step.clone());
        self.span(COMMUNICATION, &name, bucket.enter[rank], bucket.finish[rank], details);
        self.span(COMMUNICATION, "unpack", bucket.finish[rank], bucket.end[rank], step);
    }
}
