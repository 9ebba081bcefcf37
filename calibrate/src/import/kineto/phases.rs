//! What the host did in a step: forward operations, backward functions, the update, and which
//! function is whose.
//!
//! Forward operations that make a node of autograd carry its number, and so does the function that
//! the engine calls backward. An operation carries the number that the next node *will* get, whether
//! it makes one or not, so among operations of one number the last one made it; and one operation
//! such as `aten::linear` may hold several. What the engine accumulates into a parameter carries no
//! number: it runs at once after the function that it comes from.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::ImportError;
use super::events::{Index, Ordered};

/// What the engine of autograd calls its functions.
const EVALUATE: &str = "autograd::engine::evaluate_function: ";

/// What adds a gradient to a parameter's.
const ACCUMULATE: &str = "torch::autograd::AccumulateGrad";

/// What an operation that no other contains is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The forward pass of a layer, numbered in forward order.
    Layer(usize),
    /// Between layers, in the forward pass.
    Around,
    /// A backward function, numbered in order of execution.
    Backward(usize),
    /// The copy of a gradient from a bucket to its parameter.
    Unpack,
    /// Anything else.
    Other,
}

/// A step on the host.
pub(super) struct Phases {
    /// The annotation of the step.
    pub(super) mark: Index,
    /// From when to when it is.
    pub(super) span: (i64, i64),
    /// Annotations of updates.
    pub(super) updates: Vec<Index>,
    /// Operations that no other contains, backward functions included, by their start.
    pub(super) tops: Vec<Index>,
    roles: HashMap<Index, Role>,
    /// When the module's forward pass was called.
    pub(super) forward_start: i64,
    /// Operations with a backward function, in forward order.
    pub(super) layers: Vec<Index>,
    /// Backward functions in order of execution.
    pub(super) functions: Vec<Index>,
    /// Whose each function is.
    pub(super) layer_of_function: Vec<usize>,
    /// Gradients as they become ready: the number of the function, and the accumulation inside it.
    pub(super) gradients: Vec<(usize, Index)>,
    /// Where all-reduces of gradients are launched, in order.
    pub(super) launches: Vec<Index>,
    tops_of_thread: BTreeMap<u32, Vec<Index>>,
}

