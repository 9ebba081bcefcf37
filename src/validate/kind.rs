//! What a file of published measurements is of: known by its columns.

use foretrain_calibrate::published::convergence;
use foretrain_calibrate::published::fusion::FusionRun;
use foretrain_calibrate::published::scaling::Run;
use foretrain_calibrate::published::system::System;
use foretrain_calibrate::published::table::{Problem, Table};

use super::all_reduces;

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Times of all-reduces.
    AllReduces,
    /// Training runs.
    Runs,
    /// Training runs with and without overlap and fusion.
    Fusion,
    /// Epochs to the target accuracy.
    Epochs,
    /// Accuracies at the end of runs.
    Accuracy,
    /// Accuracies inside runs.
    Curves,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::AllReduces, Self::Runs, Self::Fusion, Self::Epochs, Self::Accuracy, Self::Curves];

    /// What such a file is of.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::AllReduces => "all-reduce times",
            Self::Runs => "training runs",
            Self::Fusion => "training runs with and without fusion",
            Self::Epochs => "epochs to the target accuracy",
            Self::Accuracy => "final accuracies",
            Self::Curves => "learning curves",
        }
    }

    /// Whether rows can be left out by families.
    pub(super) const fn has_families(self) -> bool {
        !matches!(self, Self::AllReduces | Self::Fusion)
    }

    fn columns(self) -> Vec<&'static str> {
        match self {
            Self::AllReduces => all_reduces::COLUMNS.to_vec(),
            Self::Runs => [Run::COLUMNS.as_slice(), System::COLUMNS.as_slice()].concat(),
            Self::Fusion => [FusionRun::COLUMNS.as_slice(), System::COLUMNS.as_slice()].concat(),
            Self::Epochs => convergence::EPOCHS_COLUMNS.to_vec(),
            Self::Accuracy => convergence::ACCURACY_COLUMNS.to_vec(),
            Self::Curves => convergence::CURVES_COLUMNS.to_vec(),
        }
    }

    /// Whether a heading is of some kind, all of whose columns it has.
    pub(super) fn is_any(heading: &Table) -> bool {
        Self::ALL.into_iter().any(|kind| heading.missing(&kind.columns()).is_empty())
    }

    /// The kind of a table; of several whose columns are all there, that with the most.
    ///
    /// # Errors
    /// There are no rows, or columns are missing.
    pub(super) fn of(table: &Table) -> Result<Self, Problem> {
        let whole = Self::ALL
            .into_iter()
            .filter(|kind| table.missing(&kind.columns()).is_empty())
            .max_by_key(|kind| kind.columns().len());
        if let Some(kind) = whole {
            if table.is_empty() {
                let text = "there are no rows below the heading".to_owned();
                return Err(Problem { line: 1, text });
            }
            return Ok(kind);
        }
        let present = |kind: &Self| {
            let columns = kind.columns();
            let missing = table.missing(&columns).len();
            (columns.len() - missing) as f64 / columns.len() as f64
        };
        let nearest = Self::ALL.into_iter().max_by(|a, b| present(a).total_cmp(&present(b)));
        let text = match nearest.filter(|kind| present(kind) >= 0.5) {
            Some(kind) => {
                let columns = kind.columns();
                let missing = table.missing(&columns);
                let plural = if missing.len() == 1 { "column" } else { "columns" };
                format!("{plural} {} missing from a file of {}", missing.join(", "), kind.name())
            }
            None => {
                let kinds = Self::ALL
                    .map(|kind| format!("{} have {}", kind.name(), kind.columns().join(", ")));
                format!("the columns are of no kind of file that is known; {}", kinds.join("; "))
            }
        };
        Err(Problem { line: 1, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Result<Kind, String> {
        let table = Table::read(text).map_err(|problem| problem.to_string())?;
        Kind::of(&table).map_err(|problem| problem.to_string())
    }

    #[test]
    fn a_file_is_known_by_its_columns() {
        for known in Kind::ALL {
            let heading = known.columns().join(",");
            let row = vec!["1"; known.columns().len()].join(",");
            assert_eq!(kind(&format!("{heading}\n{row}\n")), Ok(known));
            let empty = kind(&heading).unwrap_err();
            assert_eq!(empty, "1: there are no rows below the heading");
            let first = known.columns()[0];
            let other = heading.replacen(first, "other", 1);
            let message = format!("1: column {first} missing from a file of {}", known.name());
            assert_eq!(kind(&other).unwrap_err(), message);
        }
        let other = kind("step,loss\n1,2\n").unwrap_err();
        assert!(
            other.starts_with("1: the columns are of no kind of file that is known"),
            "{other}"
        );
        assert!(kind("").unwrap_err().starts_with("1: the columns"));
    }
}
