//! What a training step gives to a device, in which order: passes, sums over ranks, update.
//!
//! ```text
//! forward ─ backward … pack ─▶ reduce … backward ─ join ─ judge ─ update ─ running statistics
//! ```
//!
//! A bucket is reduced as soon as its last gradient is written, or after backward without overlap. The
//! same order is given one by one or captured as one graph.

use std::collections::BTreeMap;

use foretrain_sim::recording::NumberFormat;

use super::arguments::grid::blocks_for;
use super::arguments::pointwise::{Cast, SquareSums, square_blocks};
use super::arguments::{Address, Arguments as _};
use super::kernels::format_number;
use super::lower::{OptimizerTables, Program};
use super::memory::{BucketMemory, Memory};
use super::work::Work;
use crate::plan::buckets::Buckets;
use crate::plan::{Cost, Plan};

/// When in a step something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Images are rounded and padded.
    Input,
    /// Activations.
    Forward,
    /// Gradients.
    Backward,
    /// Gradients are cast to the format they travel in.
    Pack,
    /// New weights, loss scale, running statistics.
    Optimizer,
}

impl Phase {
    /// The name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Pack => "pack",
            Self::Optimizer => "optimizer",
        }
    }
}

/// A part of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepPart {
    /// An instruction's name, or what else is done.
    pub name: String,
    /// When it is done.
    pub phase: Phase,
    /// Which instruction or bucket it is of, if it is of one.
    pub number: Option<usize>,
    /// What is done.
    pub work: Vec<Work>,
    /// What it costs at least, where that is known.
    pub cost: Option<Cost>,
}

/// What is given next.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// Work.
    Part(StepPart),
    /// Work that only recorded steps do: Σ g² of this rank's gradients in a bucket.
    LocalSquares(Vec<Work>),
    /// The sum of this bucket over all ranks begins.
    Reduce(usize),
    /// All sums are needed.
    Join,
}

/// Where gradients are when they travel.
#[derive(Debug, Clone, PartialEq)]
pub struct Wire {
    /// Their format.
    pub format: NumberFormat,
    /// The buckets.
    pub buckets: Vec<BucketMemory>,
    /// Each tensor's gradient there.
    pub gradients: Vec<Address>,
    /// Where blocks leave sums of squares: this rank's, then those of the summed gradients.
    pub squares: [Vec<Address>; 2],
}

/// Bytes of the sums of squares of a bucket.
fn square_bytes(bucket: &BucketMemory) -> usize {
    square_blocks(bucket.elements as u64) as usize * 8
}

impl Wire {
    /// Bytes of memory for gradients on their way in `format`, and for sums of squares.
    #[must_use]
    pub fn bytes(memory: &Memory, format: NumberFormat) -> usize {
        let element = format.element_bytes() as usize;
        let of = |bucket: &BucketMemory| {
            let copy = if memory.format == format { 0 } else { bucket.elements * element };
            copy.next_multiple_of(256) + 2 * square_bytes(bucket).next_multiple_of(256)
        };
        memory.buckets.iter().map(of).sum::<usize>().max(1)
    }

    /// In a piece of memory of so many bytes. Gradients that travel as they are computed stay where
    /// they are.
    #[must_use]
    pub fn at(memory: &Memory, buckets: &Buckets, format: NumberFormat, base: Address) -> Self {
        let mut next = base;
        let mut take = |bytes: usize| {
            let at = next;
            next = next.add(bytes.next_multiple_of(256));
            at
        };
        let squares = [(); 2].map(|()| {
            memory.buckets.iter().map(|bucket| take(square_bytes(bucket))).collect::<Vec<_>>()
        });
        let (mut wire_buckets, mut gradients) = (memory.buckets.clone(), memory.gradients.clone());
        if memory.format != format {
            let [from, to] = [memory.format, format].map(|format| format.element_bytes());
            for (own, (bucket, wire)) in
                memory.buckets.iter().zip(buckets.all().iter().zip(&mut wire_buckets))
            {
                wire.at = take(own.elements * to as usize);
                for (id, _) in &bucket.gradients {
                    let elements = (memory.gradients[id.get()].0 - own.at.0) / from;
                    gradients[id.get()] = wire.at.add((elements * to) as usize);
                }
            }
        }
        Self { format, buckets: wire_buckets, gradients, squares }
    }
}

