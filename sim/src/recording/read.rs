//! From text to a recording, with errors that name line and key.

use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::event::EventLine;
use super::{Event, Header, VERSION};

/// What one rank wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// What ran.
    pub header: Header,
    /// What happened, in the order of the file.
    pub events: Vec<Event>,
}

/// What is wrong with a recording, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingError {
    /// The line, counted from 1.
    pub line: usize,
    /// The key, such as `buckets[3].bytes`, where there is one.
    pub key: Option<String>,
    /// What is wrong, and what was expected.
    pub problem: String,
}

impl fmt::Display for RecordingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, key, problem } = self;
        write!(f, "line {line}: ")?;
        if let Some(key) = key {
            write!(f, "`{key}`: ")?;
        }
        f.write_str(problem)
    }
}

impl std::error::Error for RecordingError {}

/// Only the version, of a header that may be of another one.
#[derive(Deserialize)]
struct VersionLine {
    recording: u32,
}

impl Recording {
    /// Reads a recording; empty lines are skipped.
    ///
    /// # Errors
    /// On the first line that is not what it should be: no header, a header of another version, a
    /// key that is missing or of another type, a place that is not in its table, an end before its
    /// start, another rank's event.
    pub fn read(text: &str) -> Result<Self, RecordingError> {
        let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
        let mut header = None;
        let mut events = Vec::new();
        for (line, number) in lines {
            match &header {
                None => header = Some(read_header(line, number)?),
                Some(header) => events.push(read_event(line, number, header)?),
            }
        }
        let missing = || RecordingError {
            line: 1,
            key: None,
            problem: "the file is empty, expected a recording's header".to_owned(),
        };
        Ok(Self { header: header.ok_or_else(missing)?, events })
    }
}

fn read_header(line: &str, number: usize) -> Result<Header, RecordingError> {
    let error = |key: Option<&str>, problem: String| RecordingError {
        line: number,
        key: key.map(str::to_owned),
        problem,
    };
    let VersionLine { recording } = parse(line, number).map_err(|problem: RecordingError| {
        let about = "this is not the header of a recording";
        RecordingError { problem: format!("{about}: {}", problem.problem), ..problem }
    })?;
    if recording != VERSION {
        let problem = format!(
            "format version {recording}, but this version of foretrain reads {VERSION}: read it \
             with the version that wrote it"
        );
        return Err(error(Some("recording"), problem));
    }
    let header: Header = parse(line, number)?;
    if header.rank >= header.ranks {
        let problem = format!("rank {} of {}, counted from 0", header.rank, header.ranks);
        return Err(error(Some("rank"), problem));
    }
    for (bucket, entry) in header.buckets.iter().enumerate() {
        let outside = entry.tensors.iter().find(|place| **place as usize >= header.tensors.len());
        if let Some(place) = outside {
            let key = format!("buckets[{bucket}].tensors");
            let problem =
                format!("{place}, but the header lists {}, counted from 0", header.tensors.len());
            return Err(error(Some(&key), problem));
        }
    }
    Ok(header)
}

fn read_event(line: &str, number: usize, header: &Header) -> Result<Event, RecordingError> {
    let event: EventLine = parse(line, number)?;
    event.into_event(header).map_err(|(key, problem)| RecordingError {
        line: number,
        key: Some(key.to_owned()),
        problem,
    })
}

fn parse<T: DeserializeOwned>(line: &str, number: usize) -> Result<T, RecordingError> {
    let mut deserializer = serde_json::Deserializer::from_str(line);
    let value = serde_path_to_error::deserialize(&mut deserializer);
    let value = value.map_err(|error| {
        let path = error.path().to_string();
        let key = (error.inner().is_data() && path != ".").then_some(path);
        RecordingError { line: number, key, problem: reason(error.inner()) }
    })?;
    deserializer.end().map_err(|error| RecordingError {
        line: number,
        key: None,
        problem: reason(&error),
    })?;
    Ok(value)
}

/// serde's message with the column, but without the line, which is always the first.
fn reason(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(text, _)| text);
    if error.is_eof() {
        return format!("the line is cut short at column {}", error.column());
    }
    if error.is_syntax() {
        return format!("this is not JSON: {message} at column {}", error.column());
    }
    message.to_owned()
}
