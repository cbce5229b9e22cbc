//! The screen: a head, and below it a table each of workers, ports, drops and connections, as far as there is room. Columns
//! that do not fit are left out, the last first; rows that do not fit are counted.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::style::{Modifier, Style, Stylize};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Table};

use super::moment::{Flow, Flows};
use super::units::{number, percent, time};
use super::view::{PortRates, View, WorkerRates};
use crate::admin::PortState;

/// Rows of the head.
const HEAD: u16 = 3;
/// What a screen needs to be read.
const LEAST: (u16, u16) = (40, 8);
/// Rows that a table has at least, its title included, where all of them have as many.
const FAIR: u16 = 3;
/// Cells between columns.
const SPACING: u16 = 2;
/// Cells of a first column at most: on a wide terminal what is beside it would be far away.
const FIRST: u16 = 48;
/// Cells of the bar that shows how busy a worker is.
const BAR: usize = 10;

/// What there is to draw.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    /// `None` before the first answer.
    pub view: Option<View>,
    /// The busiest connections, or why there are none to see.
    pub flows: Option<Result<Flows, String>>,
    /// Why what is shown is not of now.
    pub trouble: Option<String>,
    /// How often the gateway is asked.
    pub every: Duration,
}

struct Column {
    title: String,
    width: u16,
    alignment: Alignment,
}

struct Section {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell<'static>>>,
}

pub fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("margay top needs {} columns and {} rows", LEAST.0, LEAST.1);
        return frame.render_widget(Paragraph::new(text), area);
    }
    let (head, body) =
        (Rect { height: HEAD, ..area }, Rect { y: area.y + HEAD, height: area.height - HEAD, ..area });
    frame.render_widget(Paragraph::new(head_text(screen)), head);
    let Some(view) = &screen.view else { return };
    let sections =
        [worker_section(view), port_section(view), drop_section(view), flow_section(screen.flows.as_ref())];
    let wanted = sections.each_ref().map(|section| section.rows.len() as u16 + 2);
    let mut top = body.y;
    for (section, height) in sections.into_iter().zip(share(body.height, wanted)) {
        // A title alone says nothing.
        if height > 1 {
            section.draw(frame, Rect { y: top, height, ..body });
        }
        top += height;
    }
}

/// Gives each what it wants of the room; where there is less, first a few rows to each, then one by one.
fn share<const N: usize>(mut room: u16, wanted: [u16; N]) -> [u16; N] {
    let mut shares = [0; N];
    for (share, wanted) in shares.iter_mut().zip(wanted) {
        *share = wanted.min(FAIR).min(room);
        room -= *share;
    }
    while room > 0 && shares != wanted {
        for (share, wanted) in shares.iter_mut().zip(wanted) {
            if *share < wanted && room > 0 {
                *share += 1;
                room -= 1;
            }
        }
    }
    shares
}

fn head_text(screen: &Screen) -> Text<'static> {
    let Some(view) = &screen.view else {
        return Text::raw(screen.trouble.clone().unwrap_or_else(|| "asking the gateway".to_owned()));
    };
    let state = if view.lacking.is_empty() {
        "ready".green()
    } else {
        format!("not ready: {}", view.lacking.join("; ")).red()
    };
    let name = format!("{}, margay {}, up {}, ", view.node, view.version, uptime(view.uptime));
    let first = match &screen.trouble {
        Some(trouble) => Line::from(format!("{}: no answer: {trouble}", view.node)).red(),
        None => Line::from(vec![Span::from(name).bold(), state]),
    };
    let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), number);
    let (packets, bits) = view.received().unzip();
    let share = view.connections as f64 / view.capacity.max(1) as f64;
    let second = format!(
        "in {} pkt/s, {} bit/s; dropped {}/s; {} of {} connections ({})",
        rate(packets),
        rate(bits),
        rate(view.dropped()),
        view.connections,
        view.capacity,
        percent(share)
    );
    Text::from(vec![
        first,
        Line::from(second),
        Line::from(format!("every {} s; q ends", screen.every.as_secs_f64())).dim(),
    ])
}

fn uptime(uptime: Duration) -> String {
    let seconds = uptime.as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

impl Section {
    /// Columns of these titles and widths. The first is on the left and takes what room is left.
    fn new(columns: &[(&str, u16)], rows: Vec<Vec<Cell<'static>>>) -> Self {
        let column = |(place, (title, width)): (usize, &(&str, u16))| Column {
            title: (*title).to_owned(),
            width: *width,
            alignment: if place == 0 { Alignment::Left } else { Alignment::Right },
        };
        Self { columns: columns.iter().enumerate().map(column).collect(), rows }
    }

    fn draw(mut self, frame: &mut Frame<'_>, area: Rect) {
        let mut room = area.width;
        let fit = self.columns.iter().take_while(|column| {
            let left = room.checked_sub(column.width);
            room = left.unwrap_or(0).saturating_sub(SPACING);
            left.is_some()
        });
        let columns = fit.count().max(1);
        self.columns.truncate(columns);
        let taken: u16 = self.columns.iter().map(|column| column.width + SPACING).sum::<u16>() - SPACING;
        self.columns[0].width = (self.columns[0].width + area.width.saturating_sub(taken)).min(FIRST);
        // The title takes a row, and the last is left free.
        let shown = usize::from(area.height - 1).min(self.rows.len());
        if shown < self.rows.len() {
            let title = &mut self.columns[0].title;
            *title = format!("{title} {shown}/{}", self.rows.len());
        }
        let titles = self
            .columns
            .iter()
            .map(|column| Cell::from(Text::from(column.title.clone()).alignment(column.alignment)));
        let header =
            Row::new(titles.collect::<Vec<_>>()).style(Style::new().add_modifier(Modifier::REVERSED));
        let widths = self.columns.iter().map(|column| Constraint::Length(column.width));
        let rows = self.rows.into_iter().take(shown).map(|mut cells| {
            cells.truncate(columns);
            Row::new(cells)
        });
        let table = Table::new(rows, widths.collect::<Vec<_>>()).header(header).column_spacing(SPACING);
        frame.render_widget(table, area);
    }
}

fn left(text: impl Into<String>) -> Cell<'static> {
    Cell::from(text.into())
}

