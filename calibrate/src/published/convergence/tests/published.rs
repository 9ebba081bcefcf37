//! How well left-out rows of the published files are foretold, with a small margin to what was
//! reached.

use std::collections::BTreeSet;

use super::super::*;
use super::{PUBLISHED, read};
use foretrain_sim::convergence::Convergence;

fn at_most(report: &Report, group: &str, cases: usize, mean: f64, covered: f64) {
    let figures = report.groups[group];
    assert_eq!(figures.cases, cases, "{group}");
    assert!(figures.mean_abs_error <= mean, "{group}: {figures:?}");
    assert!(figures.covered >= covered, "{group}: {figures:?}");
}

#[test]
fn epochs_to_target_of_left_out_points() {
    let rows = read(PUBLISHED.epochs_to_target, read_epochs).unwrap();
    let ends = epochs::ends(&read(PUBLISHED.accuracy_curves, read_curves).unwrap());
    let report = |model, what| epochs::leave_out(&rows, &ends, model, what).unwrap();
    let bare = report(epochs::Model::Bare, epochs::LeaveOut::Point);
    at_most(&bare, "all", 5, 6.6, 1.0);
    for what in [epochs::LeaveOut::Point, epochs::LeaveOut::Batch] {
        at_most(&report(epochs::Model::Covariates, what), "all", 5, 3.0, 1.0);
    }
}

#[test]
fn final_accuracy_of_left_out_rows() {
    let rows = read(PUBLISHED.accuracy, read_accuracy).unwrap();
    let report = accuracy::leave_out(&rows, accuracy::LeaveOut::Row).unwrap();
    at_most(&report, "unmodified", 38, 0.4, 0.9);
    at_most(&report, "unmodified, against its anchor", 7, 0.45, 0.8);
    at_most(&report, "alexnet", 4, 0.4, 1.0);
    assert_eq!(report.cases.len() + report.not_predicted.len(), rows.len());
    let report = accuracy::leave_out(&rows, accuracy::LeaveOut::Group).unwrap();
    at_most(&report, "unmodified, against its anchor", 7, 0.5, 0.8);
    at_most(&report, "unmodified", 38, 0.95, 0.9);
    assert_eq!(report.cases.len() + report.not_predicted.len(), rows.len());
}

#[test]
fn what_cannot_be_predicted_says_why() {
    let rows = read(PUBLISHED.accuracy, read_accuracy).unwrap();
    let report = accuracy::leave_out(&rows, accuracy::LeaveOut::Row).unwrap();
    let reason = |id: &str| {
        report.not_predicted.iter().find(|row| row.id == id).map(|row| row.reason).unwrap()
    };
    assert!(reason("OSAWA-001").contains("second order"));
    assert!(reason("CODREANU-003").contains("global batch"));
    assert!(reason("NVCAFFE-008").contains("pure half precision"));
    assert!(reason("GOYAL-003").contains("without warm-up"));
    assert!(reason("JIA-022").contains("quoted"));
}

#[test]
fn curves_of_left_out_runs() {
    let runs = read(PUBLISHED.accuracy_curves, read_curves).unwrap();
    let evaluations: usize = runs.iter().map(|run| run.evaluations.len()).sum();
    for what in [curves::LeaveOut::Run, curves::LeaveOut::SetUp] {
        let report = curves::leave_out(&runs, what).unwrap();
        at_most(&report, "last third", 366, 0.65, 0.9);
        at_most(&report, "last third: LARS", 265, 0.45, 0.9);
        at_most(&report, "last third: momentum by steps", 69, 1.2, 0.9);
        at_most(&report, "last third: momentum, schedule unpublished", 32, 1.2, 0.8);
        at_most(&report, "second third", 336, 2.4, 0.9);
        at_most(&report, "first third", 335, 4.5, 0.9);
        assert_eq!(report.cases.len() + report.not_predicted.len(), evaluations);
        let lines: BTreeSet<u64> = report.cases.iter().map(|case| case.line).collect();
        assert_eq!(lines.len(), report.cases.len());
    }
}

#[test]
fn rows_of_the_same_kind_that_were_never_fitted_are_foretold() {
    let rows = read(PUBLISHED.accuracy, read_accuracy).unwrap();
    let (unseen, seen): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|row| row.id.starts_with("NUSLARS"));
    let report = accuracy::foretell(&seen, &unseen).unwrap();
    at_most(&report, "unmodified, against its anchor", 3, 0.35, 1.0);
    let fitted = fit_convergence(PUBLISHED).unwrap();
    let points = read(PUBLISHED.epochs_to_target, read_epochs).unwrap();
    assert_eq!(epochs::foretell(&fitted.epochs, &points).cases.len(), points.len());
    let runs = read(PUBLISHED.accuracy_curves, read_curves).unwrap();
    at_most(&curves::foretell(&fitted.curve, &runs), "last third", 366, 0.65, 0.9);
}

/// The laws that ship are those of the published rows.
#[test]
fn the_fitted_laws_are_up_to_date() {
    let shipped: Convergence = Convergence::shipped().clone();
    let again = fit_convergence(PUBLISHED).unwrap();
    let pairs = [
        (&shipped.epochs.posterior, &again.epochs.posterior),
        (&shipped.accuracy.posterior, &again.accuracy.posterior),
        (&shipped.curve.posterior, &again.curve.posterior),
    ];
    for (shipped, again) in pairs {
        for (old, new) in shipped.parameters.iter().zip(&again.parameters) {
            let close = 0.01 * (new.high - new.low);
            assert!((old.value - new.value).abs() <= close, "{old:?} {new:?}");
        }
    }
}

/// The parameters of a made-up law are found again in points made by it.
#[test]
fn a_known_law_is_found_again() {
    let recipe = |batch: f64| foretrain_sim::convergence::EpochsRecipe {
        warm_up_epochs: 2.0 + batch / 3000.0,
        weight_decay: if batch > 10_000.0 { 1e-4 } else { 5e-5 },
    };
    let rows: Vec<EpochsRow> = [1024.0, 4096.0, 8192.0, 16_384.0, 32_768.0, 65_536.0, 98_304.0]
        .into_iter()
        .zip(2..)
        .map(|(batch, line)| {
            let recipe = recipe(batch);
            let epochs =
                foretrain_sim::convergence::epochs::epochs(&[40.0, 30_000.0, 0.05], batch, &recipe);
            EpochsRow {
                line,
                batch,
                creator: "law".to_owned(),
                epochs,
                warm_up_epochs: recipe.warm_up_epochs,
                weight_decay: recipe.weight_decay,
                target_top1: 0.759,
            }
        })
        .collect();
    let law = epochs::fit_epochs(&rows, &[], epochs::Model::Covariates).unwrap();
    for (parameter, truth) in law.posterior.parameters.iter().zip([40.0, 30_000.0, 0.05]) {
        let inside = parameter.low <= truth && truth <= parameter.high;
        assert!(inside, "{parameter:?} {truth}");
    }
}
