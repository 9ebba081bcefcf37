//! Draws what is inside a panel.

use plotters::prelude::{
    Circle, DashedLineSeries, FontStyle, LineSeries, PathElement, Polygon, Rectangle, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, RGBColor, ShapeStyle, WHITE};

use super::canvas::{Area, Chart, Drawn, Error, chart, regular, text};
use super::labels::{Rect, Want, beside, place};
use super::marks::draw_mark;
use super::panels::{Band, Bar, Curve, Note, Panel, Place, Stroke};
use super::style::{FAINT, INK, LABEL_PX};

pub(super) const LINE_PX: u32 = 3;
pub(super) const DOT_PX: i32 = 4;
pub(super) const FAINT_DOT_PX: i32 = 2;
pub(super) const MARK_PX: i32 = 7;
const HALO_PX: u32 = 13;
const RING_PX: i32 = 8;
/// From one line of words to the next.
const WORDS_PX: i32 = 18;
/// Between a point and its words, from near to far.
const GAPS_PX: [i32; 7] = [9, 14, 24, 40, 60, 85, 115];
/// Words of points other than the best stay near them.
const NEAR: usize = 3;
/// Words farther away than this are joined to their point by a line.
const LEADER_PX: i32 = 16;
/// Pieces of a curve, to keep words off it.
const PIECE_PX: i32 = 5;
/// What covering a piece of a curve costs, of one that is not solid, and of a pale dot.
const SOLID: i64 = 30;
const BROKEN: i64 = 6;
const PALE: i64 = 2;
/// Many intervals are paler.
const MANY_BANDS: usize = 3;

pub(super) fn pale(color: RGBColor) -> ShapeStyle {
    color.mix(0.25).filled()
}

pub(super) fn halo(color: RGBColor) -> ShapeStyle {
    color.mix(0.35).stroke_width(HALO_PX)
}

pub(super) fn draw_ring(centre: (i32, i32), color: RGBColor, area: &Area<'_>) -> Drawn {
    area.draw(&Circle::new(centre, RING_PX, WHITE.filled()))?;
    area.draw(&Circle::new(centre, RING_PX, INK.stroke_width(2)))?;
    area.draw(&Circle::new(centre, DOT_PX + 1, color.filled()))
}

pub(super) fn draw_panel(panel: &Panel, area: &Area<'_>) -> Drawn {
    let mut chart = chart(&panel.title, &panel.x, &panel.y, area)?;
    for band in &panel.bands {
        draw_band(panel, band, &mut chart)?;
    }
    // What others are held against lies below them.
    for under in [Stroke::Halo, Stroke::Dashed, Stroke::Thin] {
        for curve in panel.curves.iter().filter(|curve| curve.stroke == under) {
            draw_curve(panel, curve, &mut chart)?;
        }
    }
    draw_bars(panel, &mut chart)?;
    let dots = panel.dots.iter().map(|&(color, x, y)| {
        Circle::new((panel.x.coordinate(x), panel.y.coordinate(y)), FAINT_DOT_PX, pale(color))
    });
    chart.draw_series(dots)?;
    for limit in &panel.limits {
        let (x, y) = (&panel.x, &panel.y);
        let ends = match limit.at {
            Place::X(at) => [(at, y.range.0), (at, y.range.1)],
            Place::Y(at) => [(x.range.0, at), (x.range.1, at)],
        };
        let ends = ends.map(|(at, up)| (x.within(at), y.within(up)));
        chart.draw_series([PathElement::new(ends, INK.stroke_width(1))])?;
    }
    for over in [Stroke::Plain, Stroke::Dotted, Stroke::Bar] {
        for curve in panel.curves.iter().filter(|curve| curve.stroke == over) {
            draw_curve(panel, curve, &mut chart)?;
        }
    }
    let area = chart.plotting_area().strip_coord_spec();
    for mark in &panel.marks {
        let centre = pixel(panel, &chart, (mark.x, mark.y));
        draw_mark((mark.shape, mark.color), MARK_PX, centre, &area)?;
    }
    draw_key(panel, &area)?;
    draw_words(panel, &chart, &area)
}

/// Where a point is, in pixels of the plotting area.
fn pixel(panel: &Panel, chart: &Chart<'_, '_>, (x, y): (f64, f64)) -> (i32, i32) {
    let at = (panel.x.within(x), panel.y.within(y));
    let (x, y) = chart.plotting_area().map_coordinate(&at);
    let origin = chart.plotting_area().strip_coord_spec().get_base_pixel();
    (x - origin.0, y - origin.1)
}

