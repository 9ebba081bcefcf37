//! From text to a profile and back, with errors that name line and key.

use std::fmt;

use serde::Deserialize;

use super::{Profile, VERSION};

/// What is wrong with a profile, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileError {
    /// The line, counted from 1, where it is known.
    pub line: Option<usize>,
    /// The key, such as `compute.batches[1].batch`, where there is one.
    pub key: Option<String>,
    /// What is wrong, and what was expected.
    pub problem: String,
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "`{key}`: ")?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for ProfileError {}

impl ProfileError {
    fn at(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { line: None, key: Some(key.into()), problem: problem.into() }
    }
}

/// Only the version, of a profile that may be of another one.
#[derive(Deserialize)]
struct VersionOnly {
    profile: u32,
}

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// If it is not JSON, of another version, has not the keys of a profile, or its numbers cannot be
    /// simulated.
    pub fn read(text: &str) -> Result<Self, ProfileError> {
        let version: VersionOnly = parse(text).map_err(|error: ProfileError| {
            let about = "this is not a profile of foretrain calibrate";
            ProfileError { problem: format!("{about}: {}", error.problem), ..error }
        })?;
        if version.profile != VERSION {
            let problem = format!(
                "format version {}, but this version of foretrain reads {VERSION}: read it with the \
                 version that wrote it, or calibrate again",
                version.profile
            );
            return Err(ProfileError::at("profile", problem));
        }
        let profile: Self = parse(text)?;
        profile.check()?;
        Ok(profile)
    }

    /// The text of the profile.
    ///
    /// # Errors
    /// None that a profile can cause: every field has a form in JSON.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// Whether it can be simulated.
    ///
    /// # Errors
    /// On the first number that cannot.
    pub fn check(&self) -> Result<(), ProfileError> {
        let machine = &self.machine;
        if machine.ranks == 0 || machine.ranks_per_node == 0 {
            return Err(ProfileError::at("machine.ranks", "expected at least 1 rank of a node"));
        }
        if let Some(compute) = &self.compute {
            let times = &compute.batches;
            if times.is_empty() || compute.layers.is_empty() {
                let problem = "no layer was measured: leave `compute` out, or measure again";
                return Err(ProfileError::at("compute", problem));
            }
            if !times.is_sorted_by(|left, right| left.batch < right.batch) || times[0].batch == 0 {
                let problem = "expected increasing batches, the first at least 1";
                return Err(ProfileError::at("compute.batches", problem));
            }
            for (index, times) in times.iter().enumerate() {
                let key = |name: &str| format!("compute.batches[{index}].{name}");
                for (name, layers) in [
                    ("layer_forward_us", &times.layer_forward_us),
                    ("layer_backward_us", &times.layer_backward_us),
                ] {
                    if layers.len() != compute.layers.len() {
                        let problem = format!(
                            "{} times, but there are {} layers",
                            layers.len(),
                            compute.layers.len()
                        );
                        return Err(ProfileError::at(key(name), problem));
                    }
                    if let Some(wrong) = layers.iter().find(|time| !is_time(**time)) {
                        return Err(ProfileError::at(key(name), not_a_time(*wrong)));
                    }
                }
                for (name, time) in
                    [("host_us", times.host_us), ("optimizer_us", times.optimizer_us)]
                {
                    if !is_time(time.value) {
                        return Err(ProfileError::at(key(name), not_a_time(time.value)));
                    }
                }
            }
        }
        let links =
            [("intra_node", &self.links.intra_node), ("inter_node", &self.links.inter_node)];
        for (name, link) in links {
            let Some(link) = link else { continue };
            if link.ranges.is_empty() {
                let problem = "expected at least one range of sizes";
                return Err(ProfileError::at(format!("links.{name}.ranges"), problem));
            }
            for (index, range) in link.ranges.iter().enumerate() {
                let key = |of: &str| format!("links.{name}.ranges[{index}].{of}");
                if !is_time(range.latency_us.value) {
                    return Err(ProfileError::at(
                        key("latency_us"),
                        not_a_time(range.latency_us.value),
                    ));
                }
                let rate = range.gbyte_per_s.value;
                if !(1e-9..=1e9).contains(&rate) {
                    let problem = format!("{rate}, expected 10⁻⁹ to 10⁹ GB/s");
                    return Err(ProfileError::at(key("gbyte_per_s"), problem));
                }
            }
        }
        if let Some(jitter) = &self.jitter {
            let variation = jitter.variation.value;
            if !(0.0..=1.0).contains(&variation) {
                let problem = format!("{variation}, expected 0 to 1");
                return Err(ProfileError::at("jitter.variation", problem));
            }
        }
        Ok(())
    }
}

/// A day; no part of a step takes longer.
const TIME_US_MAX: f64 = 86_400e6;

fn is_time(us: f64) -> bool {
    (0.0..=TIME_US_MAX).contains(&us)
}

fn not_a_time(us: f64) -> String {
    format!("{us}, expected 0 to {TIME_US_MAX} microseconds")
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, ProfileError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let key = (error.inner().is_data() && path != ".").then_some(path);
        located(key, error.inner())
    })?;
    deserializer.end().map_err(|error| located(None, &error))?;
    Ok(value)
}

/// serde's message, its line and column apart.
fn located(key: Option<String>, error: &serde_json::Error) -> ProfileError {
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(text, _)| text);
    let problem = if error.is_eof() {
        "the file is cut short".to_owned()
    } else if error.is_syntax() {
        format!("this is not JSON: {message} at column {}", error.column())
    } else {
        message.to_owned()
    };
    ProfileError { line: (error.line() > 0).then(|| error.line()), key, problem }
}
