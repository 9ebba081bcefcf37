//! Whole runs of `foretrain train`: killed at any moment, and as processes over TCP and MPI.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a failure is a panic here")]

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const FORETRAIN: &str = env!("CARGO_BIN_EXE_foretrain");

/// A small ResNet on made-up images; a checkpoint after every step.
fn config(run: &Path, steps: u32, communication: &str, training: &str) -> String {
    let folder = run.display();
    format!(
        r#"
            name = "test"
            seed = 3
            [network]
            model = "resnet-cifar"
            depth = 8
            image_size = 8
            [data]
            kind = "synthetic"
            synthetic = {{ samples = 4000, eval_samples = 0, classes = 4 }}
            workers = 1
            [training]
            global_batch = 8
            epochs = 1
            steps_max = {steps}
            threads_per_rank = 1
            {training}
            [optimizer]
            rule = "lars"
            coefficient = 0.01
            [schedule]
            warmup = {{ epochs = 0.1 }}
            [communication]
            algorithm = "direct"
            {communication}
            [output]
            folder = "{folder}"
            checkpoint_every = "1 step"
            keep = 2
        "#
    )
}

fn foretrain(config: &Path) -> Command {
    let mut command = Command::new(FORETRAIN);
    command.arg("train").arg(config).args(["--format", "json"]);
    command
}

/// The hash of the weights at the end of a run.
fn weights(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    report["weights_sha256"].as_str().unwrap().to_owned()
}

/// A run, killed when it goes out of scope, also by a test that fails.
struct Run(Child);

