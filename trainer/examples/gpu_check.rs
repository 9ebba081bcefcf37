//! Compares what a GPU computes with the CPU: every operation alone, then whole training steps.
//!
//! ```text
//! gpu_check FOLDER [--seed SEED] [--formats f16,bf16,f32] [--deadline SECONDS]
//! ```
//!
//! Writes `FOLDER/gpu-check-NAME-DATE.json` after each network, and prints one line for each. Images and
//! weights are new ones every time; `--seed` repeats a run. Exit codes: 0 all is within its limit, 2
//! wrong command line, 5 there is no GPU to open, 6 a limit was missed, or not all could be compared.

#![expect(clippy::print_stdout, reason = "an example says what it sees")]

mod support;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use foretrain_sim::recording::NumberFormat;
use foretrain_trainer::executor::cuda::driver::Gpu;
use foretrain_trainer::executor::cuda::lockstep::steps::Training;
use foretrain_trainer::executor::cuda::lockstep::{Case, Lockstep, cases, steps_cases};
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde_json::{Value, json};
use support::{Deadline, Error, Results};

/// Compares what a GPU computes with the CPU.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Where results go, and what is known of cuDNN's algorithms is kept.
    folder: PathBuf,
    /// Which GPU, of those that can be seen.
    #[arg(long, default_value_t = 0)]
    gpu: usize,
    /// What images, labels and weights follow from; a new one if none is given.
    #[arg(long)]
    seed: Option<u64>,
    /// Images of ResNet-50 in a pass.
    #[arg(long, default_value_t = 8, value_parser = at_least(1))]
    batch: u64,
    /// Pixels of ResNet-50's images, each way.
    #[arg(long, default_value_t = 224, value_parser = at_least(32))]
    side: u64,
    /// Training steps that are compared.
    #[arg(long, default_value_t = 10, value_parser = at_least(1))]
    steps: u64,
    /// Formats to compute in: f16, bf16, f32.
    #[arg(long, value_delimiter = ',', default_value = "f16,bf16,f32", value_parser = support::format)]
    formats: Vec<NumberFormat>,
    /// Seconds after which no further network is begun, which makes the exit code 6.
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<u64>,
}

fn at_least(least: u64) -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(least..=4096)
}

fn main() -> ExitCode {
    support::exit_code(check(&Options::parse()))
}

/// A comparison's part in the table and in the file.
struct Row {
    passed: bool,
    line: String,
    value: Value,
}

/// A comparison to be made.
struct Wanted {
    network: &'static str,
    case: Case,
    format: NumberFormat,
    /// Training steps; operations one by one, if none.
    steps: Option<u64>,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (network, format) = (self.network, self.format.name());
        match self.steps {
            Some(steps) => write!(f, "{network} {format} {steps} steps"),
            None => write!(f, "{network} {format} operations"),
        }
    }
}

/// What is compared, the most important first: steps of the first case in the first format, all
/// operations, all other steps.
fn work(options: &Options) -> Vec<Wanted> {
    let operations = options.formats.iter().flat_map(|&format| {
        let cases = cases(options.side, options.batch as usize).into_iter();
        cases.map(move |(network, case)| Wanted { network, case, format, steps: None })
    });
    let mut steps = options.formats.iter().flat_map(|&format| {
        let steps = Some(options.steps);
        steps_cases().into_iter().map(move |(network, case)| Wanted {
            network,
            case,
            format,
            steps,
        })
    });
    let first = steps.next();
    first.into_iter().chain(operations).chain(steps).collect()
}

fn check(options: &Options) -> Result<bool, Error> {
    let deadline = Deadline::after(options.deadline);
    std::fs::create_dir_all(&options.folder)?;
    let fresh = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.as_nanos() as u64 & 0xffff_ffff
    };
    let seed = options.seed.unwrap_or_else(fresh);
    let open = |format| Gpu::open(options.gpu, format, &options.folder);
    let mut results = Results::new(&options.folder, "gpu-check", open(NumberFormat::F32)?.facts())?;
    println!("seed {seed} (--seed {seed} repeats this)");
    results.set("seed", json!(seed))?;
    let threads = Arc::new(ThreadPoolBuilder::new().build()?);
    let mut passed = true;
    let mut left_out: Vec<String> = Vec::new();
    let (mut of_operations, mut of_steps) = (Vec::new(), Vec::new());
    // Whole steps, as they are captured, before all operations: time may not reach for all.
    for what in work(options) {
        let name = what.to_string();
        if deadline.is_over() {
            left_out.push(name);
            continue;
        }
        let began = Instant::now();
        let row = open(what.format).map_err(Error::from).and_then(|gpu| match what.steps {
            Some(steps) => {
                let training = Training { case: what.case, steps, format: what.format, seed };
                self::steps(what.network, &training, gpu, &threads)
            }
            None => {
                let found = what.case.lockstep(gpu, what.format, seed, &threads)?;
                Ok(operations(what.network, &what.case, &found))
            }
        });
        // One that fails says nothing of the others.
        let row = row.unwrap_or_else(|error| Row {
            passed: false,
            line: format!("FAILED: {error}"),
            value: json!({ "network": what.network, "error": error.to_string() }),
        });
        println!("{name}: {} ({:.0} s)", row.line, began.elapsed().as_secs_f64());
        passed &= row.passed;
        let (of, kind) = match what.steps {
            Some(_) => (&mut of_steps, "steps"),
            None => (&mut of_operations, "operations"),
        };
        of.push(row.value);
        results.set(kind, json!(of))?;
    }
    for what in &left_out {
        println!("{what}: left out, as the time is up");
    }
    passed &= left_out.is_empty();
    results.set("left_out", json!(left_out))?;
    results.set("passed", json!(passed))?;
    let verdict = if passed { "passed" } else { "NOT passed" };
    println!("{verdict}; all numbers are in {}", results.path().display());
    Ok(passed)
}

fn word(passed: bool) -> &'static str {
    if passed { "ok" } else { "MISSED" }
}

fn operations(name: &str, case: &Case, found: &Lockstep) -> Row {
    let passed = found.passed();
    let mut line = format!("{} of {} tensors", word(passed), found.comparisons.len());
    if let Some(worst) = found.worst() {
        line.push_str(&format!(", worst {worst}"));
    }
    for comparison in found.missed().take(20) {
        line.push_str(&format!("\n    beyond its limit: {comparison}"));
    }
    let side = case.size.image.height;
    let value = json!({ "network": name, "side": side, "passed": passed, "lockstep": found });
    Row { passed, line, value }
}

fn steps(
    name: &str,
    training: &Training,
    gpu: Gpu,
    threads: &Arc<ThreadPool>,
) -> Result<Row, Error> {
    let found = training.compare(gpu, threads)?;
    let passed = found.passed();
    let line = format!(
        "{} losses {:.1e} of {:.1e}, weights' way {:.1e} of {:.1e}",
        word(passed),
        found.losses.device,
        found.losses.limit,
        found.movement.device,
        found.movement.limit,
    );
    let side = training.case.size.image.height;
    let value = json!({ "network": name, "side": side, "passed": passed, "training": found });
    Ok(Row { passed, line, value })
}