impl Phases {
    /// The step that `mark` annotates.
    pub(super) fn new(events: &Ordered<'_>, mark: Index) -> Result<Self, ImportError> {
        let step = events.event(mark);
        let span = (step.start, step.end);
        let error = |problem: &str| ImportError::new(problem).with_key(&*step.name);
        let inside = events.within(span);
        let of_name = |index: Index, prefix: &str| events.name(index).starts_with(prefix);
        let main = events.on_thread(step.thread, span);
        let updates = main
            .iter()
            .copied()
            .filter(|&index| !events.is_operation(index) && of_name(index, "Optimizer.step#"));
        let tops: Vec<Index> = inside
            .iter()
            .copied()
            .filter(|&index| events.is_operation(index) && events.is_top(index))
            .collect();
        let functions: Vec<Index> =
            tops.iter().copied().filter(|&index| of_name(index, EVALUATE)).collect();
        let Some(&first_function) = functions.first() else {
            return Err(error("no backward pass, expected a step of training"));
        };
        let backward_start = events.event(first_function).start;
        let module = main.iter().copied().find(|&index| {
            !events.is_operation(index) && events.name(index) == "DistributedDataParallel.forward"
        });
        let module_start = module.map(|index| events.event(index).start);
        let forward: Vec<Index> = tops
            .iter()
            .copied()
            .filter(|&index| {
                let event = events.event(index);
                event.thread == step.thread
                    && event.start < backward_start
                    && module_start.is_none_or(|start| event.start >= start)
                    && !of_name(index, EVALUATE)
            })
            .collect();
        let numbered = forward.iter().find(|index| events.event(**index).args.sequence.is_some());
        let forward_start = module_start
            .or(numbered.map(|index| events.event(*index).start))
            .unwrap_or(backward_start);

        let owners = owners(events, main, &forward);
        let owner = |function: &Index| {
            events.event(*function).args.sequence.and_then(|number| owners.get(&number).copied())
        };
        let with_backward: HashSet<Index> = functions.iter().filter_map(owner).collect();
        let layers: Vec<Index> =
            forward.iter().copied().filter(|index| with_backward.contains(index)).collect();
        if layers.is_empty() {
            return Err(error(
                "no forward operation has the number of a backward function: the layers cannot be \
                 told (a compiled or captured graph?); record without torch.compile",
            ));
        }
        let layer: HashMap<Index, usize> =
            layers.iter().enumerate().map(|(number, index)| (*index, number)).collect();
        let mut current = layers.len() - 1;
        let layer_of_function = functions
            .iter()
            .map(|function| {
                if let Some(number) = owner(function).and_then(|index| layer.get(&index)) {
                    current = *number;
                }
                current
            })
            .collect();

        let accumulations: HashMap<Index, Index> = inside
            .iter()
            .filter(|index| events.name(**index) == ACCUMULATE)
            .filter_map(|index| Some((events.parent(*index)?, *index)))
            .collect();
        let gradients = functions.iter().enumerate();
        let gradients = gradients
            .filter_map(|(number, function)| Some((number, *accumulations.get(function)?)))
            .collect();
        // Others, such as those of metrics, are no buckets.
        let launches = inside.iter().copied().filter(|&index| {
            events.name(index) == "c10d::allreduce_" && of_name(events.top(index), EVALUATE)
        });

        let mut roles: HashMap<Index, Role> = HashMap::new();
        roles.extend(forward.iter().map(|index| (*index, Role::Around)));
        roles.extend(layer.iter().map(|(index, number)| (*index, Role::Layer(*number))));
        roles.extend(functions.iter().enumerate().map(|(at, index)| (*index, Role::Backward(at))));
        for &index in &tops {
            let is_copy = events.name(index).contains("copy_bucket_to_grad");
            roles.entry(index).or_insert(if is_copy { Role::Unpack } else { Role::Other });
        }
        let mut tops_of_thread: BTreeMap<u32, Vec<Index>> = BTreeMap::new();
        for &index in &tops {
            tops_of_thread.entry(events.event(index).thread).or_default().push(index);
        }
        Ok(Self {
            mark,
            span,
            updates: updates.collect(),
            launches: launches.collect(),
            tops,
            roles,
            forward_start,
            layers,
            functions,
            layer_of_function,
            gradients,
            tops_of_thread,
        })
    }

    /// What an outermost operation is for.
    pub(super) fn role(&self, index: Index) -> Role {
        self.roles.get(&index).copied().unwrap_or(Role::Other)
    }

    /// Whether that moment is within an update.
    pub(super) fn in_update(&self, events: &Ordered<'_>, moment: i64) -> bool {
        let mut updates = self.updates.iter().map(|index| events.event(*index));
        updates.any(|update| (update.start..update.end).contains(&moment))
    }

    /// The outermost operation of `thread` at that moment.
    pub(super) fn top_at(&self, events: &Ordered<'_>, thread: u32, moment: i64) -> Option<Index> {
        let tops = self.tops_of_thread.get(&thread)?;
        let after = tops.partition_point(|index| events.event(*index).start <= moment);
        let last = *tops.get(after.checked_sub(1)?)?;
        (events.event(last).end > moment).then_some(last)
    }
}

/// The forward operation that made each numbered node: the last outermost one that carries the number,
/// itself or inside.
fn owners(events: &Ordered<'_>, main: &[Index], forward: &[Index]) -> HashMap<i64, Index> {
    let forward: HashSet<Index> = forward.iter().copied().collect();
    let mut owners = HashMap::new();
    for &index in main {
        let top = events.top(index);
        if let Some(number) = events.event(index).args.sequence
            && events.is_operation(index)
            && forward.contains(&top)
        {
            owners.insert(number, top);
        }
    }
    owners
}
