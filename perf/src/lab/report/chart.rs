//! A chart of lines: axes whose ticks are given, whiskers, a legend above. Colours of ink and grid are the style sheet's.

use std::ops::Range;

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, KeyPointWeight, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::element::{DashedPathElement, PathElement};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::look::{FAINT, INK, tick};

/// Of text, in pixels of a chart; plotters asks for a quarter more.
const TEXT: f64 = 15.0 * 1.24;
const LEGEND: u32 = 30;

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Drawn = Result<(), Box<dyn std::error::Error>>;

/// What is along one side, and where it has labels.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub label: String,
    pub range: Range<f64>,
    pub ticks: Vec<(f64, String)>,
}

/// One line of a chart.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub name: String,
    pub color: RGBColor,
    pub is_dashed: bool,
    /// A mark at each point.
    pub has_marks: bool,
    pub points: Vec<(f64, f64)>,
    /// At `x`, from the lowest to the highest.
    pub whiskers: Vec<(f64, f64, f64)>,
}

impl Axis {
    /// From nought.
    pub(super) fn linear(label: &str, most: f64) -> Self {
        let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
        let step = step(most / 5.0);
        let steps = (most / step).ceil().max(1.0);
        let places = (0..=10).map(f64::from).take_while(|n| *n <= steps).map(|n| n * step);
        let ticks = places.map(|at| (at, tick(at))).collect();
        Self { label: label.to_owned(), range: 0.0..steps * step, ticks }
    }

    /// By powers of ten, with 2 and 5 between where there is room for them. Points are of logarithms: see `decades`.
    pub(super) fn logarithmic(label: &str, least: f64, most: f64) -> Self {
        let least = decades(least);
        let bounds = [least, decades(most).max(least + 0.3)];
        let between: &[f64] = if bounds[1] - bounds[0] < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let range = snapped(bounds[0], between, f64::floor, -1)..snapped(bounds[1], between, f64::ceil, 1);
        let whole = range.start.floor() as i32..=range.end.ceil() as i32;
        let ticks = whole.flat_map(|decade| between.iter().map(move |times| times * 10_f64.powi(decade)));
        let inside = |at: &f64| at.log10() > range.start - 1e-6 && at.log10() < range.end + 1e-6;
        let ticks = ticks.filter(inside).map(|at| (at.log10(), tick(at))).collect();
        Self { label: label.to_owned(), range, ticks }
    }

    /// One place for each name, from 0 on.
    pub(super) fn names(label: &str, names: impl IntoIterator<Item = String>) -> Self {
        let ticks: Vec<_> = names.into_iter().enumerate().map(|(place, name)| (place as f64, name)).collect();
        Self { label: label.to_owned(), range: -0.4..ticks.len().max(1) as f64 - 0.6, ticks }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        first + (f64::from(last - first) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let is_of_labels = matches!(hint.weight(), KeyPointWeight::Bold);
        if is_of_labels { self.ticks.iter().map(|tick| tick.0).collect() } else { Vec::new() }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, at: &f64) -> String {
        let nearest = self.ticks.iter().min_by(|a, b| (a.0 - at).abs().total_cmp(&(b.0 - at).abs()));
        nearest.map_or_else(String::new, |tick| tick.1.clone())
    }
}

/// Where a value stands on a logarithmic axis. What is too small or too large to be anything stands at the end.
pub(super) fn decades(value: f64) -> f64 {
    value.clamp(1e-6, 1e12).log10()
}

/// The end of an axis: the next tick outside.
fn snapped(at: f64, between: &[f64], round: fn(f64) -> f64, direction: i32) -> f64 {
    let ticks = (-1..=1)
        .flat_map(|decade| between.iter().map(move |times| (f64::from(decade) + round(at)) + times.log10()));
    let outside = ticks.filter(|tick| (tick - at) * f64::from(direction) >= -1e-9);
    outside.min_by(|a, b| (a - at).abs().total_cmp(&(b - at).abs())).unwrap_or(at + f64::from(direction))
}

/// 1, 2, 2.5 or 5 times a power of ten: the first that is no less.
pub(super) fn step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let fits = |times: &&f64| **times * power >= least * (1.0 - 1e-9);
    [1.0, 2.0, 2.5, 5.0].iter().find(fits).map_or(10.0 * power, |times| times * power)
}

/// The chart as SVG, for a page to hold.
pub(super) fn lines(size: (i32, i32), x: &Axis, y: &Axis, lines: &[Line]) -> anyhow::Result<String> {
    svg(size, |root| {
        let (above, below) = root.split_vertically(LEGEND);
        legend(&above, &lines.iter().map(|line| (line.name.clone(), line.color)).collect::<Vec<_>>())?;
        draw_lines(&below, x, y, lines)
    })
}

