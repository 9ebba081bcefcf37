//! Files that are replaced only when complete.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};
use tempfile::NamedTempFile;

use crate::failure::Failure;

/// A file to be written: opened before the work starts, so that a bad path fails at once, and put
/// in place of an old one only when it is complete.
pub(crate) struct OutputFile {
    path: PathBuf,
    target: Target,
}

enum Target {
    /// Renamed to the path when complete.
    Temporary(NamedTempFile),
    /// A device or pipe, which cannot be replaced.
    Special(File),
}

impl OutputFile {
    /// Opens a temporary file beside `path`, or beside what it links to.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let failed = |error: io::Error| Failure::file("create", &path, &error);
        let target = match fs::metadata(&path) {
            Ok(old) if old.is_dir() => {
                let message = format!("{} is a folder, expected a file", path.display());
                return Err(Failure::Usage(message));
            }
            Ok(old) if !old.is_file() => {
                Target::Special(OpenOptions::new().write(true).open(&path).map_err(failed)?)
            }
            old => Target::Temporary(temporary(&path, old.ok()).map_err(failed)?),
        };
        Ok(Self { path, target })
    }

    /// Writes everything and puts the file in its place.
    pub(crate) fn finish(self, contents: &[u8]) -> Result<(), Failure> {
        let Self { path, target } = self;
        let failed = |error: io::Error| Failure::writing(&error);
        match target {
            Target::Special(mut file) => file.write_all(contents).map_err(failed),
            Target::Temporary(mut file) => {
                file.write_all(contents)
                    .and_then(|()| file.as_file().sync_all())
                    .map_err(failed)?;
                let placed = file.persist(&path);
                placed.map(|_| ()).map_err(|error| Failure::file("write", &path, &error.error))
            }
        }
    }
}

/// A temporary file beside `path`, with the permissions of the `old` file or else the usual ones.
fn temporary(path: &Path, old: Option<Metadata>) -> io::Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    let builder = {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(fs::Permissions::from_mode(0o666))
    };
    let file = builder.tempfile_in(folder)?;
    if let Some(old) = old {
        file.as_file().set_permissions(old.permissions())?;
    }
    Ok(file)
}

/// A result as JSON text.
pub(crate) fn json(result: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(result);
    text.map(|text| text + "\n").map_err(|error| serialising(&error))
}

/// A result as a JSON object.
pub(crate) fn object(result: &impl Serialize) -> Result<Map<String, Value>, Failure> {
    let text = serde_json::to_value(result).and_then(serde_json::from_value);
    text.map_err(|error| serialising(&error))
}

fn serialising(error: &serde_json::Error) -> Failure {
    Failure::Runtime(format!("failed to write the result: {error}"))
}

/// Writes a result to stdout.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|e| Failure::writing(&e))
}

/// A path as messages show it.
pub(crate) fn shown(path: &Path) -> String {
    if path == Path::new("-") { "<stdin>".to_owned() } else { path.display().to_string() }
}

/// Reads a text file, or stdin for `-`.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    if path == Path::new("-") {
        let mut text = String::new();
        return match io::stdin().read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(error) => Err(Failure::file("read", path, &error)),
        };
    }
    fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))
}
