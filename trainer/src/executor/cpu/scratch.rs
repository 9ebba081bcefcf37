//! Scratch memory of the kernels, kept from one use to the next.

use std::sync::{Mutex, PoisonError};

/// Vectors that tasks borrow while they run. There are never more than tasks at the same time, and
/// each grows to the largest need once.
#[derive(Debug)]
pub(super) struct Scratch<T>(Mutex<Vec<Vec<T>>>);

impl<T> Scratch<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// Runs `work` with a vector of any content.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut Vec<T>) -> R) -> R {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut vector = free.unwrap_or_default();
        let result = work(&mut vector);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(vector);
        result
    }
}
