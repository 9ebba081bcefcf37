//! Draws a [`Figure`] with plotters.

use std::ops::Range;

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::prelude::{
    Cartesian2d, Circle, DashedLineSeries, DrawingArea, DrawingAreaErrorKind, DrawingBackend,
    EmptyElement, FontFamily, FontStyle, IntoDrawingArea, IntoFont, LineSeries, PathElement,
    Polygon, Ranged, Rectangle, SVGBackend, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, RGBColor, ShapeStyle, TextStyle, WHITE};

use super::axis::Axis;
use super::panels::{Bar, Curve, Figure, Panel, Sign};
use super::style::{FAINT, FAMILY, GRID, INK, LABEL_PX, PANEL_TITLE_PX, SUBTITLE_PX, TITLE_PX};
use super::{COLUMNS, HEADER_PX};

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Coordinates = Cartesian2d<Ticked, Ticked>;
pub(super) type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Coordinates>;
pub(super) type Error = DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>;
pub(super) type Drawn = Result<(), Error>;

pub(super) const MARGIN: i32 = 28;
pub(super) const LEGEND_LINE_PX: u32 = 22;
pub(super) const LEGEND_SIGN_PX: i32 = 26;
const LINE_PX: u32 = 3;
const DOT_PX: i32 = 4;
const MARK_PX: i32 = 8;

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

pub(super) fn draw(figure: &Figure, backend: SVGBackend<'_>) -> Drawn {
    let root = backend.into_drawing_area();
    root.fill(&WHITE)?;
    let lines = draw_header(figure, &root)?;
    let (_, body) = root.split_vertically(HEADER_PX + LEGEND_LINE_PX * (lines - 1));
    for (panel, area) in figure
        .panels
        .iter()
        .zip(body.split_evenly((figure.panels.len().div_ceil(COLUMNS), COLUMNS)))
    {
        draw_panel(panel, &area)?;
    }
    root.present()
}

/// Draws title and legend, and says how many lines the legend has.
fn draw_header(figure: &Figure, area: &Area<'_>) -> Result<u32, Error> {
    draw_titles(&figure.title, &figure.subtitle, area)?;
    let label = regular(LABEL_PX, INK);
    let (right, mut at) = (area.dim_in_pixel().0 as i32 - MARGIN, (MARGIN, 90));
    let mut lines = 1;
    for (sign, color, name) in &figure.legend {
        let (width, _) = area.estimate_text_size(name, &label)?;
        if at.0 + LEGEND_SIGN_PX + 8 + width as i32 > right {
            at = (MARGIN, at.1 + LEGEND_LINE_PX as i32);
            lines += 1;
        }
        draw_sign(area, *sign, *color, at)?;
        let place = (at.0 + LEGEND_SIGN_PX + 8, at.1);
        let left = label.clone().pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(name.as_str(), place, left))?;
        at.0 = place.0 + width as i32 + 26;
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

/// Draws a figure's title and subtitle.
pub(super) fn draw_titles(title: &str, subtitle: &str, area: &Area<'_>) -> Drawn {
    area.draw(&Text::new(title, (MARGIN, 22), text(TITLE_PX, FontStyle::Bold, INK)))?;
    area.draw(&Text::new(subtitle, (MARGIN, 56), regular(SUBTITLE_PX, FAINT)))
}

fn draw_sign(area: &Area<'_>, sign: Sign, color: RGBColor, (x, y): (i32, i32)) -> Drawn {
    let line = color.stroke_width(LINE_PX);
    match sign {
        Sign::Line => {
            area.draw(&PathElement::new([(x, y), (x + LEGEND_SIGN_PX, y)], line))?;
            area.draw(&Circle::new((x + LEGEND_SIGN_PX / 2, y), DOT_PX, color.filled()))
        }
        Sign::Dashes => {
            let dashes = [(0, 7), (10, 17), (20, 26)];
            for (from, to) in dashes {
                let style = color.stroke_width(2);
                area.draw(&PathElement::new([(x + from, y), (x + to, y)], style))?;
            }
            Ok(())
        }
        Sign::Mark => {
            let centre = EmptyElement::at((x + LEGEND_SIGN_PX / 2, y));
            let [rim, diamond] = mark(color);
            area.draw(&(centre + rim + diamond))
        }
    }
}

/// A published point: a diamond with a white rim, so that it stands out from the curve.
fn mark(color: RGBColor) -> [Polygon<(i32, i32)>; 2] {
    let diamond = |size: i32, style: ShapeStyle| {
        Polygon::new([(0, -size), (size, 0), (0, size), (-size, 0)], style)
    };
    [diamond(MARK_PX + 2, WHITE.filled()), diamond(MARK_PX, color.filled())]
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

fn draw_panel(panel: &Panel, area: &Area<'_>) -> Drawn {
    let mut chart = chart(&panel.title, &panel.x, &panel.y, area)?;
    draw_bars(panel, &mut chart)?;
    for curve in &panel.curves {
        draw_curve(panel, curve, &mut chart)?;
    }
    for (color, x, y) in &panel.marks {
        let centre = EmptyElement::at((panel.x.coordinate(*x), panel.y.coordinate(*y)));
        let [rim, diamond] = mark(*color);
        chart.draw_series([centre + rim + diamond])?;
    }
    draw_key(panel, &chart)
}

fn draw_curve(panel: &Panel, curve: &Curve, chart: &mut Chart<'_, '_>) -> Drawn {
    let points: Vec<(f64, f64)> =
        curve.points.iter().map(|&(x, y)| (panel.x.coordinate(x), panel.y.coordinate(y))).collect();
    if curve.dashed {
        let line = curve.color.stroke_width(2);
        chart.draw_series(DashedLineSeries::new(points, 7, 4, line))?;
        return Ok(());
    }
    let line = curve.color.stroke_width(LINE_PX);
    chart.draw_series(LineSeries::new(points.clone(), line))?;
    chart.draw_series(points.iter().map(|at| Circle::new(*at, DOT_PX, curve.color.filled())))?;
    Ok(())
}

fn draw_bars(panel: &Panel, chart: &mut Chart<'_, '_>) -> Drawn {
    let at: Vec<f64> = panel.bars.iter().map(|bar| panel.x.coordinate(bar.at)).collect();
    let gaps = at.windows(2).map(|pair| pair[1] - pair[0]);
    let half = gaps.fold(1.0, f64::min) * 0.32;
    for (Bar { pieces, .. }, at) in panel.bars.iter().zip(at) {
        let mut from = 0.0;
        for (color, height) in pieces {
            let corners = [(at - half, from), (at + half, from + height)];
            chart.draw_series([Rectangle::new(corners, color.filled())])?;
            from += height;
        }
    }
    Ok(())
}

/// The key of colours that only this panel uses, in its upper left corner.
fn draw_key(panel: &Panel, chart: &Chart<'_, '_>) -> Drawn {
    let area = chart.plotting_area().strip_coord_spec();
    let label = regular(LABEL_PX, INK).pos(Pos::new(HPos::Left, VPos::Center));
    let columns = 2;
    for (index, (color, name)) in panel.key.iter().enumerate() {
        let (column, row) = ((index % columns) as i32, (index / columns) as i32);
        let (x, y) = (16 + column * 200, 16 + row * 22);
        let corners = [(x, y - 6), (x + 12, y + 6)];
        area.draw(&Rectangle::new(corners, color.filled()))?;
        area.draw(&Text::new(name.as_str(), (x + 20, y), label.clone()))?;
    }
    Ok(())
}
