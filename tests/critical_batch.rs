//! `foretrain critical-batch` from configuration to picture, on a tiny network.

#![expect(clippy::unwrap_used, reason = "a failure is a panic here")]

use std::path::Path;
use std::process::{Command, Output};

const CONFIG: &str = "tests/commands/critical-batch.toml";

fn foretrain(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_foretrain")).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn batches_are_predicted_tried_drawn_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (kept, drawn) = (path("answer.json"), path("answer.svg"));
    let arguments = ["critical-batch", CONFIG, "--batches", "64,8", "--train"];
    let files = ["--output", &kept, "--plot", &drawn, "--format", "csv"];
    let output = foretrain(&[&arguments[..], &files].concat());
    let csv = stdout(&output);
    let mut lines = csv.lines();
    assert!(lines.next().unwrap().starts_with("batch,role,learning_rate,runs,predicted_epochs"));
    let batches: Vec<&str> = lines.filter_map(|line| line.split(',').next()).collect();
    assert_eq!(batches, ["8", "16", "64"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("batch 16, learning rate 0.0040, seed 1, with norms"), "{stderr}");
    assert!(stderr.contains("one run at each batch"), "{stderr}");

    // Everything again from what was kept, without training.
    let again = path("again.svg");
    let table = stdout(&foretrain(&["critical-batch", &kept, "--saved", "--plot", &again]));
    assert!(table.contains("Measured at batch 16 on 2 ranks") && table.contains("mean error"));
    assert_eq!(std::fs::read(&drawn).unwrap(), std::fs::read(again).unwrap());
    let json = stdout(&foretrain(&["critical-batch", &kept, "--saved", "--format", "json"]));
    assert_eq!(json, std::fs::read_to_string(&kept).unwrap());
}

#[test]
fn what_cannot_be_asked_leaves_files_alone() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("answer.json");
    std::fs::write(&kept, "old").unwrap();
    let output = foretrain(&[
        "critical-batch",
        CONFIG,
        "--batches",
        "12",
        "--output",
        &kept.display().to_string(),
    ]);
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("batch 12 is no multiple of 8"), "{stderr}");
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(Path::new(CONFIG).exists());
}
