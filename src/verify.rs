//! `foretrain verify PROFILE`: the measurement again, inside the simulator.

use foretrain_calibrate::verify::{Comparison, Kind, Verdict, verify};
use foretrain_sim::profile::Profile;
use foretrain_sim::scenario::text_hash;
use foretrain_sim::units::Bytes;
use serde_json::json;

use crate::cli::{Format, VerifyArguments};
use crate::failure::{Failure, complain};
use crate::figure;
use crate::output::{self, OutputFile};
use crate::table::{self, plain, right};

pub(crate) fn run(arguments: &VerifyArguments) -> Result<(), Failure> {
    let plot = match &arguments.plot {
        Some(path) => Some((figure::Kind::of(path)?, OutputFile::create(path)?)),
        None => None,
    };
    let (profile, hash) = read(&arguments.profile)?;
    let mut others = Vec::new();
    for path in &arguments.against {
        others.push(read(path)?.0);
    }
    let measured: Vec<&Profile> = match others.as_slice() {
        [] => vec![&profile],
        some => some.iter().collect(),
    };
    let verdict = verify(&profile, &measured).map_err(|error| {
        Failure::Invalid(format!("{}: {error}", output::shown(&arguments.profile)))
    })?;
    for reason in &verdict.not_compared {
        complain(&format!("warning: not compared: {reason}"));
    }
    let made = Made { hash, seed: profile.origin.seed, device: profile.machine.device.clone() };
    if let Some((kind, file)) = plot {
        file.finish(&figure::draw_verification(&verdict, &made.line(), kind)?)?;
    }
    print(&verdict, &made, arguments)?;
    judge(&verdict, arguments)
}

/// What made a comparison.
struct Made {
    hash: String,
    seed: u64,
    device: String,
}

impl Made {
    fn line(&self) -> String {
        format!(
            "foretrain {}, profile {}, seed {}",
            env!("CARGO_PKG_VERSION"),
            table::short(&self.hash),
            self.seed
        )
    }
}

fn read(path: &std::path::Path) -> Result<(Profile, String), Failure> {
    let text = output::read_text(path)?;
    let profile = Profile::read(&text)
        .map_err(|error| Failure::Invalid(format!("{}: {error}", output::shown(path))))?;
    Ok((profile, text_hash(&text)))
}

fn print(verdict: &Verdict, made: &Made, arguments: &VerifyArguments) -> Result<(), Failure> {
    match arguments.format {
        Format::Table => output::print(&text(verdict, made)),
        Format::Json => {
            let Verdict { points, errors, not_compared } = verdict;
            output::print(&output::json(&json!({
                "foretrain": {
                    "version": env!("CARGO_PKG_VERSION"),
                    "profile_hash": made.hash,
                    "seed": made.seed,
                },
                "points": points,
                "errors": errors,
                "not_compared": not_compared,
            }))?)
        }
        Format::Csv => {
            let rows = verdict.points.iter().map(output::object);
            output::print(&table::csv(&rows.collect::<Result<Vec<_>, Failure>>()?)?)
        }
    }
}

fn text(verdict: &Verdict, made: &Made) -> String {
    let mut text = format!("Measured on {}, and simulated\n{}\n", made.device, made.line());
    for kind in [Kind::AllReduce, Kind::Step] {
        let points: Vec<&Comparison> =
            verdict.points.iter().filter(|point| point.kind == kind).collect();
        if points.is_empty() {
            continue;
        }
        text += if kind == Kind::Step { "\nSteps\n" } else { "\nAll-reduces\n" };
        text += &rows(kind, &points);
    }
    text += "\n";
    for errors in &verdict.errors {
        text += &format!(
            "{:<12}{:>5} points, error {:.1} % on average, {:.1} % in the median, {:.1} % at most\n",
            errors.kind.to_string(),
            errors.points,
            errors.mean_abs_error_percent,
            errors.median_abs_error_percent,
            errors.max_abs_error_percent
        );
    }
    text
}

fn rows(kind: Kind, points: &[&Comparison]) -> String {
    let mut table = plain();
    let (unit, per) = if kind == Kind::Step { ("ms", 1e3) } else { ("us", 1.0) };
    let mut heading = vec![right("ranks"), right("a node"), right("all-reduce")];
    match kind {
        Kind::Step => heading.extend(["batch", "fusion", "overlap"].map(right)),
        Kind::AllReduce => heading.push(right("size")),
    }
    heading.extend([
        right(&format!("measured {unit}")),
        right("95 %"),
        right(&format!("simulated {unit}")),
        right("error"),
    ]);
    table.set_header(heading);
    for point in points {
        let digits = if kind == Kind::Step { 2 } else { 1 };
        let number = |us: f64| format!("{:.digits$}", us / per);
        let mut cells = vec![
            point.ranks.to_string(),
            point.ranks_per_node.to_string(),
            point.all_reduce.clone(),
        ];
        match kind {
            Kind::Step => cells.extend([
                point.per_rank_batch.map(|batch| batch.to_string()).unwrap_or_default(),
                point.fusion.clone().unwrap_or_default(),
                point
                    .overlap
                    .map(|on| if on { "on" } else { "off" }.to_owned())
                    .unwrap_or_default(),
            ]),
            Kind::AllReduce => {
                let bytes = point.message_bytes.map(|bytes| Bytes::new(bytes).to_string());
                cells.push(bytes.unwrap_or_default());
            }
        }
        cells.extend([
            number(point.measured_us),
            format!("{} to {}", number(point.measured_low_us), number(point.measured_high_us)),
            number(point.predicted_us),
            format!("{:+.1} %", point.error_percent),
        ]);
        table.add_row(cells.iter().map(|cell| right(cell)));
    }
    format!("{}\n", table.trim_fmt())
}

/// Fails where an error is above its threshold.
fn judge(verdict: &Verdict, arguments: &VerifyArguments) -> Result<(), Failure> {
    let mean_max = 100.0 * arguments.threshold.get();
    for errors in &verdict.errors {
        // What is no number is no small error.
        if !is_at_most(errors.mean_abs_error_percent, mean_max) {
            return Err(Failure::Missed(format!(
                "the mean error of {}s is {:.1} %, and --threshold is {mean_max} %",
                errors.kind, errors.mean_abs_error_percent
            )));
        }
        let worst = arguments.worst.map(|worst| 100.0 * worst.get());
        if let Some(worst) = worst.filter(|_| errors.kind == Kind::Step)
            && !is_at_most(errors.max_abs_error_percent, worst)
        {
            return Err(Failure::Missed(format!(
                "the largest error of a step is {:.1} %, and --worst is {worst} %",
                errors.max_abs_error_percent
            )));
        }
    }
    match verdict.not_compared.len() {
        0 => Ok(()),
        count => Err(Failure::Missed(format!(
            "{count} measurement{} could not be compared",
            if count == 1 { "" } else { "s" }
        ))),
    }
}

fn is_at_most(percent: f64, most: f64) -> bool {
    percent <= most
}
