//! Recordings of the trainer, of any ranks and batches of one network, as raw measurements.

use std::collections::BTreeMap;

use foretrain_sim::collective::AlgorithmName;
use foretrain_sim::profile::{AllReduceEntry, FusionEntry, LayerEntry, MachineEntry, TensorEntry};
use foretrain_sim::recording::{EventKind, Header, Recording};

use super::ImportError;
use crate::measure::recorded_steps;
use crate::measurements::{
    ComputeSeries, Measurements, NetworkEntry, NormSeries, Observation, RecordedStep, StepSeries,
    VERSION,
};

/// The measurements of `recordings`, each with the name that errors call it by.
///
/// # Errors
/// There are none, they are of different networks or machines, a rank is missing, a step is not whole,
/// or the header does not count the parameters of tensors.
pub fn read(
    recordings: &[(String, Recording)],
    command: &str,
    seed: u64,
) -> Result<Measurements, ImportError> {
    let Some((_, first)) = recordings.first() else {
        return Err(ImportError::new("no recording was given, expected at least one"));
    };
    let network = network(&first.header)?;
    let mut by_batch: BTreeMap<u64, BTreeMap<u32, &(String, Recording)>> = BTreeMap::new();
    for named in recordings {
        let (name, recording) = named;
        let header = &recording.header;
        check_same(&first.header, header, name)?;
        let ranks = by_batch.entry(header.per_rank_batch).or_default();
        if let Some((before, _)) = ranks.insert(header.rank, named) {
            return Err(ImportError::new(format!(
                "{name}: rank {} at batch {} is also in {before}: give each once",
                header.rank, header.per_rank_batch
            )));
        }
    }
    let mut all = Measurements {
        measurements: VERSION,
        foretrain: env!("CARGO_PKG_VERSION").to_owned(),
        procedure: "recordings".to_owned(),
        command: command.to_owned(),
        measured: first.header.started.clone(),
        seed,
        machine: machine(&first.header),
        network: Some(network),
        compute: Vec::new(),
        links: Vec::new(),
        collectives: Vec::new(),
        steps: Vec::new(),
        input: None,
        norms: None,
        observations: Vec::new(),
        usd_per_accelerator_hour: None,
        watts_per_accelerator: None,
    };
    for (batch, ranks) in by_batch {
        add_batch(&mut all, batch, &ranks)?;
    }
    Ok(all)
}

fn machine(header: &Header) -> MachineEntry {
    MachineEntry {
        device: header.device.clone(),
        threads: header.threads,
        ranks: header.ranks,
        // A recording does not say where ranks are.
        ranks_per_node: header.ranks,
        transport: header.algorithm.clone(),
        driver: None,
        memory_bytes: None,
    }
}

fn check_same(first: &Header, header: &Header, name: &str) -> Result<(), ImportError> {
    let what = |header: &Header| {
        let Header { network, input, precision, wire, optimizer, device, ranks, .. } = header;
        format!(
            "{network} of {input:?}, {} (wire {}), {optimizer}, on {ranks} x {device}",
            precision.name(),
            wire.name()
        )
    };
    let (ours, theirs) = (what(first), what(header));
    if ours != theirs || first.instructions.len() != header.instructions.len() {
        return Err(ImportError::new(format!(
            "{name}: this is of {theirs}, and the first recording of {ours}: give recordings of one \
             network, on one machine"
        )));
    }
    Ok(())
}

/// The network, whose tensors belong to the instruction that they are named after.
fn network(header: &Header) -> Result<NetworkEntry, ImportError> {
    if header.tensor_elements.len() != header.tensors.len() {
        return Err(ImportError::new(format!(
            "{} tensors and {} numbers of parameters, expected as many: record again with this version \
             of foretrain",
            header.tensors.len(),
            header.tensor_elements.len()
        ))
        .with_key("tensor_elements"));
    }
    let mut layers: Vec<LayerEntry> = header
        .instructions
        .iter()
        .map(|instruction| LayerEntry {
            name: instruction.name.clone(),
            operation: instruction.operation.clone(),
            tensors: Vec::new(),
        })
        .collect();
    for (tensor, &elements) in header.tensors.iter().zip(&header.tensor_elements) {
        let node = tensor.rsplit_once('.').map_or(tensor.as_str(), |(node, _)| node);
        let layer = layers.iter_mut().find(|layer| layer.name == node).ok_or_else(|| {
            ImportError::new(format!("tensor {tensor} belongs to no instruction"))
                .with_key("tensors")
        })?;
        layer.tensors.push(TensorEntry { name: tensor.clone(), elements });
    }
    Ok(NetworkEntry {
        name: header.network.clone(),
        input: header.input,
        precision: header.precision,
        wire: header.wire,
        optimizer: header.optimizer.clone(),
        layers,
    })
}

