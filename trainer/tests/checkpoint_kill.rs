//! A run that is killed at any moment, half of the times inside a write, goes on from its latest
//! complete checkpoint.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a failure is a panic here")]

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use foretrain_trainer::checkpoint::{
    Checkpoint, CheckpointFolder, Expected, ModelTensor, Progress, TensorKind, Tensors,
    TrainingState, latest, load,
};
use foretrain_trainer::config::Fingerprint;
use foretrain_trainer::loss_scale::LossScaleState;
use foretrain_trainer::optimizer::{OptimizerState, TensorMemory};

const FOLDER: &str = "FORETRAIN_KILLED_RUN";
/// 2 MB of weights and as much of velocities: writing takes long enough to be hit.
const ELEMENTS: usize = 1 << 19;
const KILLS: u32 = 12;

fn network() -> [ModelTensor; 1] {
    let name = "fc.weight".to_owned();
    [ModelTensor { name, shape: vec![ELEMENTS], kind: TensorKind::Parameter }]
}

/// A checkpoint whose every number tells its step.
fn checkpoint(step: u64) -> Checkpoint {
    let numbers = vec![step as f32; ELEMENTS];
    let weights = Tensor::from_slice(&numbers, ELEMENTS, &Device::Cpu).unwrap();
    let memory = TensorMemory { velocity: numbers, last_lr: step as f64 };
    let optimizer = OptimizerState { tensors: [("fc.weight".to_owned(), memory)].into() };
    let loss_scale = LossScaleState { scale: 1.0, good_steps: 0, skipped_steps: step };
    let state = TrainingState {
        progress: Progress { epoch: 0, batch: step, step },
        seed: 1,
        optimizer,
        loss_scale,
        best_top1: None,
        settings: Fingerprint::default(),
    };
    Checkpoint { model: Tensors::from([("fc.weight".to_owned(), weights)]), state }
}

fn open(root: &Path) -> CheckpointFolder {
    CheckpointFolder::open(root, NonZeroUsize::new(2).unwrap()).unwrap()
}

fn step_of(root: &Path) -> u64 {
    let Some(path) = latest(root).unwrap() else { return 0 };
    let settings = Fingerprint::default();
    let read = load(&path, &Expected { tensors: &network(), settings: Some(&settings) }).unwrap();
    let step = read.state.progress.step;
    let expected = checkpoint(step);
    assert_eq!(read.state, expected.state);
    let numbers = |checkpoint: &Checkpoint| checkpoint.model["fc.weight"].to_vec1::<f32>().unwrap();
    assert!(numbers(&read) == numbers(&expected));
    step
}

/// The run that is killed: goes on from the latest checkpoint and saves without end.
#[test]
#[ignore = "run and killed by another test"]
fn a_run_without_end() {
    let root = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let folder = open(&root);
    for step in step_of(&root) + 1.. {
        folder.save(&checkpoint(step)).unwrap();
    }
}

/// A run, killed when it goes out of scope, also by a test that fails.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn names(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Waits until `happened`, for a minute at most.
fn wait_until(run: &mut Run, happened: impl Fn() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(run.0.try_wait().unwrap().is_none(), "the run ended by itself");
        assert!(start.elapsed() < Duration::from_secs(60), "the run does not come on");
        sleep(Duration::from_micros(50));
    }
}

#[test]
fn a_killed_run_goes_on_from_its_latest_complete_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    let mut inside = 0;
    let mut last = 0;
    for kill in 0..KILLS {
        let mut run = Command::new(std::env::current_exe().unwrap());
        run.args(["--ignored", "--exact", "a_run_without_end"]).env(FOLDER, root.path());
        let mut run = Run(run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let newer = format!("step-{:08}", last + 1);
        wait_until(&mut run, || root.path().join(&newer).exists());
        if kill % 2 == 0 {
            // Inside a write; a little later each time.
            let writing = |name: &String| name.starts_with(".writing-");
            wait_until(&mut run, || names(root.path()).iter().any(writing));
            sleep(Duration::from_micros(u64::from(kill) * 300));
        }
        drop(run);
        inside += u32::from(names(root.path()).iter().any(|name| name.starts_with(".writing-")));
        let step = step_of(root.path());
        assert!(step > last, "step {step} after {last}");
        last = step;
        open(root.path());
        assert!(!names(root.path()).iter().any(|name| name.starts_with(".writing-")));
        assert_eq!(step_of(root.path()), last);
    }
    // Some kills may come when the write has just ended.
    assert!(inside >= KILLS / 4, "only {inside} of {KILLS} kills hit a write");
}
