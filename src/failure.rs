//! How a command fails: one clear message and one documented exit code.

use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use foretrain_sim::forecast::ForecastError;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line, or a file it names, cannot be used: exit code 2.
    Usage(String),
    /// A scenario, profile, forecast or file of measurements is invalid: exit code 3.
    Invalid(String),
    /// Measurements cannot support a profile: exit code 4.
    Refused(String),
    /// The runtime failed, as when a disk is full: exit code 5.
    Runtime(String),
    /// A threshold was missed: exit code 6.
    Missed(String),
    /// Whoever read our output has gone; nothing is left to say.
    ReaderGone,
}

impl Failure {
    /// Prints the message, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if let Self::Usage(message)
        | Self::Invalid(message)
        | Self::Refused(message)
        | Self::Runtime(message)
        | Self::Missed(message) = self
        {
            complain(&format!("error: {message}"));
        }
        ExitCode::from(self.code())
    }

    /// The exit code.
    pub(crate) const fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Invalid(_) => 3,
            Self::Refused(_) => 4,
            Self::Runtime(_) => 5,
            Self::Missed(_) => 6,
            Self::ReaderGone => 0,
        }
    }

    /// A file named on the command line could not be used.
    pub(crate) fn file(doing: &str, path: &Path, error: &io::Error) -> Self {
        Self::Usage(format!("failed to {doing} {}: {}", path.display(), Reason(error)))
    }

    /// Writing a result failed.
    pub(crate) fn writing(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::ReaderGone;
        }
        Self::Runtime(format!("failed to write the result: {}", Reason(error)))
    }
}

impl From<ForecastError> for Failure {
    fn from(error: ForecastError) -> Self {
        match error {
            ForecastError::Collective(error) => Self::Invalid(error.to_string()),
            ForecastError::Step(error) => Self::Runtime(error.to_string()),
            ForecastError::Evaluation(error) => Self::Invalid(error.to_string()),
        }
    }
}

/// An I/O error without its number.
pub(crate) struct Reason<'a>(pub(crate) &'a io::Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind() {
            io::ErrorKind::NotFound => f.write_str("there is no such file or folder"),
            io::ErrorKind::PermissionDenied => f.write_str("permission denied"),
            _ => self.0.fmt(f),
        }
    }
}

/// Makes a panic say that it is a bug, and exit with code 70.
pub(crate) fn report_panics_as_bugs() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default(info);
        let version = env!("CARGO_PKG_VERSION");
        complain(&format!(
            "error: this is a bug in foretrain {version}; please report it with the command and its input"
        ));
        std::process::exit(70);
    }));
}

/// Writes a line to stderr; where that is not possible, nothing can be said.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
