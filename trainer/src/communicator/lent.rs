//! A communicator that goes back to its owner when whoever borrowed it is done.
//!
//! Ranks stay connected from one run to the next: the collectives of several runs, and measurements
//! in between, are one sequence, in which nothing of one can be taken for something of the other.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::{AllReduce, Buffer, Communicator, CommunicatorError, UnsupportedAllReduce};

/// A communicator that is lent; dropping it gives it back.
pub struct Lent {
    /// Always there until it is dropped.
    inner: Option<Box<dyn Communicator>>,
    back: Sender<Box<dyn Communicator>>,
}

/// Where a communicator that was lent comes back.
#[derive(Debug)]
pub struct Return(Receiver<Box<dyn Communicator>>);

impl std::fmt::Debug for dyn Communicator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Communicator(rank {} of {})", self.rank(), self.world())
    }
}

impl std::fmt::Debug for Lent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lent({:?})", self.inner)
    }
}

impl Return {
    /// Waits until it is back; nothing if it was lost, which only a panic can cause.
    #[must_use]
    pub fn wait(self) -> Option<Box<dyn Communicator>> {
        self.0.recv().ok()
    }
}

/// Lends a communicator.
#[must_use]
pub fn lend(communicator: Box<dyn Communicator>) -> (Lent, Return) {
    let (back, receiver) = channel();
    (Lent { inner: Some(communicator), back }, Return(receiver))
}

impl Lent {
    fn inner(&self) -> &dyn Communicator {
        match &self.inner {
            Some(inner) => &**inner,
            None => unreachable!("it is there until it is dropped"),
        }
    }

    fn inner_mut(&mut self) -> &mut dyn Communicator {
        match &mut self.inner {
            Some(inner) => &mut **inner,
            None => unreachable!("it is there until it is dropped"),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            // Its owner may have gone.
            let _ = self.back.send(inner);
        }
    }
}

impl Communicator for Lent {
    fn rank(&self) -> u32 {
        self.inner().rank()
    }

    fn world(&self) -> u32 {
        self.inner().world()
    }

    fn set_all_reduce(&mut self, all_reduce: AllReduce) -> Result<(), UnsupportedAllReduce> {
        self.inner_mut().set_all_reduce(all_reduce)
    }

    fn all_reduce(&mut self, name: &str, values: Buffer<'_>) -> Result<(), CommunicatorError> {
        self.inner_mut().all_reduce(name, values)
    }

    fn sum_with_first(
        &mut self,
        name: &str,
        other: u32,
        values: Buffer<'_>,
    ) -> Result<(), CommunicatorError> {
        self.inner_mut().sum_with_first(name, other, values)
    }

    fn broadcast(&mut self, name: &str, values: Buffer<'_>) -> Result<(), CommunicatorError> {
        self.inner_mut().broadcast(name, values)
    }

    fn all_gather(&mut self, name: &str, own: &[u8]) -> Result<Vec<Vec<u8>>, CommunicatorError> {
        self.inner_mut().all_gather(name, own)
    }

    fn barrier(&mut self, name: &str) -> Result<(), CommunicatorError> {
        self.inner_mut().barrier(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::communicator::{CommunicatorSettings, HostCommunicator, ThreadTransport};

    #[test]
    fn it_comes_back_and_goes_on_where_it_was() {
        let sums: Vec<f32> = std::thread::scope(|scope| {
            let ranks = ThreadTransport::world(2).into_iter().map(|transport| {
                scope.spawn(move || {
                    let settings = CommunicatorSettings::default();
                    let own = HostCommunicator::new(transport, settings).unwrap();
                    let mut own: Box<dyn Communicator> = Box::new(own);
                    let mut values = [own.rank() as f32 + 1.0];
                    for run in 0..3 {
                        let (mut lent, back) = lend(own);
                        lent.all_reduce(&format!("run {run}"), values[..].as_mut().into()).unwrap();
                        drop(lent);
                        own = back.wait().unwrap();
                    }
                    values[0]
                })
            });
            let ranks: Vec<_> = ranks.collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        });
        // 1 + 2, and doubled twice.
        assert_eq!(sums, [12.0, 12.0]);
    }
}
