//! The simulator of Foretrain: what a training step does on thousands of ranks.
//!
//! A scenario says what is trained on which cluster; the forecast says how fast it runs, where each
//! millisecond of a step goes, how long the run takes and what it costs. Nothing here reads a
//! clock, a file, a GPU or the network: the same scenario and seed give the same bytes.
//!
//! # A tour
//!
//! ```
//! use foretrain_sim::collective::{
//!     Algorithm, Folding, Layout, Method, Operation, Plan, replay_arrays,
//! };
//! use foretrain_sim::catalogue::Catalogue;
//! use foretrain_sim::compute::{Optimizer, Precision, Roofline};
//! use foretrain_sim::forecast::{Engine, forecast};
//! use foretrain_sim::fusion::{Fusion, gradients};
//! use foretrain_sim::jitter::Jitter;
//! use foretrain_sim::network::{Interconnect, TwoLevel};
//! use foretrain_sim::random::Streams;
//! use foretrain_sim::scenario::{Overrides, Scenario};
//! use foretrain_sim::step::{Packing, StepSetup, run_arrays};
//! use foretrain_sim::units::{Bytes, SimTime};
//! use foretrain_sim::workload::NetworkName;
//!
//! // A cluster: four nodes of eight, NVLink inside, one 100 Gbit/s port each.
//! let network = TwoLevel::new(8, "130 GB/s, 3.4 us".parse()?, "100 Gbit/s, 5 us".parse()?);
//! let network = Interconnect::from(network);
//!
//! // One all-reduce of 100 MB of gradients on it, every message evaluated.
//! let layout = Layout { ranks: 32, ranks_per_node: 8 };
//! let method = Method::from(Algorithm::hierarchical(8));
//! let plan = |bytes| method.plan(Operation::AllReduce, layout, &network, bytes);
//! let Plan { schedule, .. } = plan(Bytes::new(100_000_000))?;
//! let finished = replay_arrays(&schedule, &network, &[SimTime::ZERO; 32]);
//! println!("{} messages, done at {}", schedule.messages(), finished[0]);
//! assert!(finished.iter().all(|&time| time == finished[0]));
//!
//! // One training step of ResNet-50 on 32 V100s, 64 images each.
//! let v100 = Catalogue::shipped().accelerator("v100-sxm2-16gb").ok_or("not in the catalogue")?;
//! let resnet50 = NetworkName::Resnet50.network();
//! let compute = Roofline::new(v100, Precision::Fp16Mixed, Optimizer::Momentum)
//!     .ok_or("no rate to compute with")?
//!     .compute_times(&resnet50, 64, Some("1376 images/s at 192".parse()?));
//! let setup = StepSetup {
//!     layout,
//!     compute: &compute,
//!     gradients: &gradients(&resnet50, &compute, 2),
//!     fusion: Fusion::Threshold("25 MiB".parse()?),
//!     overlap: true,
//!     plan: &plan,
//!     folding: Folding::On,
//!     network: &network,
//!     packing: Packing::Copy(v100.memory_bandwidth),
//!     input: None,
//!     jitter: &Jitter { variation: 0.01, ..Jitter::default() },
//! };
//! run_arrays(&setup, &Streams::new(1), 1, |_, step| {
//!     println!("rank 0: backward until {} ps, update at {} ps", step.backward_end[0], step.end[0]);
//!     assert!(step.end[0] > compute.step().as_ps());
//! })?;
//!
//! // The same from a scenario, with every number that a user asks for.
//! let scenario = Scenario::from_toml(
//!     r#"
//!         name = "ResNet-50 on DGX-1"
//!         [cluster]
//!         node = "dgx-1-v100"
//!         [training]
//!         model = "resnet50"
//!         per_accelerator_batch = 128
//!         precision = "fp16-mixed"
//!         [compute]
//!         anchor = "1376 images/s at 192"
//!         [sweep]
//!         accelerators = [8, 32]
//!     "#,
//!     Overrides::default(),
//! )?;
//! let forecast = forecast(&scenario, Engine::Arrays, || {})?;
//! for point in &forecast.points {
//!     println!("{}: {:.0} images/s", point.accelerators, point.images_per_s);
//! }
//! assert!(forecast.points[1].images_per_s > 3.5 * forecast.points[0].images_per_s);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The floors
//!
//! Each module uses only those below it.
//!
//! | floor | modules |
//! |---|---|
//! | search | [`search`] |
//! | answer | [`forecast`] |
//! | question, and one training step | [`scenario`] · [`step`] |
//! | what travels together | [`fusion`] |
//! | what was measured | [`profile`] |
//! | models | [`collective`] · [`compute`] · [`convergence`] · [`jitter`] · [`failures`] · [`cost`] |
//! | ground | [`network`] · [`engine`] · [`workload`] · [`catalogue`] · [`recording`] |
//! | cellar | [`units`] · [`random`] · [`located`] |

#![forbid(unsafe_code)]

pub mod catalogue;
pub mod collective;
pub mod compute;
pub mod convergence;
pub mod cost;
pub mod engine;
pub mod failures;
pub mod forecast;
pub mod fusion;
pub mod jitter;
pub mod located;
pub mod network;
pub mod profile;
pub mod random;
pub mod recording;
pub mod scenario;
pub mod search;
pub mod step;
pub mod units;
pub mod workload;
