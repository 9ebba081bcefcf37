//! Failures: what checkpoints, lost work and restarts make of the time of a run.
//!
//! Nodes fail, or are taken away as spot instances are, each as a Poisson process of its own. A
//! synchronous run stops when any of its nodes does, so n nodes of mean time m between failures make
//! a run of M = m / n. Stopped, it restarts, which takes R, from its last checkpoint; it may be
//! stopped again while it does. With a checkpoint that takes δ after every τ of work, K = ⌈T/τ⌉
//! segments make the work T, the last without a checkpoint. The wall-clock time of a segment of
//! length L is independent of the others', with the Laplace transform
//!
//! ```text
//! E[e^−sS] = (s·e^(λ+s)R + λ) / (s·e^(λ+s)(R+L) + λ)        λ = 1/M
//! ```
//!
//! (a first attempt of L, and after a failure the waiting time for a stretch R + L without one), whose
//! cumulants are
//!
//! ```text
//! mean     = M·e^(R/M)·(e^(L/M) − 1)
//! variance = M²·(v((R+L)/M) − v(R/M))        v(x) = 2·e^x·(sinh x − x)
//! ```
//!
//! The mean is the complete model of J. T. Daly, "A higher order estimate of the optimum checkpoint
//! interval for restart dumps", Future Generation Computer Systems 22 (2006), which takes L = τ + δ for
//! all of T/τ segments. Failures are counted by Wald's identity, wall time over M; of
//! the wall time 1 − e^(−R/M) is spent restarting.

mod optimum;
mod replay;

#[cfg(test)]
mod tests;

pub use optimum::{daly_interval_s, young_interval_s};
pub use replay::Replayed;

/// How often a run is interrupted, and what it does about that; in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Failures {
    /// Mean time between failures of the run as a whole; none if nothing fails.
    pub mtbf_s: Option<f64>,
    /// Work between checkpoints, above 0.
    pub interval_s: f64,
    /// What a checkpoint takes.
    pub checkpoint_s: f64,
    /// From a failure to work again, at the last checkpoint.
    pub restart_s: f64,
}

/// What becomes of some work; expectations, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// The work itself.
    pub work_s: f64,
    /// From start to end.
    pub wall_s: f64,
    /// The standard deviation of that.
    pub deviation_s: f64,
    /// Writing checkpoints, also those that a failure cuts off.
    pub checkpoint_s: f64,
    /// Restarting.
    pub restart_s: f64,
    /// How many failures there are.
    pub interruptions: f64,
}

/// The segments of some work: how many that end in a checkpoint, of what length, and the last.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Segments {
    full: f64,
    full_s: f64,
    last_s: f64,
}

impl Failures {
    /// What becomes of `work_s` seconds of work. May be infinite where hardly a segment ends.
    #[must_use]
    pub fn run(&self, work_s: f64) -> Run {
        let Segments { full, full_s, last_s } = self.segments(work_s);
        let Some(mtbf_s) = self.mtbf_s else {
            let checkpoint_s = full * self.checkpoint_s;
            return Run {
                work_s,
                wall_s: work_s + checkpoint_s,
                deviation_s: 0.0,
                checkpoint_s,
                restart_s: 0.0,
                interruptions: 0.0,
            };
        };
        let wall_s = times(full, self.segment_s(mtbf_s, full_s)) + self.segment_s(mtbf_s, last_s);
        let variance = times(full, self.segment_variance(mtbf_s, full_s))
            + self.segment_variance(mtbf_s, last_s);
        Run {
            work_s,
            wall_s,
            deviation_s: variance.sqrt(),
            // Attempts come to a checkpoint until one ends: e^(δ/M) − 1 failures' time each.
            checkpoint_s: times(full, mtbf_s * (self.checkpoint_s / mtbf_s).exp_m1()),
            restart_s: wall_s * -(-self.restart_s / mtbf_s).exp_m1(),
            interruptions: wall_s / mtbf_s,
        }
    }

    /// Work over wall-clock time of a run without end.
    #[must_use]
    pub fn goodput(&self) -> f64 {
        let segment_s = self.interval_s + self.checkpoint_s;
        let wall_s = self.mtbf_s.map_or(segment_s, |mtbf_s| self.segment_s(mtbf_s, segment_s));
        self.interval_s / wall_s
    }

    fn segments(&self, work_s: f64) -> Segments {
        let full = ((work_s / self.interval_s).ceil() - 1.0).max(0.0);
        Segments {
            full,
            full_s: self.interval_s + self.checkpoint_s,
            last_s: work_s - full * self.interval_s,
        }
    }

    fn segment_s(&self, mtbf_s: f64, length_s: f64) -> f64 {
        mtbf_s * (self.restart_s / mtbf_s).exp() * (length_s / mtbf_s).exp_m1()
    }

    fn segment_variance(&self, mtbf_s: f64, length_s: f64) -> f64 {
        let restart = self.restart_s / mtbf_s;
        let after = spread(restart + length_s / mtbf_s);
        // Infinite less infinite is no number.
        if after.is_infinite() { after } else { mtbf_s * mtbf_s * (after - spread(restart)) }
    }
}

/// `count · each`, and nothing of none, be they infinite.
fn times(count: f64, each: f64) -> f64 {
    if count > 0.0 { count * each } else { 0.0 }
}

/// v(x) = 2·e^x·(sinh x − x): the variance, in units of M², of the waiting time for a stretch x·M
/// without a failure.
fn spread(x: f64) -> f64 {
    // Near 0 the difference is x³/6 + x⁵/120 + x⁷/5040: what is left out is below 1e-16 of it.
    let difference = if x < 0.03 {
        let square = x * x;
        x * square / 6.0 * (1.0 + square / 20.0 * (1.0 + square / 42.0))
    } else {
        x.sinh() - x
    };
    2.0 * x.exp() * difference
}
