//! A rank's replica, on what the configuration says.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foretrain_sim::random::Streams;
use foretrain_sim::recording::NumberFormat;
use half::{bf16, f16};
use rand::Rng;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::world::all_reduce;
use super::{Setup, TrainError};
use crate::communicator::Communicator;
use crate::config::{Backend, DeviceName};
use crate::executor::Executor;
use crate::executor::cpu::CpuExecutor;
use crate::executor::cuda::device::Device;
use crate::executor::cuda::driver::Gpu;
use crate::executor::cuda::executor::DeviceExecutor;
use crate::executor::cuda::lower::ByteScale;
use crate::executor::cuda::step::{DeviceStep, Travel};
use crate::executor::paced::PacedExecutor;
use crate::loss_scale::LossScaler;
use crate::model::Weights;
use crate::optimizer::Optimizer;
use crate::step::device::{Alone, DeviceReplica, OverNccl, Reduction, ThroughHost};
use crate::step::{CommunicationThread, HostReplica, Replica, ReplicaSettings};

/// Where a rank is on its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seat {
    /// Ranks on this machine, who share its cores.
    pub(super) local_ranks: u32,
    /// Which of them it is: whose GPU it takes.
    pub(super) local_rank: u32,
}

/// Builds a replica with first weights.
pub(super) fn build(
    setup: &Setup,
    communicator: Box<dyn Communicator>,
    seat: Seat,
) -> Result<Box<dyn Replica>, TrainError> {
    let communication = CommunicationThread::start(communicator)
        .map_err(|error| TrainError::Thread(error.to_string()))?;
    let config = &setup.config;
    let streams = Streams::new(config.seed);
    let weights = Weights::initial(&setup.plan, &streams, config.network.zero_gamma());
    let settings = ReplicaSettings {
        per_rank_batch: config.per_rank_batch(setup.world),
        wire: config.wire(),
        overlap: config.communication.overlap,
        dropout_key: streams.stream("run", "dropout").next_u64(),
    };
    match config.training.device {
        DeviceName::Cpu | DeviceName::Paced => {
            on_host(setup, communication, seat, settings, weights)
        }
        #[cfg(test)]
        DeviceName::Cuda if setup.is_emulated => {
            use crate::executor::cuda::emulator::device::EmulatedDevice;
            let device = EmulatedDevice::new(config.training.precision, 1 << 30);
            let mut replica = on_device(setup, device, communication, settings, through_host)?;
            replica.load_weights(weights)?;
            Ok(replica)
        }
        DeviceName::Cuda => {
            let number = gpu_number(seat.local_rank, Gpu::count()?);
            let gpu = Gpu::open(number, config.training.precision, &choices(setup))?;
            let reduce = match config.communication.backend() {
                Backend::Nccl => over_nccl,
                Backend::Host => through_host,
            };
            let mut replica = on_device(setup, gpu, communication, settings, reduce)?;
            replica.load_weights(weights)?;
            Ok(replica)
        }
    }
}

fn on_host(
    setup: &Setup,
    communication: CommunicationThread,
    seat: Seat,
    settings: ReplicaSettings,
    weights: Weights,
) -> Result<Box<dyn Replica>, TrainError> {
    let config = &setup.config;
    let pool = ThreadPoolBuilder::new()
        .num_threads(setup.threads(seat.local_ranks).get())
        .thread_name(|index| format!("kernel-{index}"))
        .build()
        .map_err(|error| TrainError::Thread(error.to_string()))?;
    let pool = Arc::new(pool);
    Ok(Box::new(HostReplica::new(
        Arc::clone(&setup.plan),
        Arc::clone(&setup.buckets),
        settings,
        weights,
        Optimizer::new(config.optimizer)?,
        LossScaler::new(config.training.loss_scale())?,
        executor(setup, &pool)?,
        communication,
        pool,
    )?))
}

fn executor(setup: &Setup, pool: &Arc<ThreadPool>) -> Result<Box<dyn Executor>, TrainError> {
    let (plan, buckets) = (Arc::clone(&setup.plan), Arc::clone(&setup.buckets));
    let (settings, pool) = (setup.executor_settings(), Arc::clone(pool));
    if let Some(pace) = &setup.pace {
        let (format, pace) = (setup.config.training.precision, pace.clone());
        return Ok(Box::new(PacedExecutor::new(plan, &buckets, settings, format, pace)));
    }
    Ok(match setup.config.training.precision {
        NumberFormat::F32 => Box::new(CpuExecutor::<f32>::new(plan, buckets, settings, pool)?),
        NumberFormat::F16 => Box::new(CpuExecutor::<f16>::new(plan, buckets, settings, pool)?),
        NumberFormat::Bf16 => Box::new(CpuExecutor::<bf16>::new(plan, buckets, settings, pool)?),
    })
}

/// What a reduction is made of.
struct Parts<'a, D: Device> {
    step: &'a mut DeviceStep<D>,
    communication: &'a Arc<CommunicationThread>,
}

