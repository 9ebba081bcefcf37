//! Reading a checkpoint, with every file checked.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::state::{StateJson, VERSION};
use super::{
    Checkpoint, CheckpointError, JSON_FILE, MODEL_FILE, ModelTensor, STATE_FILE, SUMS_FILE,
    durable, state, weights,
};
use crate::config::Fingerprint;

/// What a checkpoint must fit.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The tensors of the network.
    pub tensors: &'a [ModelTensor],
    /// The settings of the run that goes on; none to take a checkpoint of any.
    pub settings: Option<&'a Fingerprint>,
}

/// Only the version, of a file that may be of another one.
#[derive(Deserialize)]
struct VersionJson {
    checkpoint: u32,
}

/// Reads the checkpoint in `folder`.
///
/// # Errors
/// When a file is missing, or its hash is not that of `SHA256SUMS`; when it was written by another
/// version or with other settings; when a tensor is missing, not expected, or of another shape or
/// type.
pub fn load(folder: &Path, expected: &Expected<'_>) -> Result<Checkpoint, CheckpointError> {
    let sums = sums(&folder.join(SUMS_FILE))?;
    let file = |name: &str| -> Result<Vec<u8>, CheckpointError> {
        let path = folder.join(name);
        let content = durable::read(&path)?;
        let (found, bytes) = (durable::hash(&content), content.len());
        match sums.get(name) {
            Some(sum) if *sum == found => Ok(content),
            Some(sum) => Err(CheckpointError::damaged(
                &path,
                format!(
                    "the SHA-256 of its {bytes} bytes is {found}, expected {sum} as in \
                     {SUMS_FILE}: it was cut short or changed; remove the folder to go on from \
                     the checkpoint before it"
                ),
            )),
            None => {
                let problem = format!("it does not list {name}");
                Err(CheckpointError::damaged(&folder.join(SUMS_FILE), problem))
            }
        }
    };
    let json = read_json(&folder.join(JSON_FILE), &file(JSON_FILE)?)?;
    if let Some(settings) = expected.settings {
        let differences = settings.differences(json.settings());
        if !differences.is_empty() {
            let path = folder.to_owned();
            return Err(CheckpointError::OtherSettings { path, differences });
        }
    }
    let model = weights::decode(&folder.join(MODEL_FILE), &file(MODEL_FILE)?, expected.tensors)?;
    let optimizer =
        state::optimizer(&folder.join(STATE_FILE), &file(STATE_FILE)?, expected.tensors)?;
    Ok(Checkpoint { model, state: json.with(optimizer) })
}

fn read_json(path: &Path, content: &[u8]) -> Result<StateJson, CheckpointError> {
    let damaged = |reason: serde_json::Error| CheckpointError::damaged(path, reason.to_string());
    let VersionJson { checkpoint } = serde_json::from_slice(content).map_err(damaged)?;
    if checkpoint != VERSION {
        let (path, found, expected) = (path.to_owned(), checkpoint, VERSION);
        return Err(CheckpointError::Version { path, found, expected });
    }
    serde_json::from_slice(content).map_err(damaged)
}

/// The hashes of `SHA256SUMS` by file.
fn sums(path: &Path) -> Result<BTreeMap<String, String>, CheckpointError> {
    let content = durable::read(path)?;
    let damaged = || {
        let problem = "expected lines of a SHA-256, two spaces and a file's name";
        CheckpointError::damaged(path, problem)
    };
    let text = String::from_utf8(content).map_err(|_| damaged())?;
    text.lines()
        .map(|line| {
            let (sum, name) = line.split_once("  ").ok_or_else(damaged)?;
            Ok((name.to_owned(), sum.to_owned()))
        })
        .collect()
}
