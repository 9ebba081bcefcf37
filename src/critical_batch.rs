//! `foretrain critical-batch CONFIG`: how epochs grow with the batch, on the user's own data.

use std::time::Instant;

use foretrain_calibrate::critical_batch::{
    Answer, CriticalBatchError, Progress, Question, Row, RunStart, Study,
};
use foretrain_sim::profile::Estimate;
use foretrain_sim::scenario::text_hash;
use foretrain_trainer::config::Config;
use foretrain_trainer::train::{Evaluation, News};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::calibrate::now;
use crate::cli::{CriticalBatchArguments, Format};
use crate::failure::{Failure, complain};
use crate::output::{self, OutputFile};
use crate::table::{self, plain, right, thousands};
use crate::{figure, progress, ranks};

/// What is predicted where nobody says: times the configuration's batch.
const FACTORS: [(u32, u32); 4] = [(1, 4), (4, 1), (16, 1), (64, 1)];

pub(crate) fn run(arguments: &CriticalBatchArguments) -> Result<(), Failure> {
    let plot = match &arguments.plot {
        Some(path) => Some((figure::Kind::of(path)?, OutputFile::create(path)?)),
        None => None,
    };
    let saved = arguments.output.as_deref().map(OutputFile::create).transpose()?;
    let text = output::read_text(&arguments.config)?;
    let place = output::shown(&arguments.config);
    let document =
        if arguments.saved { read(&text, &place)? } else { train(arguments, &text, &place)? };
    let Document { foretrain, answer } = &document;
    for warning in &answer.warnings {
        complain(&format!("warning: {warning}"));
    }
    if let Some(file) = saved {
        file.finish(output::json(&document)?.as_bytes())?;
    }
    if let Some((kind, file)) = plot {
        file.finish(&figure::draw_critical_batch(answer, &foretrain.line(), kind)?)?;
    }
    match arguments.format {
        Format::Table => output::print(&table(answer, foretrain)),
        Format::Json => output::print(&output::json(&document)?),
        Format::Csv => output::print(&table::csv(&rows(answer)?)?),
    }
}

/// An answer, and what made it.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    foretrain: Made,
    answer: Answer,
}

#[derive(Debug, Serialize, Deserialize)]
struct Made {
    version: String,
    config_hash: String,
    seed: u64,
    device: String,
}

impl Made {
    fn line(&self) -> String {
        format!(
            "foretrain {}, configuration {}, seed {}, {}",
            self.version,
            table::short(&self.config_hash),
            self.seed,
            self.device
        )
    }
}

fn read(text: &str, place: &str) -> Result<Document, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure::Invalid(format!("{place}: this is no answer of foretrain critical-batch: {error}"))
    })
}

fn train(arguments: &CriticalBatchArguments, text: &str, place: &str) -> Result<Document, Failure> {
    let config =
        Config::from_toml(text).map_err(|error| Failure::Invalid(format!("{place}:{error}")))?;
    let (own, seed) = (config.training.global_batch, config.seed);
    let batches = if arguments.batches.is_empty() { usual(own) } else { arguments.batches.clone() };
    let scratch = tempfile::Builder::new()
        .prefix("foretrain-critical-batch-")
        .tempdir()
        .map_err(|error| Failure::Runtime(format!("failed to create a folder: {error}")))?;
    let device = ranks::device();
    let failed = |error| failed(error, place);
    let study = Study::new(Question {
        config,
        batches,
        seeds: arguments.seeds,
        scratch: scratch.path().to_owned(),
        device: device.clone(),
        started: now(),
    })
    .map_err(failed)?;
    let mut terminal = Terminal::new();
    let mut answer = study.predict(&mut terminal).map_err(failed)?;
    complain(&format!(
        "critical batch {:.0} ({:.0} to {:.0}), {:.2} epochs at batch {own}",
        answer.critical_batch.value,
        answer.critical_batch.low,
        answer.critical_batch.high,
        answer.measured.epochs
    ));
    if arguments.train {
        answer = study.try_out(answer, &mut terminal).map_err(failed)?;
    }
    let foretrain = Made {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        config_hash: text_hash(text),
        seed,
        device,
    };
    Ok(Document { foretrain, answer })
}

fn usual(own: u32) -> Vec<u32> {
    FACTORS.iter().map(|(times, part)| (own / part).saturating_mul(*times)).collect()
}

fn failed(error: CriticalBatchError, place: &str) -> Failure {
    match error {
        CriticalBatchError::Input(problem) => Failure::Invalid(format!("{place}: {problem}")),
        CriticalBatchError::Train(error) if error.is_input() => {
            Failure::Invalid(format!("{place}: {error}"))
        }
        CriticalBatchError::Train(error) => Failure::Runtime(error.to_string()),
        CriticalBatchError::Refused(reason) => Failure::Refused(format!("{place}: {reason}")),
        CriticalBatchError::Recording(problem) => Failure::Runtime(problem),
    }
}

/// Says on stderr which run is under way, with a bar on a terminal.
struct Terminal {
    bar: ProgressBar,
    began: Instant,
}

impl Terminal {
    fn new() -> Self {
        let bar = progress::bar(0, "");
        progress::show_rate(&bar);
        Self { bar, began: Instant::now() }
    }
}

impl Progress for Terminal {
    fn begin(&mut self, run: &RunStart) {
        let RunStart { batch, learning_rate, seed, norms, .. } = run;
        let why = if *norms { ", with norms of gradients" } else { "" };
        self.bar.suspend(|| {
            complain(&format!(
                "after {:.0} s: batch {batch}, learning rate {learning_rate:.4}, seed {seed}{why}",
                self.began.elapsed().as_secs_f64()
            ));
        });
    }

