//! A measured rate, to which the roofline is scaled.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::text::deserialize_text;
use crate::units::{ImageRate, UnitError};

/// A measured rate at one batch: of one accelerator, such as `"218 images/s at 64"`, or of several
/// training together, such as `"26675 images/s at 408 on 8"`, with the batch of one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Anchor {
    /// The measured rate, of all accelerators together.
    pub rate: ImageRate,
    /// The batch of one accelerator that it was measured at.
    pub batch: u64,
    /// The accelerators that it was measured on. What several wait for each other is in their rate.
    pub accelerators: u32,
}

impl Anchor {
    /// A rate of one accelerator.
    #[must_use]
    pub const fn of_one(rate: ImageRate, batch: u64) -> Self {
        Self { rate, batch, accelerators: 1 }
    }

    /// Images of a step.
    #[must_use]
    pub const fn global_batch(&self) -> u64 {
        self.batch * self.accelerators as u64
    }
}

/// What an anchor may say; wider than any accelerator.
const RATES: std::ops::RangeInclusive<f64> = 1e-3..=1e9;
const BATCHES: std::ops::RangeInclusive<u64> = 1..=1_000_000;
const ACCELERATORS: std::ops::RangeInclusive<u32> = 1..=65_536;

const ANCHOR_NAME: &str = "anchor";
const ANCHOR_EXAMPLE: &str = "218 images/s at 64";

impl FromStr for Anchor {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = |problem: &str| UnitError::new(text, ANCHOR_NAME, problem, ANCHOR_EXAMPLE);
        let (rate, batch) =
            text.split_once(" at ").ok_or_else(|| error("the batch after ` at ` is missing"))?;
        let rate: ImageRate = rate.parse()?;
        let (batch, accelerators) = match batch.split_once(" on ") {
            None => (batch, 1),
            Some((batch, accelerators)) => {
                let accelerators = accelerators.trim().parse();
                let problem = "the number of accelerators is not a whole number";
                (batch, accelerators.map_err(|_| error(problem))?)
            }
        };
        let batch = batch.trim().parse().map_err(|_| error("the batch is not a whole number"))?;
        if !RATES.contains(&rate.get())
            || !BATCHES.contains(&batch)
            || !ACCELERATORS.contains(&accelerators)
        {
            return Err(error("expected 0.001 to 1e9 images/s at 1 to 1,000,000 on 1 to 65,536"));
        }
        Ok(Self { rate, batch, accelerators })
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.rate, self.batch)?;
        if self.accelerators > 1 {
            write!(f, " on {}", self.accelerators)?;
        }
        Ok(())
    }
}

impl Serialize for Anchor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Anchor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_text(deserializer, ANCHOR_NAME, ANCHOR_EXAMPLE)
    }
}

impl JsonSchema for Anchor {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Anchor".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "a measured rate, the batch of one accelerator, and on how many it was measured if not on one",
            "examples": [ANCHOR_EXAMPLE, "26675 images/s at 408 on 8"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_read_as_they_are_written() {
        for text in ["218 images/s at 64", "26675.1 images/s at 408 on 8"] {
            assert_eq!(text.parse::<Anchor>().unwrap().to_string(), text);
        }
        let node: Anchor = "26675 images/s at 408 on 8".parse().unwrap();
        assert_eq!((node.accelerators, node.global_batch()), (8, 3264));
        let one: Anchor = "218 images/s at 64".parse().unwrap();
        assert_eq!(one, Anchor::of_one(one.rate, 64));
    }

    #[test]
    fn anchors_say_what_is_wrong() {
        for (text, problem) in [
            ("218 images/s", "the batch after ` at ` is missing"),
            ("218 at 64", "the unit is missing"),
            ("218 images/s at x", "not a whole number"),
            ("0 images/s at 4", "expected 0.001 to 1e9 images/s at 1 to"),
            ("218 images/s at 4 on x", "the number of accelerators is not a whole number"),
            ("218 images/s at 4 on 0", "expected 0.001 to 1e9 images/s at 1 to"),
        ] {
            let message = text.parse::<Anchor>().unwrap_err().to_string();
            assert!(message.contains(problem), "{message}");
        }
    }
}
