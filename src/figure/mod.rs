//! Scaling curves as a picture: SVG, or PNG made from the same SVG.
//!
//! [`forecasts`], [`plan`] and others say what is shown as plain data ([`panels`]: axes, curves,
//! published points); [`canvas`] lays it out with plotters. Fonts are embedded, so a figure looks the same everywhere.

mod axis;
mod canvas;
mod contents;
mod critical_batch;
mod forecasts;
mod labels;
mod marks;
mod panels;
mod plan;
mod plan_accuracy;
pub(crate) mod runs;
mod series;
mod style;
pub(crate) mod validation;
mod verification;
pub(crate) mod waterfall;

use std::path::Path;
use std::sync::{Arc, Once};

use foretrain_calibrate::critical_batch::Answer;
use foretrain_calibrate::verify::Verdict;
use foretrain_sim::collective::Timing;
use foretrain_sim::forecast::{Forecast, Header};
use foretrain_sim::search::Plan;
use plotters::prelude::{FontStyle, SVGBackend};
use plotters::style::register_font;
use resvg::{tiny_skia, usvg};

use crate::failure::Failure;

const REGULAR: &[u8] = include_bytes!("../fonts/Roboto-Regular.ttf");
const BOLD: &[u8] = include_bytes!("../fonts/Roboto-Bold.ttf");
/// Panels side by side.
const COLUMNS: usize = 2;
const WIDTH: u32 = 1280;
/// Title, a line of subtitle and a line of legend; and one row of panels.
const HEADER_PX: u32 = 118;
const ROW_PX: u32 = 421;
/// A panel as wide as the figure.
const WIDE_ROW_PX: u32 = 520;
/// More panels nobody looks at, and a picture of them takes gigabytes.
const WATERFALLS_MAX: usize = 100;
/// Pixels of a PNG for one unit of the SVG.
const PNG_SCALE: f32 = 2.0;

/// The format of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Svg,
    Png,
}

impl Kind {
    /// The format that a file's name asks for.
    pub(crate) fn of(path: &Path) -> Result<Self, Failure> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("svg") => Ok(Self::Svg),
            Some("png") => Ok(Self::Png),
            _ => Err(Failure::Usage(format!(
                "{}: a figure's name ends in .svg or .png",
                path.display()
            ))),
        }
    }
}

/// Draws forecasts on one figure.
pub(crate) fn draw(forecasts: &[Forecast], kind: Kind) -> Result<Vec<u8>, Failure> {
    render(&forecasts::figure(forecasts), kind)
}

/// Draws a plan.
pub(crate) fn draw_plan(found: &Plan, kind: Kind) -> Result<Vec<u8>, Failure> {
    let Some(figure) = plan::figure(found) else {
        return Err(Failure::Invalid(format!("nothing to draw: {}", found.verdict)));
    };
    render(&figure, kind)
}

/// Draws timings of all-reduces.
pub(crate) fn draw_timings(rows: &[Timing], title: &str, kind: Kind) -> Result<Vec<u8>, Failure> {
    render(&panels::timings(rows, title), kind)
}

/// Draws published all-reduces beside their predictions.
pub(crate) fn draw_validation(
    sets: &[validation::SetCurve],
    kind: Kind,
) -> Result<Vec<u8>, Failure> {
    let figure = validation::figure(sets);
    if figure.panels.is_empty() {
        let message =
            "nothing to draw: no set has several predicted sizes or numbers of accelerators";
        return Err(Failure::Invalid(message.to_owned()));
    }
    render(&figure, kind)
}

/// Draws what was measured beside what the simulator says.
pub(crate) fn draw_verification(
    verdict: &Verdict,
    made: &str,
    kind: Kind,
) -> Result<Vec<u8>, Failure> {
    let figure = verification::figure(verdict, made);
    if figure.panels.is_empty() {
        return Err(Failure::Invalid("nothing to draw: nothing could be compared".to_owned()));
    }
    render(&figure, kind)
}

/// Draws epochs against the batch: what the law says, and what runs took.
pub(crate) fn draw_critical_batch(
    answer: &Answer,
    made: &str,
    kind: Kind,
) -> Result<Vec<u8>, Failure> {
    let plan = critical_batch::Plan::new(answer, made);
    picture(critical_batch::SIZE, plan.words(), kind, |backend| {
        critical_batch::draw(&plan, backend)
    })
}

