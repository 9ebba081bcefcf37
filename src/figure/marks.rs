//! Marks of published points.

use plotters::prelude::{Circle, EmptyElement, Polygon};
use plotters::style::{Color, RGBColor, WHITE};

use super::canvas::{Area, Drawn};

/// What tells marks apart besides colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Circle,
    Square,
    Triangle,
    Diamond,
    TriangleDown,
    Pentagon,
    Bow,
}

/// All shapes. Their number and that of the colours have no common factor, so that many families differ
/// in one or the other.
pub(super) const SHAPES: [Shape; 7] = [
    Shape::Circle,
    Shape::Square,
    Shape::Triangle,
    Shape::Diamond,
    Shape::TriangleDown,
    Shape::Pentagon,
    Shape::Bow,
];

pub(super) type Look = (Shape, RGBColor);

/// A mark with a white rim, so that it stands out from its neighbours.
pub(super) fn draw_mark(
    (shape, color): Look,
    size: i32,
    centre: (i32, i32),
    area: &Area<'_>,
) -> Drawn {
    for (size, style) in [(size + 1, WHITE.filled()), (size, color.filled())] {
        let polygon = |corners: &[(i32, i32)]| {
            area.draw(&(EmptyElement::at(centre) + Polygon::new(corners.to_vec(), style)))
        };
        let s = size;
        match shape {
            Shape::Circle => area.draw(&Circle::new(centre, s, style))?,
            Shape::Square => {
                let s = s - 1;
                polygon(&[(-s, -s), (s, -s), (s, s), (-s, s)])?;
            }
            Shape::Triangle => polygon(&[(0, -s - 1), (s + 1, s), (-s - 1, s)])?,
            Shape::Diamond => polygon(&[(0, -s - 2), (s + 1, 0), (0, s + 2), (-s - 1, 0)])?,
            Shape::TriangleDown => polygon(&[(0, s + 1), (s + 1, -s), (-s - 1, -s)])?,
            Shape::Pentagon => {
                polygon(&[(0, -s - 1), (s + 1, -1), (s - 2, s), (2 - s, s), (-s - 1, -1)])?
            }
            Shape::Bow => polygon(&[(-s, -s), (s, s), (s, -s), (-s, s)])?,
        }
    }
    Ok(())
}
