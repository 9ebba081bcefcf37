//! Published rows, read from CSV text.

use foretrain_sim::convergence::Convergence;

use crate::published::table::{Cells, Problem, Table};

/// One point of `epochs_to_target.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochsRow {
    /// Where it stands.
    pub line: u64,
    /// The global batch.
    pub batch: f64,
    /// Who set it.
    pub creator: String,
    /// The mean over its runs.
    pub epochs: f64,
    /// How long the learning rate rises.
    pub warm_up_epochs: f64,
    /// The decay of weights.
    pub weight_decay: f64,
    /// The accuracy at which runs stop, as a fraction.
    pub target_top1: f64,
}

/// One run of `accuracy.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct AccuracyRow {
    /// Where it stands.
    pub line: u64,
    /// Its name.
    pub id: String,
    /// Who published it.
    pub source: String,
    /// The network.
    pub model: String,
    /// What it reached.
    pub top1_percent: f64,
    /// On how many accelerators.
    pub accelerators: Option<f64>,
    /// The global batch.
    pub batch: Option<f64>,
    /// Passes over the data.
    pub epochs: Option<f64>,
    /// As the source has it; empty where it does not say.
    pub optimizer: String,
    /// As the source has it; empty where it does not say.
    pub precision: String,
    /// Words of the source in lower case; of a row that says "as above", those of the row above.
    pub notes: String,
    /// The same recipe's run at its smallest batch; empty for none.
    pub anchor: String,
}

/// One evaluation inside a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Where it stands.
    pub line: u64,
    /// After which epoch; nothing where the log does not say.
    pub epoch: Option<f64>,
    /// What it found.
    pub top1_percent: f64,
    /// Whether the row before says the same.
    pub repeated: bool,
}

/// One run of `accuracy_curves.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its log, which is its name.
    pub id: String,
    /// The round of MLPerf, such as 0.7.
    pub round: f64,
    /// Who submitted it.
    pub submitter: String,
    /// The global batch.
    pub batch: f64,
    /// As the log has it.
    pub optimizer: String,
    /// The peak learning rate.
    pub base_lr: Option<f64>,
    /// How long the learning rate rises.
    pub warm_up_epochs: Option<f64>,
    /// How long it falls: epochs of the whole run below 100, steps after the warm-up above.
    pub decay_steps: Option<f64>,
    /// The power of the polynomial.
    pub poly_power: Option<f64>,
    /// The decay of weights.
    pub weight_decay: Option<f64>,
    /// What was measured, in the file's order.
    pub evaluations: Vec<Evaluation>,
}

/// The columns of a file of epochs to target that are read.
pub const EPOCHS_COLUMNS: [&str; 6] =
    ["global_batch", "creator", "epochs_mean", "warmup_epochs", "weight_decay", "target_top1"];
/// The columns of a file of final accuracies that are read.
pub const ACCURACY_COLUMNS: [&str; 11] = [
    "id",
    "source",
    "model",
    "top1_percent",
    "accelerators",
    "global_batch",
    "epochs",
    "optimizer",
    "precision",
    "notes",
    "anchor",
];
/// The columns of a file of learning curves that are read.
pub const CURVES_COLUMNS: [&str; 12] = [
    "log_path",
    "round",
    "submitter",
    "global_batch",
    "optimizer",
    "base_lr",
    "warmup_epochs",
    "decay_steps",
    "poly_power",
    "weight_decay",
    "epoch",
    "top1_percent",
];

/// A number from 0 on, or nothing where the cell is empty.
fn optional(cells: &Cells<'_>, column: &str) -> Result<Option<f64>, Problem> {
    let good = |number: f64| number.is_finite() && number >= 0.0;
    cells.number(column, "nothing, or a number from 0 on", good)
}

/// A number above 0.
fn number(cells: &Cells<'_>, column: &str) -> Result<f64, Problem> {
    cells.quantity(column)?.ok_or_else(|| cells.wrong(column, "a number above 0"))
}

/// A share of all images, in percent.
fn percent(cells: &Cells<'_>, column: &str) -> Result<f64, Problem> {
    let expected = "a number above 0, at most 100";
    let good = |number: f64| number > 0.0 && number <= 100.0;
    cells.number(column, expected, good)?.ok_or_else(|| cells.wrong(column, expected))
}

