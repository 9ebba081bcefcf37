//! Collectives on numbers in main memory.

#![expect(unsafe_code, reason = "NCCL's functions have pointers")]

use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use half::{bf16, f16};

use super::super::functions::{BF16, Comm, F16, F32, IN_PROGRESS, SUCCESS, SUM};
use super::{FakeComm, FakeStream, INVALID_ARGUMENT, comm};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    AllReduce,
    Reduce,
    Broadcast,
}

/// A collective: what it is, and the numbers of the ranks that have come.
pub(super) struct Operation {
    pub(super) what: (Kind, usize, c_int),
    pub(super) inputs: BTreeMap<usize, Vec<f64>>,
}

pub(super) unsafe extern "C" fn all_reduce(
    from: *const c_void,
    to: *mut c_void,
    count: usize,
    format: c_int,
    operation: c_int,
    comm: Comm,
    stream: *mut c_void,
) -> c_int {
    collective((Kind::AllReduce, count, format), (from, to), (operation, 0), comm, stream)
}

pub(super) unsafe extern "C" fn reduce(
    from: *const c_void,
    to: *mut c_void,
    count: usize,
    format: c_int,
    operation: c_int,
    root: c_int,
    comm: Comm,
    stream: *mut c_void,
) -> c_int {
    collective((Kind::Reduce, count, format), (from, to), (operation, root), comm, stream)
}

pub(super) unsafe extern "C" fn broadcast(
    from: *const c_void,
    to: *mut c_void,
    count: usize,
    format: c_int,
    root: c_int,
    comm: Comm,
    stream: *mut c_void,
) -> c_int {
    collective((Kind::Broadcast, count, format), (from, to), (SUM, root), comm, stream)
}

fn collective(
    what: (Kind, usize, c_int),
    (from, to): (*const c_void, *mut c_void),
    (operation, root): (c_int, c_int),
    of: Comm,
    stream: *mut c_void,
) -> c_int {
    let Some(comm) = comm(of) else { return INVALID_ARGUMENT };
    if from != to.cast_const() || operation != SUM || root != 0 {
        return INVALID_ARGUMENT;
    }
    let status = comm.begin(match what.0 {
        Kind::AllReduce => "all-reduce",
        Kind::Reduce => "reduce",
        Kind::Broadcast => "broadcast",
    });
    if status != SUCCESS && status != IN_PROGRESS {
        return status;
    }
    let (behaviour, size) = (Arc::clone(&comm.behaviour), comm.team.size);
    behaviour.note(format!("{:?} of {} among {size}", what.0, what.1));
    let given = behaviour.collectives.fetch_add(1, Ordering::Relaxed);
    let hangs = behaviour.hangs_after.is_some_and(|after| given >= after);
    let number = comm.collectives.fetch_add(1, Ordering::Relaxed);
    let at = to.expose_provenance();
    // SAFETY: tests give streams that outlive the calls.
    let stream = unsafe { &*stream.cast::<FakeStream>() };
    stream.give(Box::new(
        move || {
            if hangs { comm.wait_for_abort() } else { comm.work(number, what, at) }
        },
    ));
    status
}

impl FakeComm {
    fn wait_for_abort(&self) {
        while !self.aborted.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until all ranks have brought their numbers, and replaces its own by the result.
    fn work(&self, number: u64, what: (Kind, usize, c_int), at: usize) {
        let (kind, count, format) = what;
        // SAFETY: tests give so many numbers of this format, which nobody else uses meanwhile.
        let own = unsafe { read(at, count, format) };
        let mut operations = self.team.operations.lock().unwrap();
        let operation =
            operations.entry(number).or_insert_with(|| Operation { what, inputs: BTreeMap::new() });
        if operation.what != what {
            drop(operations);
            return self.wait_for_abort();
        }
        if self.aborted.load(Ordering::Relaxed) {
            return;
        }
        operation.inputs.insert(self.rank, own);
        self.team.changed.notify_all();
        while operations[&number].inputs.len() < self.team.size {
            if self.aborted.load(Ordering::Relaxed) {
                return;
            }
            let (guard, _) =
                self.team.changed.wait_timeout(operations, Duration::from_millis(1)).unwrap();
            operations = guard;
        }
        let inputs = &operations[&number].inputs;
        let sum = || (0..count).map(|i| inputs.values().map(|values| values[i]).sum()).collect();
        let result: Vec<f64> = match kind {
            Kind::AllReduce => sum(),
            Kind::Reduce if self.rank == 0 => sum(),
            // Nothing may count on these.
            Kind::Reduce => vec![f64::NAN; count],
            Kind::Broadcast => inputs[&0].clone(),
        };
        // SAFETY: as above.
        unsafe { write(at, format, &result) };
    }
}

/// # Safety
/// There are so many numbers of the format.
unsafe fn read(at: usize, count: usize, format: c_int) -> Vec<f64> {
    // SAFETY: by this function's own condition.
    unsafe {
        match format {
            F32 => {
                let values: *const f32 = std::ptr::with_exposed_provenance(at);
                (0..count).map(|i| f64::from(values.add(i).read())).collect()
            }
            F16 => {
                let values: *const f16 = std::ptr::with_exposed_provenance(at);
                (0..count).map(|i| values.add(i).read().to_f64()).collect()
            }
            BF16 => {
                let values: *const bf16 = std::ptr::with_exposed_provenance(at);
                (0..count).map(|i| values.add(i).read().to_f64()).collect()
            }
            other => panic!("no format {other}"),
        }
    }
}

/// # Safety
/// There is room for the numbers in this format.
unsafe fn write(at: usize, format: c_int, values: &[f64]) {
    for (i, value) in values.iter().enumerate() {
        // SAFETY: by this function's own condition.
        unsafe {
            match format {
                F32 => std::ptr::with_exposed_provenance_mut::<f32>(at).add(i).write(*value as f32),
                F16 => {
                    let to = std::ptr::with_exposed_provenance_mut::<f16>(at).add(i);
                    to.write(f16::from_f64(*value));
                }
                BF16 => {
                    let to = std::ptr::with_exposed_provenance_mut::<bf16>(at).add(i);
                    to.write(bf16::from_f64(*value));
                }
                other => panic!("no format {other}"),
            }
        }
    }
}
