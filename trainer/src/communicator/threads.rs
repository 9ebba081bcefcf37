//! Ranks as threads of one process: a queue a rank, into which all others put messages.
//!
//! A message is a buffer that changes hands: the receiver sends its next message in it. A rank that
//! ends, by a panic too, says so to all others as it drops its transport.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use super::transport::{Event, Pool, Refused, Transport};

/// The transport of a rank that is a thread.
#[derive(Debug)]
pub struct ThreadTransport {
    rank: u32,
    inbox: Receiver<Event>,
    outboxes: Vec<Sender<Event>>,
    /// Messages waiting in each rank's inbox.
    waiting: Arc<[AtomicUsize]>,
    waiting_max: usize,
    pool: Pool,
}

impl ThreadTransport {
    /// The transports of a world of so many ranks, in order.
    #[must_use]
    pub fn world(ranks: u32) -> Vec<Self> {
        let (outboxes, inboxes): (Vec<_>, Vec<_>) = (0..ranks).map(|_| channel()).unzip();
        let waiting: Arc<[AtomicUsize]> = (0..ranks).map(|_| AtomicUsize::new(0)).collect();
        (0..)
            .zip(inboxes)
            .map(|(rank, inbox)| Self {
                rank,
                inbox,
                outboxes: outboxes.clone(),
                waiting: Arc::clone(&waiting),
                // Ranks are ahead of each other by the rounds of a collective, not by more.
                waiting_max: 4 * ranks as usize + 16,
                pool: Pool::new(ranks),
            })
            .collect()
    }
}

impl Transport for ThreadTransport {
    fn rank(&self) -> u32 {
        self.rank
    }

    fn world(&self) -> u32 {
        self.outboxes.len() as u32
    }

    fn buffer(&mut self) -> Vec<u8> {
        self.pool.take()
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        self.pool.give(buffer);
    }

    fn try_send(&mut self, to: u32, message: Vec<u8>) -> Result<(), Refused> {
        let to = to as usize;
        // A limit on memory: that two senders may pass it at the same time does no harm.
        if self.waiting[to].load(Ordering::Relaxed) >= self.waiting_max {
            return Err(Refused::Full(message));
        }
        self.waiting[to].fetch_add(1, Ordering::Relaxed);
        let event = Event::Message { from: self.rank, bytes: message };
        self.outboxes[to].send(event).map_err(|_| Refused::Gone)
    }

    fn receive(&mut self, deadline: Instant) -> Option<Event> {
        let left = deadline.saturating_duration_since(Instant::now());
        // Not closed: this rank holds a sender of its own.
        let event = self.inbox.recv_timeout(left).ok()?;
        if matches!(event, Event::Message { .. }) {
            self.waiting[self.rank as usize].fetch_sub(1, Ordering::Relaxed);
        }
        Some(event)
    }

    fn flush(&mut self, _: Instant) -> Result<(), u32> {
        Ok(())
    }

    fn fail(&mut self) {}
}

impl Drop for ThreadTransport {
    fn drop(&mut self) {
        for (other, outbox) in (0..).zip(&self.outboxes) {
            if other != self.rank {
                // Whoever has ended before need not know.
                let _ = outbox.send(Event::Gone(self.rank));
            }
        }
    }
}