fn draw_curve(panel: &Panel, curve: &Curve, chart: &mut Chart<'_, '_>) -> Drawn {
    let points: Vec<(f64, f64)> =
        curve.points.iter().map(|&(x, y)| (panel.x.coordinate(x), panel.y.coordinate(y))).collect();
    let color = curve.color;
    match curve.stroke {
        Stroke::Dashed => {
            chart.draw_series(DashedLineSeries::new(points, 7, 4, color.stroke_width(2)))?;
        }
        Stroke::Thin => {
            let thin = color.mix(0.7).stroke_width(1);
            chart.draw_series(DashedLineSeries::new(points, 4, 4, thin))?;
        }
        Stroke::Plain => {
            chart.draw_series(LineSeries::new(points, color.stroke_width(LINE_PX)))?;
        }
        Stroke::Bar => {
            chart.draw_series(LineSeries::new(points, INK.stroke_width(2)))?;
        }
        Stroke::Halo => {
            chart.draw_series(LineSeries::new(points, halo(color)))?;
        }
        Stroke::Dotted => {
            chart.draw_series(LineSeries::new(points.clone(), color.stroke_width(LINE_PX)))?;
            chart.draw_series(points.iter().map(|at| Circle::new(*at, DOT_PX, color.filled())))?;
        }
    }
    Ok(())
}

