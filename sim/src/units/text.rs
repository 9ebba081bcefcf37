//! Reading and writing "number unit" texts: the one place where a unit's factor is applied.

use std::fmt;

/// Why a text is not the quantity it should be, and how it should have been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitError {
    text: String,
    quantity: &'static str,
    problem: String,
    example: &'static str,
}

impl UnitError {
    /// An error about `text`, which should be a `quantity` such as `example`.
    pub(crate) fn new(
        text: &str,
        quantity: &'static str,
        problem: impl Into<String>,
        example: &'static str,
    ) -> Self {
        Self { text: text.to_owned(), quantity, problem: problem.into(), example }
    }
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, quantity, problem, example } = self;
        let article = if quantity.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        write!(f, "`{text}` is not {article} {quantity}: {problem}; write it like \"{example}\"")
    }
}

impl std::error::Error for UnitError {}

/// One spelling of a unit: `numerator / denominator` base units.
pub(crate) struct Unit {
    pub(crate) symbol: &'static str,
    pub(crate) numerator: u128,
    pub(crate) denominator: u128,
}

/// What the reader needs to know about a kind of quantity.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) example: &'static str,
    pub(crate) units: &'static [Unit],
}

/// A decimal number, exactly: `digits / 10^scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Decimal {
    digits: u128,
    scale: u32,
}

/// More digits than this cannot be meant, and would overflow the exact arithmetic.
const DIGITS_MAX: usize = 22;

fn parse_decimal(text: &str) -> Option<Decimal> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let length = whole.len() + fraction.len();
    if !all_digits(whole) || !all_digits(fraction) || length == 0 || length > DIGITS_MAX {
        return None;
    }
    let digits = format!("{whole}{fraction}").parse().ok()?;
    Some(Decimal { digits, scale: u32::try_from(fraction.len()).ok()? })
}

fn split(text: &str, kind: &Kind) -> Result<(Decimal, &'static Unit), UnitError> {
    let error = |problem: String| UnitError::new(text, kind.name, problem, kind.example);
    let trimmed = text.trim();
    let end = trimmed
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_'))
        .unwrap_or(trimmed.len());
    let (number, symbol) = trimmed.split_at(end);
    let symbol = symbol.trim();
    if number.is_empty() {
        let problem = if symbol.starts_with('-') {
            "it must not be negative".to_owned()
        } else {
            "it does not start with a number".to_owned()
        };
        return Err(error(problem));
    }
    let decimal = parse_decimal(&number.replace('_', "")).ok_or_else(|| {
        error(format!("`{number}` is not a decimal number of at most {DIGITS_MAX} digits"))
    })?;
    if symbol.is_empty() {
        return Err(error("the unit is missing".to_owned()));
    }
    let unit = kind.units.iter().find(|unit| unit.symbol == symbol).ok_or_else(|| {
        let symbols: Vec<&str> = kind.units.iter().map(|unit| unit.symbol).collect();
        let guess = meant(symbol, &symbols)
            .map(|symbol| format!(" (did you mean `{symbol}`?)"))
            .unwrap_or_default();
        error(format!("unknown unit `{symbol}`{guess}, expected one of {}", symbols.join(", ")))
    })?;
    Ok((decimal, unit))
}

/// Spellings that people use for units we know; a bit and a byte are never taken for each other.
const ALIASES: &[(&str, &str)] = &[
    ("bps", "bit/s"),
    ("Kbps", "kbit/s"),
    ("kbps", "kbit/s"),
    ("Mbps", "Mbit/s"),
    ("Mb/s", "Mbit/s"),
    ("Gbps", "Gbit/s"),
    ("Gb/s", "Gbit/s"),
    ("Tbps", "Tbit/s"),
    ("Tb/s", "Tbit/s"),
    ("KB/s", "kB/s"),
    ("MBps", "MB/s"),
    ("GBps", "GB/s"),
    ("TBps", "TB/s"),
    ("KB", "kB"),
    ("K", "KiB"),
    ("M", "MiB"),
    ("G", "GiB"),
    ("sec", "s"),
    ("msec", "ms"),
    ("usec", "us"),
    ("nsec", "ns"),
    ("hours", "h"),
    ("d", "days"),
    ("day", "days"),
    ("TFLOPS", "TFLOP/s"),
    ("TFLOPs", "TFLOP/s"),
    ("GFLOPS", "GFLOP/s"),
    ("$/h", "USD/h"),
    ("USD/hour", "USD/h"),
    ("images/sec", "images/s"),
    ("percent", "%"),
];

/// The unit that an unknown spelling means, if it is clear.
fn meant<'a>(symbol: &str, known: &[&'a str]) -> Option<&'a str> {
    let alias = ALIASES.iter().find(|(alias, _)| *alias == symbol).map(|(_, unit)| *unit);
    known.iter().copied().find(|unit| Some(*unit) == alias).or_else(|| {
        let bytes = |text: &str| text.contains('B');
        known
            .iter()
            .copied()
            .find(|unit| unit.eq_ignore_ascii_case(symbol) && bytes(unit) == bytes(symbol))
    })
}

