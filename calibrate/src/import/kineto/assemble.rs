//! From a timeline to the numbers of a step.
//!
//! Every moment belongs to one part. A layer's forward pass lasts from the end of the one before to its
//! own end, the last until backward begins; a backward function lasts until the next begins, the last
//! to its own end. So nothing is lost: Python between operations goes to the layer that follows, hooks
//! and copies into buckets to the function that ran before them.

use super::events::Ordered;
use super::phases::Phases;
use super::spans::{between, length, union, without};
use super::step::{Broadcast, Bucket, Gradient, Layer, Parts, Piece, Step};
use super::tensor::{element_type, shapes, tensor};
use super::timeline::{Item, Work, items};
use super::transfers::{Transfer, all_reduces, broadcasts};
use super::{ImportError, Sources};

/// The numbers of a step; its end may move if another follows. `base_ns` is the moment that events
/// count from.
pub(super) fn step(
    events: &Ordered<'_>,
    sources: &Sources,
    phases: &Phases,
    base_ns: i64,
) -> Result<Step, ImportError> {
    let name = events.name(phases.mark);
    let error = |problem: &str| ImportError::new(problem).with_key(name);
    // Without shapes nothing else can be told; said first because it is mended by one word.
    if let Some((_, accumulation)) = phases.gradients.first() {
        tensor(events.event(*accumulation))?;
    }
    let items = items(events, phases);
    let transfers = all_reduces(events, &sources.all_reduces, phases)?;
    let backward: Vec<(usize, Item)> = items
        .iter()
        .filter_map(|item| match item.work {
            Work::Backward(function) => Some((function, *item)),
            _ => None,
        })
        .collect();
    let forward_start = |item: &&Item| matches!(item.work, Work::Forward(_));
    let (Some(first), Some(first_forward), Some((_, first_backward))) =
        (items.first(), items.iter().find(forward_start), backward.first())
    else {
        return Err(error(
            "no kernel was launched by a layer, or none by its backward pass: of captured graphs \
             (cudaGraphLaunch) nobody can tell; record without them, and with ProfilerActivity.CUDA",
        ));
    };
    let ends = items.iter().map(|item| item.end);
    let (begin, end) = if events.has_kernels {
        (first.start, ends.max().unwrap_or(first.end))
    } else {
        phases.span
    };
    // The first layer's operation; whatever has no backward pass and came before is not its.
    let layers_from = first_forward.start;
    let head_to = if events.has_kernels {
        layers_from
    } else {
        phases.forward_start.min(layers_from).max(begin)
    };
    let backward_from = first_backward.start;
    let backward_to = backward.iter().map(|(_, item)| item.end).max().unwrap_or(backward_from);
    let updates = items.iter().filter(|item| item.work == Work::Update);
    let update_from = updates.clone().map(|item| item.start).min();
    let update_to = updates.map(|item| item.end).max();
    let tail_to = update_from.unwrap_or(end);
    let update_to = update_to.unwrap_or(tail_to);
    let moments =
        [begin, head_to, layers_from, backward_from, backward_to, tail_to, update_to, end];
    if !moments.is_sorted() {
        return Err(error(
            "forward, backward and update do not follow each other: expected one of each, in this \
             order, from one call of the profiler's step() to the next",
        ));
    }

    let within = |wanted: fn(Work) -> bool| {
        let wanted = items.iter().filter(move |item| wanted(item.work));
        union(wanted.map(|item| (item.start, item.end)), (backward_to, tail_to))
    };
    let busy = within(|work| matches!(work, Work::Unpack(_) | Work::Other));
    let unpack_ns = length(&within(|work| matches!(work, Work::Unpack(_))));
    let travels = transfers.iter().map(|transfer| (transfer.start, transfer.end));
    let exposed_ns = length(&without(&union(travels, (backward_to, tail_to)), &busy));
    let tail_ns = between(backward_to, tail_to);
    let parts = Parts {
        before_forward_ns: between(begin, head_to),
        before_layers_ns: between(head_to, layers_from),
        forward_ns: between(layers_from, backward_from),
        backward_ns: between(backward_from, backward_to),
        exposed_ns,
        unpack_ns,
        between_ns: tail_ns.saturating_sub(exposed_ns + unpack_ns),
        optimizer_ns: between(tail_to, update_to),
        after_ns: between(update_to, end),
    };

    let (buckets, members) = buckets(events, phases, &items, &transfers, begin)?;
    let mut layers = layers(events, phases, &backward, backward_to, &members)?;
    for (layer, forward_ns) in
        layers.iter_mut().zip(forward(&items, phases.layers.len(), layers_from, backward_from))
    {
        layer.forward_ns = forward_ns;
    }
    let optimizer = phases.updates.first().map(|index| {
        let name = events.name(*index).trim_start_matches("Optimizer.step#");
        name.split('.').next().unwrap_or(name).to_owned()
    });
    let broadcasts = broadcasts(events, &sources.broadcasts, phases).into_iter();
    Ok(Step {
        name: name.to_owned(),
        start_ns: base_ns + begin,
        duration_ns: between(begin, end),
        parts,
        layers,
        buckets,
        broadcasts: broadcasts
            .map(|Transfer { elements, kind, start, end }| Broadcast {
                bytes: elements.saturating_mul(kind.bytes),
                start_ns: start - begin,
                end_ns: end - begin,
            })
            .collect(),
        optimizer,
    })
}

