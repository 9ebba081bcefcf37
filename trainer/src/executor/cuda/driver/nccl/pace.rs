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
        match nap(waited) {
            Some(time) => std::thread::sleep(time),
            None => std::thread::yield_now(),
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

/// How long to sleep after so long a wait; not at all at first.
fn nap(waited: Duration) -> Option<Duration> {
    (waited >= AWAKE_TIME).then(|| (waited / NAP_PARTS).min(NAP_TIME_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_delayed_by_a_small_part_of_its_time() {
        assert_eq!(nap(Duration::from_millis(2)), None);
        for waited_us in [4_000, 5_000, 100_000, 10_000_000] {
            let waited = Duration::from_micros(waited_us);
            let nap = nap(waited).unwrap();
            assert!(nap >= Duration::from_micros(20), "{nap:?} after {waited:?}");
            assert!(
                nap <= waited / 200 && nap <= Duration::from_millis(1),
                "{nap:?} after {waited:?}"
            );
        }
    }

    #[test]
    fn it_asks_until_the_limit() {
        let limit = Duration::from_millis(60);
        let (start, mut questions) = (Instant::now(), 0_u32);
        let answer = Pace::new(limit).until(|| {
            questions += 1;
            None::<()>
        });
        assert!(answer.is_none());
        assert!(start.elapsed() >= limit);
        assert!(questions > 1, "{questions}");
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
