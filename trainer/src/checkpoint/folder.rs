//! The folder of a run's checkpoints: written whole or not at all, the newest kept.

use std::fs::{self, File, TryLockError};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::{
    Checkpoint, CheckpointError, JSON_FILE, MODEL_FILE, STATE_FILE, SUMS_FILE, durable, weights,
};

const NAME: &str = "step-";
const WRITING: &str = ".writing-";
const REMOVING: &str = ".removing-";
const LOCK: &str = ".lock";

/// A folder of checkpoints, open for writing by this run alone.
#[derive(Debug)]
pub struct CheckpointFolder {
    root: PathBuf,
    keep: NonZeroUsize,
    /// Locked as long as it is open.
    _lock: File,
}

/// A checkpoint by its name: `step-00000120`, or `step-00000120.2` if that was there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    step: u64,
    again: u64,
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(NAME)?;
        let (step, again) = match rest.split_once('.') {
            Some((step, again)) => (step, again.parse().ok().filter(|again| *again >= 2)?),
            None => (rest, 1),
        };
        let name = Self { step: step.parse().ok()?, again };
        (name.text() == text).then_some(name)
    }

    fn text(self) -> String {
        let Self { step, again } = self;
        if again == 1 { format!("{NAME}{step:08}") } else { format!("{NAME}{step:08}.{again}") }
    }
}

/// The names in a folder.
fn entries(root: &Path) -> Result<Vec<String>, CheckpointError> {
    let list = || -> std::io::Result<Vec<String>> {
        fs::read_dir(root)?
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect()
    };
    list().map_err(CheckpointError::io("list", root))
}

/// The checkpoints of a folder, oldest first.
fn names(root: &Path) -> Result<Vec<Name>, CheckpointError> {
    let mut names: Vec<Name> = entries(root)?.iter().filter_map(|name| Name::parse(name)).collect();
    names.sort_unstable();
    Ok(names)
}

/// The checkpoint of the highest step in `root`; none if there is no checkpoint or no such folder.
///
/// # Errors
/// When the folder cannot be listed.
pub fn latest(root: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    if !root.exists() {
        return Ok(None);
    }
    Ok(names(root)?.last().map(|name| root.join(name.text())))
}

impl CheckpointFolder {
    /// Opens `root`, makes it if it is not there, and removes what a killed run left of a
    /// checkpoint. The newest `keep` checkpoints are kept.
    ///
    /// # Errors
    /// When another run has it open, or the operating system refuses.
    pub fn open(root: &Path, keep: NonZeroUsize) -> Result<Self, CheckpointError> {
        fs::create_dir_all(root).map_err(CheckpointError::io("make the folder", root))?;
        let lock = root.join(LOCK);
        let file = File::options().create(true).truncate(false).write(true).open(&lock);
        let file = file.map_err(CheckpointError::io("open", &lock))?;
        // Some network file systems have no locks; there the user must see to it.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(CheckpointError::InUse { path: root.to_owned() });
        }
        for name in entries(root)? {
            if name.starts_with(WRITING) || name.starts_with(REMOVING) {
                remove(&root.join(name))?;
            }
        }
        Ok(Self { root: root.to_owned(), keep, _lock: file })
    }

    /// Writes a checkpoint, and removes the oldest ones; says where it is.
    ///
    /// When it returns, the checkpoint is on the disk. When it does not, because the process was
    /// killed or for an error, the checkpoints from before are still there.
    ///
    /// # Errors
    /// When a tensor is of a type that is not kept, or the operating system refuses.
    pub fn save(&self, checkpoint: &Checkpoint) -> Result<PathBuf, CheckpointError> {
        let step = checkpoint.state.progress.step;
        let again = names(&self.root)?.into_iter().rfind(|name| name.step == step);
        let name = Name { step, again: again.map_or(1, |name| name.again + 1) }.text();
        let writing = self.root.join(format!("{WRITING}{name}"));
        if let Err(error) = write(&writing, checkpoint) {
            // Best effort: what stays is removed when the folder is opened again.
            let _ = fs::remove_dir_all(&writing);
            return Err(error);
        }
        let path = self.root.join(name);
        fs::rename(&writing, &path).map_err(CheckpointError::io("rename to", &path))?;
        durable::sync_folder(&self.root)?;
        self.remove_old()?;
        Ok(path)
    }

    /// The newest checkpoint, if there is one.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn latest(&self) -> Result<Option<PathBuf>, CheckpointError> {
        latest(&self.root)
    }

    fn remove_old(&self) -> Result<(), CheckpointError> {
        let names = names(&self.root)?;
        for name in names.iter().rev().skip(self.keep.get()) {
            let name = name.text();
            let (path, removing) =
                (self.root.join(&name), self.root.join(format!("{REMOVING}{name}")));
            fs::rename(&path, &removing).map_err(CheckpointError::io("remove", &path))?;
            remove(&removing)?;
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<(), CheckpointError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(CheckpointError::io("remove", path))
}

fn write(folder: &Path, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
    if folder.exists() {
        remove(folder)?;
    }
    fs::create_dir(folder).map_err(CheckpointError::io("make the folder", folder))?;
    let mut sums = String::new();
    let mut file = |name: &str, content: &[u8]| {
        sums += &format!("{}  {name}\n", durable::hash(content));
        durable::write(&folder.join(name), content)
    };
    file(MODEL_FILE, &weights::encode(&checkpoint.model)?)?;
    file(STATE_FILE, &checkpoint.state.tensors()?)?;
    file(JSON_FILE, &checkpoint.state.json()?)?;
    durable::write(&folder.join(SUMS_FILE), sums.as_bytes())?;
    durable::sync_folder(folder)
}
