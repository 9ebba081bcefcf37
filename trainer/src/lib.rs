//! The trainer of Foretrain: real data-parallel training of ResNet and AlexNet, on CPUs and
//! NVIDIA GPUs.
//!
//! It trains the networks that `foretrain-sim` simulates, from the same lists of nodes, cuts
//! gradients by the same fusion rules and sums them by the same all-reduces, and writes down what
//! happened when. Nothing here forecasts. The command `foretrain train` is a thin face of this
//! crate; `docs/training.md` says what a run computes and leaves behind.
//!
//! # A run
//!
//! ```
//! use foretrain_sim::recording::{EventKind, Recording};
//! use foretrain_trainer::communicator::ThreadTransport;
//! use foretrain_trainer::config::Config;
//! use foretrain_trainer::train::{self, NobodyWatches, Place, Setup};
//!
//! // A small ResNet on made-up images: 5 steps on two ranks, which are threads.
//! let folder = tempfile::tempdir()?;
//! let mut config = Config::from_toml(
//!     r#"
//!         name = "a tiny run"
//!         [network]
//!         model = "resnet-cifar"
//!         depth = 8
//!         image_size = 8
//!         [data]
//!         kind = "synthetic"
//!         synthetic = { samples = 40, eval_samples = 20, classes = 4 }
//!         workers = 1
//!         [training]
//!         ranks = 2
//!         global_batch = 8
//!         epochs = 1
//!         threads_per_rank = 1
//!         [optimizer]
//!         rule = "lars"
//!         coefficient = 0.01
//!         [schedule]
//!         warmup = { shape = "none", epochs = 0 }
//!         [output]
//!         recording = { steps = "0..2" }
//!     "#,
//! )?;
//! config.output.folder = folder.path().to_owned();
//!
//! // Data opened, network lowered to a plan, gradients cut into buckets.
//! let setup = Setup::new(config.clone(), 2, "a processor", "2026-01-01")?;
//! let threads = Place::<ThreadTransport>::Threads;
//! let report = train::run(&setup, threads, &mut NobodyWatches)?;
//! assert_eq!((report.steps, report.steps_here), (5, 5));
//! let evaluation = report.evaluation.ok_or("there are images to evaluate on")?;
//! println!("top-1 {:.0} % of {} images", 100.0 * evaluation.top1, evaluation.images);
//!
//! // What a rank did in the first two steps, and when.
//! let recording = std::fs::read_to_string(folder.path().join("recording.rank1.jsonl"))?;
//! let recording = Recording::read(&recording)?;
//! let steps = recording.events.iter().filter(|e| matches!(e.kind, EventKind::Step { .. }));
//! assert_eq!(steps.count(), 2);
//!
//! // The same again goes on from the last checkpoint, after which nothing is left to do.
//! config.output.recording = None;
//! let setup = Setup::new(config, 2, "a processor", "2026-01-01")?;
//! let again = train::run(&setup, Place::<ThreadTransport>::Threads, &mut NobodyWatches)?;
//! assert_eq!((again.steps, again.steps_here), (5, 0));
//! assert_eq!(again.weights_sha256, report.weights_sha256);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The modules, in reading order
//!
//! - [`config`]: what a run is to do, from a file;
//! - [`train`]: the life of a run, from a configuration to trained weights;
//! - [`step`]: forward, backward with buckets under way, update, on one rank;
//! - [`plan`]: what a step computes, in which order and memory, and when gradients are ready;
//! - [`executor`]: what runs a plan, so far on CPUs;
//! - [`model`]: master weights, and their first values;
//! - [`communicator`]: sums of gradients over all ranks, by threads, TCP or MPI;
//! - [`data`]: datasets, who trains on what, augmentation, batches ready ahead of the step;
//! - [`optimizer`]: momentum and LARS on single-precision master weights;
//! - [`schedule`]: the learning rate of each step; [`loss_scale`]: keeps small gradients
//!   representable in half precision;
//! - [`checkpoint`]: everything from which training goes on, and files of weights;
//! - [`recording`]: what happened when, for calibration; [`mllog`]: MLPerf's log;
//! - [`launch`]: which rank a process is.
//!
//! # The same bits
//!
//! A run's weights depend on its settings, its seed and its data; on no number of threads, no
//! transport, no moment at which it was killed and went on. Kernels cut work by sizes, random
//! draws are keyed by what they are for, and norms and sums have a fixed order. See
//! [`executor::cpu`], [`optimizer`] and [`communicator`] for what each of them fixes.

mod bad_value;
pub mod checkpoint;
pub mod communicator;
pub mod config;
pub mod data;
pub mod executor;
pub mod launch;
pub mod loss_scale;
pub mod mllog;
pub mod model;
pub mod optimizer;
pub mod plan;
pub mod recording;
pub mod schedule;
pub mod step;
pub mod train;

pub use bad_value::BadValue;
