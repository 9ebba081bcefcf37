//! Reads published all-reduce times: CSV, a row a measurement.

use foretrain_calibrate::published::table::{Cells, Problem, Table};

/// One published all-reduce. What its source does not say is none, or empty.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// Where it stands in the file, from 1.
    pub(super) line: u64,
    pub(super) id: String,
    /// One measurement on one machine: rows that belong together.
    pub(super) set: String,
    pub(super) accelerator: String,
    pub(super) accelerators: Option<u32>,
    pub(super) nodes: Option<u32>,
    pub(super) intra_node_link: String,
    /// Of one accelerator, one way.
    pub(super) intra_node_gbyte_per_s: Option<f64>,
    pub(super) nics_per_node: Option<u32>,
    pub(super) nic_gbit_per_s: Option<f64>,
    pub(super) fabric: String,
    /// The library, its version and the algorithm, where known.
    pub(super) software: String,
    /// What each accelerator contributes.
    pub(super) message_bytes: u64,
    pub(super) time_us: Option<f64>,
}

/// The columns of a file of all-reduce times that are read; it may have others.
pub(in crate::validate) const COLUMNS: [&str; 13] = [
    "id",
    "set",
    "accelerator",
    "accelerators",
    "nodes",
    "intra_node_link",
    "intra_node_gbyte_per_s_per_accelerator_one_way",
    "nics_per_node",
    "nic_gbit_per_s",
    "fabric",
    "software",
    "message_bytes",
    "time_us",
];

/// The rows of a file, in its order.
pub(in crate::validate) fn read(table: &Table) -> Result<Vec<Row>, Problem> {
    table.named_rows(row)
}

fn row(cells: &Cells<'_>) -> Result<Row, Problem> {
    let bytes = "a whole number of bytes above 0";
    let message_bytes = cells.number("message_bytes", bytes, |bytes: u64| bytes > 0)?;
    Ok(Row {
        line: cells.line(),
        id: cells.named("id")?,
        set: cells.named("set")?,
        accelerator: cells.text("accelerator").to_owned(),
        accelerators: cells.count("accelerators")?,
        nodes: cells.count("nodes")?,
        intra_node_link: cells.text("intra_node_link").to_owned(),
        intra_node_gbyte_per_s: cells.quantity("intra_node_gbyte_per_s_per_accelerator_one_way")?,
        nics_per_node: cells.count("nics_per_node")?,
        nic_gbit_per_s: cells.quantity("nic_gbit_per_s")?,
        fabric: cells.text("fabric").to_owned(),
        software: cells.text("software").to_owned(),
        message_bytes: message_bytes.ok_or_else(|| cells.wrong("message_bytes", bytes))?,
        time_us: cells.quantity("time_us")?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file with these rows below the heading.
    pub(in crate::validate) fn file(rows: &str) -> String {
        format!("{}\n{rows}\n", COLUMNS.join(","))
    }

    const GOOD: &str = "A,s,a100-sxm4-80gb,8,1,nvlink3-nvswitch,300,,,,NCCL default,1024,43.8";

    /// The rows of a file's text.
    pub(in crate::validate) fn rows(text: &str) -> Result<Vec<Row>, Problem> {
        read(&Table::read(text)?)
    }

    fn problem(text: &str) -> String {
        rows(text).unwrap_err().to_string()
    }

    #[test]
    fn a_row_is_read_and_what_is_empty_is_none() {
        let found = rows(&file(GOOD)).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].line, found[0].message_bytes), (2, 1024));
        assert_eq!((found[0].nics_per_node, found[0].time_us), (None, Some(43.8)));
        let marked = format!("\u{feff}{}", file(GOOD));
        assert_eq!(rows(&marked), Ok(found));
    }

    #[test]
    fn every_problem_names_line_column_and_what_was_expected() {
        for (from, to, message) in [
            ("43.8", "fast", "2: time_us: `fast`, expected a number above 0"),
            ("43.8", "0", "2: time_us: `0`, expected a number above 0"),
            ("43.8", "inf", "2: time_us: `inf`, expected a number above 0"),
            (
                "1024",
                "1 KiB",
                "2: message_bytes: `1 KiB`, expected a whole number of bytes above 0",
            ),
            ("1024", "", "2: message_bytes: nothing, expected a whole number of bytes above 0"),
            (",8,1,", ",8,1.5,", "2: nodes: `1.5`, expected a whole number above 0"),
            ("A,", ",", "2: id: nothing, expected a name"),
            ("43.8", "43.8,x", "2: 14 cells, expected 13 as in the heading"),
        ] {
            assert_eq!(problem(&file(&GOOD.replacen(from, to, 1))), message);
        }
        let twice = format!("{GOOD}\n\"B\",\"two\nlines\",a,8,1,l,,,,,,1,1\n{GOOD}");
        assert_eq!(problem(&file(&twice)), "5: id: `A` is already that of line 2");
    }
}
