//! What a user knows of their own training, as text.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::posterior::NORMAL_95;
use super::recipe::Optimizer;
use crate::units::text::deserialize_text;
use crate::units::{Fraction, UnitError};

/// What the texts may say; wider than any training.
const BATCHES: RangeInclusive<f64> = 1.0..=1e9;
const EPOCHS: RangeInclusive<f64> = 1e-3..=1e6;

/// A number and what it counts, within `range`.
fn counted(text: &str, units: &[&str], range: &RangeInclusive<f64>) -> Option<f64> {
    let (number, unit) = text.trim().split_once(' ')?;
    let value: f64 = number.parse().ok()?;
    (units.contains(&unit.trim()) && range.contains(&value)).then_some(value)
}

/// A number alone, within `range`.
fn plain(text: &str, range: &RangeInclusive<f64>) -> Option<f64> {
    text.trim().parse().ok().filter(|value| range.contains(value))
}

/// Gives a type whose texts are its `FromStr` and `Display` serde and a JSON Schema.
macro_rules! as_text {
    ($type:ty, $name:literal, $example:expr, $description:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserialize_text(deserializer, $name, $example)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "description": $description,
                    "examples": [$example],
                })
            }
        }
    };
}

/// The accuracy that a run reached: `"75.3 % at 256 for 90 epochs"`, with `"by momentum"` where the
/// optimizer was another than the forecast's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KnownAccuracy {
    /// Top-1 in percent.
    pub top1_percent: f64,
    /// The global batch.
    pub batch: f64,
    /// Passes over the data.
    pub epochs: f64,
    /// Its optimizer; that of the forecast if it does not say.
    pub optimizer: Option<Optimizer>,
}

const ACCURACY_EXAMPLE: &str = "75.3 % at 256 for 90 epochs by momentum";

impl FromStr for KnownAccuracy {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error =
            |problem: &str| UnitError::new(text, "known accuracy", problem, ACCURACY_EXAMPLE);
        let (top1, rest) = text
            .split_once(" at ")
            .ok_or_else(|| error("the global batch after ` at ` is missing"))?;
        let top1: Fraction = top1.parse()?;
        let (batch, rest) = rest
            .split_once(" for ")
            .ok_or_else(|| error("the epochs after ` for ` are missing"))?;
        let (epochs, optimizer) = match rest.split_once(" by ") {
            None => (rest, None),
            Some((epochs, name)) => {
                let found = Optimizer::NAMED.iter().find(|(known, _)| *known == name.trim());
                let problem = "the optimizer is none of momentum, lars, rmsprop-warm-up";
                (epochs, Some(found.ok_or_else(|| error(problem))?.1))
            }
        };
        let batch = plain(batch, &BATCHES)
            .ok_or_else(|| error("the batch is not a number from 1 to 1e9"))?;
        let epochs = counted(epochs, &["epochs", "epoch"], &EPOCHS)
            .ok_or_else(|| error("the epochs are not a number from 0.001 to 1e6 with `epochs`"))?;
        let top1_percent = top1.percent();
        if !(top1_percent > 0.0 && top1_percent < 100.0) {
            return Err(error("the accuracy is not above 0 % and below 100 %"));
        }
        Ok(Self { top1_percent, batch, epochs, optimizer })
    }
}

impl fmt::Display for KnownAccuracy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { top1_percent, batch, epochs, optimizer } = self;
        write!(f, "{top1_percent} % at {batch} for {epochs} epochs")?;
        let name = Optimizer::NAMED.iter().find(|(_, known)| Some(*known) == *optimizer);
        name.map_or(Ok(()), |(name, _)| write!(f, " by {name}"))
    }
}

as_text!(
    KnownAccuracy,
    "known accuracy",
    ACCURACY_EXAMPLE,
    "the top-1 accuracy that a run reached, its global batch and epochs, and its optimizer where that differs"
);

/// The epochs that a run needed to the accuracy in question: `"12 epochs at 256"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KnownEpochs {
    /// Passes over the data.
    pub epochs: f64,
    /// The global batch.
    pub batch: f64,
}

const EPOCHS_EXAMPLE: &str = "12 epochs at 256";

impl FromStr for KnownEpochs {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = |problem: &str| UnitError::new(text, "known epochs", problem, EPOCHS_EXAMPLE);
        let (epochs, batch) = text
            .split_once(" at ")
            .ok_or_else(|| error("the global batch after ` at ` is missing"))?;
        let epochs = counted(epochs, &["epochs", "epoch"], &EPOCHS)
            .ok_or_else(|| error("the epochs are not a number from 0.001 to 1e6 with `epochs`"))?;
        let batch = plain(batch, &BATCHES)
            .ok_or_else(|| error("the batch is not a number from 1 to 1e9"))?;
        Ok(Self { epochs, batch })
    }
}