fn draw_band(panel: &Panel, band: &Band, chart: &mut Chart<'_, '_>) -> Drawn {
    let end = |x: f64, y: f64| (panel.x.within(x), panel.y.within(y));
    let lower = band.points.iter().map(|&(x, low, _)| end(x, low));
    let upper = band.points.iter().rev().map(|&(x, _, high)| end(x, high));
    let corners: Vec<(f64, f64)> = lower.chain(upper).collect();
    let share = if panel.bands.len() > MANY_BANDS { 0.1 } else { 0.2 };
    chart.draw_series([Polygon::new(corners, band.color.mix(share).filled())])?;
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
fn draw_key(panel: &Panel, area: &Area<'_>) -> Drawn {
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

/// Rings around the best, names of limits and words beside points.
fn draw_words(panel: &Panel, chart: &Chart<'_, '_>, area: &Area<'_>) -> Drawn {
    let (width, height) = area.dim_in_pixel();
    let bounds = Rect { left: 2, top: 2, right: width as i32 - 2, bottom: height as i32 - 2 };
    for note in panel.notes.iter().filter(|note| note.best) {
        draw_ring(pixel(panel, chart, note.at), note.color, area)?;
    }
    let mut wants = Vec::new();
    for limit in &panel.limits {
        let size =
            (area.estimate_text_size(&limit.name, &regular(LABEL_PX, FAINT))?.0 as i32 + 6, 18);
        wants.push(Want { places: along(limit.at, size, panel, chart, bounds), needed: true });
    }
    let notes: Vec<&Note> = panel.notes.iter().filter(|note| !note.lines.is_empty()).collect();
    for note in &notes {
        let size = note_size(note, area)?;
        let gaps = if note.best { &GAPS_PX[..] } else { &GAPS_PX[..NEAR] };
        let places = beside(pixel(panel, chart, note.at), size, gaps);
        wants.push(Want { places, needed: note.best });
    }
    let placed = place(&wants, &busy(panel, chart), bounds);
    let (names, words) = placed.split_at(panel.limits.len());
    for (limit, rect) in panel.limits.iter().zip(names) {
        if let Some(rect) = rect {
            let label = regular(LABEL_PX, FAINT);
            draw_lines(&[limit.name.as_str()], *rect, &[label], area)?;
        }
    }
    for (note, rect) in notes.iter().zip(words) {
        let Some(rect) = rect else { continue };
        let at = pixel(panel, chart, note.at);
        let end = rect.nearest(at);
        let away = (end.0 - at.0).abs().max((end.1 - at.1).abs());
        if away > LEADER_PX {
            area.draw(&PathElement::new([at, end], INK.stroke_width(1)))?;
            if note.best {
                draw_ring(at, note.color, area)?;
            }
        }
        let bold = text(LABEL_PX, FontStyle::Bold, if note.best { INK } else { note.color });
        let lines: Vec<&str> = note.lines.iter().map(String::as_str).collect();
        draw_lines(&lines, *rect, &[bold, regular(LABEL_PX, INK)], area)?;
    }
    Ok(())
}

fn note_size(note: &Note, area: &Area<'_>) -> Result<(i32, i32), Error> {
    let bold = text(LABEL_PX, FontStyle::Bold, INK);
    let mut width = 0;
    for line in &note.lines {
        width = width.max(area.estimate_text_size(line, &bold)?.0 as i32);
    }
    Ok((width + 6, WORDS_PX * note.lines.len() as i32))
}

/// Draws lines of words on a patch that hides most of what is below; the first line has the first style.
fn draw_lines(
    lines: &[&str],
    rect: Rect,
    styles: &[plotters::style::TextStyle<'_>],
    area: &Area<'_>,
) -> Drawn {
    let corners = [(rect.left, rect.top), (rect.right, rect.bottom)];
    area.draw(&Rectangle::new(corners, WHITE.mix(0.8).filled()))?;
    for (index, line) in lines.iter().enumerate() {
        let Some(style) = styles.get(index).or(styles.last()) else { continue };
        let at = (rect.left + 3, rect.top + WORDS_PX * index as i32 + WORDS_PX / 2);
        let style = style.clone().pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(*line, at, style))?;
    }
    Ok(())
}

/// Where the name of a limit may be: along its line, on one side or the other.
fn along(
    limit: Place,
    (width, height): (i32, i32),
    panel: &Panel,
    chart: &Chart<'_, '_>,
    bounds: Rect,
) -> Vec<Rect> {
    let at = |left: i32, top: i32| Rect { left, top, right: left + width, bottom: top + height };
    let parts = 0..=8;
    match limit {
        Place::X(value) => {
            let x = pixel(panel, chart, (value, panel.y.range.0)).0;
            let down = bounds.bottom - bounds.top - height;
            let tops = parts.map(|part| bounds.top + down * part / 8);
            tops.flat_map(|top| [at(x + 3, top), at(x - 3 - width, top)]).collect()
        }
        Place::Y(value) => {
            let y = pixel(panel, chart, (panel.x.range.0, value)).1;
            let across = bounds.right - bounds.left - width;
            let lefts = parts.rev().map(|part| bounds.left + across * part / 8);
            lefts.flat_map(|left| [at(left, y - 1 - height), at(left, y + 1)]).collect()
        }
    }
}

/// What words should not cover.
fn busy(panel: &Panel, chart: &Chart<'_, '_>) -> Vec<(Rect, i64)> {
    let mut busy = Vec::new();
    for curve in &panel.curves {
        let weight = match curve.stroke {
            Stroke::Dotted | Stroke::Plain | Stroke::Bar => SOLID,
            Stroke::Dashed | Stroke::Thin => BROKEN,
            Stroke::Halo => continue,
        };
        let points: Vec<(i32, i32)> =
            curve.points.iter().map(|at| pixel(panel, chart, *at)).collect();
        busy.extend(points.iter().map(|at| (Rect::around(*at, DOT_PX + 1), weight)));
        for pair in points.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            let pieces = (to.0 - from.0).abs().max((to.1 - from.1).abs()) / PIECE_PX;
            busy.extend((1..pieces).map(|piece| {
                let part = |from: i32, to: i32| from + (to - from) * piece / pieces;
                (Rect::around((part(from.0, to.0), part(from.1, to.1)), 3), weight)
            }));
        }
    }
    for limit in &panel.limits {
        let (x, y) = (panel.x.range, panel.y.range);
        let ends = match limit.at {
            Place::X(at) => [(at, y.1), (at, y.0)],
            Place::Y(at) => [(x.0, at), (x.1, at)],
        };
        let [from, to] = ends.map(|end| pixel(panel, chart, end));
        busy.push((Rect { left: from.0, top: from.1, right: to.0 + 1, bottom: to.1 + 1 }, SOLID));
    }
    for &(_, x, y) in &panel.dots {
        busy.push((Rect::around(pixel(panel, chart, (x, y)), FAINT_DOT_PX), PALE));
    }
    for mark in &panel.marks {
        busy.push((Rect::around(pixel(panel, chart, (mark.x, mark.y)), MARK_PX + 2), SOLID));
    }
    for note in panel.notes.iter().filter(|note| note.best) {
        busy.push((Rect::around(pixel(panel, chart, note.at), RING_PX + 1), SOLID));
    }
    busy
}
