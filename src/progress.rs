//! A progress bar on a terminal, and nothing elsewhere.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar of `count` steps of `what`.
pub(crate) fn bar(count: usize, what: &'static str) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(count as u64), target);
    let template = "{msg} {wide_bar} {pos}/{len} {elapsed}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}

/// Steps of a bar of something that is only known as a share.
pub(crate) const PARTS: usize = 1000;

/// The place of a share, from 0 to 1, on a bar of [`PARTS`].
pub(crate) fn part(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * PARTS as f64) as u64
}

/// Makes `bar` show how long it will take yet.
pub(crate) fn show_rate(bar: &ProgressBar) {
    let template = "{wide_bar} {pos}/{len} {msg}, {elapsed} gone, {eta} to go";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}
