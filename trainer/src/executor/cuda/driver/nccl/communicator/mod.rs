//! The communicator of a rank whose gradients lie on a GPU.

#![expect(unsafe_code, reason = "NCCL is called through pointers")]

mod joining;

use std::ffi::{c_int, c_void};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::null_mut;
use std::sync::Arc;
use std::time::Duration;

use cudarc::driver::CudaStream;
use foretrain_sim::recording::NumberFormat;

use super::super::super::arguments::Address;
use super::super::super::device::DeviceError;
use super::end::{Ending, Going, state};
use super::error::NcclError;
use super::functions::{BF16, Comm, F16, F32, IN_PROGRESS, NcclFunctions, SUCCESS, SUM};
use super::pace::Pace;
use super::route::{Route, groups, route};
use crate::bad_value::require_positive;
use crate::communicator::{AllReduce, Communicator};

/// Makes a GPU's context current in the calling thread.
pub type Bind = Arc<dyn Fn() -> Result<(), DeviceError> + Send + Sync>;

/// How long a failure waits for the work on the GPU to be aborted before it is told.
const ABORT_TIME_MAX: Duration = Duration::from_secs(1);

/// The longest wait for a communicator to go, where the timeout is not shorter.
const END_TIME_MAX: Duration = Duration::from_secs(10);

/// A stream of a GPU, to give work to.
#[derive(Debug, Clone, Copy)]
pub struct NcclStream<'a> {
    pub(super) handle: *mut c_void,
    pub(super) stream: PhantomData<&'a ()>,
}

impl<'a> From<&'a CudaStream> for NcclStream<'a> {
    fn from(stream: &'a CudaStream) -> Self {
        Self { handle: stream.cu_stream().cast(), stream: PhantomData }
    }
}

/// The numbers of one all-reduce, as NCCL is told of them.
#[derive(Clone, Copy)]
struct Numbers {
    at: *mut c_void,
    count: usize,
    format: c_int,
    stream: *mut c_void,
}

/// NCCL's communicators in which a rank is; null where it is in none.
#[derive(Clone, Copy)]
struct Comms {
    all: Comm,
    group: Comm,
    masters: Comm,
}

impl Comms {
    const NONE: Self = Self { all: null_mut(), group: null_mut(), masters: null_mut() };

    /// Those that there are, the one that the others were split off last. Masters come before groups:
    /// an aborted sum of a group must not go to other masters.
    fn iter(self) -> impl Iterator<Item = Comm> {
        [self.masters, self.group, self.all].into_iter().filter(|comm| !comm.is_null())
    }
}

/// The communicator of one rank on one GPU.
///
/// What it must not be used for, and what captured work needs, is said of the [module](super).
pub struct NcclCommunicator {
    functions: &'static NcclFunctions,
    bind: Bind,
    rank: u32,
    world: u32,
    all_reduce: AllReduce,
    timeout: Duration,
    comms: Comms,
    failed: Option<NcclError>,
    ending: Option<Ending>,
}

// SAFETY: any thread may use NCCL's communicators, one at a time; only their owner refers to them.
unsafe impl Send for NcclCommunicator {}

