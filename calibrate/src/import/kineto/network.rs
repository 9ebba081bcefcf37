//! What was trained: layers with their gradients, so that buckets are the trace's.
//!
//! The simulator takes gradients in reverse of the order of layers, all of a layer at its end. So layers
//! stand in reverse of the order in which backward completes them, which is forward order wherever
//! autograd runs straight back, and a layer whose gradients travel in two buckets stands there twice.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use foretrain_sim::profile::{FusionEntry, LayerEntry, TensorEntry};
use foretrain_sim::recording::NumberFormat;
use foretrain_sim::workload::NetworkName;

use super::step::{Layer, Piece};
use super::{ElementType, ImportError, Step};
use crate::measurements::NetworkEntry;

/// A layer of the network: a piece of one of the trace.
struct Entry {
    name: String,
    layer: usize,
    piece: usize,
}

/// The network of a step, and how its times become the network's.
pub(super) struct Traced {
    pub(super) network: NetworkEntry,
    pub(super) fusion: FusionEntry,
    /// The type of gradients on the wire.
    pub(super) wire: ElementType,
    /// What a batch of the first convolution or product says.
    pub(super) batch: Option<u64>,
    entries: Vec<Entry>,
}

impl Traced {
    /// The network that `step` trained.
    ///
    /// # Errors
    /// Gradients travel in a type in which nobody trains, or there are none.
    pub(super) fn new(step: &Step) -> Result<Self, ImportError> {
        let mut entries = Vec::new();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (number, layer) in step.layers.iter().enumerate() {
            // What works in place has an underscore at its end.
            let operation = layer.operation.trim_end_matches('_');
            let count = counts.entry(operation).or_default();
            for piece in 0..layer.pieces.len() {
                let part = if piece > 0 { format!(".{piece}") } else { String::new() };
                let name = format!("{operation}_{count}{part}");
                entries.push(Entry { name, layer: number, piece });
            }
            *count += 1;
        }
        entries.sort_by_key(|entry| Reverse(piece(step, entry).completed));
        let gradient = step.layers.iter().flat_map(|layer| &layer.pieces);
        let gradient = gradient.flat_map(|piece| &piece.gradients).next();
        let wire = step.buckets.first().map(|bucket| bucket.kind);
        let wire = wire.or(gradient.map(|gradient| gradient.kind)).ok_or_else(|| {
            ImportError::new("no gradient was accumulated, expected a step of training")
                .with_key(&*step.name)
        })?;
        let format = wire.format.ok_or_else(|| {
            let problem = format!(
                "gradients travel as numbers of {} bytes that are neither float, half nor bfloat16: \
                 train in one of these",
                wire.bytes
            );
            ImportError::new(problem).with_key(&*step.name)
        })?;
        let first = step.layers.iter().find_map(|layer| Some((layer, images(layer)?)));
        let precision = first.as_ref().and_then(|(layer, _)| layer.kind?.format);
        let layers: Vec<LayerEntry> =
            entries.iter().map(|entry| layer_entry(step, entry)).collect();
        Ok(Self {
            network: NetworkEntry {
                name: name(&layers),
                input: first.as_ref().map_or([1; 3], |(_, (_, input))| *input),
                precision: precision.unwrap_or(NumberFormat::F32),
                wire: format,
                optimizer: step.optimizer.as_deref().unwrap_or("none").to_lowercase(),
                layers,
            },
            fusion: fusion(step, &entries),
            wire,
            batch: first.map(|(_, (batch, _))| batch),
            entries,
        })
    }

    /// Forward of each layer of the network in a step of the same structure, in nanoseconds.
    pub(super) fn forward_ns(&self, step: &Step) -> Vec<u64> {
        let time = |entry: &Entry| {
            if entry.piece == 0 { step.layers[entry.layer].forward_ns } else { 0 }
        };
        self.entries.iter().map(time).collect()
    }

    /// Backward of each, in nanoseconds.
    pub(super) fn backward_ns(&self, step: &Step) -> Vec<u64> {
        self.entries.iter().map(|entry| piece(step, entry).backward_ns).collect()
    }

    /// Bytes of the gradients that travel, as the network has them.
    pub(super) fn gradient_bytes(&self) -> u64 {
        let tensors = self.network.layers.iter().flat_map(|layer| &layer.tensors);
        let elements = tensors.map(|tensor| tensor.elements).fold(0, u64::saturating_add);
        elements.saturating_mul(self.wire.bytes)
    }
}

fn piece<'a>(step: &'a Step, entry: &Entry) -> &'a Piece {
    &step.layers[entry.layer].pieces[entry.piece]
}

fn layer_entry(step: &Step, entry: &Entry) -> LayerEntry {
    let layer = &step.layers[entry.layer];
    let piece = piece(step, entry);
    // With buckets, what is in none does not travel.
    let travels = piece.bucket.is_some() || step.buckets.is_empty();
    let gradients = piece.gradients.iter().filter(|_| travels);
    let mut elements: Vec<u64> = gradients.map(|gradient| gradient.elements).collect();
    // They become ready in reverse.
    elements.reverse();
    let tensor = |(number, elements): (usize, u64)| TensorEntry {
        name: format!("{}.parameter{number}", entry.name),
        elements,
    };
    LayerEntry {
        name: entry.name.clone(),
        operation: layer.operation.clone(),
        tensors: elements.into_iter().enumerate().map(tensor).collect(),
    }
}

/// Buckets are closed where the trace's were; one that was launched together with the one before is
/// part of that.
fn fusion(step: &Step, entries: &[Entry]) -> FusionEntry {
    let mut after: BTreeMap<usize, &str> = BTreeMap::new();
    // Backward goes from the last to the first, so what comes last of a bucket stays.
    for entry in entries.iter().rev() {
        if let Some(bucket) = piece(step, entry).bucket {
            after.insert(bucket, &entry.name);
        }
    }
    after.pop_last();
    if after.is_empty() && !step.buckets.is_empty() {
        return FusionEntry::OneBucket;
    }
    FusionEntry::Segments { after: after.into_values().map(str::to_owned).collect() }
}

/// The batch, and channels, rows and columns of an image, of a convolution or a product: the sizes of
/// its first input are [batch, channels, rows, columns] or [batch, …, features].
fn images(layer: &Layer) -> Option<(u64, [u64; 3])> {
    let sizes = layer.shapes.first()?;
    let operation = layer.operation.as_str();
    let is_convolution = operation.starts_with("conv") || operation == "_convolution";
    let (&batch, of_one) = sizes.split_first()?;
    let all = |sizes: &[u64]| sizes.iter().fold(1, |all: u64, size| all.saturating_mul(*size));
    let input = match of_one {
        [channels, rest @ .., columns] if is_convolution => [*channels, all(rest), *columns],
        [rest @ .., features] if operation == "linear" => [*features, all(rest), 1],
        _ => return None,
    };
    (batch > 0).then_some((batch, input))
}

/// The name of a network that has as many parameters, all others by their number.
fn name(layers: &[LayerEntry]) -> String {
    let tensors = layers.iter().flat_map(|layer| &layer.tensors);
    let parameters = tensors.map(|tensor| tensor.elements).fold(0, u64::saturating_add);
    let known = [
        NetworkName::Resnet50,
        NetworkName::Resnet18,
        NetworkName::Alexnet,
        NetworkName::AlexnetBn,
    ];
    let network = known.into_iter().map(NetworkName::network);
    let network = network.into_iter().find(|network| network.parameter_count() == parameters);
    match network {
        Some(network) => network.name().to_owned(),
        None => format!("network of {parameters} parameters"),
    }
}
