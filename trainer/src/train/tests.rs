//! Whole runs of a small network on made-up images: what must not change a bit does not.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::communicator::ThreadTransport;
use crate::config::Config;

/// A configuration with `extra` at its end, whose files are in `folder`.
pub(super) fn config(folder: &Path, training: &str, communication: &str, output: &str) -> Config {
    let folder = folder.display();
    Config::from_toml(&format!(
        r#"
            name = "test"
            [network]
            model = "resnet-cifar"
            depth = 8
            image_size = 8
            batch_norm_span = 2
            [data]
            kind = "synthetic"
            synthetic = {{ samples = 40, eval_samples = 9, classes = 4 }}
            [training]
            global_batch = 8
            epochs = 2
            {training}
            [optimizer]
            rule = "lars"
            coefficient = 0.01
            [schedule]
            base_lr = 1.0
            linear_scaling = false
            warmup = {{ epochs = 0.5 }}
            [communication]
            {communication}
            [output]
            folder = "{folder}"
            {output}
        "#
    ))
    .unwrap()
}

fn run_config(config: Config) -> Result<Report, TrainError> {
    let world = config.training.ranks.unwrap_or(1);
    let setup = Setup::new(config, world, "test", "2026-01-01")?;
    run(&setup, Place::<ThreadTransport>::Threads, &mut NobodyWatches)
}

/// The report of a run in a new folder, without checkpoints.
fn report(training: &str, communication: &str) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), training, communication, "checkpoint_every = \"never\"");
    run_config(config).unwrap()
}

#[test]
fn bits_do_not_depend_on_overlap_fusion_or_threads() {
    let direct = "algorithm = \"direct\"\n";
    let of = |training: &str, rest: &str| {
        let training = format!("ranks = 4\n{training}");
        report(&training, &format!("{direct}{rest}")).weights_sha256
    };
    let reference = of("threads_per_rank = 1", "fusion = { rule = \"tensor\" }");
    for (training, rest) in [
        ("threads_per_rank = 2", "fusion = { rule = \"tensor\" }"),
        ("threads_per_rank = 1", "fusion = { rule = \"one-bucket\" }\noverlap = false"),
        ("threads_per_rank = 1", "fusion = { rule = \"threshold\", threshold = \"40 KiB\" }"),
        (
            "threads_per_rank = 3",
            "fusion = { rule = \"segments\", after = [\"layer2.0.conv1\", \"bn1\"] }",
        ),
        (
            "threads_per_rank = 1",
            "fusion = { rule = \"threshold\", threshold = \"40 KiB\" }\noverlap = false",
        ),
    ] {
        assert_eq!(of(training, rest), reference, "{training}, {rest}");
    }
}

/// Two numbers have one sum, so that any algorithm gives it.
#[test]
fn two_ranks_have_the_same_bits_by_any_algorithm() {
    let of = |rest: &str| report("ranks = 2", rest).weights_sha256;
    let reference = of("algorithm = \"direct\"");
    assert_eq!(of("algorithm = \"ring\""), reference);
    assert_eq!(of("algorithm = \"hierarchical\"\ngroup = 2"), reference);
    assert_eq!(of("algorithm = \"hybrid\"\ngroup = 1\nring_from = \"100 KiB\""), reference);
}

