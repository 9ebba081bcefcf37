//! Quantities that models treat as real numbers: rates of work, power, prices, fractions, times that
//! no simulation reaches.

use std::fmt;

use super::text::{Kind, Unit, parse_float, text_quantity};

macro_rules! float_quantity {
    ($(#[$doc:meta])* $type:ident, $name:literal, $example:literal, $display:literal,
     [$(($symbol:literal, $numerator:expr, $denominator:expr)),+ $(,)?]) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
        pub struct $type(f64);

        impl $type {
            const KIND: Kind = Kind {
                name: $name,
                example: $example,
                units: &[$(Unit {
                    symbol: $symbol,
                    numerator: $numerator,
                    denominator: $denominator,
                }),+],
            };

            /// The quantity from a number of its base unit (named in the type's description).
            #[must_use]
            pub const fn new(value: f64) -> Self {
                Self(value)
            }

            /// The number of base units.
            #[must_use]
            pub const fn get(self) -> f64 {
                self.0
            }
        }

        text_quantity!($type, Self::KIND, parse_float);

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&format!(concat!("{} ", $display), self.0))
            }
        }
    };
}

float_quantity!(
    /// Floating-point operations per second (FLOP/s); a fused multiply-add counts two.
    ComputeRate, "compute rate", "15.7 TFLOP/s", "FLOP/s",
    [("FLOP/s", 1, 1), ("GFLOP/s", 1_000_000_000, 1), ("TFLOP/s", 1_000_000_000_000, 1),
     ("PFLOP/s", 1_000_000_000_000_000, 1)]
);

float_quantity!(
    /// Images per second.
    ImageRate, "image rate", "218 images/s", "images/s",
    [("images/s", 1, 1), ("image/s", 1, 1), ("img/s", 1, 1)]
);

float_quantity!(
    /// Watts.
    Power, "power", "300 W", "W",
    [("W", 1, 1), ("kW", 1_000, 1)]
);

float_quantity!(
    /// United States dollars per hour.
    Price, "price", "2.48 USD/h", "USD/h",
    [("USD/h", 1, 1)]
);

float_quantity!(
    /// United States dollars.
    Money, "amount", "500 USD", "USD",
    [("USD", 1, 1), ("kUSD", 1_000, 1)]
);

float_quantity!(
    /// A dimensionless share: 1.0 is 100 %.
    Fraction, "percentage", "2 %", "x",
    [("%", 1, 100), ("x", 1, 1)]
);

float_quantity!(
    /// Seconds, of any number: the years between failures are beyond simulated time.
    LongDuration, "duration", "50000 h", "s",
    [("s", 1, 1), ("min", 60, 1), ("h", 3_600, 1), ("days", 86_400, 1)]
);

impl Fraction {
    /// In percent, without the noise of binary fractions: "58.7 %" is 58.7.
    #[must_use]
    pub fn percent(self) -> f64 {
        (self.0 * 100.0 * PERCENT_DIGITS).round() / PERCENT_DIGITS
    }
}

/// Digits after the point of a percentage that anybody writes.
const PERCENT_DIGITS: f64 = 1e9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_as_they_are_written() {
        for tenths in 1..1000 {
            let text = format!("{}.{} %", tenths / 10, tenths % 10);
            let percent = text.parse::<Fraction>().unwrap().percent();
            assert_eq!(percent, text[..text.len() - 2].parse::<f64>().unwrap());
        }
    }

    #[test]
    fn reads_units_and_writes_what_it_reads() {
        assert_eq!("15.7 TFLOP/s".parse::<ComputeRate>().unwrap().get(), 15.7e12);
        assert_eq!("218 images/s".parse::<ImageRate>().unwrap().get(), 218.0);
        assert_eq!("2 %".parse::<Fraction>().unwrap().get(), 0.02);
        let price: Price = "2.48 USD/h".parse().unwrap();
        assert_eq!(price.to_string().parse::<Price>().unwrap(), price);
        assert_eq!("50000 h".parse::<LongDuration>().unwrap().get(), 1.8e8);
        assert_eq!("0.5 days".parse::<LongDuration>().unwrap().get(), 43_200.0);
        assert!(
            "15.7 TFLOPS".parse::<ComputeRate>().unwrap_err().to_string().contains("`TFLOP/s`")
        );
    }
}