/// Forward of each of `count` layers.
fn forward(items: &[Item], count: usize, from: i64, to: i64) -> Vec<u64> {
    let mut ends = vec![from; count];
    for item in items {
        if let Work::Forward(layer) = item.work {
            ends[layer] = ends[layer].max(item.end.min(to));
        }
    }
    if let Some(last) = ends.last_mut() {
        *last = to;
    }
    let mut before = from;
    let mut took = |end: i64| {
        let ns = between(before, end);
        before = before.max(end);
        ns
    };
    ends.into_iter().map(&mut took).collect()
}

/// The buckets, and in which each gradient travels.
fn buckets(
    events: &Ordered<'_>,
    phases: &Phases,
    items: &[Item],
    transfers: &[Transfer],
    begin: i64,
) -> Result<(Vec<Bucket>, Vec<Option<usize>>), ImportError> {
    let copies = items.iter().filter_map(|item| match item.work {
        Work::Unpack(operation) => Some((operation, *item)),
        _ => None,
    });
    let mut copies = copies.peekable();
    let mut members = vec![None; phases.gradients.len()];
    let mut buckets = Vec::new();
    let mut next = 0;
    for (number, (launch, transfer)) in phases.launches.iter().zip(transfers).enumerate() {
        let launch = events.event(*launch).start;
        let (first, mut held) = (next, 0_u64);
        while let Some((function, accumulation)) = phases.gradients.get(next)
            && events.event(phases.functions[*function]).start <= launch
        {
            held = held.saturating_add(tensor(events.event(*accumulation))?.bytes());
            members[next] = Some(number);
            next += 1;
        }
        let bytes = transfer.elements.saturating_mul(transfer.kind.bytes);
        let (mut unpack_ns, mut copied) = (0_u64, 0_u64);
        while copied < bytes
            && let Some((operation, item)) = copies.next()
        {
            unpack_ns = unpack_ns.saturating_add(between(item.start, item.end));
            // One operation may launch several kernels.
            if copies.peek().is_none_or(|(next, _)| *next != operation) {
                copied = copied.saturating_add(tensor(events.event(operation))?.bytes());
            }
        }
        buckets.push(Bucket {
            bytes,
            kind: transfer.kind,
            tensors: next - first,
            exact: held == bytes,
            launch_ns: (!events.has_kernels).then(|| between(begin, launch)),
            start_ns: transfer.start - begin,
            end_ns: transfer.end - begin,
            unpack_ns,
        });
    }
    Ok((buckets, members))
}

/// The layers without their forward times; `members` says in which bucket each gradient travels.
fn layers(
    events: &Ordered<'_>,
    phases: &Phases,
    backward: &[(usize, Item)],
    backward_to: i64,
    members: &[Option<usize>],
) -> Result<Vec<Layer>, ImportError> {
    let mut function_ns = vec![0_u64; phases.functions.len()];
    let starts = backward.iter().map(|(_, item)| item.start).skip(1);
    for ((function, item), end) in backward.iter().zip(starts.chain([backward_to])) {
        function_ns[*function] += between(item.start, end);
    }
    let mut gradients = phases.gradients.iter().zip(members).peekable();
    let mut layers: Vec<Layer> = phases
        .layers
        .iter()
        .map(|index| {
            let event = events.event(*index);
            let operation = event.name.rsplit("::").next().unwrap_or(&event.name);
            Layer {
                operation: operation.to_owned(),
                shapes: shapes(event),
                kind: element_type(event),
                forward_ns: 0,
                pieces: Vec::new(),
            }
        })
        .collect();
    for (function, &layer) in phases.layer_of_function.iter().enumerate() {
        let mut own: Vec<(Gradient, Option<usize>)> = Vec::new();
        while let Some(((_, accumulation), bucket)) =
            gradients.next_if(|((number, _), _)| *number == function)
        {
            let tensor = tensor(events.event(*accumulation))?;
            own.push((Gradient { elements: tensor.elements, kind: tensor.kind }, *bucket));
        }
        let layer = &mut layers[layer];
        let new = Piece {
            backward_ns: 0,
            gradients: Vec::new(),
            bucket: own.first().and_then(|(_, bucket)| *bucket),
            completed: function,
        };
        match layer.pieces.last_mut() {
            None => layer.pieces.push(new),
            Some(last)
                if own.is_empty() || last.gradients.is_empty() || last.bucket == new.bucket =>
            {
                if !own.is_empty() || last.gradients.is_empty() {
                    (last.bucket, last.completed) = (new.bucket, function);
                }
            }
            Some(_) => layer.pieces.push(new),
        }
        if let Some(piece) = layer.pieces.last_mut() {
            piece.backward_ns += function_ns[function];
            piece.gradients.extend(own.into_iter().map(|(gradient, _)| gradient));
        }
    }
    // Under autocast an operation is given another type than it computes in; its gradient has that.
    for (function, &layer) in phases.layer_of_function.iter().enumerate() {
        let at = phases.functions[function];
        let span = (events.event(at).start, events.event(at).end);
        let inner = events.on_thread(events.event(at).thread, span).iter().find(|index| {
            events.parent(**index) == Some(at) && events.event(**index).args.sequence.is_some()
        });
        if let Some(kind) = inner.and_then(|index| element_type(events.event(*index))) {
            layers[layer].kind = Some(kind);
        }
    }
    Ok(layers)
}
