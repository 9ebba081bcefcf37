//! Recordings: what a trainer writes down of real steps, and what calibration reads.
//!
//! A recording is JSON lines, one file a rank: a [`Header`] that says what ran, then an [`Event`] a
//! line. `docs/recordings.md` lists every key. Times are whole nanoseconds since the start of the
//! recording, the same moment on ranks that are threads of one process; between processes, clocks
//! are as far apart as their starts.
//!
//! Within a [`VERSION`] keys may be added, and readers ignore those that they do not know. A new
//! kind of event, or another meaning of a key, is a new version, which older readers refuse.
//!
//! Nothing here reads or writes files: lines are made from values and values from lines.

mod event;
mod header;
mod read;
#[cfg(test)]
mod tests;

pub use event::{Event, EventKind, Norms, Span};
pub use header::{BucketEntry, Header, Instruction, NumberFormat};
pub use read::{Recording, RecordingError};

/// The version of the format that is written and read here.
pub const VERSION: u32 = 1;
