//! Small values of a scenario that are names or texts.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::network::Link;
use crate::units::UnitError;

/// A link: a name of the catalogue, or `"100 Gbit/s, 1 us"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkName {
    /// A name of the catalogue.
    Named(String),
    /// Bandwidth and latency.
    Given(Link),
}

impl FromStr for LinkName {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if text.contains(',') {
            return text.parse().map(Self::Given);
        }
        Ok(Self::Named(text.to_owned()))
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => name.fmt(f),
            Self::Given(link) => link.fmt(f),
        }
    }
}

impl Serialize for LinkName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LinkName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for LinkName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LinkName".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "a link of the catalogue by name, or its bandwidth one way and latency",
            "examples": ["nvlink2-nvswitch", "100 Gbit/s, 1.5 us"],
        })
    }
}

/// The precision of gradients on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GradientPrecision {
    /// Four bytes a gradient.
    Fp32,
    /// Two bytes a gradient.
    Fp16,
    /// Two bytes a gradient.
    Bf16,
}

impl GradientPrecision {
    /// Bytes of one gradient element.
    #[must_use]
    pub const fn element_bytes(self) -> u64 {
        match self {
            Self::Fp32 => 4,
            Self::Fp16 | Self::Bf16 => 2,
        }
    }
}
