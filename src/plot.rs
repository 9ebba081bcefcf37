//! `foretrain plot FORECAST... -o FIGURE`.

use std::path::Path;

use foretrain_sim::forecast::Forecast;

use crate::cli::PlotArguments;
use crate::failure::Failure;
use crate::figure;
use crate::output::{self, OutputFile};

pub(crate) fn run(arguments: &PlotArguments) -> Result<(), Failure> {
    let kind = figure::Kind::of(&arguments.output)?;
    if arguments.forecasts.iter().filter(|path| *path == Path::new("-")).count() > 1 {
        return Err(Failure::Usage("- is given twice: stdin can be read once".to_owned()));
    }
    let forecasts =
        arguments.forecasts.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let file = OutputFile::create(&arguments.output)?;
    file.finish(&figure::draw(&forecasts, kind)?)
}

fn read(path: &Path) -> Result<Forecast, Failure> {
    let text = output::read_text(path)?;
    let forecast: Forecast = serde_json::from_str(&text).map_err(|error| {
        Failure::Invalid(format!(
            "{}:{}:{}: this is not a forecast: {error}; make one with `foretrain simulate \
             SCENARIO --format json`",
            output::shown(path),
            error.line(),
            error.column()
        ))
    })?;
    if forecast.points.is_empty() {
        return Err(Failure::Invalid(format!(
            "{}: the forecast has no points",
            output::shown(path)
        )));
    }
    Ok(forecast)
}
