//! The whole procedure on a tiny network, and its arithmetic.

use foretrain_sim::convergence::noise_scale::CriticalBatch;

use super::answer::mean_epochs;
use super::runs::crossing;
use super::*;

const CONFIG: &str = r#"
    name = "tiny"
    [network]
    model = "resnet-cifar"
    depth = 8
    image_size = 8
    batch_norm_span = 4
    [data]
    kind = "synthetic"
    synthetic = { samples = 256, eval_samples = 64, classes = 4 }
    workers = 1
    [training]
    global_batch = 16
    ranks = 2
    threads_per_rank = 1
    epochs = 20
    evaluate_every = 0.25
    target_top1 = "80 %"
    [optimizer]
    rule = "momentum"
    momentum = 0.0
    weight_decay = 0.0
    [schedule]
    base_lr = 0.004
    linear_scaling = false
    warmup = { shape = "none" }
    decay = { kind = "constant" }
"#;

fn question(text: &str, batches: &[u32], scratch: PathBuf) -> Question {
    Question {
        config: Config::from_toml(text).unwrap(),
        batches: batches.to_vec(),
        seeds: 1,
        scratch,
        device: "a processor".to_owned(),
        started: "2026-01-01".to_owned(),
    }
}

#[test]
fn a_tiny_network_is_measured_predicted_and_tried() {
    let scratch = tempfile::tempdir().unwrap();
    let study = Study::new(question(CONFIG, &[8, 64], scratch.path().to_owned())).unwrap();
    let predicted = study.predict(&mut NobodyFollows).unwrap();
    let (critical, measured) = (&predicted.critical_batch, &predicted.measured);
    assert!(critical.low < critical.value && critical.value < critical.high, "{critical:?}");
    assert!((1.0..10_000.0).contains(&critical.value), "{critical:?}");
    assert!(measured.runs.len() == 1 && measured.epochs < 20.0);
    assert!(predicted.rows.iter().all(|row| row.runs.is_empty() && row.inside.is_none()));
    let [small, large] = &predicted.rows[..] else { panic!("two rows") };
    assert!(small.predicted_epochs.value < measured.epochs);
    assert!(large.predicted_epochs.value > measured.epochs && large.learning_rate > 0.004);
    // What was predicted does not change by trying it.
    let before = predicted.clone();
    let tried = study.try_out(predicted, &mut NobodyFollows).unwrap();
    for (row, before) in tried.rows.iter().zip(&before.rows) {
        assert_eq!(row.predicted_epochs, before.predicted_epochs);
        assert_eq!(row.learning_rate, before.learning_rate);
        let actual = row.actual_epochs.unwrap();
        let error = 100.0 * (row.predicted_epochs.value / actual - 1.0);
        assert_eq!(row.error_percent, Some(error));
    }
    // The same question has the same answer, and nothing is left behind.
    let again = study.predict(&mut NobodyFollows).unwrap();
    assert_eq!(again.critical_batch, before.critical_batch);
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[test]
fn a_target_that_is_not_reached_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let text = CONFIG.replace("epochs = 20", "epochs = 0.25").replace("80 %", "99.9 %");
    let study = Study::new(question(&text, &[8], scratch.path().to_owned())).unwrap();
    let error = study.predict(&mut NobodyFollows).unwrap_err();
    assert!(matches!(error, CriticalBatchError::Refused(_)), "{error}");
    assert!(error.to_string().contains("train for more epochs"), "{error}");
}