/// Reads a quantity counted in whole base units, rounded half up.
pub(crate) fn parse_integer(text: &str, kind: &Kind) -> Result<u64, UnitError> {
    let (number, unit) = split(text, kind)?;
    let too_large =
        || UnitError::new(text, kind.name, "it is too large to be represented", kind.example);
    let numerator = number.digits.checked_mul(unit.numerator).ok_or_else(too_large)?;
    let denominator = 10_u128.pow(number.scale) * unit.denominator;
    let rounded = (numerator + denominator / 2) / denominator;
    if rounded == 0 && number.digits != 0 {
        return Err(UnitError::new(
            text,
            kind.name,
            "it is too small to be represented",
            kind.example,
        ));
    }
    u64::try_from(rounded).map_err(|_| too_large())
}

/// Reads a quantity counted in fractional base units.
pub(crate) fn parse_float(text: &str, kind: &Kind) -> Result<f64, UnitError> {
    let (number, unit) = split(text, kind)?;
    let base = number.digits as f64 / 10_f64.powi(number.scale.cast_signed());
    Ok(base * unit.numerator as f64 / unit.denominator as f64)
}

/// Writes `value` base units exactly, as a decimal number of the largest unit not above it.
///
/// `units` are (symbol, base units), largest first, each a product of powers of two and five.
pub(crate) fn write_decimal(
    f: &mut fmt::Formatter<'_>,
    value: u64,
    units: &[(&'static str, u64)],
) -> fmt::Result {
    let Some(&(symbol, factor)) =
        units.iter().find(|&&(_, factor)| value >= factor).or(units.last())
    else {
        return write!(f, "{value}");
    };
    let mut text = (value / factor).to_string();
    let mut rest = u128::from(value % factor);
    if rest > 0 {
        text.push('.');
    }
    while rest > 0 {
        rest *= 10;
        let digit = rest / u128::from(factor);
        text.push(char::from(b'0' + u8::try_from(digit).unwrap_or(9)));
        rest %= u128::from(factor);
    }
    f.pad(&format!("{text} {symbol}"))
}

/// The candidate most like `text`, if one is near enough to be a misspelling of it.
pub(crate) fn nearest<'a>(text: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let lower = text.to_lowercase();
    candidates
        .iter()
        .map(|candidate| {
            (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), *candidate)
        })
        .min_by_key(|&(distance, _)| distance)
        .filter(|&(distance, candidate)| distance <= 1.max(candidate.chars().count() / 3))
        .map(|(_, candidate)| candidate)
}

/// Gives a quantity its text form: `FromStr`, serde as a string, and a JSON Schema.
macro_rules! text_quantity {
    ($type:ty, $kind:expr, $parse:expr) => {
        impl std::str::FromStr for $type {
            type Err = $crate::units::UnitError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $parse(text, &$kind).map(Self)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::units::text::deserialize_text(deserializer, $kind.name, $kind.example)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let units: Vec<&str> = $kind.units.iter().map(|unit| unit.symbol).collect();
                schemars::json_schema!({
                    "type": "string",
                    "description": format!("a {} with its unit, one of {}", $kind.name, units.join(", ")),
                    "examples": [$kind.example],
                })
            }
        }
    };
}
pub(crate) use text_quantity;

/// Deserializes anything whose text form is its `FromStr`; a bare number gets the advice it needs.
pub(crate) fn deserialize_text<'de, D, T>(
    deserializer: D,
    quantity: &'static str,
    example: &'static str,
) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err = UnitError>,
{
    struct Visitor<T>(&'static str, &'static str, std::marker::PhantomData<T>);

    impl<T: std::str::FromStr<Err = UnitError>> Visitor<T> {
        fn bare<E: serde::de::Error>(&self, number: impl fmt::Display) -> Result<T, E> {
            let problem = "the unit is missing";
            Err(E::custom(UnitError::new(&number.to_string(), self.0, problem, self.1)))
        }
    }

    impl<T: std::str::FromStr<Err = UnitError>> serde::de::Visitor<'_> for Visitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a {} with its unit, like \"{}\"", self.0, self.1)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }

        fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
            self.bare(number)
        }

        fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
            self.bare(number)
        }

        fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<T, E> {
            self.bare(number)
        }
    }

    deserializer.deserialize_any(Visitor(quantity, example, std::marker::PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        assert_eq!(parse_decimal("12.340"), Some(Decimal { digits: 12_340, scale: 3 }));
        assert_eq!(parse_decimal("7"), Some(Decimal { digits: 7, scale: 0 }));
        for bad in ["", ".", "1.2.3", "1e3", "x", "12345678901234567890123"] {
            assert_eq!(parse_decimal(bad), None, "{bad}");
        }
    }

    #[test]
    fn nearest_finds_misspellings_and_nothing_else() {
        assert_eq!(nearest("rign", &["ring", "hybrid"]), Some("ring"));
        assert_eq!(nearest("MIB", &["MB", "MiB"]), Some("MiB"));
        assert_eq!(nearest("torus", &["ring", "hybrid"]), None);
    }
}
