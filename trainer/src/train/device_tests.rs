//! Whole runs on an emulated GPU, against those on the CPU.

use std::path::Path;

use foretrain_sim::recording::{EventKind, Recording};

use super::tests::config;
use super::*;
use crate::communicator::ThreadTransport;
use crate::config::Config;

/// Reports of losses, one an epoch.
#[derive(Default)]
struct Reported(Vec<f64>);

impl Watch for Reported {
    fn tell(&mut self, news: News<'_>) {
        if let News::Losses(losses) = news {
            self.0.push(losses.loss);
        }
    }
}

fn emulated(config: Config) -> Result<(Report, Vec<f64>), TrainError> {
    let world = config.training.ranks.unwrap_or(1);
    let mut setup = Setup::new(config, world, "a processor", "2026-01-01")?;
    setup.is_emulated = true;
    let mut reported = Reported::default();
    let report = run(&setup, Place::<ThreadTransport>::Threads, &mut reported)?;
    Ok((report, reported.0))
}

const NO_CHECKPOINTS: &str = "checkpoint_every = \"never\"";

const CPU: &str = "device = \"cpu\"";
const CUDA: &str = "device = \"cuda\"";

fn on(device: &str, training: &str, communication: &str) -> (Report, Vec<f64>) {
    let folder = tempfile::tempdir().unwrap();
    let training = format!("{device}\n{training}");
    emulated(config(folder.path(), &training, communication, NO_CHECKPOINTS)).unwrap()
}

/// Images as bytes, graphs, batches copied ahead, sums through the host: up to rounding, the losses
/// and the evaluation are those of the CPU.
#[test]
fn a_run_on_a_device_learns_what_the_cpu_learns() {
    for (training, communication, tolerance) in [
        ("precision = \"f32\"", "", 1e-3),
        ("ranks = 2", "fusion = { rule = \"threshold\", threshold = \"40 KiB\" }", 1e-3),
        ("ranks = 4\nlaunch = \"eager\"", "overlap = false", 1e-3),
        ("ranks = 2", "wire = \"f16\"", 1e-2),
        ("ranks = 2\nprecision = \"f16\"", "wire = \"f32\"", 5e-2),
        ("ranks = 2\nprecision = \"bf16\"", "", 5e-2),
    ] {
        let on_cpu = training.replace("launch = \"eager\"", "");
        let (expected, losses) = on(CPU, &on_cpu, communication);
        let (found, reported) = on(CUDA, training, communication);
        assert_eq!(reported.len(), losses.len());
        for (found, expected) in reported.iter().zip(&losses) {
            let difference = (found / expected - 1.0).abs();
            assert!(difference < tolerance, "{training}: {reported:?}, {losses:?}");
        }
        let (found, expected) = (found.evaluation.unwrap(), expected.evaluation.unwrap());
        assert_eq!(found.images, expected.images);
        let difference = (found.loss / expected.loss - 1.0).abs();
        assert!(difference < 2.0 * tolerance, "{training}: {found:?}, {expected:?}");
    }
}

#[test]
fn bits_do_not_depend_on_overlap_fusion_or_launch() {
    let of = |training: &str, communication: &str| {
        let training = format!("ranks = 2\nprecision = \"f16\"\n{training}");
        on(CUDA, &training, communication).0.weights_sha256
    };
    let reference = of("", "fusion = { rule = \"tensor\" }");
    for (training, communication) in [
        ("launch = \"eager\"", "fusion = { rule = \"one-bucket\" }\noverlap = false"),
        ("launch = \"graph\"", "fusion = { rule = \"threshold\", threshold = \"40 KiB\" }"),
    ] {
        assert_eq!(of(training, communication), reference, "{training} {communication}");
    }
}

fn with_checkpoints(folder: &Path, device: &str, training: &str) -> Config {
    let training = format!("{device}\nranks = 2\nprecision = \"f16\"\n{training}");
    config(folder, &training, "", "checkpoint_every = \"1 steps\"\nkeep = 2")
}

