//! A number and how sure it is.

use serde::{Deserialize, Serialize};

/// A fitted number with its interval of 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Estimate {
    /// The best guess.
    pub value: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
}

impl Estimate {
    /// A number that is known exactly, or of which nothing more is known.
    #[must_use]
    pub const fn exact(value: f64) -> Self {
        Self { value, low: value, high: value }
    }

    /// The same in other units: all three times a positive `factor`.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self { value: self.value * factor, low: self.low * factor, high: self.high * factor }
    }

    /// One over it, so that the ends change places; the interval of a positive number.
    #[must_use]
    pub fn inverse(self) -> Self {
        Self { value: self.value.recip(), low: self.high.recip(), high: self.low.recip() }
    }

    /// Whether `truth` lies in the interval.
    #[must_use]
    pub fn contains(self, truth: f64) -> bool {
        (self.low..=self.high).contains(&truth)
    }

    /// The width of the interval over the value; how sure it is.
    #[must_use]
    pub fn relative_width(self) -> f64 {
        (self.high - self.low) / self.value.abs()
    }
}
