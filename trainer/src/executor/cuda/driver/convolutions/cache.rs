//! Choices on disk, so that a run does what the last one did, and needs not measure again.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::choice::Choice;

/// The version of the file's format.
const VERSION: u32 = 1;

/// The file's name.
const FILE: &str = "convolution-choices.json";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    choices: BTreeMap<String, Choice>,
}

/// The choices in a folder.
#[derive(Debug)]
pub(super) struct Choices {
    folder: PathBuf,
    choices: BTreeMap<String, Choice>,
    changed: bool,
}

impl Choices {
    /// Reads the choices of earlier runs. A file that is absent, broken or of another version is as
    /// good as none: what is in it can be measured again.
    pub(super) fn read(folder: &Path) -> Self {
        let choices = read(&folder.join(FILE));
        Self { folder: folder.to_path_buf(), choices, changed: false }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Choice> {
        self.choices.get(key)
    }

    pub(super) fn insert(&mut self, key: String, choice: Choice) {
        self.choices.insert(key, choice);
        self.changed = true;
    }

    /// Writes the choices, if there are new ones, together with those that another process has
    /// written since. Readers see the old file or the new one, never a part.
    pub(super) fn save(&mut self) -> std::io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        std::fs::create_dir_all(&self.folder)?;
        let path = self.folder.join(FILE);
        let mut choices = read(&path);
        choices.extend(self.choices.clone());
        let content = Content { version: VERSION, choices };
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        serde_json::to_writer_pretty(&mut file, &content)?;
        file.write_all(b"\n")?;
        file.persist(&path)?;
        self.changed = false;
        Ok(())
    }
}

fn read(path: &Path) -> BTreeMap<String, Choice> {
    let content = std::fs::read(path).ok();
    let content = content.and_then(|bytes| serde_json::from_slice::<Content>(&bytes).ok());
    content.filter(|content| content.version == VERSION).map(|c| c.choices).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::choice::{Knob, Method, Source};
    use super::*;

    fn engine(index: i64) -> Choice {
        let knobs = vec![Knob { kind: 2, value: 8 }, Knob { kind: 45, value: -1 }];
        let method = Method::Engine { index, knobs };
        Choice { method, source: Source::ExpectedFast, microseconds: 35.25 }
    }

    fn legacy() -> Choice {
        let method = Method::Legacy { algorithm: 1, math_type: 3, workspace_bytes: 1 << 33 };
        Choice { method, source: Source::Legacy, microseconds: 0.1 }
    }

    #[test]
    fn choices_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("not/there");
        let mut choices = Choices::read(&below);
        assert_eq!(choices.get("a"), None);
        choices.insert("a".to_owned(), engine(7));
        choices.insert("b".to_owned(), legacy());
        choices.save().unwrap();
        let again = Choices::read(&below);
        assert_eq!(again.get("a"), Some(&engine(7)));
        assert_eq!(again.get("b"), Some(&legacy()));
        assert_eq!(again.get("c"), None);
        let names: Vec<_> =
            std::fs::read_dir(&below).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, [FILE], "no temporary file stays");
    }

    #[test]
    fn what_others_wrote_stays() {
        let folder = tempfile::tempdir().unwrap();
        let [mut first, mut second] = [(); 2].map(|()| Choices::read(folder.path()));
        first.insert("a".to_owned(), engine(1));
        first.save().unwrap();
        second.insert("b".to_owned(), engine(2));
        second.save().unwrap();
        let both = Choices::read(folder.path());
        assert_eq!([both.get("a"), both.get("b")], [Some(&engine(1)), Some(&engine(2))]);
    }

    #[test]
    fn broken_and_other_files_are_ignored_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let mut choices = Choices::read(folder.path());
        choices.insert("a".to_owned(), engine(1));
        choices.save().unwrap();
        let good = std::fs::read_to_string(&path).unwrap();
        let broken = [
            String::new(),
            "{".to_owned(),
            good[..good.len() / 2].to_owned(),
            good.replace("\"version\": 1", "\"version\": 2"),
            good.replace("\"index\"", "\"number\""),
            good.replace("\"expected-fast\"", "\"guessed\""),
            good.replace("\"microseconds\": 35.25", "\"microseconds\": 35.25, \"more\": 1"),
        ];
        for broken in broken {
            assert_ne!(broken, good);
            std::fs::write(&path, &broken).unwrap();
            let mut choices = Choices::read(folder.path());
            assert_eq!(choices.get("a"), None, "{broken}");
            choices.insert("a".to_owned(), engine(1));
            choices.save().unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), good);
        }
    }

    #[test]
    fn without_news_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        Choices::read(folder.path()).save().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
