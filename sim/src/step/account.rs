//! Where every millisecond of a step went.
//!
//! From the end of one step to the end of the next, a rank
//!
//! - waits for input,
//! - computes (forward, backward, optimizer),
//! - waits for communication between its backward pass and its optimizer.
//!
//! Of the wait for communication, *exposed communication* is what an undisturbed run of the same
//! point shows: no jitter and no slow ranks, so that only the all-reduces themselves, with packing,
//! are waited for as far as the backward pass does not hide them. The rest is *straggler wait*:
//! what jitter and slow ranks add. Both are means over ranks and steps, so the four parts add up
//! to the mean step exactly.

use super::StepTimes;
use crate::units::SimDuration;

/// Sums over ranks and steps of where the time went.
#[derive(Debug, Clone, Default)]
pub struct Account {
    compute_ps: u128,
    communication_wait_ps: u128,
    communication_ps: u128,
    input_wait_ps: u128,
    rank_steps: u128,
    step_ends: Vec<u64>,
    previous_end: Option<u64>,
}

/// Means over ranks and steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepSummary {
    /// The mean step: compute, exposed communication, input wait and straggler wait add up to it.
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
    /// Packing, all-reduce and unpacking of all buckets in the undisturbed run, hidden or not.
    pub communication_ms: f64,
}

impl Account {
    /// Adds one step of all ranks.
    pub fn add(&mut self, times: &StepTimes) {
        for rank in 0..times.end.len() {
            let backward_end = times.backward_end[rank];
            let optimizer_start = times.optimizer_start[rank];
            let on_stream = |bucket: &super::BucketTimes| {
                u128::from(bucket.end[rank] - bucket.pack_start[rank])
            };
            self.communication_ps += times.buckets.iter().map(on_stream).sum::<u128>();
            self.communication_wait_ps += u128::from(optimizer_start - backward_end);
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

    /// The means, given the account of an undisturbed run of the same point.
    #[must_use]
    pub fn summary(&self, undisturbed: &Self) -> StepSummary {
        let waited = self.mean_ms(self.communication_wait_ps);
        let exposed = waited.min(undisturbed.mean_ms(undisturbed.communication_wait_ps));
        let compute_ms = self.mean_ms(self.compute_ps);
        let input_wait_ms = self.mean_ms(self.input_wait_ps);
        StepSummary {
            step_ms: self
                .mean_ms(self.compute_ps + self.input_wait_ps + self.communication_wait_ps),
            step_ms_p99: self.step_p99().as_ms(),
            compute_ms,
            exposed_communication_ms: exposed,
            input_wait_ms,
            straggler_wait_ms: waited - exposed,
            communication_ms: undisturbed.mean_ms(undisturbed.communication_ps),
        }
    }

    fn mean_ms(&self, ps: u128) -> f64 {
        ps as f64 / self.rank_steps.max(1) as f64 / 1e9
    }

    /// The smallest time that at least 99 % of the steps do not exceed.
    fn step_p99(&self) -> SimDuration {
        let mut steps = self.step_ends.clone();
        steps.sort_unstable();
        let rank = (steps.len() * 99).div_ceil(100);
        SimDuration::from_ps(rank.checked_sub(1).map_or(0, |index| steps[index]))
    }
}
