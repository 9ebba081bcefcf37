//! Numbers as they were printed, and whether bandwidths agree with times.

use foretrain_sim::collective::Operation;

/// A number that was rounded to the digits that are there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Printed {
    pub(super) value: f64,
    /// The true value is within this of it.
    half_unit: f64,
}

/// For what arithmetic in double precision, on both sides, adds to rounding.
const SLACK: f64 = 1e-6;

impl Printed {
    /// Reads `12.34`, `1234567` or `1.2e+07`: all of nccl-tests' `getFloatStr`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (digits, exponent) = match text.split_once(['e', 'E']) {
            Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let decimals = digits.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        let value = text.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0)?;
        let unit = 10_f64.powi(exponent.saturating_sub(decimals.min(300) as i32));
        Some(Self { value, half_unit: unit / 2.0 })
    }

    /// A number with six decimals, as C's `%lf` writes it.
    pub(super) fn with_six_decimals(value: f64) -> Option<Self> {
        (value.is_finite() && value >= 0.0).then_some(Self { value, half_unit: 5e-7 })
    }

    /// Whether it may be a quantity that is within `low..=high`.
    fn may_be(&self, low: f64, high: f64) -> bool {
        self.value + self.half_unit >= low * (1.0 - SLACK)
            && self.value - self.half_unit <= high * (1.0 + SLACK)
    }
}

/// Bus bandwidth over algorithm bandwidth.
pub(super) fn bus_factor(operation: Operation, ranks: u32) -> f64 {
    let share = f64::from(ranks - 1) / f64::from(ranks);
    if operation == Operation::AllReduce { 2.0 * share } else { share }
}

/// Checks both bandwidths (GB/s) against `bytes` in `time` (us).
///
/// The error is the name of the bandwidth and what is wrong with it.
pub(super) fn check_bandwidths(
    (operation, ranks): (Operation, u32),
    bytes: u64,
    time: Printed,
    algorithm: Option<Printed>,
    bus: Option<Printed>,
) -> Result<(), (&'static str, String)> {
    // Bytes in a microsecond are MB/s.
    let rate = |time_us: f64| bytes as f64 / time_us / 1e3;
    let low = rate(time.value + time.half_unit);
    let shortest = time.value - time.half_unit;
    let high = if shortest > 0.0 { rate(shortest) } else { f64::INFINITY };
    if let Some(printed) = algorithm.filter(|printed| !printed.may_be(low, high)) {
        let problem = format!(
            "{} GB/s, but {bytes} bytes in {} us are {:.2} GB/s: the columns are not what they seem",
            printed.value,
            time.value,
            rate(time.value)
        );
        return Err(("algbw", problem));
    }
    let factor = bus_factor(operation, ranks);
    if let Some(printed) = bus.filter(|printed| !printed.may_be(low * factor, high * factor)) {
        let problem = format!(
            "{} GB/s, but {bytes} bytes in {} us are {:.2} GB/s of {} by {ranks} ranks{}",
            printed.value,
            time.value,
            rate(time.value) * factor,
            name(operation),
            instead(operation, printed, rate(time.value)),
        );
        return Err(("busbw", problem));
    }
    Ok(())
}

fn name(operation: Operation) -> &'static str {
    match operation {
        Operation::AllReduce => "an all-reduce",
        Operation::ReduceScatter => "a reduce-scatter",
        Operation::AllGather => "an all-gather",
    }
}

/// What the factor between two bandwidths may mean instead, if it has enough digits.
fn instead(operation: Operation, bus: Printed, algorithm: f64) -> String {
    if bus.half_unit > bus.value * 1e-3 {
        return String::new();
    }
    let factor = bus.value / algorithm;
    let share = if operation == Operation::AllReduce { factor / 2.0 } else { factor };
    let ranks = 1.0 / (1.0 - share);
    if (1.5..=1e5).contains(&ranks) {
        format!(
            ": that is the bandwidth of about {ranks:.0} ranks, so the list of ranks is another run's"
        )
    } else {
        format!(": a factor of {factor:.3} to algbw is that of another test")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_say_how_much_was_rounded() {
        let half_unit = |text| Printed::parse(text).map(|printed| printed.half_unit);
        assert_eq!(half_unit("12.34"), Some(0.005));
        assert_eq!(half_unit("90330"), Some(0.5));
        assert_eq!(half_unit("1.2e+07"), Some(5e5));
        for wrong in ["N/A", "-1.0", "", "inf", "1e999", "e5", "1.2.3"] {
            assert_eq!(half_unit(wrong), None, "{wrong}");
        }
    }

    /// 1,048,576 bytes in 105.9 us are 9.902 GB/s, 17.328 of an all-reduce by 8 ranks, 14.852 by 4.
    #[test]
    fn other_numbers_of_ranks_have_other_bandwidths() {
        let check = |operation, ranks, time: &str, algorithm: &str, bus: &str| {
            let printed = Printed::parse;
            let time = printed(time).unwrap();
            check_bandwidths((operation, ranks), 1 << 20, time, printed(algorithm), printed(bus))
        };
        assert_eq!(check(Operation::AllReduce, 8, "105.9", "9.90", "17.33"), Ok(()));
        let (key, problem) = check(Operation::AllReduce, 4, "105.9", "9.90", "17.33").unwrap_err();
        assert_eq!(key, "busbw");
        assert_eq!(
            problem,
            "17.33 GB/s, but 1048576 bytes in 105.9 us are 14.85 GB/s of an all-reduce by 4 ranks: \
             that is the bandwidth of about 8 ranks, so the list of ranks is another run's"
        );
        let (_, problem) = check(Operation::AllGather, 8, "105.9", "9.90", "17.33").unwrap_err();
        assert!(
            problem.ends_with("a factor of 1.750 to algbw is that of another test"),
            "{problem}"
        );
        let (key, _) = check(Operation::AllReduce, 8, "105.9", "9.80", "17.15").unwrap_err();
        assert_eq!(key, "algbw");
        // 0.00 GB/s of 8 bytes tell nothing.
        let printed = |text| Printed::parse(text).unwrap();
        let tiny = (Operation::AllReduce, 2);
        let zero = Some(printed("0.00"));
        assert_eq!(check_bandwidths(tiny, 8, printed("14.54"), zero, zero), Ok(()));
    }
}