/// What is drawn, as SVG without the attribute that is of use outside of HTML alone: a page has no addresses at all.
pub(super) fn svg(size: (i32, i32), draw: impl FnOnce(&Area<'_>) -> Drawn) -> anyhow::Result<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (size.0.cast_unsigned(), size.1.cast_unsigned()))
            .into_drawing_area();
        draw(&root).map_err(|error| anyhow!("cannot draw a chart: {error}"))?;
        root.present().map_err(|error| anyhow!("cannot draw a chart: {error}"))?;
    }
    Ok(text.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1))
}

/// Text of the charts' size at a place of it.
pub(super) fn text(horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    ("sans-serif", TEXT).into_font().color(&INK).pos(Pos::new(horizontal, vertical))
}

/// How wide a label is, about: nothing here knows the reader's font.
pub(super) fn width(label: &str) -> i32 {
    let of_letter = |letter: char| match letter {
        'A'..='Z' => 10,
        '0'..='9' => 8,
        _ => 7,
    };
    label.chars().map(of_letter).sum()
}

/// Names in a row, each after its colour.
pub(super) fn legend(area: &Area<'_>, entries: &[(String, RGBColor)]) -> Drawn {
    let mut x = 24;
    for (name, color) in entries {
        area.draw(&Rectangle::new([(x, 9), (x + 14, 23)], color.filled()))?;
        area.draw(&Text::new(name.as_str(), (x + 20, 16), text(HPos::Left, VPos::Center)))?;
        x += 20 + width(name) + 18;
    }
    Ok(())
}

fn draw_lines(area: &Area<'_>, x: &Axis, y: &Axis, lines: &[Line]) -> Drawn {
    let mut chart = ChartBuilder::on(area);
    let chart = chart.margin(6).margin_right(22).x_label_area_size(50).y_label_area_size(64);
    let mut chart = chart.build_cartesian_2d(x.clone(), y.clone())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(FAINT)
        .label_style(("sans-serif", TEXT).into_font().color(&INK))
        .axis_desc_style(("sans-serif", TEXT).into_font().color(&INK))
        .x_desc(&x.label)
        .y_desc(&y.label)
        .draw()?;
    for line in lines {
        let style = line.color.stroke_width(3);
        if line.is_dashed {
            let element = DashedPathElement::new(line.points.clone(), 8, 5, style);
            chart.draw_series(std::iter::once(element))?;
        } else {
            chart.draw_series(std::iter::once(PathElement::new(line.points.clone(), style)))?;
        }
        let whiskers = line.whiskers.iter();
        chart.draw_series(whiskers.map(|&(x, lowest, highest)| {
            ErrorBar::new_vertical(x, lowest, f64::midpoint(lowest, highest), highest, line.color, 8)
        }))?;
        if line.has_marks {
            chart.draw_series(line.points.iter().map(|&point| Circle::new(point, 5, line.color.filled())))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_what_is_on_them_and_have_few_ticks() {
        for most in [1e-9, 0.003, 0.97, 1.0, 1.04, 4.99, 1234.0, 9e8, 0.0, f64::NAN, f64::INFINITY] {
            let axis = Axis::linear("x", most);
            assert!((2..=7).contains(&axis.ticks.len()), "{most}: {axis:?}");
            assert!(!(most.is_finite() && most > axis.range.end), "{most}: {axis:?}");
            assert!(
                (axis.ticks.last().unwrap().0 - axis.range.end).abs() <= axis.range.end * 1e-9,
                "{axis:?}"
            );
        }
        for (least, most) in [(3.0, 900.0), (1.0, 1.0), (7.0, 8.0), (0.02, 1e6), (0.0, 0.0), (10.0, 1000.0)] {
            let axis = Axis::logarithmic("x", least, most);
            assert!((2..=14).contains(&axis.ticks.len()), "{least}..{most}: {axis:?}");
            let inside = axis.range.start <= decades(least) + 1e-9 && axis.range.end >= decades(most) - 1e-9;
            assert!(
                inside && axis.range.end - axis.range.start < decades(most) - decades(least) + 2.1,
                "{axis:?}"
            );
        }
        assert_eq!(Axis::names("x", []).range, -0.4..0.4);
    }

    #[test]
    fn a_step_is_the_next_of_1_2_2_5_and_5() {
        for (least, expected) in [(1.0, 1.0), (1.1, 2.0), (2.2, 2.5), (2.6, 5.0), (6.0, 10.0), (0.03, 0.05)] {
            assert!((step(least) - expected).abs() < 1e-9, "{least}");
        }
    }
}
