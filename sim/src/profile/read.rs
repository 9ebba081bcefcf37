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
    pub(super) fn at(key: impl Into<String>, problem: impl Into<String>) -> Self {
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
