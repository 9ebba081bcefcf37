//! An NCCL for tests: its functions on numbers in main memory, between threads.
//!
//! A stream is a thread that does its work in order. A collective waits in it until all ranks of its
//! communicator have come to their collective of the same number, or its own rank aborts. Ranks whose
//! collectives differ wait for ever, as NCCL's may. Communicators are numbers, so that those that have
//! gone are refused rather than followed.

#![expect(unsafe_code, reason = "NCCL's functions have pointers")]

mod stream;
mod work;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{c_char, c_int};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

pub(super) use self::stream::FakeStream;
use self::work::{Operation, all_reduce, broadcast, reduce};
use super::functions::{
    Comm, Config, ID_BYTES, IN_PROGRESS, NO_COLOR, NcclFunctions, SUCCESS, UniqueId,
};

pub(super) const SYSTEM_ERROR: c_int = 2;
pub(super) const INVALID_ARGUMENT: c_int = 4;
pub(super) const INVALID_USAGE: c_int = 5;
pub(super) const REMOTE_ERROR: c_int = 6;

pub(super) static FAKE: NcclFunctions = NcclFunctions {
    get_version,
    get_unique_id,
    init_rank,
    split,
    finalize,
    destroy,
    abort,
    get_async_error,
    all_reduce,
    reduce,
    broadcast,
    group_start,
    group_end,
    error_string,
    last_error,
};

/// How NCCL behaves towards a rank, and what the rank has called.
#[derive(Debug, Default)]
pub(super) struct Behaviour {
    /// How often a communicator says that it is in progress, after each call.
    pub(super) polls: u32,
    /// A function that returns this status.
    pub(super) refuses: Option<(&'static str, c_int)>,
    /// A function after which the communicator stays in progress.
    pub(super) never_done: Option<&'static str>,
    /// After so many collectives of this rank, their work hangs.
    pub(super) hangs_after: Option<usize>,
    /// An abort lasts until this is taken back.
    pub(super) abort_hangs: AtomicBool,
    /// How often the GPU's context was made current.
    pub(super) binds: AtomicUsize,
    pub(super) log: Mutex<Vec<String>>,
    pub(super) collectives: AtomicUsize,
    /// The status with which this rank's communicators have failed, if they have.
    pub(super) broken: AtomicI32,
}

impl Behaviour {
    pub(super) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    fn note(&self, call: String) {
        self.log.lock().unwrap().push(call);
    }

    /// The status of a call to a function.
    fn status(&self, function: &str) -> c_int {
        self.refuses.filter(|(name, _)| *name == function).map_or(SUCCESS, |(_, status)| status)
    }
}

thread_local! {
    static BEHAVIOUR: RefCell<Arc<Behaviour>> = RefCell::default();
}

/// What NCCL is to do with the calls of this thread.
pub(super) fn behave(behaviour: &Arc<Behaviour>) {
    BEHAVIOUR.set(Arc::clone(behaviour));
}

/// The ranks of a communicator.
#[derive(Default)]
struct Team {
    size: usize,
    joined: AtomicUsize,
    operations: Mutex<BTreeMap<u64, Operation>>,
    changed: Condvar,
    /// Of each split: the color and key of each rank, and the teams by color.
    splits: Mutex<BTreeMap<u64, Split>>,
}

#[derive(Default)]
struct Split {
    ranks: BTreeMap<usize, (c_int, c_int)>,
    teams: BTreeMap<c_int, Arc<Team>>,
}

/// A rank's communicator.
struct FakeComm {
    team: Arc<Team>,
    rank: usize,
    behaviour: Arc<Behaviour>,
    /// The last function called, which is in progress for so many questions more.
    last: Mutex<(&'static str, u32)>,
    aborted: Arc<AtomicBool>,
    collectives: AtomicU64,
    splits: AtomicU64,
    /// Where the communicator of a split goes when all ranks have split.
    child: Mutex<Option<(u64, usize)>>,
}

static TEAMS: Mutex<BTreeMap<[u8; ID_BYTES], Arc<Team>>> = Mutex::new(BTreeMap::new());
static COMMS: Mutex<BTreeMap<usize, Arc<FakeComm>>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicUsize = AtomicUsize::new(1);

fn comm(comm: Comm) -> Option<Arc<FakeComm>> {
    COMMS.lock().unwrap().get(&comm.addr()).cloned()
}

fn register(team: Arc<Team>, rank: usize, behaviour: Arc<Behaviour>, call: &'static str) -> Comm {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let last = Mutex::new((call, behaviour.polls));
    let comm = FakeComm {
        team,
        rank,
        behaviour,
        last,
        aborted: Arc::default(),
        collectives: AtomicU64::new(0),
        splits: AtomicU64::new(0),
        child: Mutex::default(),
    };
    COMMS.lock().unwrap().insert(number, Arc::new(comm));
    std::ptr::without_provenance_mut(number)
}

impl FakeComm {
    /// Begins a call: the status that it returns.
    fn begin(&self, call: &'static str) -> c_int {
        let status = self.behaviour.status(call);
        if status != SUCCESS {
            return status;
        }
        let mut last = self.last.lock().unwrap();
        if last.1 > 0 || self.behaviour.never_done == Some(last.0) {
            // The call before was not seen to its end.
            return INVALID_USAGE;
        }
        *last = (call, self.behaviour.polls);
        if self.behaviour.polls > 0 { IN_PROGRESS } else { SUCCESS }
    }