/// Draws published training runs beside their predictions.
pub(crate) fn draw_runs(figure: &runs::RunsFigure, kind: Kind) -> Result<Vec<u8>, Failure> {
    let Some(plan) = runs::Plan::new(figure) else {
        let message = "nothing to draw: no run has a published and a predicted value";
        return Err(Failure::Invalid(message.to_owned()));
    };
    picture(plan.size(), plan.words(), kind, |backend| runs::draw(&plan, backend))
}

/// Draws what keeps some points from perfect scaling, a panel a point.
pub(crate) fn draw_waterfalls(
    title: &str,
    subtitle: &str,
    waterfalls: &[waterfall::Waterfall],
    kind: Kind,
) -> Result<Vec<u8>, Failure> {
    if waterfalls.len() > WATERFALLS_MAX {
        return Err(Failure::Usage(format!(
            "{} points are too many waterfalls for a figure: simulate at most {WATERFALLS_MAX}",
            waterfalls.len()
        )));
    }
    let Some(plan) = waterfall::Plan::new(title, subtitle, waterfalls) else {
        let message = "nothing to draw: no point takes a time with perfect scaling";
        return Err(Failure::Invalid(message.to_owned()));
    };
    picture(plan.size(), plan.words(), kind, |backend| waterfall::draw(&plan, backend))
}

fn render(figure: &panels::Figure, kind: Kind) -> Result<Vec<u8>, Failure> {
    register_fonts();
    let height = canvas::height(figure).map_err(|error| undrawn(&error))?;
    let words = (figure.title.as_str(), figure.description.as_str());
    picture((WIDTH, height), words, kind, |backend| canvas::draw(figure, backend))
}

fn undrawn(error: &canvas::Error) -> Failure {
    Failure::Runtime(format!("failed to draw the figure: {error}"))
}

/// What made a result, for a subtitle.
fn made_by(header: &Header) -> String {
    let short = |hash: &str| hash.get(..12).unwrap_or(hash).to_owned();
    let profile = match &header.profile_hash {
        None => "no profile".to_owned(),
        Some(hash) => format!("profile {}", short(hash)),
    };
    let (version, hash) = (&header.version, short(&header.scenario_hash));
    format!("foretrain {version}, scenario {hash}, {profile}, seed {}", header.seed)
}

/// Draws on a canvas of that size; title and description are for readers who cannot see it.
fn picture(
    size: (u32, u32),
    words: (&str, &str),
    kind: Kind,
    draw: impl FnOnce(SVGBackend<'_>) -> canvas::Drawn,
) -> Result<Vec<u8>, Failure> {
    register_fonts();
    let mut svg = String::new();
    draw(SVGBackend::with_string(&mut svg, size)).map_err(|error| undrawn(&error))?;
    let svg = described(&svg, words);
    match kind {
        Kind::Svg => Ok(svg.into_bytes()),
        Kind::Png => rasterise(&svg),
    }
}

fn register_fonts() {
    static FONTS: Once = Once::new();
    FONTS.call_once(|| {
        // They are embedded and a test draws with them; without them, drawing reports it.
        let _ = register_font(style::FAMILY, FontStyle::Normal, REGULAR);
        let _ = register_font(style::FAMILY, FontStyle::Bold, BOLD);
    });
}

/// Adds a title and a description for readers who cannot see the picture.
fn described(svg: &str, (title, text): (&str, &str)) -> String {
    let escape = |text: &str| {
        let printable: String = text.chars().filter(|c| !c.is_control()).collect();
        printable.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
    };
    let title = escape(title);
    let text = escape(text);
    let head = format!("\n<title>{title}</title>\n<desc>{text}</desc>\n");
    match svg.find("<svg").and_then(|start| svg[start..].find('>').map(|end| start + end + 1)) {
        Some(end) => format!("{}{head}{}", &svg[..end], svg[end..].trim_start()),
        None => svg.to_owned(),
    }
}

fn rasterise(svg: &str) -> Result<Vec<u8>, Failure> {
    let failed = |why: String| Failure::Runtime(format!("failed to draw the picture: {why}"));
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(REGULAR.to_vec());
    fonts.load_font_data(BOLD.to_vec());
    let options = usvg::Options { fontdb: Arc::new(fonts), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| failed(error.to_string()))?;
    let size = tree.size();
    let pixels = |length: f32| (length * PNG_SCALE).round() as u32;
    let mut picture = tiny_skia::Pixmap::new(pixels(size.width()), pixels(size.height()))
        .ok_or_else(|| failed("it has no size".to_owned()))?;
    let scale = tiny_skia::Transform::from_scale(PNG_SCALE, PNG_SCALE);
    resvg::render(&tree, scale, &mut picture.as_mut());
    picture.encode_png().map_err(|error| failed(error.to_string()))
}
