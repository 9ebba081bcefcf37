//! Colours, sizes and fonts of figures.

use plotters::style::RGBColor;

/// The embedded font first, then what a viewer of an SVG is likely to have.
pub(super) const FAMILY: &str = "Roboto, Helvetica, Arial, sans-serif";

/// The palette of Okabe and Ito ("Color Universal Design", 2008), which colour-blind people can
/// tell apart; then two more for figures with many curves.
pub(super) const CURVES: [RGBColor; 9] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
    RGBColor(117, 70, 160),
    RGBColor(140, 86, 75),
];

pub(super) const COMPUTE: RGBColor = RGBColor(0, 114, 178);
pub(super) const EXPOSED: RGBColor = RGBColor(230, 159, 0);
pub(super) const STRAGGLER: RGBColor = RGBColor(204, 121, 167);
pub(super) const INPUT: RGBColor = RGBColor(0, 158, 115);

/// Published points, where there is one curve.
pub(super) const PUBLISHED: RGBColor = RGBColor(213, 94, 0);

pub(super) const INK: RGBColor = RGBColor(34, 34, 34);
pub(super) const FAINT: RGBColor = RGBColor(110, 110, 110);
pub(super) const GRID: RGBColor = RGBColor(228, 228, 228);
pub(super) const IDEAL: RGBColor = RGBColor(150, 150, 150);

pub(super) const TITLE_PX: u32 = 26;
pub(super) const SUBTITLE_PX: u32 = 14;
pub(super) const PANEL_TITLE_PX: u32 = 17;
pub(super) const LABEL_PX: u32 = 14;

/// The colour of the curve at `index`; after the last the first comes again.
pub(super) const fn curve(index: usize) -> RGBColor {
    CURVES[index % CURVES.len()]
}
