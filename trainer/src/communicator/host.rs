//! The communicator of ranks whose gradients lie in main memory.

use std::time::Duration;

use foretrain_sim::collective::Teams;
use foretrain_sim::units::Bytes;

use super::algorithm::{AllReduce, BetweenMasters, InsideGroup, Route};
use super::buffer::{Buffer, Element};
use super::endpoint::{Endpoint, data};
use super::error::CommunicatorError;
use super::group::Group;
use super::header::{ElementType, Operation};
use super::passes::Passes;
use super::transport::Transport;
use super::{Communicator, UnsupportedAllReduce};
use crate::bad_value::{BadValue, require_positive};

/// How ranks communicate; the same on all of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CommunicatorSettings {
    /// How all-reduces are done.
    pub all_reduce: AllReduce,
    /// How long a rank waits for one message; what the slowest rank may be behind the fastest. The
    /// failure is known at most [`NOTICE_TIME_MAX`](super::NOTICE_TIME_MAX) later.
    pub timeout: Duration,
}

impl Default for CommunicatorSettings {
    /// Five minutes: the first step waits for input, and a checkpoint for storage.
    fn default() -> Self {
        Self { all_reduce: AllReduce::default(), timeout: Duration::from_secs(300) }
    }
}

/// Settings with which ranks cannot communicate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// The algorithm cannot be run among these ranks.
    #[error(transparent)]
    AllReduce(#[from] UnsupportedAllReduce),
    /// The timeout makes no sense.
    #[error(transparent)]
    Timeout(#[from] BadValue),
}

/// The communicator of one rank.
#[derive(Debug)]
pub struct HostCommunicator<T> {
    endpoint: Endpoint<T>,
    all_reduce: AllReduce,
    /// The algorithm in full, which must be the same on all ranks.
    algorithm: String,
}

impl<T: Transport> HostCommunicator<T> {
    /// The communicator of the transport's rank.
    ///
    /// # Errors
    /// So many ranks cannot run the algorithm; the timeout is zero.
    pub fn new(transport: T, settings: CommunicatorSettings) -> Result<Self, SettingsError> {
        let CommunicatorSettings { all_reduce, timeout } = settings;
        all_reduce.check(transport.world())?;
        require_positive("timeout_s", timeout.as_secs_f64())?;
        let algorithm = format!("{all_reduce:?}");
        Ok(Self { endpoint: Endpoint::new(transport, timeout), all_reduce, algorithm })
    }

    fn sum<E: Element>(&mut self, name: &str, values: &mut [E]) -> Result<(), CommunicatorError> {
        let bytes = size_of_val(values);
        let (world, rank) = (self.endpoint.world(), self.endpoint.rank());
        let route = self.all_reduce.route(world, Bytes::new(bytes as u64))?;
        let what = (Operation::AllReduce, E::TYPE, bytes);
        self.endpoint.begin(name, &self.algorithm, what)?;
        let all = Group::all(world, rank);
        let mut passes = Passes { endpoint: &mut self.endpoint, values };
        match route {
            Route::Ring => passes.ring(&all)?,
            Route::HalvingDoubling => passes.halving_doubling(&all)?,
            Route::Direct => {
                passes.direct_reduce_scatter(&all)?;
                passes.direct_all_gather(&all)?;
            }
            Route::Hierarchical { group, inside, between } => {
                passes.hierarchical((world, rank), group, inside, between)?;
            }
        }
        self.endpoint.end()
    }

    fn pair<E: Element>(
        &mut self,
        name: &str,
        other: u32,
        values: &mut [E],
    ) -> Result<(), CommunicatorError> {
        let what = (Operation::AllReduce, E::TYPE, size_of_val(values));
        self.endpoint.begin(name, "pair", what)?;
        if let Some(pair) = Group::pair(other, self.endpoint.rank()) {
            Passes { endpoint: &mut self.endpoint, values }.ring(&pair)?;
        }
        self.endpoint.end()
    }

    fn spread<E: Element>(
        &mut self,
        name: &str,
        values: &mut [E],
    ) -> Result<(), CommunicatorError> {
        let what = (Operation::Broadcast, E::TYPE, size_of_val(values));
        self.endpoint.begin(name, "", what)?;
        let all = Group::all(self.endpoint.world(), self.endpoint.rank());
        Passes { endpoint: &mut self.endpoint, values }.tree_broadcast(&all)?;
        self.endpoint.end()
    }

    /// Everybody's message, from everybody to everybody.
    fn exchange(
        &mut self,
        name: &str,
        operation: Operation,
        own: &[u8],
    ) -> Result<Vec<Vec<u8>>, CommunicatorError> {
        self.endpoint.begin(name, "", (operation, ElementType::Byte, 0))?;
        let (world, rank) = (self.endpoint.world(), self.endpoint.rank());
        for to in (0..world).filter(|to| *to != rank) {
            self.endpoint.send(to, own.len(), |bytes| bytes.copy_from_slice(own))?;
        }
        let mut messages = Vec::with_capacity(world as usize);
        for from in 0..world {
            if from == rank {
                messages.push(own.to_vec());
                continue;
            }
            let message = self.endpoint.receive(from, None)?;
            messages.push(data(&message).to_vec());
            self.endpoint.recycle(message);
        }
        self.endpoint.end()?;
        Ok(messages)
    }
}

impl<T: Transport, E: Element> Passes<'_, T, E> {
    fn ring(&mut self, group: &Group) -> Result<(), CommunicatorError> {
        self.ring_reduce_scatter(group)?;
        self.ring_all_gather(group)
    }

    /// Reduces in groups of `size` to their masters, all-reduces between those, broadcasts in
    /// groups.
    fn hierarchical(
        &mut self,
        (world, rank): (u32, u32),
        size: u32,
        inside: InsideGroup,
        between: BetweenMasters,
    ) -> Result<(), CommunicatorError> {
        let masters = Group::of(Teams::leaders(world / size, size), rank);
        let Some(group) = Group::of(Teams::blocks(size), rank) else { return Ok(()) };
        match inside {
            InsideGroup::Ring => {
                self.ring_reduce_scatter(&group)?;
                self.gather(&group)?;
            }
            InsideGroup::Tree => self.tree_reduce(&group)?,
            InsideGroup::Direct => {
                self.direct_reduce_scatter(&group)?;
                self.gather(&group)?;
            }
        }
        match (masters, between) {
            (None, _) => {}
            (Some(masters), BetweenMasters::Ring) => self.ring(&masters)?,
            (Some(masters), BetweenMasters::HalvingDoubling) => self.halving_doubling(&masters)?,
        }
        match inside {
            InsideGroup::Ring => {
                self.scatter(&group)?;
                self.ring_all_gather(&group)
            }
            InsideGroup::Tree => self.tree_broadcast(&group),
            InsideGroup::Direct => {
                self.scatter(&group)?;
                self.direct_all_gather(&group)
            }
        }
    }
}

