//! What load is made with: who sends and who receives, where somebody wants others than the usual.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use clap::ValueEnum;

use super::frames::Stream;
use super::sink::{Counter, Place};
use super::{Live, Sink, Source, af_xdp};
use crate::lab::case::name;
use crate::lab::dataplane::Cores;
use crate::lab::site::Site;
use crate::lab::world::Side;

/// Who sends a trial's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sender {
    /// The kernel, by live frames of an XDP program: packets of 3.3 kB at most.
    Live,
    /// A socket: packets of any size, and fewer of them.
    AfXdp,
}

/// Who receives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Receiver {
    /// A program where traffic control is asked: what a pod's end does with any packet comes before it.
    #[default]
    Tc,
    /// A program in the device's driver: a veth copies each packet for it.
    Xdp,
    /// A socket, which sees whole packets. It shares its thread with the sender, which is a socket too.
    AfXdp,
}

/// The usual ones: of BPF, but a socket sends what is too long for live frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tools {
    pub sender: Option<Sender>,
    pub receiver: Receiver,
}

impl Tools {
    /// What can work at all, before anything is built.
    pub fn new(sender: Option<Sender>, receiver: Receiver) -> Result<Self> {
        ensure!(
            receiver != Receiver::AfXdp || sender == Some(Sender::AfXdp),
            "the sink af-xdp shares its thread with a source that is a socket too: say --source af-xdp"
        );
        Ok(Self { sender, receiver })
    }

    /// What a report says of it: how packets of BPF's length are sent, who receives them, and what the jobs' tunnel is.
    #[must_use]
    pub fn told(self, ipip: bool) -> BTreeMap<String, String> {
        let tunnel = if ipip { "ipip" } else { "vxlan" }.to_owned();
        let source = name(&self.sender.unwrap_or(Sender::Live));
        let told = [("source", source), ("sink", name(&self.receiver)), ("tunnel", tunnel)];
        told.map(|(what, it)| (what.to_owned(), it)).into()
    }

    pub(super) fn open(
        self,
        site: &Site,
        stream: &Stream,
        cores: Cores,
    ) -> Result<(Box<dyn Source>, Box<dyn Sink>)> {
        let (end, core) = (site.end(Side::Source), cores.generator);
        let usual = || Ok(if Live::sends(stream)? { Sender::Live } else { Sender::AfXdp });
        if self.sender.map_or_else(usual, Ok::<_, anyhow::Error>)? == Sender::Live {
            let place = if self.receiver == Receiver::Xdp { Place::Xdp } else { Place::Tc };
            return Ok((Box::new(Live::open(end, stream, core)?), Box::new(Counter::open(site, place)?)));
        }
        let source = af_xdp::Source::open(end, stream, core)?;
        let place = match self.receiver {
            Receiver::Tc => Place::Tc,
            Receiver::Xdp => Place::Xdp,
            Receiver::AfXdp => {
                let sink = af_xdp::Sink::open(site.end(Side::Sink))?;
                return Ok((Box::new(source.beside(&sink)), Box::new(sink)));
            }
        };
        Ok((Box::new(source), Box::new(Counter::open(site, place)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_receives_has_one_that_sends_beside_it() {
        for sender in [None, Some(Sender::Live)] {
            let refused = Tools::new(sender, Receiver::AfXdp).expect_err("nobody looks after it");
            assert!(refused.to_string().contains("--source af-xdp"), "{refused}");
        }
        for (sender, receiver) in [
            (None, Receiver::Tc),
            (Some(Sender::Live), Receiver::Xdp),
            (Some(Sender::AfXdp), Receiver::Tc),
            (Some(Sender::AfXdp), Receiver::AfXdp),
        ] {
            assert_eq!(Tools::new(sender, receiver).expect("it works"), Tools { sender, receiver });
        }
    }
}
