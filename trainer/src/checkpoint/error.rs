//! Why a checkpoint or a file of weights could not be written or read.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::Difference;

/// Problems of one file that a message lists; the rest are counted.
const LISTED_MAX: usize = 6;

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The operating system said no.
    #[error("failed to {doing} {}: {error}", path.display())]
    Io {
        /// "read", "write", …
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Its reason.
        error: io::Error,
    },
    /// Another run writes to the folder.
    #[error(
        "{} is in use by another run: wait until it has ended, or take another output folder",
        path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A file is not what was written.
    #[error("{} is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// The tensors of a file are not those of the network.
    #[error("{} does not fit the network: {}", path.display(), listed(problems))]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Each tensor that does not fit, and why.
        problems: Vec<String>,
    },
    /// The checkpoint was written by a run that computes something else.
    #[error(
        "{} was written with other settings: {}; take the settings it was written with, or \
         another output folder",
        path.display(),
        listed(&differences.iter().map(ToString::to_string).collect::<Vec<_>>())
    )]
    OtherSettings {
        /// The checkpoint.
        path: PathBuf,
        /// The settings that differ.
        differences: Vec<Difference>,
    },
    /// A checkpoint of another version of the format.
    #[error(
        "{} has format version {found}, and this version of foretrain reads {expected}: use the \
         version that wrote it",
        path.display()
    )]
    Version {
        /// Its `state.json`.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version known here.
        expected: u32,
    },
    /// What should be saved cannot be.
    #[error("failed to save `{tensor}`: {problem}")]
    Tensor {
        /// The name of the tensor.
        tensor: String,
        /// Why.
        problem: String,
    },
}

impl CheckpointError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { doing, path: path.to_owned(), error }
    }

    pub(super) fn damaged(path: &Path, problem: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), problem: problem.into() }
    }
}

fn listed(problems: &[String]) -> String {
    let mut text = problems.iter().take(LISTED_MAX).cloned().collect::<Vec<_>>().join("; ");
    if problems.len() > LISTED_MAX {
        text += &format!("; and {} more", problems.len() - LISTED_MAX);
    }
    text
}

impl CheckpointError {
    /// Whether it could not be written: what cannot be read is an input like any other.
    #[must_use]
    pub fn is_output(&self) -> bool {
        matches!(self, Self::Io { doing, .. } if *doing != "read")
    }
}