impl<T: Transport> Communicator for HostCommunicator<T> {
    fn rank(&self) -> u32 {
        self.endpoint.rank()
    }

    fn world(&self) -> u32 {
        self.endpoint.world()
    }

    fn set_all_reduce(&mut self, all_reduce: AllReduce) -> Result<(), UnsupportedAllReduce> {
        all_reduce.check(self.endpoint.world())?;
        self.algorithm = format!("{all_reduce:?}");
        self.all_reduce = all_reduce;
        Ok(())
    }

    fn sum_with_first(
        &mut self,
        name: &str,
        other: u32,
        values: Buffer<'_>,
    ) -> Result<(), CommunicatorError> {
        match values {
            Buffer::F16(values) => self.pair(name, other, values),
            Buffer::Bf16(values) => self.pair(name, other, values),
            Buffer::F32(values) => self.pair(name, other, values),
            Buffer::F64(values) => self.pair(name, other, values),
        }
    }

    fn all_reduce(&mut self, name: &str, values: Buffer<'_>) -> Result<(), CommunicatorError> {
        match values {
            Buffer::F16(values) => self.sum(name, values),
            Buffer::Bf16(values) => self.sum(name, values),
            Buffer::F32(values) => self.sum(name, values),
            Buffer::F64(values) => self.sum(name, values),
        }
    }

    fn broadcast(&mut self, name: &str, values: Buffer<'_>) -> Result<(), CommunicatorError> {
        match values {
            Buffer::F16(values) => self.spread(name, values),
            Buffer::Bf16(values) => self.spread(name, values),
            Buffer::F32(values) => self.spread(name, values),
            Buffer::F64(values) => self.spread(name, values),
        }
    }

    fn all_gather(&mut self, name: &str, own: &[u8]) -> Result<Vec<Vec<u8>>, CommunicatorError> {
        self.exchange(name, Operation::AllGather, own)
    }

    fn barrier(&mut self, name: &str) -> Result<(), CommunicatorError> {
        self.exchange(name, Operation::Barrier, &[]).map(|_| ())
    }
}
