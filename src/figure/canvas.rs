//! Draws a [`Figure`] with plotters.

use std::ops::Range;

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::prelude::{
    Cartesian2d, Circle, DrawingArea, DrawingAreaErrorKind, DrawingBackend, FontFamily, FontStyle,
    IntoDrawingArea, IntoFont, PathElement, Ranged, Rectangle, SVGBackend, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, RGBColor, TextStyle, WHITE};

use super::axis::Axis;
use super::contents::{DOT_PX, FAINT_DOT_PX, LINE_PX, MARK_PX, draw_panel, draw_ring, halo, pale};
use super::marks::draw_mark;
use super::panels::{Figure, Panel, Sign};
use super::style::{FAINT, FAMILY, GRID, INK, LABEL_PX, PANEL_TITLE_PX, SUBTITLE_PX, TITLE_PX};
use super::{COLUMNS, HEADER_PX, ROW_PX, WIDE_ROW_PX, WIDTH};

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Coordinates = Cartesian2d<Ticked, Ticked>;
pub(super) type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Coordinates>;
pub(super) type Error = DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>;
pub(super) type Drawn = Result<(), Error>;

pub(super) const MARGIN: i32 = 28;
pub(super) const LEGEND_LINE_PX: u32 = 22;
pub(super) const LEGEND_SIGN_PX: i32 = 26;
const TITLE_AT: i32 = 22;
const LEGEND_AT: i32 = 90;
const SUBTITLE_AT: i32 = 56;
const SUBTITLE_LINE_PX: i32 = 19;

/// A linear coordinate with ticks exactly where the axis has them.
pub(super) struct Ticked {
    range: Range<f64>,
    ticks: Vec<f64>,
}

impl Ticked {
    fn new(axis: &Axis) -> Self {
        Self {
            range: axis.coordinate(axis.range.0)..axis.coordinate(axis.range.1),
            ticks: axis.ticks.iter().map(|tick| axis.coordinate(*tick)).collect(),
        }
    }
}

impl Ranged for Ticked {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        limit.0 + (f64::from(limit.1 - limit.0) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

pub(super) fn text(size_px: u32, style: FontStyle, color: RGBColor) -> TextStyle<'static> {
    (FontFamily::Name(FAMILY), size_px, style).into_font().color(&color)
}

pub(super) fn regular(size_px: u32, color: RGBColor) -> TextStyle<'static> {
    text(size_px, FontStyle::Normal, color)
}

/// Pixels down.
pub(super) fn height(figure: &Figure) -> Result<u32, Error> {
    let mut scratch = String::new();
    let area = SVGBackend::with_string(&mut scratch, (WIDTH, HEADER_PX)).into_drawing_area();
    let rows = rows(figure).iter().map(|row| row_px(row)).sum::<u32>();
    Ok(Header::new(figure, &area)?.height_px + rows)
}

pub(super) fn draw(figure: &Figure, backend: SVGBackend<'_>) -> Drawn {
    let root = backend.into_drawing_area();
    root.fill(&WHITE)?;
    let header = Header::new(figure, &root)?;
    header.draw(figure, &root)?;
    let (_, mut body) = root.split_vertically(header.height_px);
    for row in rows(figure) {
        let (here, below) = body.split_vertically(row_px(&row));
        let columns = if is_wide(&row) { 1 } else { COLUMNS };
        for (panel, area) in row.iter().zip(here.split_evenly((1, columns))) {
            draw_panel(panel, &area)?;
        }
        body = below;
    }
    root.present()
}

/// Panels side by side, wide ones by themselves.
fn rows(figure: &Figure) -> Vec<Vec<&Panel>> {
    let mut rows: Vec<Vec<&Panel>> = Vec::new();
    for panel in &figure.panels {
        match rows.last_mut() {
            Some(row) if row.len() < COLUMNS && !panel.wide && !row[0].wide => row.push(panel),
            _ => rows.push(vec![panel]),
        }
    }
    rows
}

fn is_wide(row: &[&Panel]) -> bool {
    row.iter().any(|panel| panel.wide)
}

fn row_px(row: &[&Panel]) -> u32 {
    if is_wide(row) { WIDE_ROW_PX } else { ROW_PX }
}

/// Where title, subtitle and legend are.
struct Header {
    subtitle: Vec<String>,
    /// Where the signs of the legend begin.
    legend: Vec<(i32, i32)>,
    height_px: u32,
}

impl Header {
    fn new(figure: &Figure, area: &Area<'_>) -> Result<Self, Error> {
        let width = WIDTH as i32 - 2 * MARGIN;
        let mut subtitle = Vec::new();
        for line in figure.subtitle.lines() {
            subtitle.extend(wrapped(line, &regular(SUBTITLE_PX, FAINT), width, area)?);
        }
        let below = SUBTITLE_LINE_PX * subtitle.len().saturating_sub(1) as i32;
        let label = regular(LABEL_PX, INK);
        let mut at = (MARGIN, LEGEND_AT + below);
        let mut legend = Vec::new();
        for (_, _, name) in &figure.legend {
            let length = LEGEND_SIGN_PX + 8 + area.estimate_text_size(name, &label)?.0 as i32;
            if at.0 + length > WIDTH as i32 - MARGIN && at.0 > MARGIN {
                at = (MARGIN, at.1 + LEGEND_LINE_PX as i32);
            }
            legend.push(at);
            at.0 += length + 26;
        }
        let more = (at.1 - LEGEND_AT).max(0) as u32;
        Ok(Self { subtitle, legend, height_px: HEADER_PX + more })
    }

