//! The text that nccl-tests print, line by line.

use super::printed::Printed;
use super::run::{Place, RankEntry, RawRow, RawRun, Side};
use super::{ElementType, ImportError};

/// What columns a table has right of `type`.
#[derive(Debug, Clone)]
struct Columns {
    /// Some or all of `redop`, `root`.
    middle: Vec<String>,
    /// How many values are right of these.
    values: usize,
    /// Where among them the halves' values are: out of place, in place.
    sides: [Option<SideColumns>; 2],
}

#[derive(Debug, Clone, Copy)]
struct SideColumns {
    time: usize,
    algorithm: usize,
    bus: usize,
    /// None in versions that print an error instead.
    wrong: Option<usize>,
}

/// A run in the making.
#[derive(Debug, Default)]
struct Open {
    program: Option<String>,
    tests_version: Option<String>,
    nccl_version: Option<String>,
    ranks: Vec<RankEntry>,
    /// The header of its table and the line that it is on.
    table: Option<(Columns, usize)>,
    rows: Vec<RawRow>,
    out_of_bounds: Option<u64>,
}

pub(super) fn read(text: &str) -> Result<Vec<RawRun>, ImportError> {
    let mut runs = Vec::new();
    let mut open = Open::default();
    // A command line that was copied with its output.
    let mut typed = None;
    for (line, number) in text.lines().zip(1..) {
        let line = without_prefix(line);
        if let Some((_, comment)) = line.split_once('#')
            && open.comment(comment.trim(), number, &mut typed, &mut runs)?
        {
            continue;
        }
        if let Some((_, version)) = line.split_once("NCCL version ") {
            let version: String =
                version.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            if !version.is_empty() {
                open.nccl_version.get_or_insert(version);
            }
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Some(row) = open.row(&words, number)? {
            open.rows.push(row);
            continue;
        }
        typed = words.iter().find_map(|word| program(word)).or(typed);
    }
    runs.extend(open.close());
    if runs.is_empty() {
        return Err(ImportError::new(
            "no table of nccl-tests is in this file, expected a line `#  size  count  type ...` and \
             rows below it",
        ));
    }
    Ok(runs)
}

/// A line without what srun or mpirun put before it, to tell ranks' output apart.
fn without_prefix(line: &str) -> &str {
    for tag in ["<stdout>:", "<stderr>:", "<stdout> ", "<stderr> "] {
        if let Some((rank, rest)) = line.split_once(tag)
            && rank.trim_start().starts_with('[')
            && rank.ends_with(']')
        {
            return rest;
        }
    }
    match line.split_once(':') {
        Some((rank, rest)) if rank.trim().parse::<u32>().is_ok() => rest,
        _ => line,
    }
}

/// The name of a test in a word such as `./build/all_reduce_perf`.
fn program(word: &str) -> Option<String> {
    let name = word.rsplit('/').next()?;
    let stem = name.trim_end_matches("_mpi").strip_suffix("_perf")?;
    let letters = |c: char| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit();
    (!stem.is_empty() && stem.chars().all(letters)).then(|| name.to_owned())
}

impl Open {
    /// Takes what is behind `#`; false if it is not for it.
    fn comment(
        &mut self,
        comment: &str,
        number: usize,
        typed: &mut Option<String>,
        runs: &mut Vec<RawRun>,
    ) -> Result<bool, ImportError> {
        let begins = ["nccl-tests version", "Collective test starting:", "nThread"]
            .iter()
            .any(|start| comment.starts_with(start));
        if begins && self.table.is_some() {
            runs.extend(std::mem::take(self).close());
        }
        let words: Vec<&str> = comment.split_whitespace().collect();
        if let Some(program) = comment.strip_prefix("Collective test starting:") {
            self.program = Some(program.trim().to_owned());
        } else if let ["nccl-tests", "version", version, rest @ ..] = &words[..] {
            self.tests_version = Some((*version).to_owned());
            let library = rest.iter().find_map(|word| word.strip_prefix("nccl-library="));
            self.nccl_version = library.and_then(|code| code.parse().ok()).map(nccl_version);
        } else if let ["Rank", rank, rest @ ..] = &words[..] {
            let entry = rank_entry(rank, rest).ok_or_else(|| {
                let problem = "a rank's line, expected `Rank 0 Group 0 Pid 1 on <host> device 0 \
                               [0x00] <name>`";
                ImportError::at(number, problem)
            })?;
            self.ranks.push(entry);
        } else if let ["size", "count", "type", names @ ..] = &words[..] {
            let columns =
                Columns::named(names).map_err(|problem| ImportError::at(number, problem))?;
            if self.table.is_none() {
                self.program = self.program.take().or_else(|| typed.take());
            }
            self.table = Some((columns, self.table.take().map_or(number, |(_, first)| first)));
        } else if let Some(count) = comment.strip_prefix("Out of bounds values") {
            let count = count.trim_start_matches([' ', ':']).split_whitespace().next();
            self.out_of_bounds = count.and_then(|count| count.parse().ok());
        } else {
            return Ok(begins);
        }
        Ok(true)
    }

    fn close(self) -> Option<RawRun> {
        let (_, line) = self.table?;
        Some(RawRun {
            place: Place::Line(line),
            program: self.program,
            tests_version: self.tests_version,
            nccl_version: self.nccl_version,
            ranks: self.ranks,
            rows: self.rows,
            out_of_bounds: self.out_of_bounds,
        })
    }

    /// The row in `words`, if they have one, whatever stands before it.
    fn row(&self, words: &[&str], number: usize) -> Result<Option<RawRow>, ImportError> {
        let row = words.windows(3).zip(3..).find_map(|(words, after)| {
            let (bytes, count) = (words[0].parse::<u64>().ok()?, words[1].parse::<u64>().ok()?);
            Some((bytes, count, ElementType::named(words[2])?, after))
        });
        let Some((bytes, count, element_type, after)) = row else { return Ok(None) };
        let Some((columns, _)) = &self.table else {
            let problem = "a row before any header of a table: keep the lines that begin with `#`";
            return Err(ImportError::at(number, problem));
        };
        let right = &words[after..];
        let between = right.len().checked_sub(columns.values);
        let Some(between) = between.filter(|between| *between <= columns.middle.len()) else {
            let problem = format!(
                "{} values right of the type, expected {}: if another program's output cut the row, \
                 keep it out of the file, NCCL's with NCCL_DEBUG_FILE",
                right.len(),
                columns.middle.len() + columns.values
            );
            return Err(ImportError::at(number, problem));
        };
        let (middle, values) = right.split_at(between);
        let redop = columns.middle.iter().position(|name| name == "redop");
        let reduction = redop.and_then(|place| middle.get(place)).map(|word| (*word).to_owned());
        let mut sides = [None, None];
        for (side, columns) in sides.iter_mut().zip(&columns.sides) {
            let Some(columns) = columns else { continue };
            let read = |key: &str, place: usize| match values.get(place) {
                Some(&"N/A") => Ok(None),
                Some(word) => Printed::parse(word).map(Some).ok_or_else(|| {
                    let problem = format!("`{word}`, expected a number or `N/A`");
                    ImportError::at(number, problem).with_key(key)
                }),
                None => Ok(None),
            };
            let wrong = columns.wrong.map(|place| read("#wrong", place)).transpose()?.flatten();
            *side = Some(Side {
                time: read("time", columns.time)?,
                algorithm: read("algbw", columns.algorithm)?,
                bus: read("busbw", columns.bus)?,
                wrong: wrong.map(|wrong| wrong.value as u64),
            });
        }
        let reduction = reduction.filter(|name| name != "none");
        let place = Place::Line(number);
        Ok(Some(RawRow { place, bytes, count, element_type, reduction, sides }))
    }
}

impl Columns {
    /// From the names right of `type`.
    fn named(names: &[&str]) -> Result<Self, String> {
        if names.contains(&"cputime") {
            return Err("times of the CPU (-C), which say nothing of the collective: measure \
                        without -C"
                .to_owned());
        }
        let first = names.iter().position(|name| *name == "time").unwrap_or(names.len());
        let (middle, values) = names.split_at(first);
        let mut starts = values.iter().zip(0..).filter(|(name, _)| **name == "time");
        let starts = [starts.next(), starts.next()].map(|start| start.map(|(_, place)| place));
        let side = |from: Option<usize>, to: Option<usize>| {
            let (from, to) = (from?, to.unwrap_or(values.len()));
            let find = |name: &str| {
                values[from..to].iter().position(|found| *found == name).map(|place| from + place)
            };
            let (algorithm, bus, wrong) = (find("algbw")?, find("busbw")?, find("#wrong"));
            Some(SideColumns { time: from, algorithm, bus, wrong })
        };
        let sides = [side(starts[0], starts[1]), side(starts[1], None)];
        if sides[0].is_none() {
            return Err("a table's header without columns `time`, `algbw` and `busbw`".to_owned());
        }
        // A time stamp is a date and a time of day.
        let stamps = values.iter().filter(|name| **name == "timestamp").count();
        let middle = middle.iter().map(|name| (*name).to_owned()).collect();
        Ok(Self { middle, values: values.len() + stamps, sides })
    }
}

/// `rest`: `Group 0 Pid 123 on host device 0 [0x07] name`, older versions without the group.
fn rank_entry(rank: &str, rest: &[&str]) -> Option<RankEntry> {
    let after = |word: &str| {
        let place = rest.iter().position(|found| *found == word)?;
        rest.get(place + 1).copied()
    };
    let device = rest.iter().position(|word| *word == "device")?;
    // The name follows the bus number; older versions put a blank into `[0x 7]`.
    let bus = rest[device..].iter().position(|word| word.ends_with(']'))?;
    Some(RankEntry {
        rank: rank.parse().ok()?,
        group: after("Group").map_or(Some(0), |group| group.parse().ok())?,
        host: after("on")?.to_owned(),
        device: rest[device + bus + 1..].join(" "),
        count: 1,
    })
}

/// The version behind NCCL's number for it (`NCCL_VERSION` of `nccl.h`).
pub(super) fn nccl_version(code: u64) -> String {
    let (major, rest) = if code < 10_000 { (1_000, code % 1_000) } else { (10_000, code % 10_000) };
    format!("{}.{}.{}", code / major, rest / 100, rest % 100)
}
