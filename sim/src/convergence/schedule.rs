//! How the learning rate goes.

use serde::{Deserialize, Serialize};

/// The learning rate over a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "schedule")]
pub enum Schedule {
    /// After a linear warm-up of w epochs the rate falls as (1 − (e − w)/(T − w))^power to epoch T.
    Polynomial {
        /// w.
        warm_up_epochs: f64,
        /// T.
        epochs: f64,
        /// The power; 2 in MLPerf's LARS.
        power: f64,
    },
    /// After a linear warm-up the rate is divided by ten at epochs 30, 60 and 80 of 90 (Goyal et
    /// al., arXiv 1706.02677, section 5.1; the reference of MLPerf Training 0.5).
    Steps {
        /// How long the rate rises.
        warm_up_epochs: f64,
    },
}

/// The epochs at which the step schedule divides the rate by ten.
const DROPS: [f64; 3] = [30.0, 60.0, 80.0];

/// Where the step schedule ends.
const STEPS_END: f64 = 90.0;

impl Schedule {
    /// How long the run is planned.
    #[must_use]
    pub fn epochs(&self) -> f64 {
        match *self {
            Self::Polynomial { epochs, .. } => epochs,
            Self::Steps { .. } => STEPS_END,
        }
    }

    /// How far the rate has cooled at epoch `e`, as a part of its peak; 1 while it rises, as
    /// nothing has cooled yet.
    #[must_use]
    pub fn temperature(&self, e: f64) -> f64 {
        match *self {
            Self::Polynomial { warm_up_epochs, epochs, power } => {
                (1.0 - decayed(e, warm_up_epochs, epochs)).powf(power)
            }
            Self::Steps { .. } => {
                let drops = DROPS.iter().filter(|&&drop| e >= drop).count();
                0.1_f64.powi(i32::try_from(drops).unwrap_or(0))
            }
        }
    }

    /// The rate summed to epoch `e`, in epochs at the peak rate.
    #[must_use]
    pub fn travelled(&self, e: f64) -> f64 {
        match *self {
            Self::Polynomial { warm_up_epochs, epochs, power } => {
                let left = 1.0 - decayed(e, warm_up_epochs, epochs);
                let decay = (epochs - warm_up_epochs).max(0.0) / (power + 1.0)
                    * (1.0 - left.powf(power + 1.0));
                rising(e, warm_up_epochs) + decay
            }
            Self::Steps { warm_up_epochs } => {
                let ends = DROPS.into_iter().chain([f64::INFINITY]);
                let mut from = warm_up_epochs;
                let mut rate = 1.0;
                let mut sum = rising(e, warm_up_epochs);
                for end in ends {
                    sum += rate * (e.min(end) - from).max(0.0);
                    from = from.max(end);
                    rate *= 0.1;
                }
                sum
            }
        }
    }
}

/// The part of the decay that is over.
fn decayed(e: f64, warm_up: f64, epochs: f64) -> f64 {
    if epochs > warm_up { ((e - warm_up) / (epochs - warm_up)).clamp(0.0, 1.0) } else { 1.0 }
}

/// The rate summed over the warm-up up to epoch `e`: e²/2w, at most w/2.
fn rising(e: f64, warm_up: f64) -> f64 {
    if warm_up > 0.0 { e.min(warm_up).powi(2) / (2.0 * warm_up) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_polynomial_cools_to_zero() {
        let schedule = Schedule::Polynomial { warm_up_epochs: 2.0, epochs: 42.0, power: 2.0 };
        assert_eq!(schedule.temperature(1.0), 1.0);
        assert_eq!(schedule.temperature(22.0), 0.25);
        assert_eq!(schedule.temperature(50.0), 0.0);
        // 1 + 40/3.
        assert!((schedule.travelled(42.0) - 43.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn steps_drop_at_thirty_sixty_and_eighty() {
        let schedule = Schedule::Steps { warm_up_epochs: 5.0 };
        let temperatures = [29.0, 30.0, 60.0, 89.0].map(|e| schedule.temperature(e));
        let expected = [1.0, 0.1, 0.01, 0.001];
        for (found, expected) in temperatures.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-15);
        }
        // 2.5 + 25 + 3 + 0.2 + 0.01.
        assert!((schedule.travelled(90.0) - 30.71).abs() < 1e-12);
    }
}
