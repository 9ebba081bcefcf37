//! Readers of what other programs measured or found out.
//!
//! | module | reads | gives |
//! |---|---|---|
//! | [`nccl_tests`] | what nccl-tests print, or write as JSON | times of collectives |
//! | [`kineto`] | traces of the PyTorch profiler | measurements, for a profile |
//! | [`recordings`] | recordings of this trainer | measurements, for a profile |
//! | [`nccl_topology`] | what NCCL writes to `NCCL_TOPO_DUMP_FILE` | the `[cluster]` of a scenario |
//!
//! A reader refuses what it is not sure of, and says in an [`ImportError`] where it stopped, what it
//! found there and how to mend it.

pub mod kineto;
pub mod nccl_tests;
pub mod nccl_topology;
pub mod recordings;

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", self.place())]
pub struct ImportError {
    /// The line, counted from 1, where it is known.
    pub line: Option<usize>,
    /// The column, key or attribute, such as `busbw` or `results[3].size`, where there is one.
    pub key: Option<String>,
    /// What was found, what was expected, how to mend it.
    pub problem: String,
}

impl ImportError {
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self { line: None, key: None, problem: problem.into() }
    }

    pub(crate) fn at(line: usize, problem: impl Into<String>) -> Self {
        Self { line: Some(line), ..Self::new(problem) }
    }

    pub(crate) fn with_key(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    fn place(&self) -> String {
        let line = self.line.map(|line| format!("line {line}: ")).unwrap_or_default();
        let key = self.key.as_ref().map(|key| format!("`{key}`: ")).unwrap_or_default();
        line + &key
    }
}
