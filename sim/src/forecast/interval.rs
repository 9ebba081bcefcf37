//! How sure epochs, minutes and accuracy of a point are.
//!
//! ```text
//! ln(true minutes / forecast) ~ N(0, s²),  s² = s_rate² + s_epochs² + s_failures²
//! ```
//!
//! s_rate is what rates of systems that were left out of the fit are off by ([`Overheads::scatter`]),
//! and without an anchor also the spread over systems of how far kernels stay behind the roofline. It is
//! of systems whose figures are known; it does not widen with what a scenario assumes. s_epochs and
//! s_failures are half the intervals of the epochs and of what chance adds by failures, on either side
//! its own. Cost and energy follow minutes in proportion.

use super::bill::Bill;
use crate::catalogue::Overheads;
use crate::convergence::Forecast;
use crate::convergence::posterior::NORMAL_95;
use crate::scenario::Case;

/// The ends of what is uncertain about a point; none where accuracy is not asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Ends<'a> {
    pub(super) epochs_low: Option<f64>,
    pub(super) epochs_high: Option<f64>,
    pub(super) minutes_low: Option<f64>,
    pub(super) minutes_high: Option<f64>,
    pub(super) top1: Option<&'a Forecast>,
}

impl<'a> Ends<'a> {
    pub(super) fn of(case: &'a Case, bill: &Bill) -> Self {
        let Some(outcome) = &case.outcome else { return Self::default() };
        let epochs = outcome.epochs.as_ref();
        let rate = rate_deviation(case);
        let end = |of: fn(&Forecast) -> f64, lost_min: Option<f64>, sign: f64| {
            let (epochs, minutes) = (epochs?, bill.time_to_train_min?);
            let of_epochs = (of(epochs) / epochs.value).ln() / NORMAL_95;
            let by_failures = bill
                .lost_min
                .zip(lost_min)
                .map_or(0.0, |(mean, end)| ((minutes - mean + end) / minutes).ln() / NORMAL_95);
            let all = rate.hypot(of_epochs).hypot(by_failures);
            finite(minutes * (sign * NORMAL_95 * all).exp())
        };
        Self {
            epochs_low: epochs.map(|epochs| epochs.low),
            epochs_high: epochs.and_then(|epochs| finite(epochs.high)),
            minutes_low: end(|epochs| epochs.low, bill.lost_min_low, -1.0),
            minutes_high: end(|epochs| epochs.high, bill.lost_min_high, 1.0),
            top1: outcome.top1.as_ref(),
        }
    }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// The standard deviation of the logarithm of the point's throughput.
fn rate_deviation(case: &Case) -> f64 {
    let overheads = Overheads::shipped();
    let scatter = overheads.scatter.get();
    match case.device {
        Some(device) if !device.is_scaled => {
            let factor = overheads.roofline_factor;
            let of_factor = (factor.high.get() / factor.low.get()).ln() / (2.0 * NORMAL_95);
            scatter.hypot(of_factor)
        }
        _ => scatter,
    }
}