/// The same images, normalised in the same groups, give the same gradients up to rounding: so many
/// ranks see nearly the same losses. In double precision see `crate::step::tests`.
#[test]
fn ranks_share_what_one_rank_does() {
    let losses = |ranks: u32| {
        struct Losses(Vec<f64>);
        impl Watch for Losses {
            fn tell(&mut self, news: News<'_>) {
                if let News::Losses(losses) = news {
                    self.0.push(losses.loss);
                }
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let training = format!("ranks = {ranks}");
        let config = config(folder.path(), &training, "", "checkpoint_every = \"never\"");
        let setup = Setup::new(config, ranks, "test", "2026-01-01").unwrap();
        let mut losses = Losses(Vec::new());
        let place = Place::<ThreadTransport>::Threads;
        let report = run(&setup, place, &mut losses).unwrap();
        (losses.0, report.evaluation.unwrap().loss)
    };
    let (one, evaluated) = losses(1);
    assert_eq!(one.len(), 2);
    for ranks in [2, 4] {
        let (many, also) = losses(ranks);
        for (one, many) in one.iter().zip(&many) {
            assert!((one / many - 1.0).abs() < 1e-4, "{ranks} ranks: {many}, one: {one}");
        }
        assert!((evaluated / also - 1.0).abs() < 1e-3, "{ranks} ranks: {also}, one: {evaluated}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// Stopped after any step and started again, a run ends with the weights of one that never
    /// stopped, which has written checkpoints at the same steps.
    #[test]
    fn a_run_that_goes_on_ends_with_the_same_bits(
        stop in 1_u64..10,
        (ranks, precision) in prop_oneof![
            Just((1, "f32")), Just((2, "f32")), Just((4, "f16")), Just((1, "bf16")),
        ],
    ) {
        let training = format!("ranks = {ranks}\nprecision = \"{precision}\"");
        let output = "checkpoint_every = \"1 steps\"\nkeep = 2";
        let folder = tempfile::tempdir().unwrap();
        let whole = folder.path().join("whole");
        let expected = run_config(config(&whole, &training, "", output)).unwrap();
        prop_assert_eq!((expected.steps, expected.steps_here), (10, 10));

        let parts = folder.path().join("parts");
        let first = format!("{training}\nsteps_max = {stop}");
        let first = run_config(config(&parts, &first, "", output)).unwrap();
        prop_assert_eq!(first.steps, stop);
        let second = run_config(config(&parts, &training, "", output)).unwrap();
        prop_assert_eq!((second.steps, second.steps_here), (10, 10 - stop));
        prop_assert_eq!(second.weights_sha256, expected.weights_sha256);
        if let (Some(one), Some(other)) = (second.evaluation, expected.evaluation) {
            prop_assert_eq!(one, other);
        }
    }
}

#[test]
fn other_settings_do_not_go_on_from_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let output = "checkpoint_every = \"1 epoch\"";
    run_config(config(folder.path(), "steps_max = 5", "", output)).unwrap();
    let mut other = config(folder.path(), "", "", output);
    other.seed = 7;
    let error = run_config(other).unwrap_err();
    assert!(error.is_input());
    let text = error.to_string();
    assert!(text.contains("`seed` was 1 and is 7"), "{text}");
}

/// With a scale far beyond what half precision holds, steps are skipped and the scale is halved
/// until gradients fit.
#[test]
fn overflows_skip_steps_until_the_scale_fits() {
    #[derive(Default)]
    struct Scales(Vec<(f64, u64)>);
    impl Watch for Scales {
        fn tell(&mut self, news: News<'_>) {
            if let News::Losses(losses) = news {
                self.0.push((losses.loss_scale, losses.skipped));
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let training =
        "precision = \"f16\"\nloss_scale = { policy = \"dynamic\", initial_scale = 16777216.0 }";
    let config = config(folder.path(), training, "", "checkpoint_every = \"never\"");
    let setup = Setup::new(config, 1, "test", "2026-01-01").unwrap();
    let mut scales = Scales::default();
    run(&setup, Place::<ThreadTransport>::Threads, &mut scales).unwrap();
    let skipped: u64 = scales.0.iter().map(|(_, skipped)| skipped).sum();
    assert!(skipped > 0, "{:?}", scales.0);
    let (scale, _) = *scales.0.last().unwrap();
    // Nothing raises the scale in so few steps: each skip has halved it.
    assert_eq!(scale, 16_777_216.0 / f64::from(1_u32 << skipped), "{:?}", scales.0);
}

#[test]
fn half_precision_learns_what_single_precision_learns() {
    let loss = |precision: &str| {
        let report = report(&format!("precision = \"{precision}\""), "");
        report.evaluation.unwrap().loss
    };
    let single = loss("f32");
    for precision in ["f16", "bf16"] {
        let found = loss(precision);
        assert!((found / single - 1.0).abs() < 0.05, "{precision}: {found}, f32: {single}");
    }
}

#[test]
fn recordings_tell_every_step_whole() {
    use foretrain_sim::recording::{EventKind, Recording};

    let folder = tempfile::tempdir().unwrap();
    let output =
        "checkpoint_every = \"never\"\nrecording = { steps = \"3..5\" }\nmllog = \"mllog\"";
    let fusion = "fusion = { rule = \"threshold\", threshold = \"40 KiB\" }";
    run_config(config(folder.path(), "ranks = 2", fusion, output)).unwrap();
    for rank in 0..2 {
        let path = folder.path().join(format!("recording.rank{rank}.jsonl"));
        let recording = Recording::read(&std::fs::read_to_string(path).unwrap()).unwrap();
        let header = &recording.header;
        assert_eq!((header.rank, header.ranks, header.per_rank_batch), (rank, 2, 4));
        let (instructions, tensors) = (header.instructions.len(), header.tensors.len());
        assert!(header.buckets.len() > 2);
        for step in 3..5 {
            let of_step = || recording.events.iter().filter(move |event| event.step == step);
            let count = |wanted: fn(&EventKind) -> bool| {
                of_step().filter(|event| wanted(&event.kind)).count()
            };
            assert_eq!(count(|kind| matches!(kind, EventKind::Forward { .. })), instructions);
            assert_eq!(count(|kind| matches!(kind, EventKind::Backward { .. })), instructions);
            assert_eq!(count(|kind| matches!(kind, EventKind::GradientReady { .. })), tensors);
            let reduced = count(|kind| matches!(kind, EventKind::AllReduce { .. }));
            assert_eq!(reduced, header.buckets.len());
            assert_eq!(count(|kind| matches!(kind, EventKind::Step { .. })), 1);
            let norms: Vec<_> = of_step()
                .filter_map(|event| match event.kind {
                    EventKind::Norms(norms) => Some(norms),
                    _ => None,
                })
                .collect();
            let [norms] = norms.as_slice() else { panic!("{norms:?}") };
            // The mean over two ranks has at most the mean of their norms.
            assert!(norms.local_gradient_norm_sq.unwrap() > 0.0);
            assert!(norms.averaged_gradient_norm_sq.unwrap() > 0.0);
            assert_eq!((norms.per_rank_batch, norms.global_batch), (4, 8));
        }
    }
    let mllog = std::fs::read_to_string(folder.path().join("mllog")).unwrap();
    for key in ["run_start", "epoch_start", "eval_accuracy", "run_stop"] {
        assert!(mllog.contains(&format!("\"key\":\"{key}\"")), "{mllog}");
    }
}

#[test]
fn a_run_stops_when_the_target_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let output = "checkpoint_every = \"never\"";
    // Four classes, guessed at random, are right more often than 1 %.
    let easy = run_config(config(folder.path(), "target_top1 = \"1 %\"", "", output)).unwrap();
    assert_eq!((easy.reached_target, easy.steps), (Some(true), 5));
    let hard = run_config(config(folder.path(), "target_top1 = \"99.9 %\"", "", output)).unwrap();
    assert_eq!((hard.reached_target, hard.steps), (Some(false), 10));
}

#[test]
fn too_few_images_are_said_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), "ranks = 2", "", "");
    config.training.global_batch = 48;
    let error = Setup::new(config, 2, "test", "2026-01-01").unwrap_err().to_string();
    assert!(error.starts_with("40 samples do not fill one global batch of 48"), "{error}");
}

/// One image of many is no image: the rank that meets it fails, the other only notices.
#[test]
fn a_rank_that_fails_is_the_one_that_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for class in ["a", "b"] {
        std::fs::create_dir_all(data.join(class)).unwrap();
        for image in 0..8 {
            let path = data.join(class).join(format!("{image}.png"));
            let file = std::fs::File::create(path).unwrap();
            let mut encoder = png::Encoder::new(file, 8, 8);
            encoder.set_color(png::ColorType::Rgb);
            encoder.write_header().unwrap().write_image_data(&[7; 8 * 8 * 3]).unwrap();
        }
    }
    std::fs::write(data.join("b").join("3.png"), b"no image").unwrap();
    let (data, run_folder) = (data.display(), folder.path().join("run"));
    let text = format!(
        r#"
            name = "test"
            [network]
            model = "resnet-cifar"
            depth = 8
            image_size = 8
            [data]
            kind = "image-folder"
            train = "{data}"
            [training]
            ranks = 2
            global_batch = 8
            epochs = 1
            [schedule]
            warmup = {{ epochs = 0.5 }}
            [output]
            folder = "{}"
        "#,
        run_folder.display()
    );
    let error = run_config(Config::from_toml(&text).unwrap()).unwrap_err();
    assert!(matches!(error, TrainError::Loader(_)), "{error}");
    assert!(error.to_string().contains("3.png"), "{error}");
}

/// The evaluation at a checkpoint's step is part of it.
#[test]
fn a_run_that_reached_its_target_has_nothing_left_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let run = || {
        let output = "checkpoint_every = \"5 steps\"";
        run_config(config(folder.path(), "target_top1 = \"1 %\"", "", output)).unwrap()
    };
    let first = run();
    assert_eq!((first.reached_target, first.steps), (Some(true), 5));
    let second = run();
    assert_eq!((second.reached_target, second.steps, second.steps_here), (Some(true), 5, 0));
    assert_eq!(second.weights_sha256, first.weights_sha256);
    assert_eq!(second.evaluation, first.evaluation);
}

