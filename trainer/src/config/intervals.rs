//! How often something happens, and in which steps.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Steps of one recording at most: some gigabytes of text.
const STEPS_MAX: u64 = 100_000;

/// How often: "1 epoch", "500 steps" or "never".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// At no time.
    Never,
    /// After so many epochs, each time.
    Epochs(u64),
    /// After so many steps, each time.
    Steps(u64),
}

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no interval; write it like \"1 epoch\", \"500 steps\" or \"never\""
            )
        };
        let trimmed = text.trim();
        if trimmed == "never" {
            return Ok(Self::Never);
        }
        let (number, unit) = trimmed.split_once(char::is_whitespace).ok_or_else(wrong)?;
        let number = number.parse::<u64>().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
        match unit.trim() {
            "epoch" | "epochs" => Ok(Self::Epochs(number)),
            "step" | "steps" => Ok(Self::Steps(number)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Epochs(1) => f.write_str("1 epoch"),
            Self::Epochs(number) => write!(f, "{number} epochs"),
            Self::Steps(1) => f.write_str("1 step"),
            Self::Steps(number) => write!(f, "{number} steps"),
        }
    }
}

impl Serialize for Every {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Every {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl schemars::JsonSchema for Every {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Every".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "how often: a number of epochs or steps, or never",
            "examples": ["1 epoch", "500 steps", "never"],
        })
    }
}

/// Steps: "10..20" for steps 10 to 19, or a number for so many from step 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRange(pub Range<u64>);

impl StepRange {
    fn new(range: Range<u64>) -> Result<Self, String> {
        if range.is_empty() {
            return Err(format!("{}..{} has no steps", range.start, range.end));
        }
        let steps = range.end - range.start;
        if steps > STEPS_MAX {
            return Err(format!("{steps} steps, expected at most {STEPS_MAX}"));
        }
        Ok(Self(range))
    }
}

impl FromStr for StepRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = |text: &str| text.trim().parse::<u64>().ok();
        let range = text.split_once("..").and_then(|(from, to)| Some(read(from)?..read(to)?));
        Self::new(range.ok_or_else(|| {
            format!("`{text}` are no steps; write them like \"10..20\", or as a number")
        })?)
    }
}

impl Serialize for StepRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}..{}", self.0.start, self.0.end))
    }
}

impl<'de> Deserialize<'de> for StepRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Steps;

        impl Visitor<'_> for Steps {
            type Value = StepRange;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("steps like \"10..20\", or their number")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<StepRange, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: Error>(self, steps: u64) -> Result<StepRange, E> {
                StepRange::new(0..steps).map_err(E::custom)
            }

            fn visit_i64<E: Error>(self, steps: i64) -> Result<StepRange, E> {
                self.visit_u64(u64::try_from(steps).unwrap_or(0))
            }
        }

        deserializer.deserialize_any(Steps)
    }
}

impl schemars::JsonSchema for StepRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StepRange".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "steps, the end not among them, or their number from the first",
            "anyOf": [
                { "type": "string", "pattern": "^ *[0-9]+ *\\.\\. *[0-9]+ *$" },
                { "type": "integer", "minimum": 1 },
            ],
            "examples": ["10..20", 100],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read_and_written() {
        for (text, every) in [
            ("never", Every::Never),
            ("1 epoch", Every::Epochs(1)),
            ("500 steps", Every::Steps(500)),
        ] {
            assert_eq!(text.parse(), Ok(every));
            assert_eq!(every.to_string(), text);
        }
        for wrong in ["", "1", "0 steps", "2 hours", "-1 epochs", "1.5 epochs"] {
            assert!(wrong.parse::<Every>().unwrap_err().contains("no interval"), "{wrong}");
        }
    }

    #[test]
    fn steps_are_a_range() {
        assert_eq!("10..20".parse(), Ok(StepRange(10..20)));
        assert!("20..20".parse::<StepRange>().unwrap_err().contains("has no steps"));
        assert!("0..100001".parse::<StepRange>().unwrap_err().contains("at most 100000"));
        assert!("10-20".parse::<StepRange>().unwrap_err().contains("write them like"));
    }
}