    fn draw(&self, figure: &Figure, area: &Area<'_>) -> Drawn {
        area.draw(&Text::new(figure.title.as_str(), (MARGIN, TITLE_AT), title_style()))?;
        let small = regular(SUBTITLE_PX, FAINT);
        for (index, line) in self.subtitle.iter().enumerate() {
            let y = SUBTITLE_AT + SUBTITLE_LINE_PX * index as i32;
            area.draw(&Text::new(line.as_str(), (MARGIN, y), small.clone()))?;
        }
        let label = regular(LABEL_PX, INK).pos(Pos::new(HPos::Left, VPos::Center));
        for ((sign, color, name), at) in figure.legend.iter().zip(&self.legend) {
            draw_sign(area, *sign, *color, *at)?;
            let place = (at.0 + LEGEND_SIGN_PX + 8, at.1);
            area.draw(&Text::new(name.as_str(), place, label.clone()))?;
        }
        Ok(())
    }
}

/// A text in lines that are not wider than `width`, if no word is.
fn wrapped(
    text: &str,
    style: &TextStyle<'_>,
    width: i32,
    area: &Area<'_>,
) -> Result<Vec<String>, Error> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let longer = lines.last().map(|line| format!("{line} {word}"));
        match longer {
            Some(longer) if area.estimate_text_size(&longer, style)?.0 as i32 <= width => {
                lines.pop();
                lines.push(longer);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    Ok(lines)
}

/// A text, cut where it is wider than `width`.
pub(super) fn fitted(
    text: &str,
    style: &TextStyle<'_>,
    width: i32,
    area: &Area<'_>,
) -> Result<String, Error> {
    let mut shown = text.to_owned();
    let mut kept: Vec<char> = text.chars().collect();
    while area.estimate_text_size(&shown, style)?.0 as i32 > width && kept.pop().is_some() {
        shown = kept.iter().collect::<String>().trim_end().to_owned() + "…";
    }
    Ok(shown)
}

fn title_style() -> TextStyle<'static> {
    text(TITLE_PX, FontStyle::Bold, INK)
}

/// Draws a figure's title and subtitle.
pub(super) fn draw_titles(title: &str, subtitle: &str, area: &Area<'_>) -> Drawn {
    area.draw(&Text::new(title, (MARGIN, TITLE_AT), title_style()))?;
    area.draw(&Text::new(subtitle, (MARGIN, SUBTITLE_AT), regular(SUBTITLE_PX, FAINT)))
}

fn draw_sign(area: &Area<'_>, sign: Sign, color: RGBColor, (x, y): (i32, i32)) -> Drawn {
    let line = color.stroke_width(LINE_PX);
    let middle = x + LEGEND_SIGN_PX / 2;
    match sign {
        Sign::Line => {
            area.draw(&PathElement::new([(x, y), (x + LEGEND_SIGN_PX, y)], line))?;
            area.draw(&Circle::new((middle, y), DOT_PX, color.filled()))
        }
        Sign::Dashes => {
            let dashes = [(0, 7), (10, 17), (20, 26)];
            for (from, to) in dashes {
                let style = color.stroke_width(2);
                area.draw(&PathElement::new([(x + from, y), (x + to, y)], style))?;
            }
            Ok(())
        }
        Sign::Mark(shape) => draw_mark((shape, color), MARK_PX, (middle, y), area),
        Sign::Dot => {
            let at = [(middle - 7, y + 3), (middle, y - 3), (middle + 7, y + 2)];
            at.into_iter().try_for_each(|at| area.draw(&Circle::new(at, FAINT_DOT_PX, pale(color))))
        }
        Sign::Halo => area.draw(&PathElement::new([(x, y), (x + LEGEND_SIGN_PX, y)], halo(color))),
        Sign::Ring => draw_ring((middle, y), color, area),
        Sign::Band => {
            let corners = [(x, y - 7), (x + LEGEND_SIGN_PX, y + 7)];
            area.draw(&Rectangle::new(corners, color.mix(0.25).filled()))
        }
    }
}

/// A panel's axes, titles and grid, to draw on.
pub(super) fn chart<'a, 'b>(
    title: &str,
    x: &Axis,
    y: &Axis,
    area: &'a Area<'b>,
) -> Result<Chart<'a, 'b>, Error> {
    let style = text(PANEL_TITLE_PX, FontStyle::Bold, INK);
    let mut chart = ChartBuilder::on(area)
        .margin_left(MARGIN - 12)
        .margin_right(MARGIN)
        .margin_bottom(14)
        .x_label_area_size(50)
        .y_label_area_size(84)
        .caption(title, style)
        .build_cartesian_2d(Ticked::new(x), Ticked::new(y))?;
    chart
        .configure_mesh()
        .bold_line_style(GRID.stroke_width(1))
        .light_line_style(WHITE.mix(0.0))
        .axis_style(FAINT.stroke_width(1))
        .label_style(regular(LABEL_PX, INK))
        .axis_desc_style(regular(LABEL_PX, FAINT))
        .x_desc(x.title.as_str())
        .y_desc(y.title.as_str())
        .x_labels(x.ticks.len())
        .y_labels(y.ticks.len())
        .x_label_formatter(&|at| x.label(*at))
        .y_label_formatter(&|at| y.label(*at))
        .draw()?;
    Ok(chart)
}
