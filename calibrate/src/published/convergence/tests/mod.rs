//! The fits against the published measurements, and against rows that are wrong.

mod published;
mod reading;

use super::Published;
use crate::published::table::{Problem, Table};

/// The published measurements.
const PUBLISHED: Published<'static> = Published::SHIPPED;

/// The rows of a text.
fn read<T>(
    text: &str,
    rows: impl Fn(&Table) -> Result<Vec<T>, Problem>,
) -> Result<Vec<T>, Problem> {
    rows(&Table::read(text)?)
}
