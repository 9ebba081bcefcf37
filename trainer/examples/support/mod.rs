//! What the examples for GPUs share: their files of results, and how they end.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use foretrain_sim::recording::NumberFormat;
use foretrain_trainer::executor::cuda::driver::GpuFacts;
use serde_json::{Map, Value, json};

/// Whatever went wrong.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// A file of results, which is whole at any time.
pub(crate) struct Results {
    path: PathBuf,
    fields: Map<String, Value>,
}

impl Results {
    /// `KIND-NAME-DATE.json` in `folder`, with what is known of the GPU and of this run; the date is
    /// that of UTC.
    pub(crate) fn new(folder: &Path, kind: &str, facts: &GpuFacts) -> Result<Self, Error> {
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let date = now.split('T').next().unwrap_or_default();
        let name: String =
            facts.name.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let fields = json!({
            "foretrain": env!("CARGO_PKG_VERSION"),
            "command": std::env::args().collect::<Vec<_>>().join(" "),
            "date": now,
            "gpu": facts,
        });
        let Value::Object(fields) = fields else { return Err("no object of fields".into()) };
        Ok(Self { path: folder.join(format!("{kind}-{name}-{date}.json")), fields })
    }

    /// Sets a field and replaces the file, once the new one is complete.
    pub(crate) fn set(&mut self, name: &str, value: Value) -> Result<(), Error> {
        self.fields.insert(name.to_owned(), value);
        let folder = self.path.parent().ok_or("a file without a folder")?;
        let file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer_pretty(&file, &self.fields)?;
        file.persist(&self.path)?;
        Ok(())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// When nothing new is begun any more.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// So many seconds from now; never, if none.
    pub(crate) fn after(seconds: Option<u64>) -> Self {
        Self(seconds.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds))))
    }

    /// Whether it has come.
    pub(crate) fn is_over(self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }
}

/// How an example ends; 2, for a wrong command line, is clap's own.
pub(crate) fn exit_code(outcome: Result<bool, Error>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(6),
        Err(error) => {
            println!("error: {error}");
            ExitCode::from(5)
        }
    }
}

/// A format by its name.
pub(crate) fn format(name: &str) -> Result<NumberFormat, String> {
    [NumberFormat::F16, NumberFormat::Bf16, NumberFormat::F32]
        .into_iter()
        .find(|format| format.name() == name)
        .ok_or_else(|| "expected f16, bf16 or f32".to_owned())
}