fn add_batch(
    all: &mut Measurements,
    batch: u64,
    ranks: &BTreeMap<u32, &(String, Recording)>,
) -> Result<(), ImportError> {
    let steps_of = |named: &(String, Recording)| -> Result<Vec<RecordedStep>, ImportError> {
        recorded_steps(&named.1).map_err(|error| ImportError::new(format!("{}: {error}", named.0)))
    };
    let Some(first) = ranks.values().next() else { return Ok(()) };
    let steps = steps_of(first)?;
    let header = &first.1.header;
    // Ranks are told apart by their place, so it is all of them or one.
    let all_there = ranks.len() == header.ranks as usize;
    let mut rank_compute_ns = Vec::new();
    for named in ranks.values().take(if all_there { ranks.len() } else { 1 }) {
        let steps = steps_of(named)?;
        rank_compute_ns.push(steps.iter().map(RecordedStep::compute_ns).collect());
    }
    if overlaps(&first.1) {
        all.observations.push(Observation::Traced {
            about: format!("layers at batch {batch}"),
            what:
                "buckets travelled while they were recorded, and what that took from backward is \
                   taken as theirs: record with `overlap = false`"
                    .to_owned(),
        });
    }
    if header.ranks == 1 {
        all.steps.push(StepSeries {
            ranks: 1,
            ranks_per_node: 1,
            per_rank_batch: batch,
            all_reduce: AllReduceEntry::plain(AlgorithmName::Ring),
            fusion: FusionEntry::OneBucket,
            wire_element_bytes: header.wire.element_bytes(),
            overlap: false,
            periods_s: steps.iter().map(|step| step.step_ns as f64 / 1e9).collect(),
        });
    } else if all.norms.is_none() {
        all.norms = norms(ranks);
    }
    all.compute.push(ComputeSeries {
        batch,
        overlap: false,
        steps,
        rank_compute_ns,
        periods_s: Vec::new(),
    });
    Ok(())
}

/// Whether a bucket travelled before backward was over.
fn overlaps(recording: &Recording) -> bool {
    let mut backward_end: BTreeMap<u64, u64> = BTreeMap::new();
    for event in &recording.events {
        if let EventKind::Backward { span, .. } = event.kind {
            let end = backward_end.entry(event.step).or_default();
            *end = (*end).max(span.end_ns);
        }
    }
    recording.events.iter().any(|event| match event.kind {
        EventKind::AllReduce { span, .. } => {
            backward_end.get(&event.step).is_some_and(|end| span.start_ns < *end)
        }
        _ => false,
    })
}

/// Norms of all ranks, if all were recorded.
pub(crate) fn norms(ranks: &BTreeMap<u32, &(String, Recording)>) -> Option<NormSeries> {
    let header = &ranks.values().next()?.1.header;
    if ranks.len() != header.ranks as usize {
        return None;
    }
    let mut by_step: BTreeMap<u64, (f64, f64, u32)> = BTreeMap::new();
    for (_, recording) in ranks.values() {
        for event in &recording.events {
            let EventKind::Norms(norms) = event.kind else { continue };
            if let (false, Some(local), Some(averaged)) =
                (norms.skipped, norms.local_gradient_norm_sq, norms.averaged_gradient_norm_sq)
            {
                let step = by_step.entry(event.step).or_insert((0.0, averaged, 0));
                step.0 += local;
                step.2 += 1;
            }
        }
    }
    by_step.retain(|_, step| step.2 == header.ranks);
    let first_step = *by_step.keys().next()?;
    let ranks = f64::from(header.ranks);
    Some(NormSeries {
        first_step,
        per_rank_batch: header.per_rank_batch,
        global_batch: header.per_rank_batch * u64::from(header.ranks),
        local_and_averaged: by_step.values().map(|step| (step.0 / ranks, step.1)).collect(),
    })
}
