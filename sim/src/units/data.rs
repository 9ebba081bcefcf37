//! Amounts of data and how fast they move. GB is 1e9 bytes and GiB is 2^30, always.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Mul};

use super::SimDuration;
use super::text::{Kind, Unit, parse_integer, text_quantity, write_decimal};

const BYTES: Kind = Kind {
    name: "size",
    example: "64 MiB",
    units: &[
        Unit { symbol: "B", numerator: 1, denominator: 1 },
        Unit { symbol: "KiB", numerator: 1 << 10, denominator: 1 },
        Unit { symbol: "MiB", numerator: 1 << 20, denominator: 1 },
        Unit { symbol: "GiB", numerator: 1 << 30, denominator: 1 },
        Unit { symbol: "TiB", numerator: 1 << 40, denominator: 1 },
        Unit { symbol: "kB", numerator: 1_000, denominator: 1 },
        Unit { symbol: "MB", numerator: 1_000_000, denominator: 1 },
        Unit { symbol: "GB", numerator: 1_000_000_000, denominator: 1 },
        Unit { symbol: "TB", numerator: 1_000_000_000_000, denominator: 1 },
    ],
};

const BANDWIDTH: Kind = Kind {
    name: "bandwidth",
    example: "100 Gbit/s",
    units: &[
        Unit { symbol: "bit/s", numerator: 1, denominator: 8 },
        Unit { symbol: "kbit/s", numerator: 1_000, denominator: 8 },
        Unit { symbol: "Mbit/s", numerator: 1_000_000, denominator: 8 },
        Unit { symbol: "Gbit/s", numerator: 1_000_000_000, denominator: 8 },
        Unit { symbol: "Tbit/s", numerator: 1_000_000_000_000, denominator: 8 },
        Unit { symbol: "B/s", numerator: 1, denominator: 1 },
        Unit { symbol: "kB/s", numerator: 1_000, denominator: 1 },
        Unit { symbol: "MB/s", numerator: 1_000_000, denominator: 1 },
        Unit { symbol: "GB/s", numerator: 1_000_000_000, denominator: 1 },
        Unit { symbol: "TB/s", numerator: 1_000_000_000_000, denominator: 1 },
        Unit { symbol: "MiB/s", numerator: 1 << 20, denominator: 1 },
        Unit { symbol: "GiB/s", numerator: 1 << 30, denominator: 1 },
    ],
};

const BYTES_DISPLAY: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
];

const BANDWIDTH_DISPLAY: &[(&str, u64)] = &[
    ("TB/s", 1_000_000_000_000),
    ("GB/s", 1_000_000_000),
    ("MB/s", 1_000_000),
    ("kB/s", 1_000),
    ("B/s", 1),
];

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(u64);

/// Bytes per second, a whole number of them: exact for every line rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bandwidth(u64);

text_quantity!(Bytes, BYTES, parse_integer);
text_quantity!(Bandwidth, BANDWIDTH, parse_bandwidth);

fn parse_bandwidth(text: &str, kind: &Kind) -> Result<u64, super::UnitError> {
    match parse_integer(text, kind)? {
        0 => Err(super::UnitError::new(text, kind.name, "it must be above zero", kind.example)),
        rate => Ok(rate),
    }
}

impl Bytes {
    /// No data.
    pub const ZERO: Self = Self(0);

    /// So many bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The largest of `parts` equal parts: a remainder costs one byte more.
    #[must_use]
    pub const fn div_ceil(self, parts: u64) -> Self {
        Self(self.0.div_ceil(parts))
    }
}

impl Bandwidth {
    /// So many bytes per second; zero is taken as one, since a dead link is no link.
    #[must_use]
    pub const fn from_bytes_per_s(bytes_per_s: u64) -> Self {
        Self(if bytes_per_s == 0 { 1 } else { bytes_per_s })
    }

    /// Bytes per second.
    #[must_use]
    pub const fn bytes_per_s(self) -> u64 {
        self.0
    }

    /// How long `bytes` occupy the link: bytes / bandwidth, rounded up to the picosecond, so that
    /// nothing ever exceeds wire speed.
    #[must_use]
    pub fn transmission_time(self, bytes: Bytes) -> SimDuration {
        let ps = (u128::from(bytes.0) * 1_000_000_000_000).div_ceil(u128::from(self.0));
        SimDuration::from_ps(u64::try_from(ps).unwrap_or(u64::MAX))
    }
}

impl Mul<u64> for Bandwidth {
    type Output = Self;

    fn mul(self, links: u64) -> Self {
        Self(self.0.saturating_mul(links))
    }
}

impl Add for Bytes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Mul<u64> for Bytes {
    type Output = Self;

    fn mul(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count))
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole =
            BYTES_DISPLAY.iter().find(|&&(_, factor)| self.0 > 0 && self.0.is_multiple_of(factor));
        let &(symbol, factor) = whole.unwrap_or(&("B", 1));
        f.pad(&format!("{} {symbol}", self.0 / factor))
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(f, self.0, BANDWIDTH_DISPLAY)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gigabit_and_gigabyte_are_decimal() {
        let rate = |text: &str| text.parse::<Bandwidth>().unwrap().bytes_per_s();
        assert_eq!(rate("100 Gbit/s"), 12_500_000_000);
        assert_eq!(rate("1 GB/s"), 1_000_000_000);
        assert_eq!("64 MiB".parse::<Bytes>().unwrap().get(), 67_108_864);
        assert!("0 GB/s".parse::<Bandwidth>().is_err());
        for (text, guess) in [("64 MIB", "did you mean `MiB`?"), ("64 M", "did you mean `MiB`?")] {
            let message = text.parse::<Bytes>().unwrap_err().to_string();
            assert!(message.contains(guess), "{message}");
        }
        for (text, guess) in [("100 Gb/s", "`Gbit/s`?"), ("100 Gbps", "`Gbit/s`?")] {
            let message = text.parse::<Bandwidth>().unwrap_err().to_string();
            assert!(message.contains(guess), "{message}");
        }
        // Megabits are no size; nothing is guessed across the difference of bits and bytes.
        let message = "64 Mb".parse::<Bytes>().unwrap_err().to_string();
        assert!(!message.contains("did you mean"), "{message}");
    }

    #[test]
    fn one_byte_at_400_gbit_takes_20_ps() {
        let link: Bandwidth = "400 Gbit/s".parse().unwrap();
        assert_eq!(link.transmission_time(Bytes::new(1)).as_ps(), 20);
    }

    proptest! {
        #[test]
        fn text_round_trips(value in 1_u64..) {
            let bytes = Bytes::new(value);
            prop_assert_eq!(bytes.to_string().parse::<Bytes>(), Ok(bytes));
            let bandwidth = Bandwidth::from_bytes_per_s(value);
            prop_assert_eq!(bandwidth.to_string().parse::<Bandwidth>(), Ok(bandwidth));
        }

        #[test]
        fn nothing_exceeds_wire_speed(bytes in 1_u64..1 << 40, rate in 1_u64..1 << 40) {
            let ps = Bandwidth::from_bytes_per_s(rate).transmission_time(Bytes::new(bytes)).as_ps();
            prop_assume!(ps < u64::MAX);
            prop_assert!(u128::from(bytes) * 1_000_000_000_000 <= u128::from(ps) * u128::from(rate));
        }
    }
}
