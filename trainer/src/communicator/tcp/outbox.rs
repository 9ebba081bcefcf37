//! What is to be written to one rank.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Messages that may wait for one rank.
const WAITING_MAX: usize = 32;

/// Messages on their way from a rank to the thread that writes them.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    is_writing: bool,
    /// Nothing more is put in.
    is_closed: bool,
    /// Nobody reads what is written.
    is_abandoned: bool,
}

impl Outbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message in. What nobody will read is taken, and let go.
    ///
    /// # Errors
    /// It is full; the message.
    pub(super) fn put(&self, message: Vec<u8>) -> Result<(), Vec<u8>> {
        let mut state = self.state();
        if state.is_abandoned {
            return Ok(());
        }
        if state.waiting.len() >= WAITING_MAX {
            return Err(message);
        }
        state.waiting.push_back(message);
        self.changed.notify_all();
        Ok(())
    }

    /// The next message, once the one before it has been written; nothing after the last.
    pub(super) fn next(&self) -> Option<Vec<u8>> {
        let mut state = self.state();
        state.is_writing = false;
        self.changed.notify_all();
        loop {
            if let Some(message) = state.waiting.pop_front() {
                state.is_writing = true;
                return Some(message);
            }
            if state.is_closed || state.is_abandoned {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until everything has been written; says whether that was before the deadline.
    pub(super) fn flush(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let is_under_way = |state: &mut State| {
            !state.is_abandoned && (state.is_writing || !state.waiting.is_empty())
        };
        let result = self
            .changed
            .wait_timeout_while(self.state(), left, is_under_way)
            .unwrap_or_else(PoisonError::into_inner);
        !result.1.timed_out()
    }

    /// Ends it after what waits.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }

    /// Ends it at once: what waits has nobody to go to.
    pub(super) fn abandon(&self) {
        let mut state = self.state();
        state.is_abandoned = true;
        state.waiting.clear();
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn messages_leave_in_order_and_the_last_before_the_end() {
        let outbox = Outbox::default();
        for number in 0..WAITING_MAX as u8 {
            outbox.put(vec![number]).unwrap();
        }
        assert_eq!(outbox.put(vec![99]), Err(vec![99]));
        outbox.close();
        for number in 0..WAITING_MAX as u8 {
            assert_eq!(outbox.next(), Some(vec![number]));
        }
        assert_eq!(outbox.next(), None);
    }

    #[test]
    fn a_message_is_under_way_until_the_next_is_asked_for() {
        let outbox = Outbox::default();
        let soon = || Instant::now() + Duration::from_millis(5);
        assert!(outbox.flush(Instant::now()));
        outbox.put(vec![1]).unwrap();
        assert!(!outbox.flush(soon()));
        assert!(outbox.next().is_some());
        assert!(!outbox.flush(soon()));
        std::thread::scope(|scope| {
            let flush = scope.spawn(|| outbox.flush(Instant::now() + Duration::from_secs(60)));
            let next = scope.spawn(|| outbox.next());
            assert!(flush.join().unwrap());
            outbox.close();
            assert_eq!(next.join().unwrap(), None);
        });
    }

    #[test]
    fn what_nobody_reads_is_let_go() {
        let outbox = Outbox::default();
        outbox.put(vec![1]).unwrap();
        assert!(outbox.next().is_some());
        outbox.put(vec![2]).unwrap();
        outbox.abandon();
        assert!(outbox.flush(Instant::now()));
        for number in 0..=WAITING_MAX as u8 {
            outbox.put(vec![number]).unwrap();
        }
        assert_eq!(outbox.next(), None);
    }
}
