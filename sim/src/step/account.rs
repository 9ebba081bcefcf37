//! Where every millisecond of a step went.
//!
//! From the end of one step to the end of the next, a rank
//!
//! - waits for input,
//! - computes (forward, backward, optimizer),
//! - waits for communication after its backward pass. Of this wait, *exposed communication* is what
//!   it would have been, had all ranks been ready when this one was: the all-reduces themselves,
//!   with packing, as far as they are not hidden behind the backward pass. The rest is *straggler
//!   wait*: others were late.
//!
//! The four add up to the step exactly, in picoseconds, rank by rank.

use super::StepTimes;
use crate::units::SimDuration;

/// Sums over ranks and steps of where the time went.
#[derive(Debug, Clone, Default)]
pub struct Account {
    compute_ps: u128,
    exposed_ps: u128,
    communication_ps: u128,
    input_wait_ps: u128,
    straggler_wait_ps: u128,
    rank_steps: u128,
    step_ends: Vec<u64>,
    previous_end: Option<u64>,
}

/// Means over ranks and steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepSummary {
    /// The mean step; the next four add up to it.
    pub step_ms: f64,
    /// The 99th percentile of the time from one step's end to the next, on the slowest rank.
    pub step_ms_p99: f64,
    /// Forward, backward and optimizer.
    pub compute_ms: f64,
    /// Communication that nothing hides.
    pub exposed_communication_ms: f64,
    /// Waiting for a batch.
    pub input_wait_ms: f64,
    /// Waiting for late ranks.
    pub straggler_wait_ms: f64,
    /// Packing, all-reduce and unpacking of all buckets, hidden or not, without late ranks.
    pub communication_ms: f64,
}

impl Account {
    /// Adds one step of all ranks.
    pub fn add(&mut self, times: &StepTimes) {
        for rank in 0..times.end.len() {
            let backward_end = times.backward_end[rank];
            let optimizer_start = times.optimizer_start[rank];
            let mut alone_end = times.forward_start[rank];
            let mut communication = 0;
            for bucket in &times.buckets {
                // Packing and unpacking take as long whoever is late.
                let pack = bucket.enter[rank] - bucket.pack_start[rank];
                let unpack = bucket.end[rank] - bucket.finish[rank];
                let duration = pack + bucket.alone[rank] + unpack;
                communication += duration;
                alone_end = alone_end.max(bucket.ready[rank]) + duration;
            }
            let wait = optimizer_start - backward_end;
            let straggler = optimizer_start.saturating_sub(alone_end.max(backward_end)).min(wait);
            self.straggler_wait_ps += u128::from(straggler);
            self.exposed_ps += u128::from(wait - straggler);
            self.communication_ps += u128::from(communication);
            self.input_wait_ps += u128::from(times.forward_start[rank] - times.previous_end[rank]);
            self.compute_ps += u128::from(
                (backward_end - times.forward_start[rank]) + (times.end[rank] - optimizer_start),
            );
            self.rank_steps += 1;
        }
        let last = |ends: &[u64]| ends.iter().copied().max().unwrap_or(0);
        let previous = self.previous_end.unwrap_or_else(|| last(&times.previous_end));
        let end = last(&times.end);
        self.step_ends.push(end - previous);
        self.previous_end = Some(end);
    }

    /// The means; all zero if no step was added.
    #[must_use]
    pub fn summary(&self) -> StepSummary {
        let mean = |ps: u128| ps as f64 / self.rank_steps.max(1) as f64 / 1e9;
        let total = self.compute_ps + self.exposed_ps + self.input_wait_ps + self.straggler_wait_ps;
        StepSummary {
            step_ms: mean(total),
            step_ms_p99: self.step_p99().as_ms(),
            compute_ms: mean(self.compute_ps),
            exposed_communication_ms: mean(self.exposed_ps),
            input_wait_ms: mean(self.input_wait_ps),
            straggler_wait_ms: mean(self.straggler_wait_ps),
            communication_ms: mean(self.communication_ps),
        }
    }

    /// The smallest time that at least 99 % of the steps do not exceed.
    fn step_p99(&self) -> SimDuration {
        let mut steps = self.step_ends.clone();
        steps.sort_unstable();
        let rank = (steps.len() * 99).div_ceil(100);
        SimDuration::from_ps(rank.checked_sub(1).map_or(0, |index| steps[index]))
    }
}
