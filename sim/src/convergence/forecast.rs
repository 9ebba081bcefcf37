//! What a law says, how sure it is, and where it was never tested.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::posterior::NORMAL_95;

/// The range of a quantity in the runs that a law was fitted to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// The smallest.
    pub from: f64,
    /// The largest.
    pub to: f64,
}

impl Range {
    /// The range of `values`.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let empty = Self { from: f64::INFINITY, to: f64::NEG_INFINITY };
        values.into_iter().fold(empty, |range, value| Self {
            from: range.from.min(value),
            to: range.to.max(value),
        })
    }

    /// Whether `value` lies in it.
    #[must_use]
    pub fn contains(self, value: f64) -> bool {
        (self.from..=self.to).contains(&value)
    }
}

/// Why a forecast lies outside what was fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "why")]
pub enum Extrapolation {
    /// The global batch.
    Batch {
        /// What was asked.
        asked: f64,
        /// What was fitted.
        fitted: Range,
    },
    /// The number of epochs.
    Epochs {
        /// What was asked.
        asked: f64,
        /// What was fitted.
        fitted: Range,
    },
    /// A recipe that no run, or a single one, shows.
    Recipe {
        /// Which part of it.
        what: String,
    },
}

impl fmt::Display for Extrapolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch { asked, fitted: Range { from, to } } => {
                write!(f, "global batch {asked} is outside the fitted {from} to {to}")
            }
            Self::Epochs { asked, fitted: Range { from, to } } => {
                write!(f, "{asked} epochs are outside the fitted {from} to {to}")
            }
            Self::Recipe { what } => f.write_str(what),
        }
    }
}

/// A value with its interval of 95 % confidence, in which a run lies whose recipe is as good as
/// those fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// The best guess.
    pub value: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
    /// Why it lies outside what was fitted; empty inside. The interval then holds only if the law
    /// does.
    pub extrapolated: Vec<Extrapolation>,
}

impl Forecast {
    /// A percentage, normal.
    pub fn percent(value: f64, deviation: f64, extrapolated: Vec<Extrapolation>) -> Self {
        let inside = |percent: f64| percent.clamp(0.0, 100.0);
        Self {
            value: inside(value),
            low: inside(value - NORMAL_95 * deviation),
            high: inside(value + NORMAL_95 * deviation),
            extrapolated,
        }
    }

    /// A positive number whose logarithm is normal.
    pub fn positive(value: f64, deviation: f64, extrapolated: Vec<Extrapolation>) -> Self {
        let factor = (NORMAL_95 * deviation).exp();
        Self { value, low: value / factor, high: value * factor, extrapolated }
    }

    /// Whether `truth` lies in the interval.
    #[must_use]
    pub fn contains(&self, truth: f64) -> bool {
        (self.low..=self.high).contains(&truth)
    }
}

/// Batch and epochs outside what was fitted.
pub(super) fn outside(
    batch: f64,
    batches: Range,
    epochs: Option<(f64, Range)>,
) -> Vec<Extrapolation> {
    let mut found = Vec::new();
    if !batches.contains(batch) {
        found.push(Extrapolation::Batch { asked: batch, fitted: batches });
    }
    if let Some((asked, fitted)) = epochs
        && !fitted.contains(asked)
    {
        found.push(Extrapolation::Epochs { asked, fitted });
    }
    found
}
