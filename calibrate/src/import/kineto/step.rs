//! One step in numbers: its parts, which add up, its layers and its buckets.

use super::tensor::ElementType;

/// A step of training, as it was recorded. All times in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name, such as `ProfilerStep#3`.
    pub name: String,
    /// When it began, since 1970 by the clock of its machine.
    pub start_ns: i64,
    /// The whole step: on CPUs as the profiler marked it, on accelerators from its first kernel to the
    /// first of the next step, of the last step to its last kernel's end.
    pub duration_ns: u64,
    /// What it consists of.
    pub parts: Parts,
    /// Operations that have a backward pass, in forward order.
    pub layers: Vec<Layer>,
    /// All-reduces of gradients, in the order of their launch.
    pub buckets: Vec<Bucket>,
    /// What the first rank told the others, in order.
    pub broadcasts: Vec<Broadcast>,
    /// The class of the optimizer, such as `SGD`; none if nothing was updated.
    pub optimizer: Option<String>,
}

/// The parts of a step in order, in nanoseconds; they add up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parts {
    /// From its start to the module's forward pass; nothing on accelerators.
    pub before_forward_ns: u64,
    /// Until the first layer begins: what DistributedDataParallel does before, such as waiting for the
    /// first rank's statistics.
    pub before_layers_ns: u64,
    /// Until the first backward function.
    pub forward_ns: u64,
    /// Until the last backward function ends.
    pub backward_ns: u64,
    /// Until the update, while something travels and nothing is computed.
    pub exposed_ns: u64,
    /// Until the update, while gradients are copied out of buckets.
    pub unpack_ns: u64,
    /// Until the update, else.
    pub between_ns: u64,
    /// The update.
    pub optimizer_ns: u64,
    /// To the end.
    pub after_ns: u64,
}

impl Parts {
    /// The parts in order, each with its name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u64); 9] {
        [
            ("before forward", self.before_forward_ns),
            ("before layers", self.before_layers_ns),
            ("forward", self.forward_ns),
            ("backward", self.backward_ns),
            ("exposed all-reduce", self.exposed_ns),
            ("unpack buckets", self.unpack_ns),
            ("between", self.between_ns),
            ("optimizer", self.optimizer_ns),
            ("after", self.after_ns),
        ]
    }
}

/// An operation that has a backward pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The operation without its name space, such as `conv2d`.
    pub operation: String,
    /// Sizes of the tensors that it was given, of the first few.
    pub shapes: Vec<Vec<u64>>,
    /// In which type it was computed, as far as that is said.
    pub kind: Option<ElementType>,
    /// Forward, in nanoseconds.
    pub forward_ns: u64,
    /// Backward, in pieces: one, but where its gradients travel in several buckets, one for each.
    pub pieces: Vec<Piece>,
}

impl Layer {
    /// Backward, in nanoseconds.
    #[must_use]
    pub fn backward_ns(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.backward_ns).sum()
    }

    /// Bytes of its gradients.
    #[must_use]
    pub fn gradient_bytes(&self) -> u64 {
        let gradients = self.pieces.iter().flat_map(|piece| &piece.gradients);
        gradients.map(|gradient| gradient.bytes()).fold(0, u64::saturating_add)
    }
}

/// A part of a layer's backward pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// How long it took, in nanoseconds.
    pub backward_ns: u64,
    /// The gradients that it completes, in the order in which it does.
    pub gradients: Vec<Gradient>,
    /// Which bucket they travel in; none if they do not travel, or there are none.
    pub bucket: Option<usize>,
    /// The number of the backward function that completed the last of them; without gradients, of its
    /// last function.
    pub completed: usize,
}

/// The gradient of one parameter tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gradient {
    /// Its numbers.
    pub elements: u64,
    /// Their type.
    pub kind: ElementType,
}

impl Gradient {
    /// Its size.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.elements.saturating_mul(self.kind.bytes)
    }
}

/// Gradients that travelled together. Moments are in nanoseconds since the start of the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Their size on the wire.
    pub bytes: u64,
    /// The type on the wire.
    pub kind: ElementType,
    /// How many tensors became ready since the bucket before was launched.
    pub tensors: usize,
    /// Whether these have the size of the bucket.
    pub exact: bool,
    /// When the host launched it; on accelerators nobody knows by their clock.
    pub launch_ns: Option<u64>,
    /// When the transfer began, waiting for other ranks included.
    pub start_ns: i64,
    /// When it ended.
    pub end_ns: i64,
    /// Copying its gradients to their parameters.
    pub unpack_ns: u64,
}

/// What the first rank told the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broadcast {
    /// Its size.
    pub bytes: u64,
    /// When it began, waiting included, in nanoseconds since the start of the step.
    pub start_ns: i64,
    /// When it ended.
    pub end_ns: i64,
}
