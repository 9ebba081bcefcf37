//! Axes: where the ticks are and how they are written. Curves are drawn in an axis's own
//! coordinates, the logarithm for logarithmic axes.

use foretrain_sim::units::Bytes;

use crate::table::thousands;

/// How a value becomes a coordinate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    Log,
}

/// How a tick is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// 512, 1k, 20k, 1.5M.
    Count,
    Percent,
    Minutes,
    Plain,
    Dollars,
    /// 65,536.
    Whole,
    /// 64 KiB.
    Bytes,
}

/// An axis over the values it must show.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub(super) title: String,
    pub(super) scale: Scale,
    pub(super) style: Style,
    /// The ends, as values.
    pub(super) range: (f64, f64),
    /// The ticks, as values.
    pub(super) ticks: Vec<f64>,
}

/// More ticks than this crowd an axis of a panel.
const TICKS_MAX: usize = 12;

/// Sizes are longer than counts.
const SIZES_MAX: usize = 7;

/// More of them crowd a linear axis.
const LINEAR_MAX: f64 = 9.0;

/// Between the ticks of a panel that is half as wide as the figure, in parts of the axis.
pub(super) const TICK_GAP: f64 = 0.11;

/// Room beside the smallest and the largest count, for half a bar.
const COUNTS_PAD: f64 = 1.3;

impl Axis {
    /// A logarithmic axis with a tick at each of a few given values.
    pub(super) fn counts(title: &str, values: impl Iterator<Item = f64>) -> Self {
        let mut ticks: Vec<f64> = values.filter(|value| *value > 0.0).collect();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        let (low, high) = ends(ticks.iter().copied());
        let every = ticks.len().div_ceil(TICKS_MAX).max(1);
        // Counted from the end, so that the largest cluster has its tick.
        let mut shown: Vec<f64> = ticks.into_iter().rev().step_by(every).collect();
        shown.reverse();
        Self {
            title: title.to_owned(),
            scale: Scale::Log,
            style: Style::Count,
            range: (low / COUNTS_PAD, high * COUNTS_PAD),
            ticks: shown,
        }
    }

    /// A logarithmic axis with ticks at 1, 2 and 5 times powers of ten, or fewer.
    pub(super) fn log(title: &str, style: Style, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = ends(values);
        let range = (low / 1.3, high * 1.3);
        let decades: Vec<f64> = (range.0.log10().floor() as i32..=range.1.log10().ceil() as i32)
            .map(|power| 10_f64.powi(power))
            .collect();
        let within = |steps: &[f64]| -> Vec<f64> {
            let all = decades.iter().flat_map(|decade| steps.iter().map(move |step| decade * step));
            all.filter(|tick| (range.0..=range.1).contains(tick)).collect()
        };
        let every = |tenths: usize| -> Vec<f64> {
            (10..100).step_by(tenths).map(|tenths| f64::from(tenths) / 10.0).collect()
        };
        let (tenth, fifth, half) = (every(1), every(2), every(5));
        let coarse = [&[1.0, 2.0, 3.0, 5.0][..], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]];
        let candidates = [&[&tenth[..], &fifth, &half][..], &coarse].concat();
        let fitting = candidates.into_iter().map(within).find(|ticks| ticks.len() <= 9);
        let ticks = fitting.unwrap_or_else(|| {
            let tens = within(&[1.0]);
            tens.iter().copied().step_by(tens.len().div_ceil(9)).collect()
        });
        Self { title: title.to_owned(), scale: Scale::Log, style, range, ticks }
    }

    /// A logarithmic axis of bytes with ticks at some of the given values.
    pub(super) fn sizes(title: &str, values: impl Iterator<Item = f64>) -> Self {
        let mut axis = Self::counts(title, values);
        axis.style = Style::Bytes;
        let every = axis.ticks.len().div_ceil(SIZES_MAX).max(1);
        let mut ticks: Vec<f64> = axis.ticks.iter().rev().step_by(every).copied().collect();
        ticks.reverse();
        axis.ticks = ticks;
        axis
    }

    /// A logarithmic axis of minutes, with ticks where people put them.
    pub(super) fn minutes(title: &str, values: impl Iterator<Item = f64>) -> Self {
        const HOUR: f64 = 60.0;
        const DAY: f64 = 24.0 * HOUR;
        const TICKS: [f64; 19] = [
            0.1,
            0.2,
            0.5,
            1.0,
            2.0,
            5.0,
            10.0,
            20.0,
            HOUR / 2.0,
            HOUR,
            2.0 * HOUR,
            5.0 * HOUR,
            10.0 * HOUR,
            DAY,
            2.0 * DAY,
            5.0 * DAY,
            10.0 * DAY,
            30.0 * DAY,
            100.0 * DAY,
        ];
        let mut axis = Self::log(title, Style::Minutes, values);
        let inside = TICKS.into_iter().filter(|tick| (axis.range.0..=axis.range.1).contains(tick));
        let inside: Vec<f64> = inside.collect();
        if inside.len() >= 2 {
            axis.ticks = inside;
        }
        axis
    }

    /// A linear axis from zero, with a step of 1, 2, 2.5 or 5 times a power of ten.
    pub(super) fn from_zero(title: &str, style: Style, high: f64) -> Self {
        let high = if (DRAWN_MIN..=DRAWN_MAX).contains(&high) { high } else { 1.0 };
        let power = 10_f64.powf((high / 5.0).log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * power)
            .find(|step| high / step <= 6.0)
            .unwrap_or(high);
        let count = (high / step).floor() as u32;
        Self {
            title: title.to_owned(),
            scale: Scale::Linear,
            style,
            range: (0.0, high),
            ticks: (0..=count).map(|index| f64::from(index) * step).collect(),
        }
    }

    /// A linear axis with some room beside the ends, in parts of the length.
    pub(super) fn linear(title: &str, style: Style, (low, high): (f64, f64), room: f64) -> Self {
        let length = if high > low { high - low } else { (0.02 * high.abs()).max(1e-9) };
        let range = (low - room * length, high + room * length);
        Self {
            title: title.to_owned(),
            scale: Scale::Linear,
            style,
            range,
            ticks: round_ticks(range, LINEAR_MAX),
        }
    }

    /// The axis without ticks that are nearer to the one before than a part of its length, so that
    /// their names do not touch.
    pub(super) fn spaced(mut self, gap: f64) -> Self {
        let length = self.coordinate(self.range.1) - self.coordinate(self.range.0);
        let mut kept: Vec<f64> = Vec::new();
        for tick in &self.ticks {
            let from = |last: &f64| self.coordinate(*tick) - self.coordinate(*last);
            if kept.last().is_none_or(|last| from(last) >= gap * length) {
                kept.push(*tick);
            }
        }
        self.ticks = kept;
        self
    }

    /// A value's coordinate, at the axis's end where it lies beyond.
    pub(super) fn within(&self, value: f64) -> f64 {
        self.coordinate(value.clamp(self.range.0, self.range.1))
    }

    /// A value's coordinate.
    pub(super) fn coordinate(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log2(),
        }
    }

    /// How the tick at a coordinate is written.
    pub(super) fn label(&self, coordinate: f64) -> String {
        let value = match self.scale {
            Scale::Linear => coordinate,
            Scale::Log => coordinate.exp2(),
        };
        match self.style {
            Style::Count => count(value),
            Style::Whole => thousands(value, 0),
            Style::Percent => format!("{} %", (value * 100.0).round() / 100.0),
            Style::Minutes => duration(value),
            Style::Bytes => Bytes::new(value.round() as u64).to_string(),
            Style::Plain => format!("{}", (value * 1000.0).round() / 1000.0),
            Style::Dollars => format!("{} $", thousands(value, if value < 9.995 { 2 } else { 0 })),
        }
    }
}

