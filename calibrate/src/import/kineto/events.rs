//! Events in order, and which lie in which.

use std::collections::HashMap;

use super::document::{Category, Event};
use super::tensor::text;

/// The index of an event.
pub(super) type Index = usize;

/// All events of a trace by their start, the longer first.
pub(super) struct Ordered<'a> {
    pub(super) all: Vec<Event<'a>>,
    /// Operations and annotations of each thread, in order.
    pub(super) host: Vec<Vec<Index>>,
    /// The innermost operation of the same thread around each operation.
    parent: Vec<Option<Index>>,
    /// The outermost; itself if there is none around it.
    top: Vec<Index>,
    /// What an accelerator computed or copied for a call that is known: the call, and what it did, in
    /// order of the latter.
    pub(super) computing: Vec<(Index, Index)>,
    /// What it did of communication, the same way.
    pub(super) collectives: Vec<(Index, Index)>,
    /// Whether an accelerator computed.
    pub(super) has_kernels: bool,
}

impl<'a> Ordered<'a> {
    pub(super) fn new(mut all: Vec<Event<'a>>) -> Self {
        all.sort_by_key(|event| (event.start, std::cmp::Reverse(event.end)));
        let threads = all.iter().map(|event| event.thread as usize + 1).max().unwrap_or(0);
        let mut host = vec![Vec::new(); threads];
        let mut calls = HashMap::new();
        for (index, event) in all.iter().enumerate() {
            match event.category {
                Category::Operation | Category::Annotation => {
                    host[event.thread as usize].push(index);
                }
                Category::Runtime => {
                    if let Some(correlation) = event.args.correlation {
                        calls.insert(correlation, index);
                    }
                }
                Category::Kernel | Category::Memory => {}
            }
        }
        let on_device =
            |event: &Event<'_>| matches!(event.category, Category::Kernel | Category::Memory);
        let known = (0..all.len())
            .filter(|index| on_device(&all[*index]))
            .filter_map(|index| Some((*calls.get(&all[index].args.correlation?)?, index)));
        let (collectives, computing) = known.partition(|(_, index)| is_collective(&all[*index]));
        let has_kernels = all.iter().any(|event| event.category == Category::Kernel);
        let mut ordered = Self {
            parent: vec![None; all.len()],
            top: (0..all.len()).collect(),
            all,
            host,
            computing,
            collectives,
            has_kernels,
        };
        ordered.nest();
        ordered
    }

    fn nest(&mut self) {
        for thread in &self.host {
            let mut around: Vec<Index> = Vec::new();
            for &index in thread {
                let event = &self.all[index];
                if event.category != Category::Operation {
                    continue;
                }
                while around.last().is_some_and(|last| self.all[*last].end <= event.start) {
                    around.pop();
                }
                if let (Some(&first), Some(&last)) = (around.first(), around.last()) {
                    self.parent[index] = Some(last);
                    self.top[index] = first;
                }
                around.push(index);
            }
        }
    }

    pub(super) fn event(&self, index: Index) -> &Event<'a> {
        &self.all[index]
    }

    pub(super) fn name(&self, index: Index) -> &str {
        &self.all[index].name
    }

    pub(super) fn parent(&self, index: Index) -> Option<Index> {
        self.parent[index]
    }

    pub(super) fn top(&self, index: Index) -> Index {
        self.top[index]
    }

    pub(super) fn is_top(&self, index: Index) -> bool {
        self.parent[index].is_none()
    }

    pub(super) fn is_operation(&self, index: Index) -> bool {
        self.all[index].category == Category::Operation
    }

    /// Operations and annotations of a thread that start within `span`.
    pub(super) fn on_thread(&self, thread: u32, span: (i64, i64)) -> &[Index] {
        let thread = self.host.get(thread as usize).map_or(&[][..], Vec::as_slice);
        let before = |moment: i64| thread.partition_point(|index| self.all[*index].start < moment);
        let (from, to) = (before(span.0), before(span.1));
        thread.get(from..to).unwrap_or_default()
    }

    /// Operations and annotations of all threads that start within `span`, by their start.
    pub(super) fn within(&self, span: (i64, i64)) -> Vec<Index> {
        let threads = 0..self.host.len() as u32;
        let mut all: Vec<Index> =
            threads.flat_map(|thread| self.on_thread(thread, span).iter().copied()).collect();
        // They are in order of start, so their indices are.
        all.sort_unstable();
        all
    }

    /// Annotations of that name, by their start.
    pub(super) fn annotations(&self, name: &str) -> Vec<Index> {
        let matches =
            |event: &Event<'_>| event.category == Category::Annotation && event.name == name;
        (0..self.all.len()).filter(|index| matches(&self.all[*index])).collect()
    }
}

/// Whether an accelerator's work is communication.
fn is_collective(event: &Event<'_>) -> bool {
    event.category == Category::Kernel
        && (event.name.starts_with("nccl") || text(event.args.collective).is_some())
}