#[test]
fn ranks_that_were_told_different_things_do_not_train() {
    let said = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    assert!(begin::agree("the settings", &said(&["a", "a", "a"])).is_ok());
    let error = begin::agree("the settings", &said(&["a", "a", "b"])).unwrap_err();
    assert!(matches!(error, TrainError::Disagreement { rank: 2, .. }));
    assert!(error.to_string().starts_with("the settings of rank 2 are not those of rank 0"));
}

/// A learning rate that sends weights beyond single precision leaves no finite gradient.
#[test]
fn a_run_that_diverges_says_so_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), "", "", "checkpoint_every = \"never\"");
    config.schedule.base_lr = 1e38;
    config.training.epochs = 30.0;
    let error = run_config(config).unwrap_err();
    assert!(matches!(error, TrainError::Diverged { skipped: 100, .. }), "{error}");
}

#[test]
fn what_follows_a_recording_does_not_replace_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = |steps_max: u64| {
        let training = format!("steps_max = {steps_max}");
        let output = "checkpoint_every = \"1 steps\"\nrecording = { steps = \"2..6\" }";
        run_config(config(folder.path(), &training, "", output)).unwrap();
        std::fs::read_to_string(folder.path().join("recording.rank0.jsonl")).unwrap()
    };
    let part = run(4);
    assert!(part.contains("\"step\":3") && !part.contains("\"step\":4"), "{part}");
    assert_eq!(run(5), part, "the rest replaced it");
    assert_eq!(run(10), part, "a run after the recorded steps replaced it");
}

