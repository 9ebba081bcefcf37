//! `foretrain plan SCENARIO`.

mod text;

pub(crate) use text::goals;

use foretrain_sim::scenario::{Overrides, Scenario};
use foretrain_sim::search::{Plan, Planned, plan};
use serde_json::{Map, Value};

use crate::cli::{Format, PlanArguments};
use crate::failure::{Failure, complain};
use crate::output::{self, OutputFile};
use crate::{figure, progress, simulate, table};

pub(crate) fn run(arguments: &PlanArguments) -> Result<(), Failure> {
    let text = output::read_text(&arguments.scenario)?;
    let overrides = Overrides { seed: arguments.seed, steps: arguments.steps };
    let space = simulate::with_profiles(&arguments.scenario, |profiles| {
        Scenario::space(&text, overrides, profiles)
    })?;
    let plot = match &arguments.plot {
        Some(path) => Some((figure::Kind::of(path)?, OutputFile::create(path)?)),
        None => None,
    };
    let found = simulate::on_threads(arguments.threads, || {
        let bar = progress::bar(progress::PARTS, "searching");
        let found = plan(&space, |done| bar.set_position(progress::part(done)));
        bar.finish_and_clear();
        found
    })??;
    match plot {
        Some((kind, file)) if !found.frontiers.is_empty() => {
            file.finish(&figure::draw_plan(&found, kind)?)?;
        }
        Some(_) => complain("warning: no figure: there is nothing to draw"),
        None => {}
    }
    for warning in &found.warnings {
        complain(&format!("warning: {}", warning.message));
    }
    match arguments.format {
        Format::Table => output::print(&text::plan(&found))?,
        Format::Json => output::print(&output::json(&found)?)?,
        Format::Csv => output::print(&table::csv(&rows(&found)?)?)?,
    }
    if found.best.is_none() {
        return Err(Failure::Missed(format!("no plan: {}", found.verdict)));
    }
    Ok(())
}

/// One object a candidate: the best, the frontier of each variant, the fastest of each size; each with
/// what it is and what made it.
fn rows(plan: &Plan) -> Result<Vec<Map<String, Value>>, Failure> {
    let mut made = output::object(&plan.foretrain)?;
    made.retain(|key, _| key != "scenario" && key != "source");
    let row = |kind: &str, planned: &Planned| {
        let mut row = Map::new();
        row.insert("kind".to_owned(), kind.into());
        row.insert("on_frontier".to_owned(), plan.frontier.contains(planned).into());
        row.extend(output::object(planned)?);
        row.extend(made.clone());
        Ok(row)
    };
    let best = plan.best.iter().map(|planned| row("best", planned));
    let frontiers = plan.frontiers.iter().map(|planned| row("frontier of variant", planned));
    let fastest = plan.fastest.iter().map(|planned| row("fastest of size", planned));
    best.chain(frontiers).chain(fastest).collect()
}
