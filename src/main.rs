//! The command line of Foretrain: parse, run one subcommand, report.
//!
//! Results go to stdout, progress and warnings to stderr. Exit codes are documented in
//! [`failure::Failure`].

mod allreduce;
mod calibrate;
mod cli;
mod completions;
mod critical_batch;
mod explain;
mod failure;
mod figure;
mod import;
mod output;
mod plan;
mod plot;
mod progress;
mod ranks;
mod recorded_trace;
mod schema;
mod simulate;
mod table;
mod trace;
mod train;
mod validate;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    failure::report_panics_as_bugs();
    let result = match Cli::parse().command {
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Allreduce(arguments) => allreduce::run(&arguments),
        Command::Validate(arguments) => validate::run(&arguments),
        Command::Train(arguments) => train::run(&arguments),
        Command::CriticalBatch(arguments) => critical_batch::run(&arguments),
        Command::Calibrate(arguments) => calibrate::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Plot(arguments) => plot::run(&arguments),
        Command::Trace(arguments) => recorded_trace::run(&arguments),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