/// What an order is made of.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Its buckets.
    pub buckets: &'a Buckets,
    /// Where everything lies.
    pub memory: &'a Memory,
    /// Where gradients travel.
    pub wire: &'a Wire,
    /// The plan's work.
    pub program: &'a Program,
    /// The optimizer's work.
    pub optimizer: &'a OptimizerTables,
    /// Images of the step.
    pub images: usize,
    /// Whether buckets travel while backward goes on.
    pub overlap: bool,
}

impl Parts<'_> {
    /// The step in order, without what takes the images.
    #[must_use]
    pub fn items(&self) -> Vec<Item> {
        let mut items: Vec<Item> =
            (0..self.plan.instructions().len()).map(|index| self.forward(index)).collect();
        let mut missing: BTreeMap<usize, usize> = BTreeMap::new();
        for (number, bucket) in self.buckets.all().iter().enumerate() {
            missing.insert(number, bucket.gradients.len());
        }
        let mut waiting = Vec::new();
        for (index, instruction) in self.plan.instructions().iter().enumerate().rev() {
            items.push(self.backward(index));
            for parameter in instruction.kind.parameters() {
                let bucket = self.buckets.place(parameter).bucket;
                if let Some(left) = missing.get_mut(&bucket) {
                    *left -= 1;
                    if *left == 0 {
                        waiting.push(bucket);
                    }
                }
            }
            if self.overlap {
                items.extend(waiting.drain(..).flat_map(|bucket| self.reduce(bucket)));
            }
        }
        items.extend(waiting.into_iter().flat_map(|bucket| self.reduce(bucket)));
        items.push(Item::Join);
        let OptimizerTables { judge, update, .. } = self.optimizer;
        let part = |name: &str, work: Vec<Work>| {
            let (name, phase) = (name.to_owned(), Phase::Optimizer);
            Item::Part(StepPart { name, phase, number: None, work, cost: None })
        };
        items.push(part("optimizer", [&judge[..], &update[..]].concat()));
        items.push(part("running statistics", self.program.commit.clone()));
        items
    }

    fn forward(&self, index: usize) -> Item {
        let instruction = &self.plan.instructions()[index];
        let element_bytes = self.memory.format.element_bytes();
        let cost = instruction.kind.forward_cost(self.images as u64, element_bytes);
        self.of_instruction(index, Phase::Forward, &self.program.forward[index], cost)
    }

    fn backward(&self, index: usize) -> Item {
        let instruction = &self.plan.instructions()[index];
        let element_bytes = self.memory.format.element_bytes();
        let cost = instruction.kind.backward_cost(self.images as u64, element_bytes);
        self.of_instruction(index, Phase::Backward, &self.program.backward[index], cost)
    }

    fn of_instruction(&self, index: usize, phase: Phase, work: &[Work], cost: Cost) -> Item {
        Item::Part(StepPart {
            name: self.plan.instructions()[index].name.clone(),
            phase,
            number: Some(index),
            work: work.to_vec(),
            cost: Some(cost).filter(|cost| *cost != Cost::default()),
        })
    }

    fn reduce(&self, bucket: usize) -> Vec<Item> {
        let (own, wire) = (&self.memory.buckets[bucket], &self.wire.buckets[bucket]);
        let at = self.wire.squares[0][bucket];
        let mut items = vec![Item::LocalSquares(vec![squares(own, self.memory.format, at)])];
        if self.memory.format != self.wire.format {
            let elements = own.elements as u64;
            let cast = Cast {
                from: own.at,
                to: wire.at,
                elements,
                from_format: format_number(self.memory.format),
                to_format: format_number(self.wire.format),
            };
            items.push(Item::Part(StepPart {
                name: format!("bucket {bucket}"),
                phase: Phase::Pack,
                number: Some(bucket),
                work: vec![Work::Launch(cast.launch(blocks_for(elements)))],
                cost: None,
            }));
        }
        items.push(Item::Reduce(bucket));
        items
    }
}

/// Σ v² of a bucket, block by block; what lies between gradients is zero.
#[must_use]
pub fn squares(bucket: &BucketMemory, format: NumberFormat, partial: Address) -> Work {
    let elements = bucket.elements as u64;
    let sums = SquareSums { from: bucket.at, elements, partial, format: format_number(format) };
    Work::Launch(sums.launch(square_blocks(elements)))
}
