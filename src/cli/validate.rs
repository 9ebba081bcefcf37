//! Arguments of `foretrain validate`.

use std::path::PathBuf;

use clap::Args;

use super::Format;

#[derive(Debug, Args)]
pub(crate) struct ValidateArguments {
    /// Published measurements (CSV), or - for stdin: training runs, with and without fusion, times of
    /// all-reduces, epochs to target, final accuracies, learning curves; known by their columns
    #[arg(value_name = "FILE")]
    pub(crate) published: PathBuf,
    /// How to print the comparison
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Draw published and predicted (.svg or .png)
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Fail with exit code 6 if a mean error is larger
    #[arg(long, value_name = "PERCENT")]
    pub(crate) threshold: Option<f64>,
    /// Predict each family by what was fitted to all others (training runs, epochs, accuracies)
    #[arg(long)]
    pub(crate) leave_one_family_out: bool,
    /// Predict with data sheets alone: no launches, no variation, no start-ups (training runs)
    #[arg(long, conflicts_with = "leave_one_family_out")]
    pub(crate) datasheets: bool,
    /// Print what is fitted to the file, as the simulator has it in a file (training runs, epochs,
    /// accuracies)
    #[arg(long, conflicts_with_all = ["leave_one_family_out", "datasheets", "plot", "threshold"])]
    pub(crate) fit: bool,
    /// Published rates against the batch (CSV) that overheads are fitted to, too; those that come with
    /// this version by default (training runs)
    #[arg(long, value_name = "FILE")]
    pub(crate) records: Option<PathBuf>,
    /// Print the scenario that a row is predicted by, in place of the comparison (training runs)
    #[arg(long, value_name = "ID", conflicts_with_all = ["fit", "plot", "threshold", "datasheets", "leave_one_family_out"])]
    pub(crate) scenario: Option<String>,
}

impl ValidateArguments {
    /// A flag that was given and is only for training runs, or for files with families.
    pub(crate) fn only_for_runs(&self, has_families: bool) -> Option<&'static str> {
        let flags = [
            ("--leave-one-family-out", self.leave_one_family_out && !has_families),
            ("--datasheets", self.datasheets),
            ("--fit", self.fit && !has_families),
            ("--records", self.records.is_some()),
            ("--scenario", self.scenario.is_some()),
        ];
        flags.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }
}
