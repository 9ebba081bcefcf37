//! The step as recurrences over arrays of ranks.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use super::{BucketTimes, DEVICE_BUFFERS, InputPipeline, InputTimes, StepSetup, StepTimes};
use crate::collective::{ArrayReplay, CollectiveError};
use crate::fusion::{Bucket, Fusion, cycle_buckets, next_tick};
use crate::jitter::JitterDraws;
use crate::random::Streams;
use crate::units::{Bytes, SimDuration, SimTime};

/// Runs `steps` steps, telling `observer` what happened in each.
///
/// # Errors
/// If the all-reduce cannot be scheduled over the ranks.
pub fn run_arrays(
    setup: &StepSetup<'_>,
    streams: &Streams,
    steps: u32,
    mut observer: impl FnMut(u32, &StepTimes),
) -> Result<(), CollectiveError> {
    let ranks = setup.ranks() as usize;
    let mut draws = JitterDraws::new(setup.jitter, setup.ranks(), streams);
    let mut input = setup.input.map(|pipeline| InputState::new(pipeline, ranks));
    let mut collectives = Collectives { setup, by_bytes: BTreeMap::new() };
    // Checks ranks and groups even where there is nothing to send.
    collectives.prepare(Bytes::new(1))?;
    let mut end = vec![0; ranks];
    for step in 0..steps {
        let previous_end = end;
        let input_times = input.as_mut().map(InputState::next_batch);
        let forward_start: Vec<u64> = match &input_times {
            Some(times) => max_each(&previous_end, &times.copy_end),
            None => previous_end.clone(),
        };
        let factor = draws.draw();
        let forward_end = add_scaled(&forward_start, setup.compute.forward(), &factor);
        let backward_end = add_scaled(&forward_end, setup.compute.backward(), &factor);
        if let Some(input) = &mut input {
            input.batch_used(&backward_end);
        }
        let mut times = StepTimes {
            previous_end,
            input: input_times,
            factor,
            forward_start,
            forward_end,
            backward_end,
            ..StepTimes::default()
        };
        let mut free = times.forward_start.clone();
        if setup.ranks() > 1 {
            for (bucket, ready) in released(setup, &times) {
                let bucket = collectives.reduce(&bucket, ready, &free)?;
                free.clone_from(&bucket.end);
                times.buckets.push(bucket);
            }
        }
        times.optimizer_start = max_each(&times.backward_end, &free);
        times.end = add_scaled(&times.optimizer_start, setup.compute.optimizer, &times.factor);
        observer(step, &times);
        end = times.end;
    }
    Ok(())
}

fn max_each(left: &[u64], right: &[u64]) -> Vec<u64> {
    left.iter().zip(right).map(|(left, right)| *left.max(right)).collect()
}

fn add_scaled(times: &[u64], duration: SimDuration, factors: &[f64]) -> Vec<u64> {
    times
        .iter()
        .zip(factors)
        .map(|(time, factor)| time + duration.scaled(*factor).as_ps())
        .collect()
}

/// The buckets of a step with the time from which each rank may send its part.
fn released(setup: &StepSetup<'_>, times: &StepTimes) -> Vec<(Bucket, Vec<u64>)> {
    let ready = |after: SimDuration| {
        if setup.overlap {
            add_scaled(&times.forward_end, after, &times.factor)
        } else {
            times.backward_end.clone()
        }
    };
    let Fusion::Cycle { threshold, cycle } = setup.fusion else {
        let buckets = setup.fusion.static_buckets(setup.gradients).unwrap_or_default();
        return buckets
            .into_iter()
            .map(|bucket| {
                let ready = ready(bucket.ready_after);
                (bucket, ready)
            })
            .collect();
    };
    let ticks: Vec<SimTime> = setup
        .gradients
        .iter()
        .map(|gradient| ready(gradient.ready_after).into_iter().max().unwrap_or(0))
        .map(|all_ready| next_tick(SimTime::from_ps(all_ready), cycle))
        .collect();
    let mut released = Vec::new();
    let mut start = 0;
    for same_tick in ticks.chunk_by(|left, right| left == right) {
        let range = start..start + same_tick.len();
        start = range.end;
        for bucket in cycle_buckets(setup.gradients, range, threshold) {
            released.push((bucket, vec![same_tick[0].as_ps(); setup.ranks() as usize]));
        }
    }
    released
}

