//! From the training time of a point to what the run takes and costs, failures included.

use crate::cost::{cost_usd, energy_kwh, watts};
use crate::failures::{Failures, daly_interval_s, young_interval_s};
use crate::random::Streams;
use crate::scenario::Case;

/// A run that makes less use of its time than this does not end: an hour of training takes a
/// century.
const GOODPUT_MIN: f64 = 1e-6;

/// What a run takes and costs; what the scenario does not ask for is none.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Bill {
    pub(super) time_to_train_min: Option<f64>,
    pub(super) goodput_percent: Option<f64>,
    pub(super) interruptions: Option<f64>,
    pub(super) lost_min: Option<f64>,
    pub(super) lost_min_low: Option<f64>,
    pub(super) lost_min_high: Option<f64>,
    pub(super) checkpoint_interval_min: Option<f64>,
    pub(super) checkpoint_interval_young_min: Option<f64>,
    pub(super) checkpoint_interval_daly_min: Option<f64>,
    pub(super) cost_usd: Option<f64>,
    pub(super) energy_kwh: Option<f64>,
}

/// Minutes on average, failures included, of a run of `case` that trains for `training_s` seconds;
/// none for a run that would not end.
pub(crate) fn minutes(case: &Case, training_s: f64) -> Option<f64> {
    let Some(failures) = &case.failures else { return Some(training_s / 60.0) };
    if training_s <= 0.0 {
        return Some(0.0);
    }
    let run = failures.run(training_s);
    (run.work_s / run.wall_s >= GOODPUT_MIN).then_some(run.wall_s / 60.0)
}

/// The bill of `case`, whose training takes `training_s` seconds by itself, if it is known how much
/// there is to train; its accelerators compute for `busy` of that.
pub(super) fn bill(case: &Case, training_s: Option<f64>, busy: f64) -> Bill {
    let Some(failures) = &case.failures else {
        let time_to_train_min = training_s.map(|seconds| seconds / 60.0);
        return Bill { time_to_train_min, ..Bill::default() }.priced(case, 0.0, busy);
    };
    let run = training_s.map(|seconds| failures.run(seconds));
    let goodput = run.map_or(failures.goodput(), |run| run.work_s / run.wall_s);
    let bill = intervals(failures);
    if goodput < GOODPUT_MIN {
        return Bill { goodput_percent: Some(0.0), ..bill };
    }
    let bill = Bill { goodput_percent: Some(100.0 * goodput), ..bill };
    let Some(run) = run else { return bill };
    let (low_s, high_s) = failures.interval_95_s(&run, &Streams::new(case.seed));
    let lost_min = |wall_s: f64| Some((wall_s - run.work_s) / 60.0);
    Bill {
        time_to_train_min: Some(run.wall_s / 60.0),
        interruptions: failures.mtbf_s.map(|_| run.interruptions),
        lost_min: lost_min(run.wall_s),
        lost_min_low: lost_min(low_s),
        lost_min_high: lost_min(high_s),
        ..bill
    }
    .priced(case, run.checkpoint_s + run.restart_s, busy)
}

/// The intervals between checkpoints: the run's, and those that theory recommends.
fn intervals(failures: &Failures) -> Bill {
    let Failures { mtbf_s, interval_s, checkpoint_s, .. } = *failures;
    let optimum_min = |formula: fn(f64, f64) -> f64| {
        mtbf_s.filter(|_| checkpoint_s > 0.0).map(|mtbf_s| formula(checkpoint_s, mtbf_s) / 60.0)
    };
    Bill {
        checkpoint_interval_min: Some(interval_s / 60.0),
        checkpoint_interval_young_min: optimum_min(young_interval_s),
        checkpoint_interval_daly_min: optimum_min(daly_interval_s),
        ..Bill::default()
    }
}

impl Bill {
    /// With cost and energy. All accelerators are paid for all the time; for `idle_s` seconds, those of
    /// checkpoints and restarts, they are idle, and for the rest train, what failures undo included.
    fn priced(self, case: &Case, idle_s: f64, busy: f64) -> Self {
        let Some((rates, minutes)) = case.cost.zip(self.time_to_train_min) else { return self };
        let (hours, idle_hours) = (minutes / 60.0, idle_s / 3600.0);
        let (count, peak) = (case.accelerators, rates.watts_per_accelerator);
        let idle = rates.idle_watts_per_accelerator.unwrap_or(peak);
        Self {
            cost_usd: rates.usd_per_accelerator_hour.map(|price| cost_usd(count, hours, price)),
            // No accelerator runs on nothing: its power is not known.
            energy_kwh: (peak > 0.0).then(|| {
                energy_kwh(count, hours - idle_hours, watts(idle, peak, busy))
                    + energy_kwh(count, idle_hours, idle)
            }),
            ..self
        }
    }
}