impl fmt::Debug for NcclCommunicator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("NcclCommunicator")
            .field("rank", &self.rank)
            .field("world", &self.world)
            .field("all_reduce", &self.all_reduce)
            .field("timeout", &self.timeout)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl NcclCommunicator {
    /// Joins all ranks of `host`, each of which calls this with the same algorithm. `bind` makes the
    /// GPU's context current, also in other threads; no two ranks have the same GPU. `timeout` is how
    /// long joining may take, and any later call, and the work of a GPU that is waited for.
    ///
    /// # Errors
    /// NCCL does not do the algorithm; the timeout is zero; a rank does not come; NCCL fails.
    pub fn join(
        functions: &'static NcclFunctions,
        host: &mut dyn Communicator,
        all_reduce: AllReduce,
        timeout: Duration,
        bind: Bind,
    ) -> Result<Self, NcclError> {
        let (rank, world) = (host.rank(), host.world());
        let group = groups(all_reduce, world)?;
        require_positive("timeout_s", timeout.as_secs_f64())?;
        let (comms, failed, ending) = (Comms::NONE, None, None);
        let mut communicator =
            Self { functions, bind, rank, world, all_reduce, timeout, comms, failed, ending };
        if world > 1 {
            communicator.connect(host, group).map_err(|error| communicator.fail(error))?;
        }
        Ok(communicator)
    }

    /// This rank.
    #[must_use]
    pub const fn rank(&self) -> u32 {
        self.rank
    }

    /// How many ranks there are.
    #[must_use]
    pub const fn world(&self) -> u32 {
        self.world
    }

    /// Gives a sum over all ranks, which replaces the numbers at `at`, to a stream of this rank's GPU,
    /// without waiting for its end. `name` says in messages what failed.
    ///
    /// # Errors
    /// The address is none of such numbers; NCCL fails, or does not take the work in time.
    pub fn all_reduce<'a>(
        &mut self,
        name: &str,
        at: Address,
        elements: usize,
        format: NumberFormat,
        stream: impl Into<NcclStream<'a>>,
    ) -> Result<(), NcclError> {
        self.refuse_after_failure()?;
        let bytes = self.check(name, at, elements, format)?;
        let route = route(self.all_reduce, self.world, bytes)?;
        if self.world == 1 || elements == 0 {
            return Ok(());
        }
        let numbers = Numbers {
            at: at.0 as *mut c_void,
            count: elements,
            format: data_type(format),
            stream: stream.into().handle,
        };
        self.give(name, route, numbers).map_err(|error| self.fail(error))
    }

    /// Waits until work with all-reduces in it has ended, of which `has_ended` is asked again and
    /// again: at most for the timeout, and no longer than NCCL is in order.
    ///
    /// # Errors
    /// The time is over, NCCL failed, or `has_ended` did. The work has been aborted then.
    pub fn wait(
        &mut self,
        name: &str,
        mut has_ended: impl FnMut() -> Result<bool, DeviceError>,
    ) -> Result<(), NcclError> {
        self.refuse_after_failure()?;
        let (collective, rank) = (|| name.to_owned(), self.rank);
        let outcome = Pace::new(self.timeout).until(|| match has_ended() {
            Ok(true) => Some(Ok(())),
            Ok(false) => self.trouble().map(|status| {
                let problem = self.functions.explain(status);
                Err(NcclError::WhileWorking { collective: collective(), rank, problem })
            }),
            Err(problem) => Some(Err(NcclError::Gpu { collective: collective(), rank, problem })),
        });
        let late = || Err(self.late(name, "the work on the GPU to end"));
        outcome.unwrap_or_else(late).map_err(|error| self.fail(error))
    }

    /// Why it failed, if it did.
    #[must_use]
    pub const fn failure(&self) -> Option<&NcclError> {
        self.failed.as_ref()
    }

    fn refuse_after_failure(&self) -> Result<(), NcclError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// The bytes of numbers that can be summed.
    fn check(
        &self,
        name: &str,
        at: Address,
        elements: usize,
        format: NumberFormat,
    ) -> Result<u64, NcclError> {
        let element = format.element_bytes();
        let refuse = |what| {
            let (collective, rank) = (name.to_owned(), self.rank);
            Err(NcclError::Misuse { collective, rank, what })
        };
        let numbers = format.name();
        if elements > 0 && (at == Address::NULL || !at.0.is_multiple_of(element)) {
            return refuse(format!(
                "the address {:#x} for {numbers} numbers: expected one on the GPU, and a multiple of \
                 {element}",
                at.0
            ));
        }
        let bytes = (elements as u64).checked_mul(element);
        match bytes.filter(|bytes| at.0.checked_add(*bytes).is_some()) {
            Some(bytes) => Ok(bytes),
            None => refuse(format!(
                "{elements} {numbers} numbers at {:#x}: expected no more than there is memory for",
                at.0
            )),
        }
    }

    /// Gives one collective, or three in a row.
    fn give(&self, name: &str, route: Route, numbers: Numbers) -> Result<(), NcclError> {
        (self.bind)()?;
        let (pace, functions) = (Pace::new(self.timeout), self.functions);
        let Comms { all, group, masters } = self.comms;
        let Numbers { at, count, format, stream } = numbers;
        let all_reduce = |comm: Comm| {
            // SAFETY: the communicator is alive, as is the stream while this rank borrows it; the
            // caller gives memory of this GPU; a wrong address is NCCL's error.
            let status =
                unsafe { (functions.all_reduce)(at, at, count, format, SUM, comm, stream) };
            self.see_to_the_end(name, "ncclAllReduce", comm, status, &pace)
        };
        if route == Route::Flat {
            return all_reduce(all);
        }
        if !group.is_null() {
            // SAFETY: as above.
            let status =
                unsafe { (functions.reduce)(at, at, count, format, SUM, 0, group, stream) };
            self.see_to_the_end(name, "ncclReduce", group, status, &pace)?;
        }
        if !masters.is_null() {
            all_reduce(masters)?;
        }
        if !group.is_null() {
            // SAFETY: as above.
            let status = unsafe { (functions.broadcast)(at, at, count, format, 0, group, stream) };
            self.see_to_the_end(name, "ncclBroadcast", group, status, &pace)?;
        }
        Ok(())
    }

    /// Waits until a call that returned `status` has done what it does on the host.
    fn see_to_the_end(
        &self,
        name: &str,
        call: &'static str,
        comm: Comm,
        status: c_int,
        pace: &Pace,
    ) -> Result<(), NcclError> {
        if status != SUCCESS && status != IN_PROGRESS {
            return Err(self.failed_call(name, call, status));
        }
        if comm.is_null() {
            let (collective, rank) = (name.to_owned(), self.rank);
            let problem = "it made no communicator".to_owned();
            return Err(NcclError::Call { collective, rank, call, problem });
        }
        // Also after success: that of some calls only says that they have begun.
        let done = || match state(self.functions, comm) {
            IN_PROGRESS => None,
            state => Some(state),
        };
        match pace.until(done) {
            Some(SUCCESS) => Ok(()),
            Some(status) => Err(self.failed_call(name, call, status)),
            None => Err(self.late(name, call)),
        }
    }

    /// The state of a communicator that is out of order.
    fn trouble(&self) -> Option<c_int> {
        let states = self.comms.iter().map(|comm| state(self.functions, comm));
        states.into_iter().find(|state| *state != SUCCESS && *state != IN_PROGRESS)
    }

    fn failed_call(&self, name: &str, call: &'static str, status: c_int) -> NcclError {
        let (collective, rank) = (name.to_owned(), self.rank);
        NcclError::Call { collective, rank, call, problem: self.functions.explain(status) }
    }

    fn late(&self, name: &str, what: &'static str) -> NcclError {
        let (collective, rank, waited) = (name.to_owned(), self.rank, self.timeout);
        let said = self.functions.last_words();
        NcclError::TimedOut { collective, rank, what, waited, said }
    }

    /// Aborts everything, and remembers why.
    fn fail(&mut self, error: NcclError) -> NcclError {
        let ending = self.going().abort(&self.bind);
        ending.wait(ABORT_TIME_MAX);
        self.ending = Some(ending);
        self.failed = Some(error.clone());
        error
    }

    fn going(&mut self) -> Going {
        let comms = std::mem::replace(&mut self.comms, Comms::NONE);
        Going::new(self.functions, comms.iter().collect())
    }
}

impl Drop for NcclCommunicator {
    /// Lets the work end and frees what NCCL took; aborts it if it does not end in ten seconds, or in
    /// the timeout if that is less. If NCCL does not come to an end even so, it is left behind.
    fn drop(&mut self) {
        let limit = self.timeout.min(END_TIME_MAX);
        if let Some(ending) = self.ending.take() {
            ending.wait(limit);
        } else {
            self.going().finish(&self.bind, limit).wait(limit + ABORT_TIME_MAX);
        }
    }
}

const fn data_type(format: NumberFormat) -> c_int {
    match format {
        NumberFormat::F32 => F32,
        NumberFormat::F16 => F16,
        NumberFormat::Bf16 => BF16,
    }
}
