//! `foretrain schema`: the JSON Schema of scenario files.

use foretrain_sim::scenario;

use crate::failure::Failure;
use crate::output;

pub(crate) fn run() -> Result<(), Failure> {
    let schema = format!("{:#}\n", scenario::schema());
    output::print(&schema)
}
