//! `foretrain import`: what others measured or found out.

use foretrain_calibrate::import::kineto;
use foretrain_calibrate::import::nccl_tests::{Options, Placement, read_with};
use foretrain_calibrate::import::nccl_topology::{self, ClusterOptions};

use crate::calibrate::{Files, Kept, command, now};
use crate::cli::{
    ImportArguments, ImportSource, KinetoArguments, NcclTestsArguments, NcclTopologyArguments,
    ReportFormat,
};
use crate::failure::{Failure, complain};
use crate::output;

pub(crate) fn run(arguments: &ImportArguments) -> Result<(), Failure> {
    match &arguments.source {
        ImportSource::NcclTests(arguments) => nccl_tests(arguments),
        ImportSource::Kineto(arguments) => from_kineto(arguments),
        ImportSource::NcclTopology(arguments) => nccl_topology(arguments),
    }
}

fn nccl_tests(arguments: &NcclTestsArguments) -> Result<(), Failure> {
    let name = output::shown(&arguments.file);
    let invalid = |error: &dyn std::fmt::Display| Failure::Invalid(format!("{name}: {error}"));
    let files = Files::create(&arguments.output)?;
    let placement = arguments.ranks.zip(arguments.nodes);
    let options = Options {
        accept_wrong: arguments.accept_wrong,
        placement: placement.map(|(ranks, nodes)| Placement { ranks, nodes }),
    };
    let runs = read_with(&output::read_text(&arguments.file)?, options)
        .map_err(|error| invalid(&error))?;
    let [run] = runs.as_slice() else {
        let problem = format!(
            "{} tables, expected one: a profile is of one machine; give each its own file",
            runs.len()
        );
        return Err(invalid(&problem));
    };
    let measurements = run
        .measurements(arguments.in_place, &command(), &now(), 1)
        .map_err(|error| invalid(&error))?;
    files.finish(&measurements, &name, Kept::Already, ReportFormat::Table)
}

fn from_kineto(arguments: &KinetoArguments) -> Result<(), Failure> {
    let files = Files::create(&arguments.output)?;
    let mut traces = Vec::new();
    for path in &arguments.traces {
        let name = output::shown(path);
        let bytes = std::fs::read(path).map_err(|error| Failure::file("read", path, &error))?;
        let trace =
            kineto::read(&bytes).map_err(|error| Failure::Invalid(format!("{name}: {error}")))?;
        traces.push((name, trace));
    }
    let options = kineto::Options {
        batch: arguments.batch,
        threads: arguments.threads,
        command: command(),
        unprofiled_step: arguments.unprofiled_step.map(|time| time.as_seconds()),
        ..kineto::Options::default()
    };
    let measurements = kineto::measurements(&traces, &options)
        .map_err(|error| Failure::Invalid(error.to_string()))?;
    files.finish(&measurements, "the traces", Kept::Already, ReportFormat::Table)
}

fn nccl_topology(arguments: &NcclTopologyArguments) -> Result<(), Failure> {
    let name = output::shown(&arguments.file);
    let invalid = |error| Failure::Invalid(format!("{name}: {error}"));
    let topology = nccl_topology::read(&output::read_text(&arguments.file)?).map_err(invalid)?;
    let cluster = topology
        .cluster(&ClusterOptions {
            nodes: arguments.nodes,
            accelerator: arguments.accelerator.clone(),
            nvlink_latency: arguments.nvlink_latency,
            pcie_latency: arguments.pcie_latency,
            network_latency: arguments.network_latency,
            every_link: arguments.every_link,
        })
        .map_err(invalid)?;
    for warning in &cluster.warnings {
        complain(&format!("warning: {name}: {warning}"));
    }
    output::print(&cluster.toml)
}