/// Ticks at multiples of 1, 2 or 5 times a power of ten.
pub(super) fn round_ticks((low, high): (f64, f64), most: f64) -> Vec<f64> {
    let power = 10_f64.powf(((high - low) / most).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let step = step.into_iter().find(|step| (high - low) / step <= most).unwrap_or(high - low);
    let first = (low / step).ceil();
    let count = ((high / step).floor() - first).clamp(0.0, 2.0 * most) as u32;
    (0..=count).map(|index| (first + f64::from(index)) * step).collect()
}

/// Values beyond these are not drawn: no forecast has them.
const DRAWN_MIN: f64 = 1e-12;
const DRAWN_MAX: f64 = 1e18;

fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| (DRAWN_MIN..=DRAWN_MAX).contains(value))
        .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    if low <= high { (low, high) } else { (1.0, 10.0) }
}

/// The time of a tick: whole minutes, hours or days where it is one.
fn duration(minutes: f64) -> String {
    let (value, unit) = match minutes {
        m if m < 0.999 => (m * 60.0, "s"),
        m if m < 59.99 => (m, "min"),
        m if m < 1439.0 => (m / 60.0, "h"),
        m => (m / 1440.0, if m < 1441.0 { "day" } else { "days" }),
    };
    let text = format!("{value:.1}");
    format!("{} {unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// 512, 1k, 20k, 1.5M; powers of two stay as they are.
fn count(value: f64) -> String {
    let rounded = value.round();
    let short = |value: f64, suffix: &str| {
        let text = format!("{:.1}", value);
        format!("{}{suffix}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match rounded {
        v if v < 10_000.0 && (v % 1000.0 != 0.0 || v == 0.0) => format!("{v}"),
        v if v < 1e6 => short(v / 1e3, "k"),
        v => short(v / 1e6, "M"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_short() {
        let texts = [8.0, 2048.0, 1000.0, 20_000.0, 65_536.0, 1.5e6].map(count);
        assert_eq!(texts, ["8", "2048", "1k", "20k", "65.5k", "1.5M"]);
    }

    #[test]
    fn ticks_lie_inside_and_are_few() {
        let axis = Axis::log("", Style::Count, [1500.0, 290_000.0].into_iter());
        assert!(axis.ticks.iter().all(|tick| (axis.range.0..=axis.range.1).contains(tick)));
        assert_eq!(axis.ticks, [2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5]);
        assert_eq!(
            Axis::from_zero("", Style::Plain, 290.0).ticks,
            [0.0, 50.0, 100.0, 150.0, 200.0, 250.0]
        );
        assert_eq!(Axis::counts("", (0..20).map(|i| f64::from(1 << i))).ticks.len(), 10);
    }

    #[test]
    fn durations_are_whole() {
        let texts = [0.5, 5.0, 30.0, 60.0, 300.0, 1440.0, 14_400.0].map(duration);
        assert_eq!(texts, ["30 s", "5 min", "30 min", "1 h", "5 h", "1 day", "10 days"]);
    }

    #[test]
    fn an_axis_of_nothing_is_still_an_axis() {
        assert!(!Axis::log("", Style::Count, std::iter::empty()).ticks.is_empty());
        assert!(!Axis::from_zero("", Style::Plain, f64::NAN).ticks.is_empty());
        let odd = [0.0, f64::INFINITY, f64::NAN, -1.0, 3.0];
        assert_eq!(Axis::log("", Style::Count, odd.into_iter()).ticks.first(), Some(&2.4));
    }
}
