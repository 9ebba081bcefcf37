//! Simulated time: u64 picoseconds, which reach 213 days; one byte at 400 Gbit/s takes 20.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul, Sub};

use super::text::{Kind, Unit, parse_integer, text_quantity, write_decimal};

const PS_PER_S: f64 = 1e12;

const KIND: Kind = Kind {
    name: "duration",
    example: "1.5 us",
    units: &[
        Unit { symbol: "ps", numerator: 1, denominator: 1 },
        Unit { symbol: "ns", numerator: 1_000, denominator: 1 },
        Unit { symbol: "us", numerator: 1_000_000, denominator: 1 },
        Unit { symbol: "µs", numerator: 1_000_000, denominator: 1 },
        Unit { symbol: "ms", numerator: 1_000_000_000, denominator: 1 },
        Unit { symbol: "s", numerator: 1_000_000_000_000, denominator: 1 },
        Unit { symbol: "min", numerator: 60_000_000_000_000, denominator: 1 },
        Unit { symbol: "h", numerator: 3_600_000_000_000_000, denominator: 1 },
    ],
};

const DISPLAY_UNITS: &[(&str, u64)] =
    &[("s", 1_000_000_000_000), ("ms", 1_000_000_000), ("us", 1_000_000), ("ns", 1_000), ("ps", 1)];

/// A length of simulated time, in whole picoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SimDuration(u64);

/// A moment of simulated time, in picoseconds since the start of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SimTime(u64);

text_quantity!(SimDuration, KIND, parse_integer);

impl SimDuration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A duration of so many picoseconds.
    #[must_use]
    pub const fn from_ps(ps: u64) -> Self {
        Self(ps)
    }

    /// The nearest duration to a model's floating-point seconds.
    ///
    /// Here and in [`Self::scaled`] floating point becomes simulated time. Negative and
    /// not-a-number inputs become zero, inputs beyond 213 days the longest duration: a model's
    /// outputs are checked where the model is, not here.
    #[must_use]
    pub fn from_seconds(seconds: f64) -> Self {
        Self((seconds * PS_PER_S).round() as u64)
    }

    /// The duration in picoseconds.
    #[must_use]
    pub const fn as_ps(self) -> u64 {
        self.0
    }

    /// The duration in seconds, for reports and models.
    #[must_use]
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / PS_PER_S
    }

    /// The duration in milliseconds, for reports.
    #[must_use]
    pub fn as_ms(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The duration in microseconds, for reports.
    #[must_use]
    pub fn as_us(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The duration times a dimensionless factor, rounded to the picosecond.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor).round() as u64)
    }

    /// The sum, or the longest duration where it would be longer.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl SimTime {
    /// The start of the simulation.
    pub const ZERO: Self = Self(0);

    /// The moment so many picoseconds after the start.
    #[must_use]
    pub const fn from_ps(ps: u64) -> Self {
        Self(ps)
    }

    /// Picoseconds since the start.
    #[must_use]
    pub const fn as_ps(self) -> u64 {
        self.0
    }

    /// The time since `earlier`, or zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> SimDuration {
        SimDuration(self.0.saturating_sub(earlier.0))
    }
}

impl Add<SimDuration> for SimTime {
    type Output = Self;

    fn add(self, duration: SimDuration) -> Self {
        Self(self.0 + duration.0)
    }
}

impl Add for SimDuration {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for SimDuration {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sub for SimDuration {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Mul<u64> for SimDuration {
    type Output = Self;

    fn mul(self, count: u64) -> Self {
        Self(self.0 * count)
    }
}

impl Sum for SimDuration {
    fn sum<I: Iterator<Item = Self>>(durations: I) -> Self {
        durations.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for SimDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(f, self.0, DISPLAY_UNITS)
    }
}

impl fmt::Display for SimTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(f, self.0, DISPLAY_UNITS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_every_unit() {
        let ps = |text: &str| text.parse::<SimDuration>().map(SimDuration::as_ps);
        assert_eq!(ps("1.5 us"), Ok(1_500_000));
        assert_eq!(ps("20ps"), Ok(20));
        assert_eq!(ps("2 min"), Ok(120_000_000_000_000));
        assert_eq!(ps("0 s"), Ok(0));
    }

    #[test]
    fn explains_what_is_wrong() {
        let message = |text: &str| text.parse::<SimDuration>().unwrap_err().to_string();
        assert_eq!(
            message("5"),
            "`5` is not a duration: the unit is missing; write it like \"1.5 us\""
        );
        assert_eq!(
            message("5 usec"),
            "`5 usec` is not a duration: unknown unit `usec` (did you mean `us`?), \
             expected one of ps, ns, us, µs, ms, s, min, h; write it like \"1.5 us\""
        );
        assert!(message("-1 s").contains("must not be negative"));
        assert!(message("9999 h").contains("too large"));
        assert!(message("0.1 ps").contains("too small"));
    }

    proptest! {
        #[test]
        fn text_round_trips(ps in any::<u64>()) {
            let duration = SimDuration::from_ps(ps);
            prop_assert_eq!(duration.to_string().parse::<SimDuration>(), Ok(duration));
        }
    }
}
