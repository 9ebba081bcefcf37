//! Runs drawn at random, failure by failure: how far the time of one run may be from the mean.

use rand::RngExt as _;
use statrs::distribution::{ContinuousCDF, Gamma};

use super::{Failures, Run};
use crate::random::{Stream, Streams};

/// Runs that are drawn for an interval: the lowest and the highest 2.5 % are fifty each.
const REPLAYS: usize = 2000;
/// Of more interruptions than this the distribution is taken as gamma's: drawing takes long, and a
/// sum of so many independent delays, or one geometric number of attempts, is one.
const REPLAYED_INTERRUPTIONS_MAX: f64 = 200.0;
/// The share of runs on either side of a 95 % interval.
const TAIL: f64 = 0.025;

/// One run, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Replayed {
    /// From start to end.
    pub wall_s: f64,
    /// Writing checkpoints, also those that a failure cuts off.
    pub checkpoint_s: f64,
    /// Restarting.
    pub restart_s: f64,
    /// How many failures there were.
    pub interruptions: u64,
}

impl Failures {
    /// One run of `work_s` seconds of work, with failures from `stream`.
    ///
    /// Its time grows with the number of failures, not of checkpoints.
    #[must_use]
    pub fn replay(&self, work_s: f64, stream: &mut Stream) -> Replayed {
        let segments = self.segments(work_s);
        let mut run = Replayed::default();
        // Checkpoints still to be written, and the time until the next failure.
        let mut full = segments.full;
        let mut safe_s = self.next_failure_s(stream);
        loop {
            let left_s = full * segments.full_s + segments.last_s;
            if safe_s >= left_s {
                run.wall_s += left_s;
                run.checkpoint_s += full * self.checkpoint_s;
                return run;
            }
            run.wall_s += safe_s;
            let written = (safe_s / segments.full_s).floor().min(full);
            run.checkpoint_s += written * self.checkpoint_s;
            full -= written;
            if full > 0.0 {
                let cut_off_s = safe_s - written * segments.full_s - self.interval_s;
                run.checkpoint_s += cut_off_s.max(0.0);
            }
            run.interruptions += 1;
            safe_s = self.restart(&mut run, stream);
        }
    }

    /// Restarts until nothing fails meanwhile; returns the time until the next failure.
    fn restart(&self, run: &mut Replayed, stream: &mut Stream) -> f64 {
        loop {
            let safe_s = self.next_failure_s(stream);
            let spent_s = safe_s.min(self.restart_s);
            run.wall_s += spent_s;
            run.restart_s += spent_s;
            if safe_s >= self.restart_s {
                return safe_s - self.restart_s;
            }
            run.interruptions += 1;
        }
    }

    /// The time until the next failure, exponentially distributed.
    pub(super) fn next_failure_s(&self, stream: &mut Stream) -> f64 {
        let draw: f64 = stream.random();
        self.mtbf_s.map_or(f64::INFINITY, |mtbf_s| -mtbf_s * (-draw).ln_1p())
    }

    /// Seconds from start to end that 95 % of the runs like `run` take, lowest and highest.
    #[must_use]
    pub fn interval_95_s(&self, run: &Run, streams: &Streams) -> (f64, f64) {
        if run.interruptions > REPLAYED_INTERRUPTIONS_MAX {
            return gamma_interval(run);
        }
        let mut stream = streams.stream("run", "failures");
        let mut drawn: Vec<f64> =
            (0..REPLAYS).map(|_| self.replay(run.work_s, &mut stream).wall_s).collect();
        drawn.sort_by(f64::total_cmp);
        let tail = (TAIL * REPLAYS as f64) as usize;
        (drawn[tail], drawn[REPLAYS - 1 - tail])
    }
}

/// The same of a gamma distribution with the mean and the variance of what failures add.
fn gamma_interval(run: &Run) -> (f64, f64) {
    let added_s = run.wall_s - run.work_s;
    let (mean, variance) = (added_s, run.deviation_s * run.deviation_s);
    let fitted = Gamma::new(mean * mean / variance, mean / variance);
    fitted.map_or((run.wall_s, run.wall_s), |gamma| {
        (run.work_s + gamma.inverse_cdf(TAIL), run.work_s + gamma.inverse_cdf(1.0 - TAIL))
    })
}
