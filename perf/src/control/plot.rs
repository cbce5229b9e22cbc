//! The figures of a run over time, as an SVG: latency, processor and memory one above the other.

use std::ops::Range;
use std::path::Path;

use anyhow::Context;
use plotters::coord::Shift;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;

use super::report::{Latency, Moment, Report};

const WIDTH: u32 = 1200;
const TITLE: u32 = 70;
const LATENCY: u32 = 440;
const OTHERS: u32 = 260;

const BLUE: RGBColor = RGBColor(31, 119, 180);
const ORANGE: RGBColor = RGBColor(230, 126, 24);
const CRIMSON: RGBColor = RGBColor(190, 40, 60);
const GREY: RGBColor = RGBColor(120, 120, 120);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Writes the plot. `file` is an SVG.
pub fn plot(report: &Report, file: &Path) -> anyhow::Result<()> {
    let mut text = String::new();
    draw(report, &mut text).map_err(|error| anyhow::anyhow!("cannot plot: {error}"))?;
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Its name, its colour, and what it shows.
type Line = (&'static str, RGBColor, fn(&Latency) -> f64);

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(report: &Report, text: &mut String) -> Drawn {
    let root = SVGBackend::with_string(text, (WIDTH, TITLE + LATENCY + 2 * OTHERS)).into_drawing_area();
    root.fill(&WHITE)?;
    let (title, rest) = root.split_vertically(TITLE);
    let (latency, rest) = rest.split_vertically(LATENCY);
    let (processor, memory) = rest.split_vertically(OTHERS);
    write_title(report, &title)?;
    draw_latency(report, &latency)?;
    draw_processor(report, &processor)?;
    draw_memory(report, &memory)?;
    root.present()?;
    Ok(())
}

fn write_title(report: &Report, area: &Area<'_>) -> Drawn {
    let Report { environment, nodes, pods, namespaces, policies, churn, .. } = report;
    let title = format!(
        "margay perf control: {} nodes, {} pods, {} namespaces, {} policies; {} pod changes a second",
        grouped(*nodes),
        grouped(*pods),
        grouped(*namespaces),
        grouped(*policies),
        churn.rate_asked
    );
    area.draw(&Text::new(title, (20, 14), ("sans-serif", 22)))?;
    let place = format!(
        "API server: {}. {} cores of {}, Linux {}, Margay {}",
        environment.server, environment.cores, environment.cpu, environment.kernel, environment.margay
    );
    area.draw(&Text::new(place, (20, 44), ("sans-serif", 15).into_font().color(&GREY)))?;
    Ok(())
}

fn draw_latency(report: &Report, area: &Area<'_>) -> Drawn {
    let all = report.churn.latency;
    let most = report.timeline.iter().filter_map(|m| m.latency).map(|l| l.max_ms).fold(all.max_ms, f64::max);
    let least = report.timeline.iter().filter_map(|m| m.latency).map(|l| l.p50_ms).fold(all.p50_ms, f64::min);
    let range = (10_f64.powf(least.max(0.001).log10().floor())..10_f64.powf(most.max(1.0).log10().ceil()))
        .log_scale();
    let caption = format!(
        "From the server's acknowledgement to the verdict in force: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, max {:.2} ms \
         ({} changes)",
        all.p50_ms,
        all.p90_ms,
        all.p99_ms,
        all.max_ms,
        grouped(u32::try_from(report.churn.changes).unwrap_or(u32::MAX))
    );
    let mut chart = ChartBuilder::on(area);
    let mut chart = framed(&mut chart, &caption).build_cartesian_2d(time(report), range)?;
    mesh(&mut chart, "milliseconds (log scale)", |ms| format!("{ms}"))?;
    let lines: [Line; 3] = [
        ("max, of each half second", CRIMSON, |l| l.max_ms),
        ("p90", ORANGE, |l| l.p90_ms),
        ("median", BLUE, |l| l.p50_ms),
    ];
    for (name, color, value) in lines {
        let points = report.timeline.iter().filter_map(|m| Some((m.at_s, value(m.latency.as_ref()?))));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .label_font(("sans-serif", 15))
        .background_style(WHITE.mix(0.85))
        .border_style(GREY)
        .position(SeriesLabelPosition::UpperLeft)
        .draw()?;
    Ok(())
}

fn draw_processor(report: &Report, area: &Area<'_>) -> Drawn {
    let percent = |moment: &Moment| (moment.at_s, moment.core_share * 100.0);
    let caption = format!(
        "Processor, the control side alone: {:.1} s to the first snapshot, then {:.1} % of a core",
        report.start.cpu_s,
        report.churn.core_share * 100.0
    );
    let most = report.timeline.iter().map(|moment| percent(moment).1).fold(100.0, f64::max);
    area_chart(report, area, &caption, ("% of a core", most), BLUE, percent)
}

fn draw_memory(report: &Report, area: &Area<'_>) -> Drawn {
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let point = |moment: &Moment| (moment.at_s, megabytes(moment.resident_bytes));
    let caption = format!(
        "Resident memory of the process: {:.0} MB at most to the first snapshot, {:.0} MB in the end ({:.0} MB before)",
        megabytes(report.start.resident_peak_bytes),
        megabytes(report.churn.resident_bytes),
        megabytes(report.start.resident_before_bytes)
    );
    let most = report.timeline.iter().map(|moment| point(moment).1).fold(10.0, f64::max);
    area_chart(report, area, &caption, ("MB", most), ORANGE, point)
}

fn area_chart(
    report: &Report,
    area: &Area<'_>,
    caption: &str,
    (unit, most): (&str, f64),
    color: RGBColor,
    point: impl Fn(&Moment) -> (f64, f64),
) -> Drawn {
    let mut chart = ChartBuilder::on(area);
    let mut chart = framed(&mut chart, caption).build_cartesian_2d(time(report), 0.0..most * 1.1)?;
    mesh(&mut chart, unit, |value| format!("{value:.0}"))?;
    let points = report.timeline.iter().map(point);
    let series = AreaSeries::new(points, 0.0, color.mix(0.25)).border_style(color.stroke_width(2));
    chart.draw_series(series)?;
    Ok(())
}

/// From the source's start to the last moment.
fn time(report: &Report) -> Range<f64> {
    0.0..report.timeline.last().map_or(1.0, |moment| moment.at_s).max(f64::EPSILON)
}

/// Room for a caption and labels, the same for all so that their times stand one above the other.
fn framed<'a, 'b, 'c>(
    chart: &'c mut ChartBuilder<'a, 'b, SVGBackend<'b>>,
    caption: &str,
) -> &'c mut ChartBuilder<'a, 'b, SVGBackend<'b>> {
    chart.caption(caption, ("sans-serif", 17)).margin(12).x_label_area_size(45).y_label_area_size(75)
}

type Axes<'a, 'b, Y> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<plotters::coord::types::RangedCoordf64, Y>>;

fn mesh<Y>(chart: &mut Axes<'_, '_, Y>, unit: &str, label: impl Fn(&f64) -> String) -> Drawn
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GREY.mix(0.25))
        .axis_style(GREY)
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 15))
        .x_desc("seconds since the start")
        .y_desc(unit)
        .x_label_formatter(&|at| format!("{at:.0}"))
        .y_label_formatter(&label)
        .draw()?;
    Ok(())
}

/// Digits by threes.
pub(crate) fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
