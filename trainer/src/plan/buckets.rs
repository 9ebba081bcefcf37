//! Buckets: gradients that lie together and travel together.

use foretrain_sim::fusion::{Fusion, Gradient};
use foretrain_sim::units::{Bytes, SimDuration};
use foretrain_sim::workload::Network;

use super::{ParameterId, Plan};

/// One bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its gradients, in the order they lie in, with their first elements.
    pub gradients: Vec<(ParameterId, usize)>,
    /// Its elements.
    pub elements: usize,
}

/// Where the gradient of a parameter lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The bucket.
    pub bucket: usize,
    /// The first element in it.
    pub offset: usize,
}

/// All buckets of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buckets {
    buckets: Vec<Bucket>,
    places: Vec<Place>,
}

/// Buckets that depend on the clock cannot be planned: neither by ticks nor by when gradients are
/// ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "buckets that are cut by a cycle time or by when gradients are ready depend on the clock and \
     cannot be planned: expected a tensor, threshold, segments or one-bucket rule"
)]
pub struct CycleError;

impl Buckets {
    /// What a bucket is called in messages: `bucket 3 (layer4.0.conv1.weight … layer4.2.bn3.bias)`.
    #[must_use]
    pub fn name(&self, plan: &Plan, bucket: usize) -> String {
        let gradients = &self.buckets[bucket].gradients;
        let tensor = |member: Option<&(ParameterId, usize)>| {
            member.map_or("", |(id, _)| plan.parameters()[id.get()].name.as_str())
        };
        let (first, last) = (tensor(gradients.first()), tensor(gradients.last()));
        match gradients.len() {
            1 => format!("bucket {bucket} ({first})"),
            _ => format!("bucket {bucket} ({first} … {last})"),
        }
    }

    /// Cuts the gradients of `network`, whose plan is `plan`, by `rule`; sizes are for gradients of
    /// `element_bytes` on the wire.
    ///
    /// # Errors
    /// The rule depends on the clock.
    pub fn new(
        plan: &Plan,
        network: &Network,
        rule: &Fusion,
        element_bytes: u64,
    ) -> Result<Self, CycleError> {
        // The simulator's order: nodes from the last to the first, inside a node the bias first.
        let mut ids = Vec::new();
        let mut gradients = Vec::new();
        let mut next = plan.parameters().len();
        for node in network.nodes().iter().rev() {
            for tensor in node.parameters.iter().rev() {
                next -= 1;
                ids.push(ParameterId(next));
                gradients.push(Gradient {
                    tensor: tensor.name.clone(),
                    node: node.name.clone(),
                    bytes: Bytes::new(tensor.elements() * element_bytes),
                    ready_after: SimDuration::ZERO,
                });
            }
        }
        // Nothing here says when gradients are ready; a rule that asks would take them for ready at
        // once.
        let cut = match rule {
            Fusion::MgWfbp { .. } => None,
            rule => rule.static_buckets(&gradients),
        };
        let cut = cut.ok_or(CycleError)?;
        let mut places = vec![Place { bucket: 0, offset: 0 }; plan.parameters().len()];
        let mut buckets = Vec::new();
        for (bucket, range) in cut.into_iter().map(|bucket| bucket.gradients).enumerate() {
            let mut offset = 0;
            let mut members = Vec::new();
            for id in &ids[range] {
                places[id.get()] = Place { bucket, offset };
                members.push((*id, offset));
                offset += plan.parameters()[id.get()].elements();
            }
            buckets.push(Bucket { gradients: members, elements: offset });
        }
        Ok(Self { buckets, places })
    }

    /// The buckets in the order in which they are reduced.
    #[must_use]
    pub fn all(&self) -> &[Bucket] {
        &self.buckets
    }

    /// Where the gradient of `parameter` lies.
    ///
    /// # Panics
    /// If the plan has no such parameter.
    #[must_use]
    pub fn place(&self, parameter: ParameterId) -> Place {
        self.places[parameter.get()]
    }
}

#[cfg(test)]
impl Buckets {
    /// All gradients of a plan in one bucket, in forward order.
    pub(crate) fn one(plan: &Plan) -> Self {
        let mut elements = 0;
        let mut gradients = Vec::new();
        for (index, parameter) in plan.parameters().iter().enumerate() {
            gradients.push((ParameterId(index), elements));
            elements += parameter.elements();
        }
        let places = gradients.iter().map(|&(_, offset)| Place { bucket: 0, offset }).collect();
        Self { buckets: vec![Bucket { gradients, elements }], places }
    }
}