/// All-reduces by size, each prepared once.
struct Collectives<'a> {
    setup: &'a StepSetup<'a>,
    by_bytes: BTreeMap<Bytes, ArrayReplay>,
}

impl Collectives<'_> {
    fn prepare(&mut self, bytes: Bytes) -> Result<&mut ArrayReplay, CollectiveError> {
        match self.by_bytes.entry(bytes) {
            std::collections::btree_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let plan = (self.setup.plan)(bytes)?;
                let replay = ArrayReplay::new(&plan.schedule, &plan.network);
                Ok(entry.insert(replay.with_folding(self.setup.folding)))
            }
        }
    }

    fn reduce(
        &mut self,
        bucket: &Bucket,
        ready: Vec<u64>,
        free: &[u64],
    ) -> Result<BucketTimes, CollectiveError> {
        let tensors = bucket.gradients.len();
        let (pack, unpack) = self.setup.pack_times(bucket.bytes, tensors);
        let replay = self.prepare(bucket.bytes)?;
        let pack_start = max_each(&ready, free);
        let enter: Vec<u64> = pack_start.iter().map(|time| time + pack.as_ps()).collect();
        let mut finish = enter.clone();
        replay.run(&mut finish);
        let end = finish.iter().map(|time| time + unpack.as_ps()).collect();
        Ok(BucketTimes { bytes: bucket.bytes, tensors, ready, pack_start, enter, finish, end })
    }
}

/// The input pipeline: with D decode and C copy time of a batch, q places in the host's queue,
///
/// ```text
/// decoded(k) = max(decoded(k−1), copied(k−q)) + D
/// copied(k)  = max(decoded(k), copied(k−1), backward end(k−2)) + C
/// ```
struct InputState {
    pipeline: InputPipeline,
    decoded: Vec<u64>,
    /// Ends of the last copies, oldest first.
    copied: VecDeque<Vec<u64>>,
    /// When the batches still on the device were last read, oldest first.
    used: VecDeque<Vec<u64>>,
}

impl InputState {
    fn new(pipeline: InputPipeline, ranks: usize) -> Self {
        Self {
            pipeline,
            decoded: vec![0; ranks],
            copied: vec![vec![0; ranks]; pipeline.prefetch_batches.max(1) as usize].into(),
            used: vec![vec![0; ranks]; DEVICE_BUFFERS].into(),
        }
    }

    fn next_batch(&mut self) -> InputTimes {
        let slot_free = self.copied.front().map_or(&[][..], Vec::as_slice);
        let last_copied = self.copied.back().map_or(&[][..], Vec::as_slice);
        let buffer_free = self.used.front().map_or(&[][..], Vec::as_slice);
        let after = |times: &[u64], duration: SimDuration| -> Vec<u64> {
            times.iter().map(|time| time + duration.as_ps()).collect()
        };
        let decode_start = max_each(&self.decoded, slot_free);
        let decode_end = after(&decode_start, self.pipeline.decode);
        let copy_start = max_each(&max_each(&decode_end, last_copied), buffer_free);
        let copy_end = after(&copy_start, self.pipeline.copy);
        self.decoded.clone_from(&decode_end);
        self.copied.pop_front();
        self.copied.push_back(copy_end.clone());
        InputTimes { decode_start, decode_end, copy_start, copy_end }
    }

    fn batch_used(&mut self, backward_end: &[u64]) {
        self.used.pop_front();
        self.used.push_back(backward_end.to_vec());
    }
}
