//! Point-to-point messages between ranks: all that a way of running ranks has to offer.
//!
//! Messages are bytes. Those from one rank to another arrive in the order sent; a rank takes what
//! comes from anybody in one queue, so that it hears of failures whomever it waits for. Nothing
//! here blocks beyond a deadline.

use std::time::Instant;

/// Why a message was not taken.
#[derive(Debug)]
pub enum Refused {
    /// The receiver has too many messages waiting. Take what came in, then try again.
    Full(
        /// The message.
        Vec<u8>,
    ),
    /// The receiver has ended.
    Gone,
}

/// What came in.
#[derive(Debug)]
pub enum Event {
    /// A message.
    Message {
        /// The sender.
        from: u32,
        /// The message; give it back with [`Transport::recycle`].
        bytes: Vec<u8>,
    },
    /// A rank has ended; it sends nothing more.
    Gone(
        /// The rank.
        u32,
    ),
}

/// A rank's way to the others.
pub trait Transport: Send {
    /// This rank.
    fn rank(&self) -> u32;

    /// How many ranks there are.
    fn world(&self) -> u32;

    /// A buffer for a message, of any length and content: one that was used before, if there is.
    fn buffer(&mut self) -> Vec<u8>;

    /// Gives a buffer back.
    fn recycle(&mut self, buffer: Vec<u8>);

    /// Sends a message to another rank, without waiting for it.
    ///
    /// # Errors
    /// The receiver takes no more for now, or has ended.
    fn try_send(&mut self, to: u32, message: Vec<u8>) -> Result<(), Refused>;

    /// The next that comes in, from whomever; nothing if the deadline passes first.
    fn receive(&mut self, deadline: Instant) -> Option<Event>;

    /// Waits until all messages have left.
    ///
    /// # Errors
    /// The deadline passed before the message to this rank had left.
    fn flush(&mut self, deadline: Instant) -> Result<(), u32>;

    /// Hears that the communication has failed and nothing sensible will follow.
    fn fail(&mut self);
}

/// Buffers to use again.
#[derive(Debug)]
pub(super) struct Pool {
    buffers: Vec<Vec<u8>>,
    buffers_max: usize,
}

impl Pool {
    /// An empty pool among so many ranks. An exchange of everybody with everybody has a message a
    /// rank under way in each direction.
    pub(super) fn new(world: u32) -> Self {
        Self { buffers: Vec::new(), buffers_max: 2 * world as usize + 2 }
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    pub(super) fn give(&mut self, buffer: Vec<u8>) {
        if self.buffers.len() < self.buffers_max {
            self.buffers.push(buffer);
        }
    }
}
