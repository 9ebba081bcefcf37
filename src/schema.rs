//! `foretrain schema`: the JSON Schemas of the files that people write.

use foretrain_sim::scenario;
use foretrain_trainer::config;

use crate::cli::{SchemaArguments, SchemaOf};
use crate::failure::Failure;
use crate::output;

pub(crate) fn run(arguments: &SchemaArguments) -> Result<(), Failure> {
    let schema = match arguments.of {
        SchemaOf::Scenario => scenario::schema(),
        SchemaOf::Train => config::schema(),
    };
    output::print(&format!("{schema:#}\n"))
}
