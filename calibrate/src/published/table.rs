//! A CSV file of published measurements: cells by the name of their column, errors with their place.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// What is wrong with a file, and where: reads well after `FILE:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong, and what was expected.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.text)
    }
}

impl std::error::Error for Problem {}

/// A file's heading and rows.
#[derive(Debug, Clone)]
pub struct Table {
    columns: BTreeMap<String, usize>,
    rows: Vec<(u64, csv::StringRecord)>,
}

/// One row of a table.
#[derive(Debug, Clone, Copy)]
pub struct Cells<'a> {
    table: &'a Table,
    line: u64,
    record: &'a csv::StringRecord,
}

/// A row that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Where it stands in the file, from 1.
    pub line: u64,
    /// Its name, as far as it has one.
    pub id: String,
    /// What is wrong, and what was expected.
    pub reason: String,
}

/// What `read` makes of `table` without the rows that it cannot read, and these.
///
/// # Errors
/// The heading is wrong, or no row can be read.
pub fn read_leniently<T>(
    table: &Table,
    read: impl Fn(&Table) -> Result<T, Problem>,
) -> Result<(T, Vec<Unread>), Problem> {
    let mut table = table.clone();
    let mut unread = Vec::new();
    loop {
        let problem = match read(&table) {
            Ok(found) => return Ok((found, unread)),
            Err(problem) => problem,
        };
        let Some(at) = table.rows.iter().position(|(line, _)| *line == problem.line) else {
            return Err(problem);
        };
        let id = Cells { table: &table, line: problem.line, record: &table.rows[at].1 };
        let id = id.text("id").to_owned();
        table.rows.remove(at);
        if table.is_empty() {
            return Err(problem);
        }
        unread.push(Unread { line: problem.line, id, reason: problem.text });
    }
}

/// What tables of others write where there is nothing.
const NOTHING: [&str; 6] = ["-", "n/a", "na", "nan", "none", "null"];

impl Table {
    /// Reads a file with a heading.
    ///
    /// # Errors
    /// It is not CSV, rows differ in length from the heading, or there are none.
    pub fn read(text: &str) -> Result<Self, Problem> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let heading = reader.headers().map_err(|error| malformed(&error))?;
        let columns =
            heading.iter().enumerate().map(|(at, name)| (name.trim().to_owned(), at)).collect();
        let rows = reader
            .records()
            .map(|record| {
                let record = record.map_err(|error| malformed(&error))?;
                Ok((record.position().map_or(1, csv::Position::line), record))
            })
            .collect::<Result<Vec<_>, Problem>>()?;
        Ok(Self { columns, rows })
    }

    /// Whether the heading has a column.
    #[must_use]
    pub fn has(&self, column: &str) -> bool {
        self.columns.contains_key(column)
    }

    /// Which of `columns` the heading lacks.
    #[must_use]
    pub fn missing<'c>(&self, columns: &[&'c str]) -> Vec<&'c str> {
        columns.iter().copied().filter(|column| !self.has(column)).collect()
    }

    /// The rows.
    pub fn rows(&self) -> impl Iterator<Item = Cells<'_>> {
        self.rows.iter().map(|(line, record)| Cells { table: self, line: *line, record })
    }

    /// What `read` makes of each row, whose column `id` names it.
    ///
    /// # Errors
    /// That of `read`, or a name is there twice.
    pub fn named_rows<T>(
        &self,
        read: impl Fn(&Cells<'_>) -> Result<T, Problem>,
    ) -> Result<Vec<T>, Problem> {
        let mut lines = BTreeMap::new();
        let mut rows = Vec::new();
        for cells in self.rows() {
            let row = read(&cells)?;
            let id = cells.named("id")?;
            if let Some(first) = lines.insert(id.clone(), cells.line()) {
                let text = format!("id: `{id}` is already that of line {first}");
                return Err(Problem { line: cells.line(), text });
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// Whether there are no rows below the heading.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

fn malformed(error: &csv::Error) -> Problem {
    let line = error.position().map_or(1, csv::Position::line);
    let text = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} cells, expected {expected_len} as in the heading")
        }
        _ => format!("this is not CSV: {error}"),
    };
    Problem { line, text }
}

impl Cells<'_> {
    /// Where the row stands in the file, from 1.
    #[must_use]
    pub const fn line(&self) -> u64 {
        self.line
    }

    /// A cell's text without the space around it; nothing where there is no such column.
    #[must_use]
    pub fn text(&self, column: &str) -> &str {
        let place = self.table.columns.get(column);
        place.and_then(|place| self.record.get(*place)).unwrap_or_default().trim()
    }

    /// What is wrong with a cell.
    #[must_use]
    pub fn wrong(&self, column: &str, expected: &str) -> Problem {
        let found = match self.text(column) {
            "" => "nothing".to_owned(),
            text => format!("`{text}`"),
        };
        Problem { line: self.line, text: format!("{column}: {found}, expected {expected}") }
    }

    /// A cell that must not be empty.
    ///
    /// # Errors
    /// It is.
    pub fn named(&self, column: &str) -> Result<String, Problem> {
        match self.text(column) {
            "" => Err(self.wrong(column, "a name")),
            text => Ok(text.to_owned()),
        }
    }

    /// A number that `good` accepts, or none where the cell is empty.
    ///
    /// # Errors
    /// It is something else.
    pub fn number<T: FromStr + Copy>(
        &self,
        column: &str,
        expected: &str,
        good: impl Fn(T) -> bool,
    ) -> Result<Option<T>, Problem> {
        let text = self.text(column);
        if NOTHING.iter().any(|nothing| text.eq_ignore_ascii_case(nothing)) {
            return Ok(None);
        }
        let number = text.parse().ok().filter(|number| good(*number));
        if number.is_none() && !text.is_empty() {
            return Err(self.wrong(column, expected));
        }
        Ok(number)
    }

    /// A whole number above 0, or none.
    ///
    /// # Errors
    /// It is something else.
    pub fn count(&self, column: &str) -> Result<Option<u32>, Problem> {
        // Some tools write whole numbers as `8.0`.
        let good =
            |count: f64| (1.0..=f64::from(u32::MAX)).contains(&count) && count.fract() == 0.0;
        let count = self.number(column, "a whole number above 0", good)?;
        Ok(count.map(|count| count as u32))
    }

    /// A number above 0, or none.
    ///
    /// # Errors
    /// It is something else.
    pub fn quantity(&self, column: &str) -> Result<Option<f64>, Problem> {
        self.number(column, "a number above 0", |value: f64| value > 0.0 && value.is_finite())
    }
}
