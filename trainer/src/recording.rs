//! Writing [recordings](foretrain_sim::recording): one file a rank, complete or not there.
//!
//! Threads of a rank record into memory, some tens of nanoseconds an event, so that writing does
//! not disturb what is measured; [`Recorder::end_step`], to be called outside the timed step, turns
//! events into text. The text goes to a hidden file beside its place, which gets its name when the
//! recording is finished; a recorder that is dropped before leaves nothing.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use foretrain_sim::recording::{Event, EventKind, Header};
use tempfile::NamedTempFile;

/// Writes the recording of one rank; its threads may share it.
#[derive(Debug)]
pub struct Recorder {
    rank: u32,
    steps: Range<u64>,
    start: Instant,
    path: PathBuf,
    events: Mutex<Vec<Event>>,
    file: Mutex<BufWriter<NamedTempFile>>,
}

/// Why a recording could not be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write {}: {error}", path.display())]
pub struct RecorderError {
    /// The recording.
    pub path: PathBuf,
    /// The operating system's reason.
    pub error: io::Error,
}

/// The file of a rank: `recording` becomes `recording.rank3.jsonl`.
#[must_use]
pub fn rank_path(file: &Path, rank: u32) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".rank{rank}.jsonl"));
    name.into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    /// Begins the recording of these `steps` in the [file of the header's rank](rank_path).
    ///
    /// Times count from `start`, which ranks of one process share, so that theirs can be compared.
    ///
    /// # Errors
    /// When the folder cannot be made or written to.
    pub fn create(
        file: &Path,
        header: &Header,
        steps: Range<u64>,
        start: Instant,
    ) -> Result<Self, RecorderError> {
        let path = rank_path(file, header.rank);
        let create = || -> io::Result<BufWriter<NamedTempFile>> {
            let folder = match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            std::fs::create_dir_all(folder)?;
            let mut builder = tempfile::Builder::new();
            let mut builder = builder.prefix(".recording-");
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt as _;
                builder = builder.permissions(std::fs::Permissions::from_mode(0o666));
            }
            let mut file = BufWriter::new(builder.tempfile_in(folder)?);
            writeln!(file, "{}", header.to_line()?)?;
            Ok(file)
        };
        match create() {
            Ok(file) => {
                let (rank, events, file) = (header.rank, Mutex::new(Vec::new()), Mutex::new(file));
                Ok(Self { rank, steps, start, path, events, file })
            }
            Err(error) => Err(RecorderError { path, error }),
        }
    }

    /// Whether a step is among those that are recorded.
    #[must_use]
    pub fn wants(&self, step: u64) -> bool {
        self.steps.contains(&step)
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        // 584 years fit.
        self.start.elapsed().as_nanos() as u64
    }

    /// Records what happened in a step, if that is among those that are recorded.
    pub fn record(&self, step: u64, kind: EventKind) {
        if self.wants(step) {
            lock(&self.events).push(Event { rank: self.rank, step, kind });
        }
    }

    /// Writes what has been recorded so far; it takes milliseconds.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn end_step(&self) -> Result<(), RecorderError> {
        let events = std::mem::take(&mut *lock(&self.events));
        let mut file = lock(&self.file);
        let mut write = || -> io::Result<()> {
            for event in &events {
                writeln!(file, "{}", event.to_line()?)?;
            }
            Ok(())
        };
        write().map_err(|error| RecorderError { path: self.path.clone(), error })
    }

    /// Writes the rest and gives the file its name, which is returned.
    ///
    /// # Errors
    /// When the file cannot be written; an older recording of that name is left alone then.
    pub fn finish(self) -> Result<PathBuf, RecorderError> {
        self.end_step()?;
        let Self { path, file, .. } = self;
        let file = file.into_inner().unwrap_or_else(PoisonError::into_inner);
        let place = || -> io::Result<File> {
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.as_file().sync_all()?;
            Ok(file.persist(&path)?)
        };
        match place() {
            Ok(_) => Ok(path),
            Err(error) => Err(RecorderError { path, error }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use foretrain_sim::recording::{BucketEntry, Instruction, NumberFormat, Recording, Span};

    use super::*;

    fn header(rank: u32) -> Header {
        Header {
            recording: foretrain_sim::recording::VERSION,
            foretrain: env!("CARGO_PKG_VERSION").to_owned(),
            network: "tiny".to_owned(),
            input: [1, 28, 28],
            ranks: 4,
            rank,
            per_rank_batch: 8,
            precision: NumberFormat::F32,
            wire: NumberFormat::F32,
            device: "a processor".to_owned(),
            threads: 1,
            optimizer: "momentum".to_owned(),
            fusion: "one bucket".to_owned(),
            algorithm: "ring".to_owned(),
            seed: 1,
            started: "2026-01-01".to_owned(),
            instructions: vec![Instruction {
                name: "fc".to_owned(),
                operation: "linear".to_owned(),
                forward_flop: None,
                backward_flop: None,
            }],
            tensors: vec!["fc.weight".to_owned()],
            tensor_elements: vec![1],
            buckets: vec![BucketEntry { tensors: vec![0], bytes: 4 }],
        }
    }

    #[test]
    fn threads_of_a_rank_write_one_file_of_the_wanted_steps() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new").join("recording");
        let recorder = Recorder::create(&file, &header(3), 5..8, Instant::now()).unwrap();
        for step in 0..10 {
            std::thread::scope(|scope| {
                for bucket in [true, false] {
                    let recorder = &recorder;
                    scope.spawn(move || {
                        for _ in 0..50 {
                            let start_ns = recorder.now_ns();
                            let span = Span { start_ns, end_ns: recorder.now_ns() };
                            recorder.record(
                                step,
                                match bucket {
                                    true => EventKind::AllReduce { bucket: 0, span },
                                    false => EventKind::Forward { instruction: 0, span },
                                },
                            );
                        }
                    });
                }
            });
            recorder.end_step().unwrap();
        }
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 1);
        let path = recorder.finish().unwrap();
        assert_eq!(path, folder.path().join("new").join("recording.rank3.jsonl"));
        let recording = Recording::read(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(recording.header, header(3));
        let count = |wanted: u64| recording.events.iter().filter(|one| one.step == wanted).count();
        assert_eq!([4, 5, 6, 7, 8].map(count), [0, 100, 100, 100, 0]);
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 1);
    }

    #[test]
    fn a_recorder_that_does_not_finish_leaves_the_old_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("recording");
        let old = rank_path(&file, 0);
        fs::write(&old, "old").unwrap();
        let recorder = Recorder::create(&file, &header(0), 0..1, Instant::now()).unwrap();
        let span = Span { start_ns: 0, end_ns: 1 };
        recorder.record(0, EventKind::Step { span });
        recorder.end_step().unwrap();
        drop(recorder);
        assert_eq!(fs::read_to_string(&old).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let place = file.join("recording");
        let error = Recorder::create(&place, &header(0), 0..1, Instant::now()).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("failed to write ") && text.contains("rank0.jsonl: "), "{text}");
    }
}
