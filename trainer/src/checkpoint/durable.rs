//! Files that are on the disk when the function returns.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::CheckpointError;

/// Writes a new file, and its name if its folder is [synchronised](sync_folder) afterwards.
pub(super) fn write(path: &Path, content: &[u8]) -> Result<(), CheckpointError> {
    let write = || -> io::Result<()> {
        let mut file = File::create_new(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(CheckpointError::io("write", path))
}

/// Synchronises the names in a folder with the disk.
pub(super) fn sync_folder(path: &Path) -> Result<(), CheckpointError> {
    // Elsewhere folders cannot be opened, and renames are synchronised by the system.
    if cfg!(unix) {
        let sync = || File::open(path)?.sync_all();
        sync().map_err(CheckpointError::io("synchronise", path))?;
    }
    Ok(())
}

/// Replaces a file, or makes it: the old or the new content is there at any moment, never a part.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), CheckpointError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let replace = || -> io::Result<()> {
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        let builder = {
            use std::os::unix::fs::PermissionsExt as _;
            builder.permissions(fs::Permissions::from_mode(0o666))
        };
        let mut file = builder.tempfile_in(folder)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    replace().map_err(CheckpointError::io("write", path))?;
    sync_folder(folder)
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    fs::read(path).map_err(CheckpointError::io("read", path))
}

/// The SHA-256 of some bytes, in hexadecimal.
pub(super) fn hash(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}
