//! The settings that decide what a run computes, to be compared with those of a checkpoint.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Settings that change results, by key: `optimizer.momentum` is `0.9`.
///
/// Two runs with the same settings, on the same data, compute the same weights. What only changes
/// speed or place (threads, folders, how often to evaluate) is not among them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint {
    settings: BTreeMap<String, String>,
}

/// A setting that two fingerprints do not share; none where one does not have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The key.
    pub key: String,
    /// What it was when the checkpoint was written.
    pub saved: Option<String>,
    /// What it is now.
    pub now: Option<String>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, saved, now } = self;
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
        write!(f, "`{key}` was {} and is {}", shown(saved), shown(now))
    }
}

impl Fingerprint {
    /// Adds a setting, or replaces it: for facts that are known once data are open, such as
    /// `data.train_samples`.
    pub fn insert(&mut self, key: &str, value: impl std::fmt::Display) {
        self.settings.insert(key.to_owned(), value.to_string());
    }

    /// The settings of a JSON value, nested keys joined by dots; null is not set.
    #[must_use]
    pub fn of(value: &serde_json::Value) -> Self {
        let mut fingerprint = Self::default();
        fingerprint.collect(String::new(), value);
        fingerprint
    }

    fn collect(&mut self, key: String, value: &serde_json::Value) {
        match value {
            serde_json::Value::Object(inner) => {
                for (name, value) in inner {
                    let dot = if key.is_empty() { "" } else { "." };
                    self.collect(format!("{key}{dot}{name}"), value);
                }
            }
            serde_json::Value::Null => {}
            serde_json::Value::String(text) => self.insert(&key, text),
            other => self.insert(&key, other),
        }
    }

    /// Leaves `key` out, and all keys below it.
    pub(crate) fn remove(&mut self, key: &str) {
        let below = format!("{key}.");
        self.settings.retain(|name, _| name != key && !name.starts_with(&below));
    }

    /// The SHA-256 of all settings, in hexadecimal.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut text = String::new();
        for (key, value) in &self.settings {
            // Lengths first, so that no value can look like another key.
            let _ = writeln!(text, "{} {key} {} {value}", key.len(), value.len());
        }
        Sha256::digest(text.as_bytes()).iter().fold(String::new(), |mut hash, byte| {
            let _ = write!(hash, "{byte:02x}");
            hash
        })
    }

    /// What differs between these settings and those that a checkpoint `saved`.
    #[must_use]
    pub fn differences(&self, saved: &Self) -> Vec<Difference> {
        let mut keys: Vec<&String> = self.settings.keys().chain(saved.settings.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter()
            .map(|key| Difference {
                key: key.clone(),
                saved: saved.settings.get(key).cloned(),
                now: self.settings.get(key).cloned(),
            })
            .filter(|difference| difference.saved != difference.now)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_the_setting() {
        let json = |text: &str| Fingerprint::of(&serde_json::from_str(text).unwrap());
        let saved = json(r#"{"seed":1,"optimizer":{"rule":"lars","decay":1e-4},"gone":[1,2]}"#);
        let mut now = json(r#"{"optimizer":{"decay":5e-4,"rule":"lars"},"seed":1,"none":null}"#);
        assert_ne!(saved.hash(), now.hash());
        let shown: Vec<String> = now.differences(&saved).iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["`gone` was [1,2] and is not set", "`optimizer.decay` was 0.0001 and is 0.0005"]
        );
        now.insert("optimizer.decay", 1e-4);
        now.insert("gone", "[1,2]");
        assert_eq!(now.hash(), saved.hash());
        assert_eq!(now.hash().len(), 64);
        now.remove("optimizer");
        assert_eq!(now, json(r#"{"seed":1,"gone":[1,2]}"#));
    }
}