impl Run {
    fn start(config: &Path) -> Self {
        let mut command = foretrain(config);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Waits until `happened`, for a minute at most; says whether the run goes on.
    fn wait_until(&mut self, happened: impl Fn() -> bool) -> bool {
        let start = Instant::now();
        while !happened() {
            if self.0.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "the run does not come on");
            sleep(Duration::from_micros(50));
        }
        true
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The names in the folder of checkpoints; none before there is one.
fn names(run: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(run.join("checkpoints")) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

/// The highest step of a complete checkpoint.
fn step(run: &Path) -> u32 {
    let steps = names(run)
        .into_iter()
        .filter_map(|name| name.strip_prefix("step-")?.split('.').next()?.parse().ok());
    steps.max().unwrap_or(0)
}

/// Killed 50 times, every other time while a checkpoint is being written, two ranks end with the
/// weights of a run that nobody killed.
#[test]
fn fifty_kills_change_no_bit() {
    const KILLS: u32 = 50;
    const STEPS: u32 = 490;
    let folder = tempfile::tempdir().unwrap();
    let start = |name: &str| {
        let run = folder.path().join(name);
        let file = folder.path().join(format!("{name}.toml"));
        std::fs::write(&file, config(&run, STEPS, "", "ranks = 2")).unwrap();
        (run, file)
    };
    let (_, whole) = start("whole");
    let expected = weights(&foretrain(&whole).output().unwrap());

    let (run, file) = start("killed");
    let (mut kills, mut inside) = (0, 0);
    while kills < KILLS {
        let before = step(&run);
        assert!(before < STEPS, "the run is over after {kills} kills");
        let mut process = Run::start(&file);
        // Each life makes at least a step, so that this ends.
        let mut alive = process.wait_until(|| step(&run) > before);
        if alive && kills % 2 == 0 {
            let writing = |name: &String| name.starts_with(".writing-");
            alive = process.wait_until(|| names(&run).iter().any(writing));
            sleep(Duration::from_micros(u64::from(kills) * 10));
        } else if alive {
            // Any moment: up to some ten steps later, in an order that looks random.
            sleep(Duration::from_micros(u64::from(kills * 7919 % 40) * 250));
        }
        drop(process);
        kills += u32::from(alive);
        inside += u32::from(names(&run).iter().any(|name| name.starts_with(".writing-")));
    }
    assert!(inside >= KILLS / 5, "only {inside} of {KILLS} kills hit a write");
    assert_eq!(weights(&foretrain(&file).output().unwrap()), expected);
    assert_eq!(step(&run), STEPS);
    // The log of all lives is whole lines.
    for line in std::fs::read_to_string(run.join("log.jsonl")).unwrap().lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
}

/// Processes of one run over TCP, as torchrun starts them, on a port that is free now.
fn over_tcp(file: &Path, ranks: u32) -> Vec<Command> {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let process = |rank: u32| {
        let mut command = foretrain(file);
        command
            .envs(
                [("RANK", rank), ("WORLD_SIZE", ranks), ("LOCAL_RANK", rank)]
                    .map(|(name, number)| (name, number.to_string())),
            )
            .envs([("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", &port.to_string())])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    (0..ranks).map(process).collect()
}

/// Three processes over TCP end with the weights of three threads.
#[test]
fn processes_over_tcp_and_threads_have_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    for algorithm in ["algorithm = \"direct\"", "algorithm = \"ring\""] {
        let name = algorithm.replace(|c: char| !c.is_alphanumeric(), "");
        let write = |name: &str, transport: &str, training: &str| {
            let file = folder.path().join(format!("{name}.toml"));
            let text = config(&folder.path().join(name), 12, transport, training)
                .replace("algorithm = \"direct\"", algorithm)
                .replace("global_batch = 8", "global_batch = 9")
                .replace("checkpoint_every = \"1 step\"", "checkpoint_every = \"5 steps\"");
            std::fs::write(&file, text).unwrap();
            file
        };
        let threads = write(&format!("{name}-threads"), "", "ranks = 3");
        let expected = weights(&foretrain(&threads).output().unwrap());
        let processes = write(&format!("{name}-tcp"), "transport = \"tcp\"", "");
        // Rank 0 last, so that the others wait for it.
        let started: Vec<Child> =
            over_tcp(&processes, 3).iter_mut().rev().map(|rank| rank.spawn().unwrap()).collect();
        for (rank, process) in (0..3).rev().zip(started) {
            let output = process.wait_with_output().unwrap();
            if rank > 0 {
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                assert!(output.stdout.is_empty(), "only rank 0 has the report");
            } else {
                assert_eq!(weights(&output), expected, "{algorithm}");
                let stderr = String::from_utf8_lossy(&output.stderr);
                let who = "rank 0 of 3 (from torchrun: RANK, WORLD_SIZE), 3 on this machine";
                assert!(stderr.contains(who), "{stderr}");
            }
        }
    }
}

/// One of three processes over TCP is killed: the others name it and end with code 5.
#[test]
fn the_others_name_a_process_that_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let file = folder.path().join("run.toml");
    // More steps than it will come to.
    let text = config(&run, 1300, "transport = \"tcp\"", "")
        .replace("global_batch = 8", "global_batch = 3");
    std::fs::write(&file, text).unwrap();
    for culprit in [0, 2] {
        let before = step(&run);
        let mut ranks: Vec<Run> =
            over_tcp(&file, 3).iter_mut().map(|rank| Run(rank.spawn().unwrap())).collect();
        assert!(ranks[culprit].wait_until(|| step(&run) > before), "it ended by itself");
        ranks[culprit].0.kill().unwrap();
        let killed = Instant::now();
        for (rank, process) in ranks.iter_mut().enumerate().filter(|(rank, _)| *rank != culprit) {
            let status = process.0.wait().unwrap();
            // Far below the timeout of a minute.
            assert!(killed.elapsed() < Duration::from_secs(30), "rank {rank}");
            let mut stderr = String::new();
            process.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
            assert_eq!(status.code(), Some(5), "rank {rank}: {stderr}");
            assert!(stderr.contains(&format!("rank {culprit} has ended")), "rank {rank}: {stderr}");
        }
    }
}

/// Four processes over MPI end with the weights of four threads.
#[cfg(feature = "mpi")]
#[test]
fn processes_and_threads_have_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    for algorithm in [
        "algorithm = \"direct\"",
        "algorithm = \"ring\"",
        "algorithm = \"hierarchical\"\ngroup = 2",
    ] {
        let name = algorithm.replace(|c: char| !c.is_alphanumeric(), "");
        let write = |name: &str, communication: &str, training: &str| {
            let run = folder.path().join(name);
            let file = folder.path().join(format!("{name}.toml"));
            let text = config(&run, 12, communication, training)
                .replace("algorithm = \"direct\"\n", "\n")
                .replace("checkpoint_every = \"1 step\"", "checkpoint_every = \"5 steps\"");
            let text = text.replace("[communication]", &format!("[communication]\n{algorithm}"));
            std::fs::write(&file, text).unwrap();
            file
        };
        let threads = write(&format!("{name}-threads"), "", "ranks = 4");
        let expected = weights(&foretrain(&threads).output().unwrap());
        let processes = write(&format!("{name}-mpi"), "transport = \"mpi\"", "");
        let output = Command::new("mpirun")
            .args(["--oversubscribe", "--allow-run-as-root", "-n", "4", FORETRAIN, "train"])
            .arg(&processes)
            .args(["--format", "json"])
            .output()
            .unwrap();
        assert_eq!(weights(&output), expected, "{algorithm}");
    }
}
