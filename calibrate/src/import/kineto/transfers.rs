//! What travelled between ranks in a step.
//!
//! Gloo's worker threads annotate what they do; the transfer of a launch is the first that begins
//! after it, of as many numbers, and is of no other launch. On accelerators it is the kernel that was
//! launched inside. Both include waiting for ranks that come later.

use super::ImportError;
use super::events::{Index, Ordered};
use super::phases::Phases;
use super::tensor::{ElementType, element_type, elements, text};

/// A transfer, its times in nanoseconds after the trace's base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transfer {
    pub(super) elements: u64,
    pub(super) kind: ElementType,
    pub(super) start: i64,
    pub(super) end: i64,
}

/// The transfer of each launch.
pub(super) fn all_reduces(
    events: &Ordered<'_>,
    gloo: &[Index],
    phases: &Phases,
) -> Result<Vec<Transfer>, ImportError> {
    let mut unused: Vec<Index> = gloo.to_vec();
    unused.retain(|index| events.event(*index).start >= phases.span.0);
    let of_launch = |(bucket, launch): (usize, &Index)| {
        let found = if events.has_kernels {
            kernel(events, *launch)
        } else {
            let at = unused.iter().position(|span| is_of(events, *span, *launch));
            at.and_then(|at| gloo_transfer(events, unused.remove(at)))
        };
        found.ok_or_else(|| {
            ImportError::new(format!(
                "the all-reduce of bucket {bucket} was launched, but no transfer by gloo or kernel of \
                 NCCL with its size and type is in the trace: record whole steps, on all threads, with \
                 record_shapes=True"
            ))
            .with_key(events.name(phases.mark))
        })
    };
    phases.launches.iter().enumerate().map(of_launch).collect()
}

fn is_of(events: &Ordered<'_>, span: Index, launch: Index) -> bool {
    let (span, launch) = (events.event(span), events.event(launch));
    span.start >= launch.start && elements(span).is_some() && elements(span) == elements(launch)
}

fn gloo_transfer(events: &Ordered<'_>, span: Index) -> Option<Transfer> {
    let event = events.event(span);
    let (start, end) = (event.start, event.end);
    Some(Transfer { elements: elements(event)?, kind: element_type(event)?, start, end })
}

fn kernel(events: &Ordered<'_>, launch: Index) -> Option<Transfer> {
    let at = events.event(launch);
    let inside = |call: Index| {
        let call = events.event(call);
        call.thread == at.thread && (at.start..at.end).contains(&call.start)
    };
    let (_, kernel) = events.collectives.iter().find(|(call, _)| inside(*call))?;
    kernel_transfer(events, *kernel).or_else(|| {
        // Versions that say nothing on the kernel say it on the operation that launched it.
        let said = events.within((at.start, at.end)).into_iter().find(|index| {
            events.event(*index).thread == at.thread && events.name(*index) == "record_param_comms"
        })?;
        let args = &events.event(said).args;
        let kind = ElementType::named(text(args.dtype)?)?;
        let (start, end) = (events.event(*kernel).start, events.event(*kernel).end);
        Some(Transfer { elements: args.elements?, kind, start, end })
    })
}

fn kernel_transfer(events: &Ordered<'_>, kernel: Index) -> Option<Transfer> {
    let event = events.event(kernel);
    let kind = ElementType::named(text(event.args.dtype)?)?;
    let (start, end) = (event.start, event.end);
    Some(Transfer { elements: event.args.elements?, kind, start, end })
}

/// Broadcasts of the step, such as of the statistics of batch normalisation, in order.
pub(super) fn broadcasts(events: &Ordered<'_>, gloo: &[Index], phases: &Phases) -> Vec<Transfer> {
    let in_step = |moment: i64| (phases.span.0..phases.span.1).contains(&moment);
    if events.has_kernels {
        let is_broadcast =
            |kernel: Index| text(events.event(kernel).args.collective) == Some("broadcast");
        let launched =
            events.collectives.iter().filter(|(call, _)| in_step(events.event(*call).start));
        let kernels = launched.filter(|(_, kernel)| is_broadcast(*kernel));
        kernels.filter_map(|(_, kernel)| kernel_transfer(events, *kernel)).collect()
    } else {
        let spans = gloo.iter().filter(|index| in_step(events.event(**index).start));
        spans.filter_map(|index| gloo_transfer(events, *index)).collect()
    }
}
