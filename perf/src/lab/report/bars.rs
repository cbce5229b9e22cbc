//! Bars: each dataplane's figure job by job, with what the repeats span and where Margay's goals lie; and what a packet costs
//! pass by pass.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::chart::{Area, Axis, Drawn, legend, svg, text, width};
use super::goals::{self, Bound, FLOWS, Over, POLICIES, SIZE};
use super::look::{self, FAINT, INK, STAGES, color, figure};
use crate::control::grouped;
use crate::lab::case::{Dataplane, Job, Metric};
use crate::lab::details::Stages;
use crate::lab::results::{Results, Row};

const WIDTH: i32 = 1000;
/// Where bars begin, and what is left of them for figures.
const LEFT: i32 = 140;
const RIGHT: i32 = 90;
const TOP: i32 = 8;
const HEAD: i32 = 30;
const BAR: i32 = 24;
const GAP: i32 = 14;
const BOTTOM: i32 = 44;

/// The rows of one job, of equal size, flows and policies, in the order of the dataplanes.
struct Group<'a> {
    job: Job,
    rows: Vec<&'a Row>,
}

/// A dataplane's figure that Margay's is held against, and the factor.
type Mark = (Dataplane, f64, f64);

/// The figures of one metric, a group for each job. None where there are none.
pub(super) fn of_metric(results: &Results, metric: Metric) -> anyhow::Result<Option<String>> {
    let groups = groups(results, metric);
    if groups.is_empty() {
        return Ok(None);
    }
    let rows = groups.iter().flat_map(|group| &group.rows);
    let most = rows.flat_map(|row| &row.runs).copied().fold(0.0, f64::max);
    let scale = Axis::linear(look::metric(metric), most);
    let height =
        groups.iter().map(|group| HEAD + group.rows.iter().map(|_| BAR).sum::<i32>() + GAP).sum::<i32>();
    let size = (WIDTH, TOP + height + BOTTOM);
    svg(size, |area| draw(area, &groups, &scale, TOP + height)).map(Some)
}

fn groups(results: &Results, metric: Metric) -> Vec<Group<'_>> {
    let jobs = [Job::VxlanEncap, Job::VxlanDecap, Job::VxlanBoth, Job::L3, Job::Tcp, Job::Cps, Job::Latency];
    let group = |job: Job| {
        let rows = || results.results.iter().filter(move |row| row.job == job && row.metric == metric);
        let is_of_goals = |row: &Row| (row.size, row.flows, row.policies) == (SIZE, FLOWS, POLICIES);
        // The case that goals are of, or the one that comes first.
        let case = rows().find(|row| is_of_goals(row)).or_else(|| rows().next())?.case();
        let of =
            |dataplane| rows().find(move |row| row.case() == crate::lab::case::Case { dataplane, ..case });
        Some(Group { job, rows: look::ALL.into_iter().filter_map(of).collect() })
    };
    jobs.into_iter().filter_map(group).collect()
}

