//! Arguments of `foretrain critical-batch`.

use std::path::PathBuf;

use clap::Args;

use super::Format;

#[derive(Debug, Args)]
pub(crate) struct CriticalBatchArguments {
    /// The training configuration (TOML) with a target_top1, a constant learning rate and at least two
    /// ranks, or - for stdin; what is measured is measured at its batch
    pub(crate) config: PathBuf,
    /// Batches to predict, in images over all ranks [default: 1/4, 4, 16 and 64 times the
    /// configuration's, as far as the data go]
    #[arg(long, value_name = "BATCHES", value_delimiter = ',')]
    pub(crate) batches: Vec<u32>,
    /// Really train these batches, too, to the same accuracy, and compare
    #[arg(long)]
    pub(crate) train: bool,
    /// Runs at each batch, with the configuration's seed and those after it
    #[arg(long, value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) seeds: u32,
    /// How to print the answer
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Write the answer as JSON, too
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Draw epochs against the batch (.svg or .png)
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Print and draw an answer that --output wrote, without training
    #[arg(long, conflicts_with_all = ["batches", "train", "seeds", "output"])]
    pub(crate) saved: bool,
}
