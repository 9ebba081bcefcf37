//! The trainer of Foretrain: real data-parallel training, on which forecasts are calibrated.
//!
//! Present so far are the input, the communication of ranks, and the parts that turn averaged
//! gradients into new weights, pure functions of their input and their saved state:
//! Present so far are the input, the parts that turn averaged gradients into new weights, pure
//! functions of their input and their saved state, and what surrounds a run:
//!
//! - [`data`]: datasets, who trains on what, augmentation, batches ready ahead of the step;
//! - [`launch`]: which rank a process is;
//! - [`communicator`]: sums of gradients over all ranks;
//! - [`schedule`]: the learning rate of each step;
//! - [`loss_scale`]: keeps small gradients representable in half precision;
//! - [`optimizer`]: momentum and LARS on single-precision master weights;
//! - [`config`]: what a run is to do, from a file;
//! - [`checkpoint`]: everything from which training goes on, and files of weights;
//! - [`recording`]: what happened when, for calibration; [`mllog`]: MLPerf's log.
//!
//! # A step
//!
//! ```
//! use foretrain_trainer::loss_scale::{LossScaleConfig, LossScaler, Verdict};
//! use foretrain_trainer::optimizer::{Gradient, Lars, Optimizer, Role, Rule, TensorState, Values};
//! use foretrain_trainer::schedule::{Schedule, ScheduleConfig};
//! use half::f16;
//!
//! // ResNet-50 at batch 8192 on ImageNet: 1,281,167 images / 8192 is 156 whole steps an epoch.
//! let schedule = Schedule::new(ScheduleConfig::default(), 8192, 156)?;
//! let mut scaler = LossScaler::new(LossScaleConfig::default())?;
//! let mut optimizer = Optimizer::new(Rule::Lars(Lars::default()))?;
//!
//! let mut weights = [0.5_f32, -0.25];
//! for step in 1..=3 {
//!     // Backward of the loss times the scale, averaged over all ranks.
//!     let gradient = [f16::from_f32(1e-6 * scaler.scale()); 2];
//!     let mut tensors = [TensorState {
//!         name: "fc.weight",
//!         role: Role::Weight,
//!         weights: &mut weights,
//!         gradient: Gradient { values: Values::F16(&gradient), scale: scaler.scale() },
//!     }];
//!     let overflow = tensors.iter().any(|tensor| tensor.gradient.values.overflowed());
//!     if scaler.update(overflow) == Verdict::Apply {
//!         optimizer.step(&mut tensors, schedule.learning_rate(step))?;
//!     }
//! }
//! assert!(weights[0] < 0.5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
