//! How ranks come to have communicators of NCCL's.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::super::error::NcclError;
use super::super::functions::{Comm, Config, ID_BYTES, NO_COLOR, SUCCESS, UniqueId};
use super::super::pace::Pace;
use super::NcclCommunicator;
use crate::communicator::Communicator;

/// The collective that all begins with.
const JOINING: &str = "joining NCCL";

impl NcclCommunicator {
    /// Exchanges an identifier, and makes the communicators of all ranks, of groups and of masters.
    pub(super) fn connect(
        &mut self,
        host: &mut dyn Communicator,
        group: Option<u32>,
    ) -> Result<(), NcclError> {
        let id = self.exchange_id(host)?;
        (self.bind)()?;
        let pace = Pace::new(self.timeout);
        let (functions, slot, mut config) = (self.functions, slot(), Config::new());
        let (world, rank) = (number(self.world), number(self.rank));
        // SAFETY: the slot stays, whenever NCCL writes to it; NCCL copies the configuration.
        let status =
            unsafe { (functions.init_rank)(slot.as_ptr(), world, id, rank, &raw mut config) };
        self.comms.all = slot.load(Ordering::Acquire);
        self.see_to_the_end(JOINING, "ncclCommInitRankConfig", self.comms.all, status, &pace)?;
        let Some(group) = group else { return Ok(()) };
        // All ranks split, or none: what is tested here is the same on all.
        let (team, position) = (number(self.rank / group), number(self.rank % group));
        if group > 1 {
            self.comms.group = self.split(team, position, &pace)?;
            self.see_to_the_end(JOINING, "ncclCommSplit", self.comms.group, SUCCESS, &pace)?;
        }
        if group < self.world {
            let color = if position == 0 { 0 } else { NO_COLOR };
            self.comms.masters = self.split(color, team, &pace)?;
            if color != NO_COLOR {
                self.see_to_the_end(JOINING, "ncclCommSplit", self.comms.masters, SUCCESS, &pace)?;
            }
        }
        Ok(())
    }

    /// The identifier that rank 0 makes.
    fn exchange_id(&self, host: &mut dyn Communicator) -> Result<UniqueId, NcclError> {
        let own =
            if self.rank == 0 { self.new_id().map(|id| id.0.to_vec()) } else { Ok(Vec::new()) };
        // Hosts refuse different names: so that ranks with other versions or algorithms are found.
        let name = format!("{JOINING} {} for {:?}", self.functions.version(), self.all_reduce);
        // If there is none, the others are told so by its lack rather than by the time limit.
        let messages = host.all_gather(&name, own.as_ref().map_or(&[], Vec::as_slice))?;
        own?;
        for (from, message) in messages.iter().enumerate() {
            let (bytes, expected) = (message.len(), if from == 0 { ID_BYTES } else { 0 });
            if bytes != expected {
                return Err(NcclError::UniqueId { from, bytes, expected });
            }
        }
        let id = messages.first().and_then(|message| message.as_slice().try_into().ok());
        id.map(UniqueId).ok_or(NcclError::UniqueId { from: 0, bytes: 0, expected: ID_BYTES })
    }

    fn new_id(&self) -> Result<UniqueId, NcclError> {
        let mut id = UniqueId([0; ID_BYTES]);
        // SAFETY: one identifier is written.
        let status = unsafe { (self.functions.get_unique_id)(&raw mut id) };
        if status == SUCCESS {
            Ok(id)
        } else {
            Err(self.failed_call(JOINING, "ncclGetUniqueId", status))
        }
    }

    /// A communicator of the ranks of the same color, in the order of keys; null without a color.
    fn split(&self, color: c_int, key: c_int, pace: &Pace) -> Result<Comm, NcclError> {
        let (slot, mut config) = (slot(), Config::new());
        // SAFETY: the communicator is alive; the slot stays, as NCCL writes to it from another thread
        // when it is done; NCCL copies the configuration.
        let status = unsafe {
            (self.functions.split)(self.comms.all, color, key, slot.as_ptr(), &raw mut config)
        };
        self.see_to_the_end(JOINING, "ncclCommSplit", self.comms.all, status, pace)?;
        Ok(slot.load(Ordering::Acquire))
    }
}

/// Where NCCL puts a communicator: for good, as it may do so after a failure, from another thread. A
/// process makes a few.
fn slot() -> &'static AtomicPtr<c_void> {
    Box::leak(Box::new(AtomicPtr::new(null_mut())))
}

/// A rank or a number of ranks, which the simulator limits to far less than C's `int` can be.
fn number(rank: u32) -> c_int {
    c_int::try_from(rank).unwrap_or(c_int::MAX)
}
