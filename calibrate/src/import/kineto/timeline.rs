//! What computes when: on CPUs the host's operations, on accelerators the kernels that they launched.

use super::events::{Index, Ordered};
use super::phases::{Phases, Role};

/// A stretch of computing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) work: Work,
}

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// A layer's forward pass.
    Forward(usize),
    /// A backward function, by its number.
    Backward(usize),
    /// A gradient goes from a bucket to its parameter, by this operation.
    Unpack(Index),
    /// The update.
    Update,
    /// What belongs to no layer, in the forward pass.
    Around,
    /// Anything else.
    Other,
}

/// All of a step's computing, by its start.
pub(super) fn items(events: &Ordered<'_>, phases: &Phases) -> Vec<Item> {
    let mut items =
        if events.has_kernels { on_accelerator(events, phases) } else { on_host(events, phases) };
    items.sort_by_key(|item| item.start);
    items
}

fn work(phases: &Phases, top: Index) -> Work {
    match phases.role(top) {
        Role::Layer(layer) => Work::Forward(layer),
        Role::Around => Work::Around,
        Role::Backward(function) => Work::Backward(function),
        Role::Unpack => Work::Unpack(top),
        Role::Other => Work::Other,
    }
}

fn on_host(events: &Ordered<'_>, phases: &Phases) -> Vec<Item> {
    let item = |index: Index, work: Work| {
        let event = events.event(index);
        Item { start: event.start, end: event.end, work }
    };
    let operations = phases.tops.iter().copied().filter_map(|top| {
        let work = work(phases, top);
        let is_function = matches!(work, Work::Backward(_));
        let in_update = !is_function && phases.in_update(events, events.event(top).start);
        (!in_update).then(|| item(top, work))
    });
    let updates = phases.updates.iter().map(|index| item(*index, Work::Update));
    updates.chain(operations).collect()
}

/// A kernel is whose launch it is: its call of the library is the moment of an operation of the same
/// thread.
fn on_accelerator(events: &Ordered<'_>, phases: &Phases) -> Vec<Item> {
    let items = events.computing.iter().filter_map(|&(call, kernel)| {
        let (call, kernel) = (events.event(call), events.event(kernel));
        if !(phases.span.0..phases.span.1).contains(&call.start) {
            return None;
        }
        let work = if phases.in_update(events, call.start) {
            Work::Update
        } else {
            let top = phases.top_at(events, call.thread, call.start);
            top.map_or(Work::Other, |top| work(phases, top))
        };
        Some(Item { start: kernel.start, end: kernel.end, work })
    });
    items.collect()
}
