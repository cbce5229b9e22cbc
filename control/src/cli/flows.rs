//! `margay flows`: the connections of a running gateway.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::ValueEnum;
use margay_control::admin::flows::{FlowPage, FlowRow, FlowTraffic};
use margay_control::admin::policies::{Direction, Rule};

use super::Socket;
use super::query::query;
use super::table::table;
use super::units::{bits_per_second, bytes, duration, or_dash, packets_per_second};
use super::watch::Shown;

/// Show the connections of a running gateway, by what they are filtered and sorted
///
/// Source and destination are those of the first packet, by the names of pods and nodes where those are known. PACKETS and
/// BYTES are of both directions, with the first packet and against it, without tunnel headers. AGE is since it began, IDLE
/// since its last packet, EXPIRES when it is forgotten if no other comes. RULES are those that let it in: of the source's
/// policy, then of the destination's.
#[derive(Debug, clap::Args)]
pub(crate) struct Flows {
    /// Only those with an end of this address, or in this network.
    #[arg(long, value_name = "IP[/LEN]")]
    address: Option<String>,
    /// Only those with an end at this pod.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pod: Option<String>,
    /// Only those with this port at either end.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Only those of this protocol: tcp, udp, sctp, icmp, icmpv6, or a number.
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Option<String>,
    /// Only those in this state, in conntrack's words (a wrong one says which there are), or DENIED: ended by policy.
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only those that this policy let through, logged or passed on.
    #[arg(long, value_name = "[NAMESPACE/]NAME")]
    policy: Option<String>,
    /// The most first. Of rates that takes two seconds.
    #[arg(long, value_enum)]
    sort: Option<Sort>,
    /// Measure packets and bits a second, which takes a second more.
    #[arg(long)]
    rates: bool,
    /// Show at most so many.
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    /// Go on where a page has ended, which said how.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// Addresses and ports alone, without names.
    #[arg(long)]
    numeric: bool,
    #[command(flatten)]
    socket: Socket,
    #[command(flatten)]
    shown: Shown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    Bytes,
    Packets,
    Rate,
}

impl Flows {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let sort = self.sort.map(|sort| match sort {
            Sort::Bytes => "bytes",
            Sort::Packets => "packets",
            Sort::Rate => "rate",
        });
        let path = query(
            "/v1/flows",
            [
                ("address", self.address.clone()),
                ("pod", self.pod.clone()),
                ("port", self.port.map(|port| port.to_string())),
                ("protocol", self.protocol.clone()),
                ("state", self.state.clone()),
                ("policy", self.policy.clone()),
                ("sort", sort.map(str::to_owned)),
                ("rates", self.rates.then(|| "true".to_owned())),
                ("limit", Some(self.limit.to_string())),
                ("cursor", self.cursor.clone()),
            ],
        );
        self.shown.show(|| self.socket.get::<FlowPage>(&path), |page| self.text(page))?;
        Ok(ExitCode::SUCCESS)
    }

    fn text(&self, page: &FlowPage) -> String {
        let header = [
            "PROTO",
            "SOURCE",
            "DESTINATION",
            "STATE",
            "PACKETS",
            "BYTES",
            "RATE",
            "AGE",
            "IDLE",
            "EXPIRES",
            "RULES",
        ];
        let rows = table(header, page.flows.iter().map(|row| self.cells(row)));
        let matched = page.matched.map_or_else(String::new, |matched| format!(" of {matched} that match"));
        let mut text = format!(
            "{rows}{} shown{matched}, {} in the table, which holds {}\n",
            page.flows.len(),
            page.connections,
            page.capacity
        );
        if let Some(next) = &page.next {
            text.push_str("more by --cursor ");
            text.push_str(next);
            text.push('\n');
        }
        text
    }

    fn cells(&self, row: &FlowRow) -> [String; 11] {
        let both = |count: fn(&FlowTraffic) -> String| {
            let (original, reply) = (row.original.as_ref().map(count), row.reply.as_ref().map(count));
            or_dash(original.zip(reply).map(|(original, reply)| format!("{original} / {reply}")))
        };
        let rate = row.bits_per_second.zip(row.packets_per_second);
        let rate =
            rate.map(|(bits, packets)| format!("{}, {}", bits_per_second(bits), packets_per_second(packets)));
        [
            protocol(row.protocol),
            self.end(row.src, row.src_name.as_ref(), row.protocol, row.sport),
            self.end(row.dst, row.dst_name.as_ref(), row.protocol, row.dport),
            row.state.clone(),
            both(|traffic| traffic.packets.to_string()),
            both(|traffic| bytes(traffic.bytes)),
            or_dash(rate),
            or_dash(row.age_seconds.map(duration)),
            duration(row.idle_seconds),
            duration(row.expires_in_seconds),
            rules(row),
        ]
    }

    fn end(&self, address: IpAddr, name: Option<&String>, protocol: u8, port: u16) -> String {
        let end = match (name.filter(|_| !self.numeric), address) {
            (Some(name), _) => name.clone(),
            (None, IpAddr::V4(address)) => address.to_string(),
            (None, IpAddr::V6(address)) => format!("[{address}]"),
        };
        match protocol {
            6 | 17 | 132 | 136 => format!("{end}:{port}"),
            1 | 58 => format!("{end} id {port}"),
            _ => end,
        }
    }
}

fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        132 => "sctp".to_owned(),
        number => number.to_string(),
    }
}

/// The last of either end, which decided.
fn rules(row: &FlowRow) -> String {
    let deciding: Vec<String> =
        [&row.egress, &row.ingress].into_iter().filter_map(|rules| Some(rule(rules.last()?))).collect();
    or_dash((!deciding.is_empty()).then(|| deciding.join(", ")))
}

fn rule(rule: &Rule) -> String {
    let direction = match rule.direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    let place = rule.rule.map_or_else(|| "end of tier".to_owned(), |place| place.to_string());
    format!("{} {direction} {place}", rule.policy)
}
