//! `foretrain completions SHELL`.

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArguments};
use crate::failure::Failure;
use crate::output;

pub(crate) fn run(arguments: &CompletionsArguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "foretrain", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
