//! TOML texts whose errors say where they are: line, column, key, what was expected, how to mend it.
//!
//! A [`Document`] keeps the place of every value, so a check long after parsing can still point to
//! the line that it is about. Scenarios are read through it, and the trainer's configuration.

use std::fmt;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::units::text::nearest;

/// What is wrong with a text, where, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocatedError {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// The key concerned, such as `cluster.node`, where there is one.
    pub key: Option<String>,
    /// What is wrong, what was expected, how to mend it.
    pub problem: String,
}

impl fmt::Display for LocatedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, key, problem } = self;
        write!(f, "{line}:{column}: ")?;
        if let Some(key) = key {
            write!(f, "`{key}`: ")?;
        }
        f.write_str(problem)
    }
}

impl std::error::Error for LocatedError {}

/// What is wrong with a key, before its place in the text is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key with its sections, such as `cluster.node` or `sweep.group[1]`.
    pub key: String,
    /// What is wrong, what was expected, how to mend it.
    pub problem: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.key, self.problem)
    }
}

impl std::error::Error for Problem {}

impl Problem {
    /// What is wrong with `key`.
    #[must_use]
    pub fn new(key: &str, problem: impl Into<String>) -> Self {
        Self { key: key.to_owned(), problem: problem.into() }
    }
}

/// Says that `wanted` is no known `kind`, with the nearest name that is.
#[must_use]
pub fn unknown(kind: &str, wanted: &str, names: &[&str]) -> String {
    let expected = names.join(", ");
    match nearest(wanted, names) {
        Some(near) => {
            format!("unknown {kind} `{wanted}`: did you mean `{near}`? Expected one of {expected}")
        }
        None => format!("unknown {kind} `{wanted}`, expected one of {expected}"),
    }
}

/// The name most like `wanted`, if one is near enough to be what was meant.
#[must_use]
pub fn nearest_name<'a>(wanted: &str, names: &[&'a str]) -> Option<&'a str> {
    nearest(wanted, names)
}

/// A TOML text, parsed into values that remember where they stand.
#[derive(Debug, Clone)]
pub struct Document<'a> {
    text: &'a str,
    pub(crate) root: Spanned<DeTable<'a>>,
}

impl<'a> Document<'a> {
    /// Parses a text.
    ///
    /// # Errors
    /// If it is not TOML.
    pub fn parse(text: &'a str) -> Result<Self, LocatedError> {
        let root = DeTable::parse(text).map_err(|error| syntax_error(text, &error))?;
        Ok(Self { text, root })
    }

    /// The same text with other values, some of which may be gone.
    pub(crate) fn with_root(&self, root: Spanned<DeTable<'a>>) -> Self {
        Self { text: self.text, root }
    }