/// A missing file of weights matters only to a run that begins.
#[test]
fn a_run_that_goes_on_needs_no_first_weights() {
    let folder = tempfile::tempdir().unwrap();
    let output = "checkpoint_every = \"1 epoch\"";
    let first = run_config(config(folder.path(), "", "", output)).unwrap();
    let mut again = config(folder.path(), "", "", output);
    again.network.weights = Some("no-such-file.safetensors".into());
    assert_eq!(run_config(again.clone()).unwrap().weights_sha256, first.weights_sha256);
    again.output.folder = folder.path().join("new");
    let error = run_config(again).unwrap_err();
    assert!(error.is_input() && error.to_string().starts_with("`network.weights`"), "{error}");
}

/// Five steps an epoch, evaluated after every second or third, change nothing in the weights.
#[test]
fn evaluations_may_come_within_an_epoch() {
    struct Evaluations(Vec<f64>);
    impl Watch for Evaluations {
        fn tell(&mut self, news: News<'_>) {
            if let News::Evaluation(evaluation) = news {
                self.0.push(evaluation.epoch);
            }
        }
    }
    let of = |training: &str| {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), training, "", "checkpoint_every = \"3 steps\"");
        let setup = Setup::new(config, 2, "test", "2026-01-01").unwrap();
        let mut watch = Evaluations(Vec::new());
        let report = run(&setup, Place::<ThreadTransport>::Threads, &mut watch).unwrap();
        (watch.0, report.weights_sha256)
    };
    let (whole, hash) = of("ranks = 2");
    assert_eq!(whole, [1.0, 2.0]);
    assert_eq!(of("ranks = 2\nevaluate_every = 0"), (vec![2.0], hash.clone()));
    let (parts, same) = of("ranks = 2\nevaluate_every = 0.5");
    assert_eq!((parts, same), (vec![0.6, 1.0, 1.6, 2.0], hash.clone()));
    let (steps, same) = of("ranks = 2\nevaluate_every = 0.01");
    assert_eq!((steps.len(), same), (10, hash));
}

/// A recording of norms alone has a line a step.
#[test]
fn norms_are_recorded_without_the_timeline() {
    let folder = tempfile::tempdir().unwrap();
    let output = "checkpoint_every = \"never\"\nrecording = { steps = 7, timeline = false }";
    run_config(config(folder.path(), "ranks = 2", "", output)).unwrap();
    let text = std::fs::read_to_string(folder.path().join("recording.rank1.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(lines.len(), 7);
    assert!(lines.iter().all(|line| line.contains("\"kind\":\"norms\"")));
}