#[test]
fn a_run_on_a_device_goes_on_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let whole = with_checkpoints(&folder.path().join("whole"), CUDA, "");
    let (expected, _) = emulated(whole).unwrap();
    for stop in [1, 5, 7] {
        let parts = folder.path().join(format!("parts {stop}"));
        let first = with_checkpoints(&parts, CUDA, &format!("steps_max = {stop}"));
        assert_eq!(emulated(first).unwrap().0.steps, stop);
        let (second, _) = emulated(with_checkpoints(&parts, CUDA, "")).unwrap();
        assert_eq!((second.steps, second.steps_here), (10, 10 - stop));
        assert_eq!(second.weights_sha256, expected.weights_sha256);
        assert_eq!(second.evaluation, expected.evaluation);
    }
    // The other device computes other bits, so it is another run.
    let parts = with_checkpoints(&folder.path().join("parts 1"), CPU, "");
    let error = emulated(parts).unwrap_err().to_string();
    assert!(error.contains("`training.device` was cuda and is not set"), "{error}");
}

#[test]
fn recordings_of_a_device_tell_every_step_whole() {
    let folder = tempfile::tempdir().unwrap();
    for (ranks, communication) in
        [(1, ""), (2, "wire = \"f32\"\nfusion = { rule = \"threshold\", threshold = \"40 KiB\" }")]
    {
        let output = format!("{NO_CHECKPOINTS}\nrecording = {{ steps = \"0..4\" }}");
        let training = format!("{CUDA}\nranks = {ranks}\nprecision = \"f16\"");
        emulated(config(folder.path(), &training, communication, &output)).unwrap();
        for rank in 0..ranks {
            let path = folder.path().join(format!("recording.rank{rank}.jsonl"));
            let recording = Recording::read(&std::fs::read_to_string(path).unwrap()).unwrap();
            let header = &recording.header;
            assert_eq!((header.device.as_str(), header.threads), ("an emulated GPU", 0));
            for step in 0..4 {
                let of_step = || recording.events.iter().filter(move |event| event.step == step);
                let count = |wanted: fn(&EventKind) -> bool| {
                    of_step().filter(|event| wanted(&event.kind)).count()
                };
                let instructions = header.instructions.len();
                assert_eq!(count(|kind| matches!(kind, EventKind::Forward { .. })), instructions);
                assert_eq!(count(|kind| matches!(kind, EventKind::Backward { .. })), instructions);
                let tensors = count(|kind| matches!(kind, EventKind::GradientReady { .. }));
                assert_eq!(tensors, header.tensors.len());
                let sums = count(|kind| matches!(kind, EventKind::AllReduce { .. }));
                assert_eq!(sums, header.buckets.len());
                for wanted in [
                    (|kind| matches!(kind, EventKind::Optimizer { .. })) as fn(&EventKind) -> bool,
                    |kind| matches!(kind, EventKind::InputWait { .. }),
                    |kind| matches!(kind, EventKind::Step { .. }),
                    |kind| matches!(kind, EventKind::Norms(_)),
                ] {
                    assert_eq!(count(wanted), 1, "step {step} of rank {rank}");
                }
            }
        }
    }
}

#[test]
fn without_a_gpu_the_run_says_so() {
    if crate::executor::cuda::driver::Gpu::count().is_ok() {
        println!("skipped: there is a GPU");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), CUDA, "", NO_CHECKPOINTS);
    let setup = Setup::new(config, 1, "a processor", "2026-01-01").unwrap();
    let error = run(&setup, Place::<ThreadTransport>::Threads, &mut NobodyWatches).unwrap_err();
    // The machine is to blame, not the configuration.
    assert!(!error.is_input());
    let error = error.to_string();
    assert!(error.ends_with("or training on the CPU"), "{error}");
}