fn draw(area: &Area<'_>, groups: &[Group<'_>], scale: &Axis, bottom: i32) -> Drawn {
    let across = f64::from(WIDTH - LEFT - RIGHT) / scale.range.end;
    let place = |value: f64| LEFT + (value * across).round() as i32;
    for (value, label) in &scale.ticks {
        let x = place(*value);
        area.draw(&PathElement::new([(x, TOP), (x, bottom)], FAINT))?;
        area.draw(&Text::new(label.as_str(), (x, bottom + 6), text(HPos::Center, VPos::Top)))?;
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2;
    area.draw(&Text::new(scale.label.as_str(), (middle, bottom + 26), text(HPos::Center, VPos::Top)))?;
    let mut y = TOP;
    for group in groups {
        let marks = marks(group);
        head(area, group, &marks, y)?;
        y += HEAD;
        for row in &group.rows {
            bar(area, row, y, &place)?;
            if row.dataplane == Dataplane::Margay {
                marks.iter().try_for_each(|mark| {
                    upright(area, place(mark.1 * mark.2), (y - 5, y + BAR + 1), color(mark.0))
                })?;
            }
            y += BAR;
        }
        y += GAP;
    }
    Ok(())
}

/// The job's name and case, and beside them which goals are marked.
fn head(area: &Area<'_>, group: &Group<'_>, marks: &[Mark], y: i32) -> Drawn {
    let row = group.rows[0];
    let title = format!(
        "{} ({}, {}, {})",
        look::job(group.job),
        look::bytes(row.size),
        look::flows(row.flows),
        look::policies(row.policies)
    );
    let style = text(HPos::Left, VPos::Center);
    area.draw(&Text::new(title, (8, y + HEAD / 2), style.clone()))?;
    let mut x = WIDTH - 10;
    for &(dataplane, _, factor) in marks.iter().rev() {
        let label = format!("{factor} \u{d7} {}", look::dataplane(dataplane));
        x -= width(&label);
        area.draw(&Text::new(label, (x, y + HEAD / 2), style.clone()))?;
        upright(area, x - 9, (y + 5, y + HEAD - 5), color(dataplane))?;
        x -= 28;
    }
    if !marks.is_empty() {
        area.draw(&Text::new("goals:", (x, y + HEAD / 2), text(HPos::Right, VPos::Center)))?;
    }
    Ok(())
}

/// The goals that Margay's figure has in this job, of the others' figures.
fn marks(group: &Group<'_>) -> Vec<Mark> {
    let metric = group.rows[0].metric;
    let is_of_goals = (group.rows[0].size, group.rows[0].flows) == (SIZE, FLOWS);
    let of_group = goals::all().filter(|goal| is_of_goals && (goal.job, goal.metric) == (group.job, metric));
    let mark = |goal: goals::Goal| {
        let (Over::Other(dataplane), Bound::AtLeast(factor) | Bound::AtMost(factor)) =
            (goal.over, goal.bound)
        else {
            return None;
        };
        let row = group.rows.iter().find(|row| row.dataplane == dataplane)?;
        Some((dataplane, row.value, factor))
    };
    of_group.filter_map(mark).collect()
}

fn bar(area: &Area<'_>, row: &Row, y: i32, place: &impl Fn(f64) -> i32) -> Drawn {
    let name = look::dataplane(row.dataplane);
    area.draw(&Text::new(name, (LEFT - 8, y + BAR / 2), text(HPos::Right, VPos::Center)))?;
    let color = color(row.dataplane);
    area.draw(&Rectangle::new(
        [(LEFT, y + 2), (place(row.value).max(LEFT + 1), y + BAR - 2)],
        color.filled(),
    ))?;
    let runs = row.runs.iter().copied();
    let (lowest, highest) = (runs.clone().fold(f64::INFINITY, f64::min), runs.fold(0.0, f64::max));
    let (from, to, middle) = (place(lowest), place(highest), y + BAR / 2);
    if to > from {
        area.draw(&PathElement::new([(from, middle), (to, middle)], INK.stroke_width(1)))?;
        for x in [from, to] {
            area.draw(&PathElement::new([(x, middle - 4), (x, middle + 4)], INK.stroke_width(1)))?;
        }
    }
    let style = text(HPos::Left, VPos::Center);
    area.draw(&Text::new(figure(row.value), (to.max(place(row.value)) + 8, middle), style))?;
    Ok(())
}

/// An upright line, set off from a bar that it crosses.
fn upright(area: &Area<'_>, x: i32, (from, to): (i32, i32), color: RGBColor) -> Drawn {
    area.draw(&PathElement::new([(x, from), (x, to)], WHITE.stroke_width(6)))?;
    area.draw(&PathElement::new([(x, from), (x, to)], color.stroke_width(3)))?;
    Ok(())
}

/// Cycles a packet of each pass, one bar for each path. None where nothing was measured.
pub(super) fn of_stages(stages: &[Stages]) -> anyhow::Result<Option<String>> {
    let most = stages.iter().map(sum).fold(0.0, f64::max);
    let Some(first) = stages.first() else { return Ok(None) };
    let names = first.stages.iter().zip(STAGES).map(|((name, _), color)| (name.clone(), color));
    let names: Vec<_> = names.collect();
    let scale = Axis::linear("cycles a packet", most);
    let bottom = HEAD + stages.iter().map(|_| BAR + 8).sum::<i32>();
    svg((WIDTH, bottom + BOTTOM), |area| {
        legend(area, &names)?;
        draw_stages(area, stages, &scale, bottom)
    })
    .map(Some)
}

fn sum(stages: &Stages) -> f64 {
    stages.stages.iter().map(|stage| stage.1).sum()
}

fn draw_stages(area: &Area<'_>, stages: &[Stages], scale: &Axis, bottom: i32) -> Drawn {
    let left = LEFT + 90;
    let across = f64::from(WIDTH - left - RIGHT - 70) / scale.range.end;
    let place = |cycles: f64| left + (cycles * across).round() as i32;
    for (value, label) in &scale.ticks {
        let x = place(*value);
        area.draw(&PathElement::new([(x, HEAD), (x, bottom)], FAINT))?;
        area.draw(&Text::new(label.as_str(), (x, bottom + 6), text(HPos::Center, VPos::Top)))?;
    }
    let label = scale.label.as_str();
    area.draw(&Text::new(label, (place(scale.range.end / 2.0), bottom + 26), text(HPos::Center, VPos::Top)))?;
    for (each, y) in stages.iter().zip((HEAD + 4..).step_by((BAR + 8) as usize)) {
        let middle = y + BAR / 2;
        let name = format!("{}, {} flows", each.path, grouped(each.flows));
        area.draw(&Text::new(name, (left - 8, middle), text(HPos::Right, VPos::Center)))?;
        let mut before = 0.0;
        for ((_, cycles), color) in each.stages.iter().zip(STAGES) {
            let (from, to) = (place(before), place(before + cycles));
            area.draw(&Rectangle::new([(from, y), (to, y + BAR)], color.filled()))?;
            let inside = figure(cycles.round());
            if to - from > width(&inside) + 4 {
                let on_dark = color == STAGES[0] || color == STAGES[1];
                let style = text(HPos::Center, VPos::Center).color(if on_dark { &WHITE } else { &BLACK });
                area.draw(&Text::new(inside, (i32::midpoint(from, to), middle), style))?;
            }
            before += cycles;
        }
        let all = format!("{} cycles, {} ns", figure(each.cycles_per_packet), figure(each.ns_per_packet));
        area.draw(&Text::new(all, (place(before) + 8, middle), text(HPos::Left, VPos::Center)))?;
    }
    Ok(())
}