    /// The values as `T`.
    ///
    /// # Errors
    /// If they are not those of a `T`; unknown names come with the nearest that is known.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, LocatedError> {
        self.deserialize(self.root.clone(), "")
    }

    /// Reads the table at `path`, such as `optimizer`, as `T`, without its key `tag`; nothing if
    /// the text has no such table.
    ///
    /// serde reads enums that are told apart by a tag from a copy without places. What a tag
    /// stands for, read by itself first, has its errors where they are.
    ///
    /// # Errors
    /// If it is not a `T`.
    pub fn read_table<T: DeserializeOwned>(
        &self,
        path: &str,
        tag: &str,
    ) -> Result<Option<T>, LocatedError> {
        let Some(value) = self.value(path) else { return Ok(None) };
        let DeValue::Table(table) = value.get_ref() else { return Ok(None) };
        let mut table = table.clone();
        table.remove(tag);
        self.deserialize(Spanned::new(value.span(), table), path).map(Some)
    }

    /// The text at `path`, such as `optimizer.rule`, if there is one.
    #[must_use]
    pub fn text_at(&self, path: &str) -> Option<&str> {
        match self.value(path)?.get_ref() {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// Whether the text has a value at `path`.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.value(path).is_some()
    }

    fn value(&self, path: &str) -> Option<&Spanned<DeValue<'a>>> {
        let mut table = Some(self.root.get_ref());
        let mut found = None;
        for part in path.split('.') {
            found = Some(table?.get(part)?);
            table = match found?.get_ref() {
                DeValue::Table(inner) => Some(inner),
                _ => None,
            };
        }
        found
    }

    fn deserialize<T: DeserializeOwned>(
        &self,
        table: Spanned<DeTable<'a>>,
        path: &str,
    ) -> Result<T, LocatedError> {
        let deserializer = toml::de::Deserializer::from(table);
        T::deserialize(deserializer).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            let key = key_at(self.root.get_ref(), offset);
            let key = key.or_else(|| (!path.is_empty()).then(|| path.to_owned()));
            self.error_at(offset, key, advice(error.message()))
        })
    }

    /// The error at the place of a problem's key; a key that is not written is reported at its
    /// section.
    #[must_use]
    pub fn located(&self, problem: Problem) -> LocatedError {
        let mut offset = 0;
        let mut table = Some(self.root.get_ref());
        for part in problem.key.split('.') {
            let (name, index) = match part.trim_end_matches(']').split_once('[') {
                Some((name, index)) => (name, index.parse::<usize>().ok()),
                None => (part, None),
            };
            let Some((_, value)) = table.and_then(|table| table.get_key_value(name)) else { break };
            let item = index.and_then(|index| value.get_ref().get(index));
            offset = item.unwrap_or(value).span().start;
            table = match value.get_ref() {
                DeValue::Table(inner) => Some(inner),
                _ => None,
            };
        }
        self.error_at(offset, Some(problem.key), problem.problem)
    }

    /// The error at so many bytes from the start of the text.
    pub(crate) fn error_at(
        &self,
        offset: usize,
        key: Option<String>,
        problem: String,
    ) -> LocatedError {
        error_at(self.text, offset, key, problem)
    }
}

fn error_at(text: &str, offset: usize, key: Option<String>, problem: String) -> LocatedError {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    LocatedError {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        key,
        problem,
    }
}

fn syntax_error(text: &str, error: &toml::de::Error) -> LocatedError {
    let offset = error.span().map_or(0, |span| span.start);
    let problem = format!("this is not TOML: {}", error.message().replace('\n', ", "));
    error_at(text, offset, None, problem)
}

/// Adds the nearest valid spelling to serde's "unknown field" and "unknown variant".
fn advice(message: &str) -> String {
    let message = message.trim().replace('\n', " ");
    if let Some((_, key)) = message.split_once("missing field ") {
        return format!("the key {key} is missing: give it");
    }
    if message.ends_with(", expected u32") || message.ends_with(", expected u64") {
        let got =
            message.trim_start_matches("invalid type: ").trim_start_matches("invalid value: ");
        let got = got.rsplit_once(", expected").map_or(got, |(got, _)| got);
        return format!("{got}: expected a whole number without a unit, such as 8");
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let (Some(wrong), candidates) = (quoted.next(), quoted.collect::<Vec<_>>()) else {
        return message;
    };
    let what = if message.starts_with("unknown field") {
        "unknown key"
    } else if message.starts_with("unknown variant") {
        "unknown value"
    } else {
        return message;
    };
    let expected = candidates.join(", ");
    match nearest(wrong, &candidates) {
        Some(near) => {
            format!("{what} `{wrong}`: did you mean `{near}`? Expected one of {expected}")
        }
        None => format!("{what} `{wrong}`, expected one of {expected}"),
    }
}

/// The dotted key whose key or value stands at `offset`.
fn key_at(table: &DeTable<'_>, offset: usize) -> Option<String> {
    table.iter().find_map(|(key, value)| {
        let name = key.get_ref().to_string();
        if key.span().contains(&offset) {
            return Some(name);
        }
        match value.get_ref() {
            DeValue::Table(inner) => key_at(inner, offset).map(|inner| format!("{name}.{inner}")),
            DeValue::Array(items) => items.iter().enumerate().find_map(|(index, item)| {
                let place = format!("{name}[{index}]");
                match item.get_ref() {
                    DeValue::Table(inner) => {
                        key_at(inner, offset).map(|inner| format!("{place}.{inner}"))
                    }
                    _ => item.span().contains(&offset).then_some(place),
                }
            }),
            _ => value.span().contains(&offset).then_some(name),
        }
    })
}
