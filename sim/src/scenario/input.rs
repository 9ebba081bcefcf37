//! How images come: a rank's share of its node's workers and storage.

use super::machine::link;
use super::names::LinkName;
use super::problem::{Problem, at_least_one};
use super::spec::{InputSpec, ScenarioSpec};
use crate::catalogue::{Accelerator, NodeType};
use crate::network::Link;
use crate::units::Bytes;

/// ILSVRC-2012 is 138 GB of training images: 138e9 / 1,281,167 bytes each, rounded.
const IMAGENET_IMAGE_BYTES: u64 = 110_000;
const PREFETCH_BATCHES: u32 = 2;

/// How batches come to a rank, as rates.
#[derive(Debug, Clone, PartialEq)]
pub struct InputRates {
    /// Seconds that the rank's share of workers takes for an image.
    pub decode_s_per_image: f64,
    /// Seconds that the rank's share of storage takes for an image.
    pub storage_s_per_image: f64,
    /// Host to device, if it is modelled.
    pub host_link: Option<Link>,
    /// Decoded batches that the host may hold.
    pub prefetch_batches: u32,
}

/// The rates of the input, if the scenario has one.
pub(super) fn input(
    spec: &ScenarioSpec,
    accelerator: &Accelerator,
    node: Option<&NodeType>,
    accelerators_per_node: u32,
) -> Result<Option<InputRates>, Problem> {
    let Some(input) = &spec.input else { return Ok(None) };
    let ranks = f64::from(accelerators_per_node);
    let decode_s_per_image = match input.decode {
        Some(rate) if rate.get() <= 0.0 => {
            return Err(Problem::new("input.decode", "expected a rate above 0"));
        }
        Some(rate) => {
            let cores = spec.cluster.cpu_cores.or(node.and_then(|node| node.cpu_cores));
            let workers = input.workers_per_node.or(cores).ok_or_else(|| {
                let problem = "missing: the node's cores are not known; give the workers";
                Problem::new("input.workers_per_node", problem)
            })?;
            let workers = at_least_one("input.workers_per_node", workers)?;
            ranks / (rate.get() * f64::from(workers))
        }
        None => 0.0,
    };
    let image_bytes = input.image_bytes.unwrap_or(Bytes::new(IMAGENET_IMAGE_BYTES)).get() as f64;
    let storage_s_per_image =
        input.storage.map_or(0.0, |rate| ranks * image_bytes / rate.bytes_per_s() as f64);
    Ok(Some(InputRates {
        decode_s_per_image,
        storage_s_per_image,
        host_link: host_link(input, accelerator)?,
        prefetch_batches: at_least_one(
            "input.prefetch_batches",
            input.prefetch_batches.unwrap_or(PREFETCH_BATCHES),
        )?,
    }))
}

fn host_link(input: &InputSpec, accelerator: &Accelerator) -> Result<Option<Link>, Problem> {
    let named = accelerator.host_link.clone().map(LinkName::Named);
    let Some(name) = input.host_link.clone().or(named) else { return Ok(None) };
    Ok(Some(link("input.host_link", &name, None)?.0))
}
