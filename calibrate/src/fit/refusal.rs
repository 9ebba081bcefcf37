//! Why measurements were refused, and what to measure instead.

/// Measurements from which nothing can be forecast.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A message of no bytes.
    #[error(
        "a message of 0 bytes was measured, expected at least 1 byte: leave out sizes that carry \
         nothing"
    )]
    EmptyMessage,
    /// Too few sizes to tell latency, bandwidth and switches apart.
    #[error(
        "{found} distinct message sizes were measured, expected at least {expected}: measure more \
         sizes, such as every power of two from 1 KiB to 256 MiB"
    )]
    TooFewSizes {
        /// How many.
        found: usize,
        /// The fewest.
        expected: usize,
    },
    /// Sizes too close together to tell latency and bandwidth apart.
    #[error(
        "message sizes from {smallest_bytes} to {largest_bytes} bytes were measured, expected the \
         largest to be at least {expected_ratio} times the smallest: measure smaller and larger \
         messages"
    )]
    TooNarrow {
        /// The smallest size.
        smallest_bytes: u64,
        /// The largest size.
        largest_bytes: u64,
        /// The least ratio of both.
        expected_ratio: u64,
    },
    /// A size without any time.
    #[error("no time was measured of {message_bytes} bytes, expected at least one: repeat it")]
    NoTimes {
        /// The size.
        message_bytes: u64,
    },
    /// A time that no clock can show.
    #[error(
        "a time of {seconds} s was measured of {message_bytes} bytes, expected a finite time above \
         0: measure several messages between two readings of the clock, or a finer clock"
    )]
    BadTime {
        /// The size.
        message_bytes: u64,
        /// The time.
        seconds: f64,
    },
    /// So few repeats, so far apart, that their median says little.
    #[error(
        "{repeats} repeats of {message_bytes} bytes differ by a factor of {slowest_over_fastest:.2} \
         from the fastest to the slowest, expected less than {limit} of fewer than \
         {expected_repeats} repeats: repeat each size at least {expected_repeats} times"
    )]
    TooFewRepeats {
        /// The size.
        message_bytes: u64,
        /// How many.
        repeats: usize,
        /// The slowest of them over the fastest.
        slowest_over_fastest: f64,
        /// The largest such ratio of few repeats.
        limit: f64,
        /// Enough repeats to tell outliers from noise.
        expected_repeats: usize,
    },
    /// Noise that hides the value.
    #[error(
        "the time of {message_bytes} bytes is {seconds:.3e} s with an interval from {low_s:.3e} to \
         {high_s:.3e} s, expected an interval narrower than the value: repeat more often, and keep \
         other work off the machine"
    )]
    TooNoisy {
        /// The size.
        message_bytes: u64,
        /// The fitted time.
        seconds: f64,
        /// The lower end of its interval.
        low_s: f64,
        /// The upper end of its interval.
        high_s: f64,
    },
    /// A curve that does not foretell sizes left out of it.
    #[error(
        "the curve misses sizes that were left out of its fit by {:.0} % (median), expected at \
         most {:.0} %: measure more sizes between those that were measured, repeat more often, and \
         keep other work off the machine",
        median_abs_relative_error * 100.0,
        limit * 100.0
    )]
    HeldOut {
        /// The median over the sizes of |predicted/measured − 1|.
        median_abs_relative_error: f64,
        /// The largest that is accepted.
        limit: f64,
    },
    /// Too few values to tell distributions apart.
    #[error(
        "{found} values were measured, expected at least {expected} to tell distributions apart: \
         record more steps"
    )]
    TooFewValues {
        /// How many.
        found: usize,
        /// The fewest.
        expected: usize,
    },
    /// A factor that is no factor of a time.
    #[error("value {index} is {value}, expected a finite number above 0: leave out broken steps")]
    BadValue {
        /// Its place among the values, from 0.
        index: usize,
        /// The value.
        value: f64,
    },
    /// Values that do not vary.
    #[error(
        "all {found} values are {value}, expected some variation: use a finer clock, or forecast \
         without jitter"
    )]
    NoVariation {
        /// How many.
        found: usize,
        /// What all are.
        value: f64,
    },
}