impl fmt::Display for KnownEpochs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} epochs at {}", self.epochs, self.batch)
    }
}

as_text!(
    KnownEpochs,
    "known epochs",
    EPOCHS_EXAMPLE,
    "the epochs that a run needed to the accuracy in question, and its global batch"
);

/// The batch at which twice as many epochs are needed as of small ones, with how well it is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CriticalBatch {
    /// In images.
    pub images: f64,
    /// The lower end of its interval of 95 %.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl CriticalBatch {
    /// The standard deviation of its logarithm.
    #[must_use]
    pub fn deviation(&self) -> f64 {
        ((self.high / self.low).ln() / (2.0 * NORMAL_95)).max(0.0)
    }
}

/// Where the critical batch is from: `"published"`, or one's own, `"4000 images"` or
/// `"4000 images (3000 to 5500)"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CriticalBatchSource {
    /// What was fitted to published runs.
    Published,
    /// One's own.
    Own(CriticalBatch),
}

const CRITICAL_EXAMPLE: &str = "4000 images (3000 to 5500)";

impl FromStr for CriticalBatchSource {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error =
            |problem: &str| UnitError::new(text, "critical batch", problem, CRITICAL_EXAMPLE);
        if text == "published" {
            return Ok(Self::Published);
        }
        let (images, interval) = match text.split_once('(') {
            None => (text, None),
            Some((images, interval)) => (images, Some(interval)),
        };
        let images = counted(images, &["images", "image"], &BATCHES)
            .ok_or_else(|| error("expected `published` or a number from 1 to 1e9 with `images`"))?;
        let (low, high) = match interval {
            None => (images, images),
            Some(interval) => {
                let ends = interval.trim().strip_suffix(')').and_then(|ends| {
                    let (low, high) = ends.split_once(" to ")?;
                    Some((plain(low, &BATCHES)?, plain(high, &BATCHES)?))
                });
                ends.filter(|(low, high)| low <= &images && &images <= high)
                    .ok_or_else(|| error("its interval does not hold it"))?
            }
        };
        Ok(Self::Own(CriticalBatch { images, low, high }))
    }
}

impl fmt::Display for CriticalBatchSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Published => f.write_str("published"),
            Self::Own(CriticalBatch { images, low, high }) if low == high => {
                write!(f, "{images} images")
            }
            Self::Own(CriticalBatch { images, low, high }) => {
                write!(f, "{images} images ({low} to {high})")
            }
        }
    }
}

as_text!(
    CriticalBatchSource,
    "critical batch",
    CRITICAL_EXAMPLE,
    "`published`, or the batch at which twice as many epochs are needed, with its interval of 95 % if that is known"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_they_are_written() {
        for text in ["75.3 % at 256 for 90 epochs", ACCURACY_EXAMPLE] {
            assert_eq!(text.parse::<KnownAccuracy>().unwrap().to_string(), text);
        }
        assert_eq!(EPOCHS_EXAMPLE.parse::<KnownEpochs>().unwrap().to_string(), EPOCHS_EXAMPLE);
        for text in ["published", "4000 images", CRITICAL_EXAMPLE] {
            assert_eq!(text.parse::<CriticalBatchSource>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn texts_say_what_is_wrong() {
        for (text, problem) in [
            ("75.3 %", "the global batch after ` at `"),
            ("75.3 % at 256", "the epochs after ` for `"),
            ("75.3 at 256 for 90 epochs", "the unit is missing"),
            ("75.3 % at x for 90 epochs", "the batch is not"),
            ("75.3 % at 256 for 90", "the epochs are not"),
            ("75.3 % at 256 for 90 epochs by adam", "the optimizer is none of"),
            ("100 % at 256 for 90 epochs", "not above 0 % and below 100 %"),
        ] {
            let message = text.parse::<KnownAccuracy>().unwrap_err().to_string();
            assert!(message.contains(problem), "{message}");
        }
        for text in
            ["12 epochs", "12 at 256", "0 epochs at 256", "NaN epochs at 3", "2 epochs at 0"]
        {
            assert!(text.parse::<KnownEpochs>().is_err(), "{text}");
        }
        for text in ["4000", "4000 images (5000 to 6000)", "4000 images (3000 to 5000", "-1 images"]
        {
            assert!(text.parse::<CriticalBatchSource>().is_err(), "{text}");
        }
    }
}