/// A replica on a device, whose gradients `reduce` sums if there are several ranks.
fn on_device<D: Device + fmt::Debug + 'static>(
    setup: &Setup,
    device: D,
    communication: CommunicationThread,
    settings: ReplicaSettings,
    reduce: impl FnOnce(&Setup, Parts<'_, D>) -> Result<Box<dyn Reduction<D>>, TrainError>,
) -> Result<Box<dyn Replica>, TrainError> {
    let config = &setup.config;
    let communication = Arc::new(communication);
    let (plan, buckets) = (Arc::clone(&setup.plan), Arc::clone(&setup.buckets));
    let format = config.training.precision;
    let mut executor =
        DeviceExecutor::new(device, plan, buckets, setup.executor_settings(), format)?;
    let (means, deviations) = config.data.augmentation.mean_and_std(config.data.kind);
    executor.set_byte_scale(ByteScale::new(&means, &deviations))?;
    let rules = (&config.optimizer, config.training.loss_scale());
    let travel = Travel { wire: settings.wire, overlap: settings.overlap };
    let mut step = DeviceStep::travelling(executor, Arc::clone(&setup.plan), rules, travel)?;
    step.set_launch(config.training.launch.unwrap_or_default());
    let reduction = match setup.world {
        1 => Box::new(Alone) as Box<dyn Reduction<D>>,
        _ => reduce(setup, Parts { step: &mut step, communication: &communication })?,
    };
    let plan = Arc::clone(&setup.plan);
    Ok(Box::new(DeviceReplica::new(plan, settings, step, communication, reduction)))
}

/// What buckets are called in messages.
fn bucket_names(setup: &Setup) -> Vec<String> {
    let buckets = 0..setup.buckets.all().len();
    buckets.map(|bucket| setup.buckets.name(&setup.plan, bucket)).collect()
}

#[expect(clippy::unnecessary_wraps, reason = "other reductions can fail")]
fn through_host<D: Device>(
    setup: &Setup,
    Parts { step, communication }: Parts<'_, D>,
) -> Result<Box<dyn Reduction<D>>, TrainError> {
    let communication = Arc::clone(communication);
    Ok(Box::new(ThroughHost::new(communication, step.wire(), bucket_names(setup))))
}

fn over_nccl(
    setup: &Setup,
    Parts { step, communication }: Parts<'_, Gpu>,
) -> Result<Box<dyn Reduction<Gpu>>, TrainError> {
    let config = &setup.config.communication;
    let algorithm = (all_reduce(config), config.timeout());
    let (wire, communication) = (step.wire().clone(), Arc::clone(communication));
    let gpu = step.executor().device();
    Ok(Box::new(OverNccl::join(gpu, communication, &wire, bucket_names(setup), algorithm)?))
}

/// The GPU of a rank, of those that its process can see. A launcher that lets each process see one
/// GPU alone has chosen already.
const fn gpu_number(local_rank: u32, gpus: usize) -> usize {
    if gpus == 1 { 0 } else { local_rank as usize }
}

/// Where what was found of the GPU's algorithms is kept from run to run.
fn choices(setup: &Setup) -> PathBuf {
    cache_folder(|name| std::env::var_os(name))
        .unwrap_or_else(|| setup.config.output.path(Path::new(".cuda")))
}

/// `$FORETRAIN_CACHE`, or `foretrain` in `$XDG_CACHE_HOME` or `$HOME/.cache`.
fn cache_folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name: &str| {
        let path = PathBuf::from(variable(name)?);
        path.is_absolute().then_some(path)
    };
    folder("FORETRAIN_CACHE")
        .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("foretrain")))
        .or_else(|| Some(folder("HOME")?.join(".cache").join("foretrain")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_take_gpus_in_turn_or_the_only_one_that_is_seen() {
        assert_eq!([0, 1, 7].map(|rank| gpu_number(rank, 8)), [0, 1, 7]);
        assert_eq!([0, 1, 7].map(|rank| gpu_number(rank, 1)), [0, 0, 0]);
        // Too many ranks are refused when the GPU is opened.
        assert_eq!(gpu_number(2, 2), 2);
    }

    #[test]
    fn choices_are_kept_in_the_first_folder_that_is_said() {
        let of = |known: &[(&str, &str)]| {
            cache_folder(|name| {
                known.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
            })
        };
        let home = ("HOME", "/home/a");
        let xdg = ("XDG_CACHE_HOME", "/cache");
        assert_eq!(of(&[home, xdg, ("FORETRAIN_CACHE", "/own")]), Some("/own".into()));
        assert_eq!(of(&[home, xdg]), Some("/cache/foretrain".into()));
        assert_eq!(of(&[home]), Some("/home/a/.cache/foretrain".into()));
        // A relative one would be another folder in every place.
        assert_eq!(
            of(&[home, ("FORETRAIN_CACHE", "own")]),
            Some("/home/a/.cache/foretrain".into())
        );
        assert_eq!(of(&[]), None);
    }
}
