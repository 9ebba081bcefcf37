//! Rows that are wrong say where.

use super::super::*;
use super::{PUBLISHED, read};

#[test]
fn all_published_rows_are_read() {
    assert_eq!(read(PUBLISHED.epochs_to_target, read_epochs).unwrap().len(), 5);
    assert_eq!(read(PUBLISHED.accuracy, read_accuracy).unwrap().len(), 53);
    let runs = read(PUBLISHED.accuracy_curves, read_curves).unwrap();
    assert_eq!(runs.len(), 82);
    assert_eq!(runs.iter().map(|run| run.evaluations.len()).sum::<usize>(), 1084);
}

#[test]
fn a_wrong_field_names_line_and_column() {
    let text = PUBLISHED.epochs_to_target.replacen("40.0", "forty", 1);
    let error = read(&text, read_epochs).unwrap_err();
    assert_eq!(error.to_string(), "3: epochs_mean: `forty`, expected a number above 0");
    let text = PUBLISHED.accuracy.replacen("75.8,", "-75.8,", 1);
    let error = read(&text, read_accuracy).unwrap_err().to_string();
    assert!(error.starts_with("2: top1_percent: `-75.8`, expected"), "{error}");
    let text = PUBLISHED.accuracy_curves.replacen("v0.5", "first", 1);
    let error = read(&text, read_curves).unwrap_err().to_string();
    assert!(error.starts_with("2: round: `first`, expected"), "{error}");
}

#[test]
fn a_missing_column_or_field_is_named() {
    let error = read("global_batch,creator\n1632,NVIDIA\n", read_epochs).unwrap_err().to_string();
    let missing = "epochs_mean, warmup_epochs, weight_decay, target_top1";
    assert_eq!(error, format!("1: the heading has no column {missing}"));
    let error = read("global_batch,creator\n1632\n", read_epochs).unwrap_err().to_string();
    assert_eq!(error, "2: 1 cells, expected 2 as in the heading");
}

#[test]
fn no_rows_are_no_fit() {
    let header = PUBLISHED.epochs_to_target.lines().next().unwrap();
    let published = Published { epochs_to_target: header, ..PUBLISHED };
    let error = fit_convergence(published).unwrap_err();
    assert_eq!(error, FitError::NoRows { what: "epochs to target" });
    let header = PUBLISHED.accuracy.lines().next().unwrap();
    assert!(fit_convergence(Published { accuracy: header, ..PUBLISHED }).is_err());
}
