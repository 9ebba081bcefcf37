//! The report as text for people.

use comfy_table::Cell;
use foretrain_calibrate::published::errors::{Case, Errors};
use foretrain_calibrate::published::validation::{MINUTES, RATE, Validation};

use super::Report;
use crate::table::{plain, right, thousands};

/// Each family with its rows, then errors in all, then what is in no summary.
pub(super) fn report(report: &Report) -> String {
    let made = &report.foretrain;
    let validation = &report.validation;
    let mut text = format!(
        "{}: published training runs against {}\nforetrain {}, seed 1\n",
        made.published, made.predictor, made.version
    );
    if !validation.cases.is_empty() {
        text += &format!("\nPredicted from an anchor\n{}", cases(&validation.cases));
        text += &format!("\nErrors, of the published values\n{}", summary(validation));
        text += &format!("\nErrors of images/s by family\n{}", families(&validation.families));
    }
    if !validation.without_anchor.is_empty() {
        text += &format!(
            "\nWithout an anchor: from the roofline and what systems need on average; in no summary\n{}",
            cases(&validation.without_anchor)
        );
    }
    text += &anchors(validation);
    text += &notes(validation);
    if !validation.not_predicted.is_empty() {
        text += "\nNot predicted\n";
        for row in &validation.not_predicted {
            text += &format!("  line {}, {} ({}): {}\n", row.line, row.id, row.family, row.reason);
        }
    }
    text
}

/// A row a run: its rate, and its minutes beside it.
fn cases(cases: &[Case]) -> String {
    let mut table = plain();
    let mut heading = vec![Cell::new("id"), Cell::new("family")];
    heading.extend(
        [
            "accelerators",
            "batch each",
            "images/s",
            "predicted",
            "95 % from",
            "to",
            "error",
            "minutes",
            "predicted",
            "error",
        ]
        .map(right),
    );
    table.set_header(heading);
    let mut rows: Vec<(Option<&Case>, Option<&Case>)> = Vec::new();
    for case in cases {
        match (case.quantity, rows.last_mut()) {
            (MINUTES, Some((Some(rate), minutes @ None))) if rate.id == case.id => {
                *minutes = Some(case);
            }
            (RATE, _) => rows.push((Some(case), None)),
            _ => rows.push((None, Some(case))),
        }
    }
    let error = |case: &Case| right(&format!("{:+.1} %", case.error_percent));
    let nothing = || right("");
    for (rate, minutes) in rows {
        let Some(one) = rate.or(minutes) else { continue };
        let mut cells = vec![
            Cell::new(&one.id),
            Cell::new(&one.family),
            right(&one.accelerators.map(|n| thousands(f64::from(n), 0)).unwrap_or_default()),
            right(&one.per_accelerator_batch.map(batch).unwrap_or_default()),
        ];
        match rate {
            Some(rate) => cells.extend([
                right(&thousands(rate.published, 0)),
                right(&thousands(rate.predicted, 0)),
                right(&rate.low.map(|low| thousands(low, 0)).unwrap_or_default()),
                right(&rate.high.map(|high| thousands(high, 0)).unwrap_or_default()),
                error(rate),
            ]),
            None => cells.extend((0..5).map(|_| nothing())),
        }
        match minutes {
            Some(minutes) => cells.extend([
                right(&format!("{:.2}", minutes.published)),
                right(&format!("{:.2}", minutes.predicted)),
                error(minutes),
            ]),
            None => cells.extend((0..3).map(|_| nothing())),
        }
        table.add_row(cells);
    }
    format!("{}\n", table.trim_fmt())
}

/// A whole batch without decimals.
fn batch(images: f64) -> String {
    if images.fract() == 0.0 { format!("{images}") } else { format!("{images:.1}") }
}

fn summary(validation: &Validation) -> String {
    let mut table = plain();
    let mut heading = vec![Cell::new("of"), Cell::new("predicted by")];
    heading.extend(["rows", "mean", "median", "worst"].map(right));
    heading.extend([Cell::new("of row"), right("inside 95 %")]);
    table.set_header(heading);
    let by = [
        ("this prediction", &validation.quantities),
        ("data sheets alone", &validation.datasheets),
        ("perfect scaling", &validation.perfect_scaling),
    ];
    for quantity in [RATE, MINUTES] {
        for (index, (name, errors)) in by.iter().enumerate() {
            let Some(errors) = errors.iter().find(|errors| errors.of == quantity) else { continue };
            let within = format!("{} of {}", errors.within_interval, errors.cases);
            table.add_row([
                Cell::new(if quantity == RATE { "images/s" } else { "minutes" }),
                Cell::new(name),
                right(&errors.cases.to_string()),
                right(&format!("{:.1} %", errors.mean_abs_error_percent)),
                right(&format!("{:.1} %", errors.median_abs_error_percent)),
                right(&format!("{:+.1} %", errors.worst_error_percent)),
                Cell::new(&errors.worst_id),
                right(if index == 0 { &within } else { "" }),
            ]);
        }
    }
    format!("{}\n", table.trim_fmt())
}

fn families(families: &[Errors]) -> String {
    let mut table = plain();
    let mut heading = vec![Cell::new("family")];
    heading.extend(["rows", "mean", "worst"].map(right));
    heading.push(Cell::new("of row"));
    table.set_header(heading);
    for errors in families {
        table.add_row([
            Cell::new(&errors.of),
            right(&errors.cases.to_string()),
            right(&format!("{:.1} %", errors.mean_abs_error_percent)),
            right(&format!("{:+.1} %", errors.worst_error_percent)),
            Cell::new(&errors.worst_id),
        ]);
    }
    format!("{}\n", table.trim_fmt())
}

/// How far kernels stay behind the roofline where that was found, a line an anchor.
fn anchors(validation: &Validation) -> String {
    if validation.anchors.is_empty() {
        return String::new();
    }
    let mut table = plain();
    table.set_header(vec![
        Cell::new("anchor"),
        Cell::new("family"),
        right("work takes, of the roofline"),
    ]);
    for anchor in &validation.anchors {
        let factor = match (&anchor.roofline_factor, &anchor.problem) {
            (Some(factor), _) => format!("{factor:.2} x"),
            (None, Some(problem)) => problem.clone(),
            (None, None) => String::new(),
        };
        table.add_row([Cell::new(&anchor.id), Cell::new(&anchor.family), right(&factor)]);
    }
    format!("\nAnchors, which are met by construction and in no summary\n{}\n", table.trim_fmt())
}

/// What predictions rest on, each said once with the rows that it is true of.
fn notes(validation: &Validation) -> String {
    let mut notes: Vec<(&str, Vec<&str>)> = Vec::new();
    for case in validation.cases.iter().chain(&validation.without_anchor) {
        for note in &case.notes {
            match notes.iter_mut().find(|(known, _)| known == note) {
                Some((_, ids)) if ids.last() == Some(&case.id.as_str()) => {}
                Some((_, ids)) => ids.push(&case.id),
                None => notes.push((note, vec![&case.id])),
            }
        }
    }
    if notes.is_empty() {
        return String::new();
    }
    let lines = notes.iter().map(|(note, ids)| format!("  {note} ({})\n", ids.join(", ")));
    format!("\nNotes\n{}", lines.collect::<String>())
}