/// A table that has all of `columns`.
fn checked<'t>(table: &'t Table, columns: &[&str]) -> Result<&'t Table, Problem> {
    match table.missing(columns).as_slice() {
        [] => Ok(table),
        missing => {
            let text = format!("the heading has no column {}", missing.join(", "));
            Err(Problem { line: 1, text })
        }
    }
}

/// Reads `epochs_to_target.csv`.
pub fn read_epochs(table: &Table) -> Result<Vec<EpochsRow>, Problem> {
    let rows = checked(table, &EPOCHS_COLUMNS)?.rows().map(|cells| {
        if !matches!(cells.text("optimizer").to_lowercase().as_str(), "lars" | "") {
            return Err(cells.wrong("optimizer", "`lars`: the law is of no other"));
        }
        let batch = number(&cells, "global_batch")?;
        // What a row does not say is as usual.
        let usual = Convergence::shipped().epochs.usual_recipe(batch);
        Ok(EpochsRow {
            line: cells.line(),
            batch,
            creator: cells.text("creator").to_owned(),
            epochs: number(&cells, "epochs_mean")?,
            warm_up_epochs: optional(&cells, "warmup_epochs")?.unwrap_or(usual.warm_up_epochs),
            weight_decay: cells.quantity("weight_decay")?.unwrap_or(usual.weight_decay),
            target_top1: number(&cells, "target_top1")?,
        })
    });
    rows.collect()
}

/// Reads `accuracy.csv`.
pub fn read_accuracy(table: &Table) -> Result<Vec<AccuracyRow>, Problem> {
    let mut above = String::new();
    let rows = checked(table, &ACCURACY_COLUMNS)?.rows().map(|cells| {
        let mut notes = cells.text("notes").to_lowercase();
        if notes == "as above" {
            notes.clone_from(&above);
        }
        above.clone_from(&notes);
        Ok(AccuracyRow {
            line: cells.line(),
            id: cells.text("id").to_owned(),
            source: cells.text("source").to_owned(),
            model: cells.text("model").to_owned(),
            top1_percent: percent(&cells, "top1_percent")?,
            accelerators: cells.quantity("accelerators")?,
            batch: cells.quantity("global_batch")?,
            epochs: cells.quantity("epochs")?,
            optimizer: cells.text("optimizer").to_lowercase(),
            precision: cells.text("precision").to_lowercase(),
            notes,
            anchor: cells.text("anchor").to_owned(),
        })
    });
    rows.collect()
}

/// Reads `accuracy_curves.csv`: runs in the file's order.
pub fn read_curves(table: &Table) -> Result<Vec<Run>, Problem> {
    let mut runs: Vec<Run> = Vec::new();
    for cells in checked(table, &CURVES_COLUMNS)?.rows() {
        let id = cells.text("log_path");
        let mut evaluation = Evaluation {
            line: cells.line(),
            epoch: optional(&cells, "epoch")?,
            top1_percent: number(&cells, "top1_percent")?,
            repeated: false,
        };
        if let Some(run) = runs.iter_mut().rfind(|run| run.id == id) {
            evaluation.repeated = run.evaluations.iter().any(|before| {
                before.epoch == evaluation.epoch && before.top1_percent == evaluation.top1_percent
            });
            run.evaluations.push(evaluation);
            continue;
        }
        let round = cells.text("round");
        let parsed = round.strip_prefix('v').and_then(|round| round.parse().ok());
        let round = parsed.ok_or_else(|| cells.wrong("round", "a round such as v0.7"))?;
        runs.push(Run {
            id: id.to_owned(),
            round,
            submitter: cells.text("submitter").to_owned(),
            batch: number(&cells, "global_batch")?,
            optimizer: cells.text("optimizer").to_lowercase(),
            base_lr: optional(&cells, "base_lr")?,
            warm_up_epochs: optional(&cells, "warmup_epochs")?,
            decay_steps: cells.quantity("decay_steps")?,
            poly_power: optional(&cells, "poly_power")?,
            weight_decay: optional(&cells, "weight_decay")?,
            evaluations: vec![evaluation],
        });
    }
    Ok(runs)
}
