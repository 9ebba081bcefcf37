//! The figure of what keeps points from perfect scaling: a waterfall each, from the time of a
//! global batch with perfect scaling to the forecast.

use plotters::prelude::{FontStyle, IntoDrawingArea, PathElement, Rectangle, SVGBackend, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, RGBColor, TextStyle, WHITE};

use super::axis::round_ticks;
use super::canvas::{
    Area, Drawn, Error, LEGEND_LINE_PX, MARGIN, draw_titles, fitted, regular, text,
};
use super::style::{
    CURVES, FAINT, GRID, IDEAL, INK, LABEL_PX, PANEL_TITLE_PX, SUBTITLE_PX, TITLE_PX,
};
use super::{COLUMNS, WIDTH};
use crate::table::thousands;

/// From perfect scaling to the forecast, for one point.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Waterfall {
    /// Such as "64 accelerators".
    pub(crate) title: String,
    /// What one global batch takes with perfect scaling.
    pub(crate) perfect_ms: f64,
    pub(crate) perfect_images_per_s: f64,
    /// What each part adds, in milliseconds.
    pub(crate) parts: Vec<(String, f64)>,
    /// What one global batch takes.
    pub(crate) ms: f64,
    pub(crate) images_per_s: f64,
}

const FASTER: RGBColor = CURVES[2];
const SLOWER: RGBColor = CURVES[1];
const FORECAST: RGBColor = CURVES[0];

const LEGEND_AT: i32 = 92;
const HEADER_PX: u32 = 92 + LEGEND_LINE_PX;
/// Above the bars: the panel's title and the headings of the numbers.
const PANEL_HEAD_PX: i32 = 66;
/// Below the bars: the ticks, the axis's title and some room.
const PANEL_FOOT_PX: i32 = 62;
const ROW_PX: i32 = 24;
/// The first and the last row have two lines of text.
const END_ROW_PX: i32 = 40;
const BAR_PX: i32 = 14;
const GAP_PX: i32 = 12;
/// Longer names of parts are cut.
const NAME_PX: i32 = 200;
/// More ticks than this crowd the axis.
const TICKS_MAX: f64 = 5.0;
/// Parts are worth a closer look where together they move the bars by less than this share.
const CUT_BELOW: f64 = 0.6;
/// A rest below this, in percent of the perfect step, is rounding.
const ROUNDING: f64 = 0.05;
/// Percent beyond this no forecast has.
const DRAWN_MAX: f64 = 1e9;

/// A row of a panel; `from` and `to` are in percent of the perfect step.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    name: String,
    /// A second line: the throughput.
    below: Option<String>,
    from: f64,
    to: f64,
    color: RGBColor,
    ms: String,
    percent: String,
}

impl Row {
    /// The first row and the last, whose bars begin at zero.
    fn is_whole(&self) -> bool {
        self.below.is_some()
    }

