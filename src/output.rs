//! Files that are replaced only when complete.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::failure::Failure;

/// A file to be written: opened before the work starts, so that a bad path fails at once, and put
/// in place of an old one only when it is complete.
pub(crate) struct OutputFile {
    path: PathBuf,
    file: NamedTempFile,
}

impl OutputFile {
    /// Opens a temporary file beside `path`.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        if path.is_dir() {
            return Err(Failure::Usage(format!("{} is a folder, expected a file", path.display())));
        }
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let file =
            NamedTempFile::new_in(folder).map_err(|error| Failure::file("create", path, &error))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Writes everything and puts the file in its place.
    pub(crate) fn finish(mut self, contents: &[u8]) -> Result<(), Failure> {
        let written = self.file.write_all(contents).and_then(|()| self.file.as_file().sync_all());
        written.map_err(|error| Failure::writing(&error))?;
        readable_by_all(&self.file).map_err(|error| Failure::writing(&error))?;
        let path = self.path;
        self.file.persist(&path).map_err(|error| Failure::file("write", &path, &error.error))?;
        Ok(())
    }
}

/// Temporary files are private; results are as other files of the user.
#[cfg(unix)]
fn readable_by_all(file: &NamedTempFile) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable_by_all(_: &NamedTempFile) -> io::Result<()> {
    Ok(())
}

/// Writes a result to stdout.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|e| Failure::writing(&e))
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
