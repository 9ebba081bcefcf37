//! A stream that is a thread.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use super::super::communicator::NcclStream;

type Task = Box<dyn FnOnce() + Send>;

/// A stream: a thread that does what it is given in order.
pub(in super::super) struct FakeStream {
    tasks: Option<Sender<Task>>,
    thread: Option<JoinHandle<()>>,
    given: AtomicUsize,
    done: Arc<AtomicUsize>,
}

impl FakeStream {
    /// In a place that stays, as its address is what NCCL is given.
    pub(in super::super) fn new() -> Box<Self> {
        let (tasks, given) = channel::<Task>();
        let done = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&done);
        let thread = std::thread::spawn(move || {
            for task in given {
                task();
                count.fetch_add(1, Ordering::Release);
            }
        });
        let (tasks, thread) = (Some(tasks), Some(thread));
        Box::new(Self { tasks, thread, given: AtomicUsize::new(0), done })
    }

    pub(in super::super) fn give(&self, task: Task) {
        self.given.fetch_add(1, Ordering::Relaxed);
        self.tasks.as_ref().unwrap().send(task).unwrap();
    }

    pub(in super::super) fn has_ended(&self) -> bool {
        self.done.load(Ordering::Acquire) == self.given.load(Ordering::Relaxed)
    }
}

impl Drop for FakeStream {
    fn drop(&mut self) {
        drop(self.tasks.take());
        // Where a test has failed, work may wait for an abort that never comes.
        if !std::thread::panicking() {
            self.thread.take().unwrap().join().unwrap();
        }
    }
}

impl<'a> From<&'a FakeStream> for NcclStream<'a> {
    fn from(stream: &'a FakeStream) -> Self {
        let handle = std::ptr::from_ref(stream).cast_mut().cast();
        Self { handle, stream: PhantomData }
    }
}