    fn height_px(&self) -> i32 {
        if self.is_whole() { END_ROW_PX } else { ROW_PX }
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Panel {
    title: String,
    rows: Vec<Row>,
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    title: String,
    subtitle: String,
    panels: Vec<Panel>,
    /// The ends of all panels' axes in percent; whole bars are cut where this is not from zero.
    range: (f64, f64),
    ticks: Vec<f64>,
}

impl Plan {
    /// Nothing where no waterfall has a perfect step.
    pub(super) fn new(title: &str, subtitle: &str, waterfalls: &[Waterfall]) -> Option<Self> {
        let panels: Vec<Panel> = waterfalls.iter().filter_map(panel).collect();
        let levels = || panels.iter().flat_map(|panel| &panel.rows).map(|row| row.to);
        let (low, high) = levels()
            .fold((100.0, 100.0), |(low, high): (f64, f64), to| (low.min(to), high.max(to)));
        let span = high - low;
        let cut = span > 0.0 && span < CUT_BELOW * low;
        let start = if cut { low - 0.35 * span } else { low.min(0.0) };
        let range = (start, high + 0.03 * (high - start));
        (!panels.is_empty()).then(|| Self {
            title: title.to_owned(),
            subtitle: subtitle.to_owned(),
            panels,
            range,
            ticks: round_ticks(range, TICKS_MAX),
        })
    }

    /// Pixels across and down.
    pub(super) fn size(&self) -> (u32, u32) {
        let rows = self.panels.len().div_ceil(self.columns()) as u32;
        (WIDTH, HEADER_PX + rows * self.panel_px())
    }

    /// Title, and description for readers who cannot see the figure.
    pub(super) fn words(&self) -> (&str, &str) {
        (&self.title, &self.subtitle)
    }

    fn columns(&self) -> usize {
        self.panels.len().min(COLUMNS)
    }

    fn panel_px(&self) -> u32 {
        let height = |panel: &Panel| panel.rows.iter().map(Row::height_px).sum::<i32>();
        let rows = self.panels.iter().map(height).max().unwrap_or_default();
        (PANEL_HEAD_PX + rows + PANEL_FOOT_PX) as u32
    }

    fn is_cut(&self) -> bool {
        self.range.0 > 0.0
    }
}

fn panel(waterfall: &Waterfall) -> Option<Panel> {
    let Waterfall { perfect_ms, ms, .. } = *waterfall;
    let percent = |ms: f64| 100.0 * ms / perfect_ms;
    let sum: f64 = waterfall.parts.iter().map(|part| part.1).sum();
    let mut parts = waterfall.parts.clone();
    let rest = ms - perfect_ms - sum;
    if percent(rest).abs() > ROUNDING {
        parts.push(("rest".to_owned(), rest));
    }
    let sizes = parts.iter().map(|part| part.1).chain([perfect_ms, ms]).map(percent);
    if perfect_ms <= 0.0 || !sizes.into_iter().all(|size| size.abs() <= DRAWN_MAX) {
        return None;
    }
    let largest = parts.iter().map(|part| part.1.abs()).fold(0.0, f64::max);
    let ms_digits = match if largest > 0.0 { largest } else { perfect_ms } {
        ms if ms >= 100.0 => 0,
        ms if ms >= 10.0 => 1,
        ms if ms >= 0.1 => 2,
        ms if ms >= 0.01 => 3,
        _ => 4,
    };
    let percent_digits = match percent(largest) {
        percent if percent >= 1000.0 => 0,
        percent if percent > 0.0 && percent < 1.0 => 2,
        _ => 1,
    };
    let in_ms = |ms: f64| number(ms, ms_digits);
    let in_percent = |ms: f64| number(percent(ms), percent_digits) + " %";
    let whole = |name: &str, color: RGBColor, ms: f64, images_per_s: f64| Row {
        name: name.to_owned(),
        below: Some(format!("{} images/s", number(images_per_s, 0))),
        from: 0.0,
        to: percent(ms),
        color,
        ms: in_ms(ms),
        percent: in_percent(ms),
    };
    let mut rows =
        vec![whole("perfect scaling", IDEAL, perfect_ms, waterfall.perfect_images_per_s)];
    let mut at = 100.0;
    for (name, ms) in parts {
        let from = at;
        at += percent(ms);
        rows.push(Row {
            name,
            below: None,
            from,
            to: at,
            color: if ms < 0.0 { FASTER } else { SLOWER },
            ms: signed(in_ms(ms)),
            percent: signed(in_percent(ms)),
        });
    }
    rows.push(whole("forecast", FORECAST, ms, waterfall.images_per_s));
    let reached = 100.0 * waterfall.images_per_s / waterfall.perfect_images_per_s;
    let title = if (0.0..=DRAWN_MAX).contains(&reached) {
        format!("{}: {reached:.1} % of perfect scaling", waterfall.title)
    } else {
        waterfall.title.clone()
    };
    Some(Panel { title, rows })
}

/// A number as people write it, without a minus before what is rounded to zero.
fn number(value: f64, decimals: usize) -> String {
    let text = thousands(value, decimals);
    if is_zero(&text) { text.trim_start_matches('-').to_owned() } else { text }
}

fn is_zero(text: &str) -> bool {
    !text.contains(|letter| matches!(letter, '1'..='9'))
}

/// With the sign of what is added.
fn signed(text: String) -> String {
    if text.starts_with('-') || is_zero(&text) { text } else { format!("+{text}") }
}

pub(super) fn draw(plan: &Plan, backend: SVGBackend<'_>) -> Drawn {
    let root = backend.into_drawing_area();
    root.fill(&WHITE)?;
    let width = WIDTH as i32 - 2 * MARGIN;
    let (bold, small) = (text(TITLE_PX, FontStyle::Bold, INK), regular(SUBTITLE_PX, FAINT));
    let title = fitted(&plan.title, &bold, width, &root)?;
    draw_titles(&title, &fitted(&plan.subtitle, &small, width, &root)?, &root)?;
    draw_legend(plan, &root)?;
    let (_, body) = root.split_vertically(HEADER_PX);
    let columns = Columns::new(plan, &body)?;
    let rows = plan.panels.len().div_ceil(plan.columns());
    for (panel, area) in plan.panels.iter().zip(body.split_evenly((rows, plan.columns()))) {
        draw_panel(plan, panel, &columns, &area)?;
    }
    root.present()
}

fn draw_legend(plan: &Plan, area: &Area<'_>) -> Drawn {
    let label = anchored(LABEL_PX, INK, HPos::Left);
    let rows = || plan.panels.iter().flat_map(|panel| &panel.rows);
    let entries = [
        (IDEAL, "perfect scaling"),
        (SLOWER, "takes longer"),
        (FASTER, "takes less"),
        (FORECAST, "forecast"),
    ];
    let mut x = MARGIN;
    for (color, name) in entries.into_iter().filter(|(color, _)| rows().any(|r| r.color == *color))
    {
        let corners = [(x, LEGEND_AT - 7), (x + 14, LEGEND_AT + 7)];
        area.draw(&Rectangle::new(corners, color.filled()))?;
        area.draw(&Text::new(name, (x + 22, LEGEND_AT), label.clone()))?;
        x += 22 + area.estimate_text_size(name, &label)?.0 as i32 + 26;
    }
    if plan.is_cut() {
        draw_bar(IDEAL, (x, x + 34), LEGEND_AT, area)?;
        draw_cut(x, LEGEND_AT, area)?;
        area.draw(&Text::new("begins at zero, cut here", (x + 42, LEGEND_AT), label))?;
    }
    Ok(())
}

fn anchored(size_px: u32, color: RGBColor, to: HPos) -> TextStyle<'static> {
    regular(size_px, color).pos(Pos::new(to, VPos::Center))
}

/// Where names end, bars are, and numbers end, in a panel's pixels.
struct Columns {
    names: i32,
    bars: (i32, i32),
    ms: i32,
    percent: i32,
}

const MS_HEADING: &str = "ms";
const PERCENT_HEADING: &str = "of perfect";

impl Columns {
    fn new(plan: &Plan, area: &Area<'_>) -> Result<Self, Error> {
        let style = text(LABEL_PX, FontStyle::Bold, INK);
        let width = |text: &str| -> Result<i32, Error> {
            Ok(area.estimate_text_size(text, &style)?.0 as i32)
        };
        let (mut names, mut ms, mut percent) = (0, width(MS_HEADING)?, width(PERCENT_HEADING)?);
        for row in plan.panels.iter().flat_map(|panel| &panel.rows) {
            let name = width(&row.name)?.max(width(row.below.as_deref().unwrap_or_default())?);
            names = names.max(name);
            ms = ms.max(width(&row.ms)?);
            percent = percent.max(width(&row.percent)?);
        }
        let names = MARGIN + names.min(NAME_PX);
        let right = WIDTH as i32 / plan.columns() as i32 - MARGIN;
        let before = right - percent - GAP_PX;
        let bars = (names + GAP_PX, before - ms - GAP_PX - 4);
        Ok(Self { names, bars, ms: before, percent: right })
    }
}

fn draw_panel(plan: &Plan, panel: &Panel, columns: &Columns, area: &Area<'_>) -> Drawn {
    let bold = text(PANEL_TITLE_PX, FontStyle::Bold, INK);
    let title = fitted(&panel.title, &bold, columns.percent - MARGIN, area)?;
    area.draw(&Text::new(title, (MARGIN, 16), bold))?;
    let heading = anchored(LABEL_PX, FAINT, HPos::Right);
    for (at, name) in [(columns.ms, MS_HEADING), (columns.percent, PERCENT_HEADING)] {
        area.draw(&Text::new(name, (at, PANEL_HEAD_PX - 12), heading.clone()))?;
    }
    let height: i32 = panel.rows.iter().map(Row::height_px).sum();
    let (left, right) = columns.bars;
    let across = |percent: f64| {
        let share = (percent - plan.range.0) / (plan.range.1 - plan.range.0);
        left + (share.clamp(0.0, 1.0) * f64::from(right - left)).round() as i32
    };
    draw_axis(plan, across, columns, PANEL_HEAD_PX + height, area)?;
    let mut top = PANEL_HEAD_PX;
    let mut above: Option<i32> = None;
    for row in &panel.rows {
        let middle = top + row.height_px() / 2;
        let (from, to) =
            (across(row.from).min(across(row.to)), across(row.from).max(across(row.to)));
        if let Some(above) = above {
            // Where the bar above ends, this one begins.
            let x = if row.is_whole() { across(row.to) } else { across(row.from) };
            let ends = [(x, above + BAR_PX / 2), (x, middle - BAR_PX / 2)];
            area.draw(&PathElement::new(ends, FAINT.stroke_width(1)))?;
        }
        draw_bar(row.color, (from, to.max(from + 2)), middle, area)?;
        if row.is_whole() && plan.is_cut() {
            draw_cut(from, middle, area)?;
        }
        draw_words(row, columns, middle, area)?;
        above = Some(middle);
        top += row.height_px();
    }
    Ok(())
}

fn draw_axis(
    plan: &Plan,
    across: impl Fn(f64) -> i32,
    columns: &Columns,
    bottom: i32,
    area: &Area<'_>,
) -> Drawn {
    let label = regular(LABEL_PX, INK).pos(Pos::new(HPos::Center, VPos::Top));
    for tick in &plan.ticks {
        let x = across(*tick);
        let ends = [(x, PANEL_HEAD_PX), (x, bottom)];
        area.draw(&PathElement::new(ends, GRID.stroke_width(1)))?;
        let digits = if plan.ticks.iter().all(|tick| tick.fract() == 0.0) { 0 } else { 1 };
        let name = format!("{} %", thousands(*tick, digits));
        area.draw(&Text::new(name, (x, bottom + 6), label.clone()))?;
    }
    let ends = [(columns.bars.0, bottom), (columns.bars.1, bottom)];
    area.draw(&PathElement::new(ends, FAINT.stroke_width(1)))?;
    // Perfect scaling, for all rows to be seen against.
    let ends = [(across(100.0), PANEL_HEAD_PX), (across(100.0), bottom)];
    area.draw(&PathElement::new(ends, IDEAL.stroke_width(1)))?;
    let middle = (columns.bars.0 + columns.bars.1) / 2;
    let title = "time of a global batch, perfect scaling = 100 %";
    let style = regular(LABEL_PX, FAINT).pos(Pos::new(HPos::Center, VPos::Top));
    area.draw(&Text::new(title, (middle, bottom + 26), style))
}

fn draw_bar(color: RGBColor, (from, to): (i32, i32), middle: i32, area: &Area<'_>) -> Drawn {
    let corners = [(from, middle - BAR_PX / 2), (to, middle + BAR_PX / 2)];
    area.draw(&Rectangle::new(corners, color.filled()))
}

/// A white zigzag near the left end of a bar.
fn draw_cut(left: i32, middle: i32, area: &Area<'_>) -> Drawn {
    let top = middle - BAR_PX / 2 - 1;
    let corners = (0..=4).map(|index| (left + 8 + 5 * (index % 2), top + 4 * index));
    area.draw(&PathElement::new(corners.collect::<Vec<_>>(), WHITE.stroke_width(3)))
}

fn draw_words(row: &Row, columns: &Columns, middle: i32, area: &Area<'_>) -> Drawn {
    let style = if row.is_whole() { FontStyle::Bold } else { FontStyle::Normal };
    let label = text(LABEL_PX, style, INK).pos(Pos::new(HPos::Right, VPos::Center));
    let name = fitted(&row.name, &label, columns.names - MARGIN, area)?;
    let lift = if row.is_whole() { 9 } else { 0 };
    area.draw(&Text::new(name, (columns.names, middle - lift), label.clone()))?;
    if let Some(below) = &row.below {
        let small = anchored(LABEL_PX, FAINT, HPos::Right);
        let below = fitted(below, &small, columns.names - MARGIN, area)?;
        area.draw(&Text::new(below, (columns.names, middle + lift), small))?;
    }
    area.draw(&Text::new(row.ms.as_str(), (columns.ms, middle), label.clone()))?;
    area.draw(&Text::new(row.percent.as_str(), (columns.percent, middle), label))
}

#[cfg(test)]
#[path = "waterfall_tests.rs"]
mod tests;