    fn state(&self) -> c_int {
        let broken = self.behaviour.broken.load(Ordering::Relaxed);
        if broken != SUCCESS {
            return broken;
        }
        let mut last = self.last.lock().unwrap();
        if self.behaviour.never_done == Some(last.0)
            || self.team.joined.load(Ordering::Acquire) < self.team.size
            || !self.finish_split()
        {
            return IN_PROGRESS;
        }
        if last.1 > 0 {
            last.1 -= 1;
            return IN_PROGRESS;
        }
        SUCCESS
    }

    /// Whether there is no split that other ranks have not come to.
    fn finish_split(&self) -> bool {
        let mut child = self.child.lock().unwrap();
        let Some((number, slot)) = *child else { return true };
        let mut splits = self.team.splits.lock().unwrap();
        let split = splits.get_mut(&number).unwrap();
        if split.ranks.len() < self.team.size {
            return false;
        }
        let (color, key) = split.ranks[&self.rank];
        if color != NO_COLOR {
            let members = || split.ranks.iter().filter(|(_, (other, _))| *other == color);
            let before = |(rank, (_, other)): &(&usize, &(c_int, c_int))| {
                (*other, **rank) < (key, self.rank)
            };
            let (size, rank) = (members().count(), members().filter(before).count());
            let team = split.teams.entry(color).or_insert_with(|| {
                Arc::new(Team { size, joined: AtomicUsize::new(size), ..Team::default() })
            });
            let new = register(Arc::clone(team), rank, Arc::clone(&self.behaviour), "split");
            let slot = std::ptr::with_exposed_provenance_mut::<Comm>(slot);
            // SAFETY: the caller of the split keeps the place for it.
            unsafe { slot.write(new) };
        }
        *child = None;
        true
    }
}

unsafe extern "C" fn get_version(version: *mut c_int) -> c_int {
    // SAFETY: the caller gives a place for a number.
    unsafe { version.write(22809) };
    SUCCESS
}

unsafe extern "C" fn get_unique_id(id: *mut UniqueId) -> c_int {
    let status = BEHAVIOUR.with_borrow(|behaviour| behaviour.status("id"));
    let mut bytes = [7; ID_BYTES];
    bytes[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    // SAFETY: the caller gives a place for an identifier.
    unsafe { id.write(UniqueId(bytes)) };
    status
}

/// Whether a configuration is as the real NCCL wants it, and not blocking.
///
/// # Safety
/// It is one.
unsafe fn is_right(config: *const Config) -> bool {
    // SAFETY: by this function's own condition.
    let config = unsafe { config.read() };
    (config.size, config.magic, config.version) == (48, 0xcafe_beef, 21801) && config.blocking == 0
}

unsafe extern "C" fn init_rank(
    slot: *mut Comm,
    world: c_int,
    id: UniqueId,
    rank: c_int,
    config: *mut Config,
) -> c_int {
    let behaviour = BEHAVIOUR.with_borrow(Arc::clone);
    let status = behaviour.status("init");
    // SAFETY: the caller gives a configuration.
    if status != SUCCESS || !unsafe { is_right(config) } || !(0..world).contains(&rank) {
        return status.max(INVALID_ARGUMENT);
    }
    behaviour.note(format!("init {rank} of {world}"));
    let size = world as usize;
    let new = || Arc::new(Team { size, ..Team::default() });
    let team = Arc::clone(TEAMS.lock().unwrap().entry(id.0).or_insert_with(new));
    if team.size != size {
        return INVALID_ARGUMENT;
    }
    team.joined.fetch_add(1, Ordering::Release);
    let comm = register(team, rank as usize, behaviour, "init");
    // SAFETY: the caller gives a place for a communicator.
    unsafe { slot.write(comm) };
    IN_PROGRESS
}

unsafe extern "C" fn split(
    parent: Comm,
    color: c_int,
    key: c_int,
    slot: *mut Comm,
    config: *mut Config,
) -> c_int {
    let Some(comm) = comm(parent) else { return INVALID_ARGUMENT };
    let status = comm.begin("split");
    // SAFETY: the caller gives a configuration.
    if !unsafe { is_right(config) } {
        return INVALID_ARGUMENT;
    }
    if status != SUCCESS && status != IN_PROGRESS {
        return status;
    }
    comm.behaviour.note(format!("split {color} {key}"));
    let number = comm.splits.fetch_add(1, Ordering::Relaxed);
    let mut splits = comm.team.splits.lock().unwrap();
    splits.entry(number).or_default().ranks.insert(comm.rank, (color, key));
    *comm.child.lock().unwrap() = Some((number, slot.expose_provenance()));
    // As the real one does: success, though it is in progress.
    SUCCESS
}

unsafe extern "C" fn finalize(of: Comm) -> c_int {
    let Some(comm) = comm(of) else { return INVALID_ARGUMENT };
    comm.behaviour.note("finalize".to_owned());
    comm.begin("finalize")
}

unsafe extern "C" fn destroy(of: Comm) -> c_int {
    let Some(comm) = COMMS.lock().unwrap().remove(&of.addr()) else { return INVALID_ARGUMENT };
    comm.behaviour.note("destroy".to_owned());
    SUCCESS
}

unsafe extern "C" fn abort(of: Comm) -> c_int {
    let Some(comm) = COMMS.lock().unwrap().remove(&of.addr()) else { return INVALID_ARGUMENT };
    while comm.behaviour.abort_hangs.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let together = GROUPS.with(|depth| depth.load(Ordering::Relaxed)) == 1;
    comm.behaviour.note(if together { "abort" } else { "abort alone" }.to_owned());
    comm.aborted.store(true, Ordering::Relaxed);
    SUCCESS
}

unsafe extern "C" fn get_async_error(of: Comm, state: *mut c_int) -> c_int {
    let Some(comm) = comm(of) else { return INVALID_ARGUMENT };
    // SAFETY: the caller gives a place for a number.
    unsafe { state.write(comm.state()) };
    SUCCESS
}

thread_local! {
    static GROUPS: AtomicU32 = const { AtomicU32::new(0) };
}

unsafe extern "C" fn group_start() -> c_int {
    GROUPS.with(|depth| depth.fetch_add(1, Ordering::Relaxed));
    SUCCESS
}

unsafe extern "C" fn group_end() -> c_int {
    let depth = GROUPS.with(|depth| depth.fetch_sub(1, Ordering::Relaxed));
    assert_eq!(depth, 1, "groups are not nested here");
    SUCCESS
}

unsafe extern "C" fn error_string(status: c_int) -> *const c_char {
    match status {
        SYSTEM_ERROR => c"unhandled system error",
        INVALID_ARGUMENT => c"invalid argument",
        INVALID_USAGE => c"invalid usage",
        REMOTE_ERROR => c"remote process exited",
        _ => c"other",
    }
    .as_ptr()
}

unsafe extern "C" fn last_error(_: Comm) -> *const c_char {
    c"NET/Socket : it is\nclosed".as_ptr()
}