    fn tell(&mut self, news: News<'_>) {
        match news {
            News::Start { steps, .. } => {
                self.bar.set_length(steps);
                self.bar.set_position(0);
                self.bar.reset_eta();
            }
            News::Step { done } => self.bar.set_position(done),
            News::Evaluation(Evaluation { epoch, top1, .. }) => self.bar.suspend(|| {
                complain(&format!("  epoch {epoch:.3}: top-1 {:.2} %", 100.0 * top1));
            }),
            News::Skipped { name, reason } => self.bar.suspend(|| {
                complain(&format!("warning: {name} is left out: {reason}"));
            }),
            _ => {}
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn table(answer: &Answer, made: &Made) -> String {
    let Answer { name, critical_batch, measured, .. } = answer;
    let mut text = format!("{name}: epochs to {:.2} % top-1\n", answer.target_top1_percent);
    text += &format!("{}\n\n", made.line());
    text += &format!(
        "Measured at batch {} on {} ranks, learning rate {:.4}, {} run{}\n",
        measured.batch,
        measured.ranks,
        measured.learning_rate,
        measured.runs.len(),
        if measured.runs.len() == 1 { "" } else { "s" }
    );
    text += &format!(
        "  critical batch  {:.0} images ({:.0} to {:.0})\n",
        critical_batch.value, critical_batch.low, critical_batch.high
    );
    text += &format!("  epochs          {:.2}", measured.epochs);
    if let Some(spread) = measured.spread {
        text += &format!(", scattered by {:.1} %", 100.0 * spread);
    }
    text += "\n";
    let scales: Vec<String> = (critical_batch.phases.iter())
        .filter(|phase| phase.first_step == 0 || measured.runs.len() == 1)
        .filter_map(|phase| phase.noise_scale)
        .map(|scale| thousands(scale, 0))
        .collect();
    if measured.runs.len() == 1 {
        text += &format!("  noise scale     {} from first to last\n", scales.join(", "));
    }
    let tried = answer.rows.iter().any(|row| !row.runs.is_empty());
    let mut table = plain();
    let mut heading = ["batch", "learning rate", "steps", "epochs predicted", "95 %"].to_vec();
    if tried {
        heading.extend(["epochs actual", "runs", "error", "inside"]);
    }
    table.set_header(heading.into_iter().map(right));
    for row in &answer.rows {
        table.add_row(cells(answer, row, tried).iter().map(|cell| right(cell)));
    }
    text += &format!("\n{}\n", table.trim_fmt());
    if let Some(error) = answer.mean_abs_error_percent() {
        text += &format!("\nmean error {error:.1} %\n");
    }
    text
}

fn cells(answer: &Answer, row: &Row, tried: bool) -> Vec<String> {
    let Estimate { value, low, high } = row.predicted_epochs;
    let steps = f64::from(answer.images) * value / f64::from(row.batch);
    let mut cells = vec![
        thousands(f64::from(row.batch), 0),
        format!("{:.4}", row.learning_rate),
        thousands(steps, 0),
        format!("{value:.2}"),
        format!("{low:.2} to {high:.2}"),
    ];
    if tried {
        let runs: Vec<String> = (row.runs.iter())
            .map(|run| run.epochs.map_or("never".to_owned(), |epochs| format!("{epochs:.2}")))
            .collect();
        cells.extend([
            row.actual_epochs.map_or("-".to_owned(), |epochs| format!("{epochs:.2}")),
            runs.join(" "),
            row.error_percent.map_or("-".to_owned(), |error| format!("{error:+.1} %")),
            row.inside.map_or("-", |inside| if inside { "yes" } else { "no" }).to_owned(),
        ]);
    }
    cells
}

/// A row a batch, that which was measured among them, smallest first.
fn rows(answer: &Answer) -> Result<Vec<Map<String, Value>>, Failure> {
    let measured = &answer.measured;
    let low_and_high = |runs: &[foretrain_calibrate::critical_batch::Run]| {
        let epochs = || runs.iter().filter_map(|run| run.epochs);
        let (low, high) = epochs().fold((f64::INFINITY, 0.0_f64), |(low, high), epochs| {
            (low.min(epochs), high.max(epochs))
        });
        (high > 0.0).then_some((low, high)).unzip()
    };
    let mut rows = Vec::new();
    let (low, high) = low_and_high(&measured.runs);
    rows.push((
        measured.batch,
        json!({
            "batch": measured.batch, "role": "measured", "learning_rate": measured.learning_rate,
            "runs": measured.runs.len(),
            "predicted_epochs": null, "predicted_low": null, "predicted_high": null,
            "actual_epochs": measured.epochs, "actual_min": low, "actual_max": high,
            "error_percent": null, "inside": null,
        }),
    ));
    for row in &answer.rows {
        let (low, high) = low_and_high(&row.runs);
        rows.push((
            row.batch,
            json!({
                "batch": row.batch, "role": "predicted", "learning_rate": row.learning_rate,
                "runs": row.runs.len(),
                "predicted_epochs": row.predicted_epochs.value,
                "predicted_low": row.predicted_epochs.low,
                "predicted_high": row.predicted_epochs.high,
                "actual_epochs": row.actual_epochs, "actual_min": low, "actual_max": high,
                "error_percent": row.error_percent, "inside": row.inside,
            }),
        ));
    }
    rows.sort_by_key(|(batch, _)| *batch);
    rows.iter().map(|(_, row)| output::object(row)).collect()
}