#[test]
fn questions_that_the_law_is_not_about_are_explained() {
    for (from, to, message) in [
        ("target_top1 = \"80 %\"", "", "`training.target_top1`: epochs to which accuracy?"),
        ("ranks = 2", "ranks = 1", "`training.ranks`: the noise of gradients"),
        ("ranks = 2", "ranks = 2\nsteps_max = 9", "`training.steps_max`"),
        ("evaluate_every = 0.25", "evaluate_every = 0", "`training.evaluate_every`: 0, but"),
        ("kind = \"constant\"", "kind = \"cosine\"", "`schedule.decay`: where the rate falls"),
        ("shape = \"none\"", "epochs = 1", "`schedule.warmup`: the law is of a constant rate"),
        ("batch_norm_span = 4", "", "`network.batch_norm_span`: without it"),
        (
            "rule = \"momentum\"\n    momentum = 0.0\n    weight_decay = 0.0",
            "rule = \"lars\"",
            "`optimizer.rule`: LARS",
        ),
    ] {
        assert!(CONFIG.contains(from), "{from}");
        let text = CONFIG.replace(from, to);
        let error = Study::new(question(&text, &[32], PathBuf::new())).unwrap_err();
        assert!(matches!(error, CriticalBatchError::Input(_)));
        assert!(error.to_string().starts_with(message), "{error}");
    }
    for (batches, message) in [
        (&[16][..], "batch 16 is the configuration's own"),
        (&[32, 32], "batch 32 is there twice"),
        (&[12], "batch 12 is no multiple of 8: 2 ranks with 4 images normalised together"),
        (&[0], "batch 0 is no multiple of 8"),
    ] {
        let error = Study::new(question(CONFIG, batches, PathBuf::new())).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
    }
}

#[test]
fn the_target_is_crossed_between_evaluations() {
    let evaluations = [(10, 0.2), (20, 0.6), (30, 0.5), (40, 0.9)];
    assert_eq!(crossing(&evaluations, 0.4), Some(15.0));
    assert_eq!(crossing(&evaluations, 0.6), Some(20.0));
    assert_eq!(crossing(&evaluations, 0.7), Some(35.0));
    assert_eq!(crossing(&evaluations, 0.1), Some(10.0));
    assert_eq!(crossing(&evaluations, 0.95), None);
    assert_eq!(crossing(&[], 0.5), None);
}

fn run(epochs: Option<f64>) -> Run {
    Run { seed: 1, steps: 100, epochs, evaluations: Vec::new(), seconds: 1.0 }
}

#[test]
fn intervals_come_of_the_critical_batch_and_of_the_spread_of_runs() {
    let critical = CriticalBatch { value: 1000.0, low: 500.0, high: 2000.0, phases: Vec::new() };
    let measured = |epochs: &[f64], spread| Measured {
        batch: 1000,
        ranks: 2,
        learning_rate: 0.1,
        epochs: 2.0,
        spread,
        runs: epochs.iter().map(|epochs| run(Some(*epochs))).collect(),
    };
    // (1 + 3)/(1 + 1), and with 500 and 2000: (1 + 6)/(1 + 2) and (1 + 1.5)/(1 + 0.5).
    let alone = predicted(&measured(&[2.0], None), &critical, 3000.0);
    assert!((alone.value - 4.0).abs() < 1e-12);
    assert!((alone.high - 14.0 / 3.0).abs() < 1e-12, "{alone:?}");
    assert!((alone.low - 10.0 / 3.0).abs() < 1e-12, "{alone:?}");
    // At the measured batch only runs scatter: 12.706 · 0.1 · √(2/2).
    let pair = predicted(&measured(&[2.0, 2.0], Some(0.1)), &critical, 1000.0);
    assert!(((pair.high / 2.0).ln() - 1.270_62).abs() < 1e-4, "{pair:?}");
    assert!(((2.0 / pair.low).ln() - 1.270_62).abs() < 1e-4, "{pair:?}");
}

#[test]
fn a_run_that_does_not_arrive_has_no_mean() {
    assert_eq!(mean_epochs(&[run(Some(2.0)), run(None)]), None);
    assert_eq!(mean_epochs(&[]), None);
    assert!((mean_epochs(&[run(Some(2.0)), run(Some(8.0))]).unwrap() - 4.0).abs() < 1e-12);
}
