//! A link: latency and bandwidth.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::text::deserialize_text;
use crate::units::{Bandwidth, Bytes, SimDuration, UnitError};

/// A link of latency α and bandwidth B: a message of S bytes takes α + S/B.
///
/// This is Hockney's model (Parallel Computing 20(3), 1994). As text: `"100 Gbit/s, 1 us"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// From the start of an empty message to its arrival.
    pub latency: SimDuration,
    /// One way.
    pub bandwidth: Bandwidth,
}

const NAME: &str = "link";
const EXAMPLE: &str = "100 Gbit/s, 1 us";

impl Link {
    /// How long a message of `bytes` takes, rounded up to the picosecond.
    #[must_use]
    pub fn message_time(&self, bytes: Bytes) -> SimDuration {
        self.latency.saturating_add(self.bandwidth.transmission_time(bytes))
    }
}

impl FromStr for Link {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let Some((bandwidth, latency)) = text.split_once(',') else {
            let problem = "expected a bandwidth and a latency with a comma between them";
            return Err(UnitError::new(text, NAME, problem, EXAMPLE));
        };
        Ok(Self { bandwidth: bandwidth.trim().parse()?, latency: latency.trim().parse()? })
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.bandwidth, self.latency)
    }
}

impl Serialize for Link {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Link {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_text(deserializer, NAME, EXAMPLE)
    }
}

impl JsonSchema for Link {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Link".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "bandwidth one way and latency, each with its unit",
            "examples": [EXAMPLE],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_parts_and_says_which_is_wrong() {
        let link: Link = "100 Gbit/s, 1 us".parse().unwrap();
        assert_eq!(link.message_time(Bytes::new(102_400)).as_ps(), 1_000_000 + 8_192_000);
        assert_eq!(link.to_string().parse(), Ok(link));
        let message = |text: &str| text.parse::<Link>().unwrap_err().to_string();
        assert!(message("100 Gbit/s").contains("with a comma"));
        assert!(message("100 Gbit/s, 1").contains("the unit is missing"));
        assert!(message("100 Gb/s, 1 us").contains("unknown unit `Gb/s`"));
    }
}
