//! How a thread waits for something that it has to ask for.

use std::time::{Duration, Instant};

/// So long the processor is only offered to others: a short step must not be delayed.
const AWAKE_TIME: Duration = Duration::from_millis(4);

/// The longest sleep between two questions.
const NAP_TIME_MAX: Duration = Duration::from_millis(1);

/// The sleep between two questions as a part of the time waited.
const NAP_PARTS: u32 = 200;

/// A wait with a limit.
#[derive(Debug)]
pub(super) struct Pace {
    start: Instant,
    limit: Duration,
}

impl Pace {
    pub(super) fn new(limit: Duration) -> Self {
        Self { start: Instant::now(), limit }
    }

    /// Rests before the next question; false, at once, if the limit has passed.
    pub(super) fn rest(&self) -> bool {
        let waited = self.start.elapsed();
        if waited >= self.limit {
            return false;
        }
        if waited < AWAKE_TIME {
            std::thread::yield_now();
        } else {
            std::thread::sleep((waited / NAP_PARTS).min(NAP_TIME_MAX));
        }
        true
    }

    /// Rests until there is an answer; `None` if the limit has passed before.
    pub(super) fn until<T>(&self, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
        loop {
            if let Some(answer) = ask() {
                return Some(answer);
            }
            if !self.rest() {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_often_at_first_and_ends_at_the_limit() {
        let limit = Duration::from_millis(300);
        let (start, mut questions) = (Instant::now(), 0_u32);
        let answer = Pace::new(limit).until(|| {
            questions += 1;
            None::<()>
        });
        assert!(answer.is_none());
        assert!(start.elapsed() >= limit);
        assert!(questions > 20, "{questions}");
    }

    #[test]
    fn it_asks_once_where_the_answer_is_there_also_without_time() {
        let mut questions = 0;
        let answer = Pace::new(Duration::ZERO).until(|| {
            questions += 1;
            Some(5)
        });
        assert_eq!((answer, questions), (Some(5), 1));
    }
}