fn right(text: impl Into<String>) -> Cell<'static> {
    Cell::from(Text::from(text.into()).alignment(Alignment::Right))
}

/// `-` where nothing is known yet.
fn rate(rate: Option<f64>) -> Cell<'static> {
    right(rate.map_or_else(|| "-".to_owned(), number))
}

/// The same of what should not be.
fn bad(value: Option<f64>) -> Cell<'static> {
    let cell = rate(value);
    if value.is_some_and(|value| value > 0.0) { cell.yellow() } else { cell }
}

fn worker_section(view: &View) -> Section {
    let columns = [
        ("WORKER", 7),
        ("BUSY", 15),
        ("PKT/S", 7),
        ("P50", 7),
        ("P99", 7),
        ("P99.9", 7),
        ("BIT/S", 7),
        ("DROP/S", 7),
        ("FLOW/S", 7),
        ("CORE", 4),
    ];
    let row = |worker: &WorkerRates| {
        let latency = |read: fn(&crate::admin::workers::Percentiles) -> u64| {
            right(worker.latency.as_ref().map_or_else(|| "-".to_owned(), |latency| time(read(latency))))
        };
        vec![
            left(worker.index.to_string()),
            busy(worker.busy),
            rate(worker.packets),
            latency(|latency| latency.p50_nanoseconds),
            latency(|latency| latency.p99_nanoseconds),
            latency(|latency| latency.p999_nanoseconds),
            rate(worker.bits),
            bad(worker.dropped),
            rate(worker.new_flows),
            right(worker.core.to_string()),
        ]
    };
    Section::new(&columns, view.workers.iter().map(row).collect())
}

// A share is from 0 to 1.
#[allow(clippy::cast_sign_loss)]
fn busy(share: Option<f64>) -> Cell<'static> {
    let Some(share) = share else { return right("-") };
    let full = ((share * BAR as f64).round() as usize).min(BAR);
    let bar = format!("{}{:>4}", "█".repeat(full) + &"░".repeat(BAR - full), percent(share));
    if share > 0.9 { right(bar).red() } else { right(bar) }
}

fn port_section(view: &View) -> Section {
    let columns = [
        ("PORT", 16),
        ("IN PKT/S", 9),
        ("OUT PKT/S", 9),
        ("IN BIT/S", 8),
        ("OUT BIT/S", 9),
        ("DROP/S", 7),
        ("LOST/S", 7),
        ("OF", 24),
    ];
    let row = |port: &PortRates| {
        let mut cells = vec![
            left(port.name.clone()),
            rate(port.rx_packets),
            rate(port.tx_packets),
            rate(port.rx_bits),
            rate(port.tx_bits),
            bad(port.dropped),
            bad(port.lost),
            right(port.of.clone()),
        ];
        match port.state {
            PortState::Open => {}
            PortState::Missing => cells[1] = right("no device").dim(),
            PortState::Failed => cells[1] = right("failed").red(),
        }
        cells
    };
    Section::new(&columns, view.ports.iter().map(row).collect())
}

fn drop_section(view: &View) -> Section {
    let row = |(reason, now, total): &(String, Option<f64>, u64)| {
        vec![left(reason.clone()), bad(*now), right(number(*total as f64))]
    };
    Section::new(&[("DROPS", 22), ("PKT/S", 7), ("TOTAL", 7)], view.drops.iter().map(row).collect())
}

fn flow_section(flows: Option<&Result<Flows, String>>) -> Section {
    let columns = [("BUSIEST CONNECTIONS", 30), ("PKT/S", 7), ("BIT/S", 7), ("PROTO", 5)];
    let said = |text: &str| vec![vec![left(text.to_owned()).dim()]];
    let row = |flow: &Flow| {
        let end = |name: &Option<String>, address: std::net::IpAddr, port: u16| match name {
            Some(name) => format!("{name}:{port}"),
            None => std::net::SocketAddr::new(address, port).to_string(),
        };
        let (src, dst) =
            (end(&flow.src_name, flow.src, flow.sport), end(&flow.dst_name, flow.dst, flow.dport));
        vec![
            left(format!("{src} > {dst}")),
            rate(flow.packets_per_second),
            rate(flow.bits_per_second),
            right(protocol(flow.protocol)),
        ]
    };
    let rows = match flows {
        None => said("measuring"),
        Some(Err(why)) => said(why),
        Some(Ok(flows)) => flows.flows.iter().map(row).collect(),
    };
    Section::new(&columns, rows)
}

fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmp6".to_owned(),
        132 => "sctp".to_owned(),
        number => number.to_string(),
    }
}
