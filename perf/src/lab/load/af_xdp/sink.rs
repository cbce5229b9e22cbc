//! The sink: takes what its device receives, counts a trial's packets, and sends those back that prime connection trackers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use margay_fastpath::frame::BURST;
use margay_fastpath::xdp::{RingSizes, Xdp};
use margay_fastpath::{Burst, Port};

use super::tally::Tally;
use super::{Device, LAYOUT};
use crate::lab::load::stamp::{self, Stamp};
use crate::lab::load::{self, Arrivals};
use crate::lab::site::End;
use crate::lab::world::VXLAN_PORT;

/// Room for what arrives while the source sends a burst, of packets in three chunks too.
const RINGS: RingSizes = RingSizes { fill: 4096, rx: 4096, tx: 512, completion: 512 };

/// As long as a gateway may take.
const SILENCE: Duration = Duration::from_millis(50);

/// Receives at a device whatever arrives there. It does so when it is asked what has arrived, and when `Source` has it do so.
#[derive(Clone, Debug)]
pub struct Sink(Arc<Mutex<Receiver>>);

#[derive(Debug)]
struct Receiver {
    device: Device,
    received: Burst,
    returned: Burst,
    tally: Tally,
}

impl Sink {
    pub fn open(end: &End) -> Result<Self> {
        let mut device = Device::open(end, RINGS, || Ok(Xdp::load_unsteered(LAYOUT)?))?;
        device.port.reclaim(&device.umem, &mut device.pool);
        let (received, returned) = (Burst::default(), Burst::default());
        let receiver = Receiver { device, received, returned, tally: Tally::new(stamp::PRIME) };
        Ok(Self(Arc::new(Mutex::new(receiver))))
    }

    /// Takes all that has arrived.
    pub(super) fn receive(&self) {
        let mut receiver = self.receiver();
        // What goes on arriving is for the next time.
        let mut bursts = 0..RINGS.rx as usize / BURST;
        while receiver.receive() && bursts.next().is_some() {}
    }

    /// Takes what arrives until nothing has for a while.
    pub(super) fn receive_until_silent(&self) {
        let mut since = Instant::now();
        while since.elapsed() < SILENCE {
            if self.receiver().receive() {
                since = Instant::now();
            }
        }
    }

    /// Where a thread has panicked its counts are whole: each packet is counted at once.
    fn receiver(&self) -> MutexGuard<'_, Receiver> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl load::Sink for Sink {
    fn expect(&mut self, trial: u8) -> Result<()> {
        self.receive();
        self.receiver().tally = Tally::new(trial);
        Ok(())
    }

    fn arrived(&self) -> Result<u64> {
        self.receive();
        Ok(self.receiver().tally.packets)
    }

    fn arrivals(&self) -> Result<Arrivals> {
        self.receive();
        Ok(self.receiver().tally.arrivals())
    }
}

impl Receiver {
    /// Takes a burst. False where there was none.
    fn receive(&mut self) -> bool {
        let Self { device: Device { umem, pool, port, .. }, received, returned, tally } = self;
        port.rx(umem, received, pool);
        let (now, count) = (load::now(), received.len());
        for mut frame in received.drain_front(count) {
            let stamp = Stamp::find(umem.bytes(&frame));
            if let Some(stamp) = stamp {
                tally.count(stamp, now);
            }
            if stamp.is_some_and(|stamp| stamp.trial == stamp::PRIME) {
                turn_around(umem.bytes_mut(&mut frame));
                // What finds no room is as good as lost on its way back.
                if let Err(frame) = returned.try_push(frame) {
                    pool.put(frame);
                }
            } else {
                pool.put(frame);
            }
        }
        port.tx(umem, returned);
        port.reclaim(umem, pool);
        count > 0
    }
}

/// Makes an answer of a packet with a stamp: from whom it was to, to whom it was from, in its tunnel too. Checksums stay as
/// they are.
fn turn_around(frame: &mut [u8]) {
    const IPIP: u8 = 4;
    const ETHERNET: usize = 0;
    const IPV4: usize = 14 + 12;
    const PORTS: usize = 14 + 20;
    const VXLAN: usize = 14 + 20 + 8 + 8;
    swap::<12>(frame, ETHERNET);
    swap::<8>(frame, IPV4);
    if frame.get(14 + 9) == Some(&IPIP) {
        swap::<8>(frame, IPV4 + 20);
        swap::<4>(frame, PORTS + 20);
    } else if frame.get(PORTS + 2..PORTS + 4) == Some(&VXLAN_PORT.to_be_bytes()) {
        turn_around(frame.get_mut(VXLAN..).unwrap_or_default());
    } else {
        swap::<4>(frame, PORTS);
    }
}

/// Has the two halves of so many bytes change places.
fn swap<const LENGTH: usize>(frame: &mut [u8], at: usize) {
    if let Some(bytes) = frame.get_mut(at..at + LENGTH) {
        bytes.rotate_left(LENGTH / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::case::Job;
    use crate::lab::load::Stream;

    /// Outermost addresses.
    fn ends(frame: &[u8]) -> ([u8; 4], [u8; 4]) {
        let packet = etherparse::SlicedPacket::from_ethernet(frame).expect("a packet");
        let Some(etherparse::NetSlice::Ipv4(ip)) = packet.net else { panic!("no IPv4") };
        (ip.header().source(), ip.header().destination())
    }

    #[test]
    fn an_answer_turned_around_is_the_packet_again_and_its_headers_are_those_of_the_way_back() {
        for (job, ipip) in [(Job::L3, false), (Job::VxlanDecap, false), (Job::VxlanDecap, true)] {
            let stream = Stream { ipip, ..Stream::of_size(job, 64, 1) };
            let mut packet = stream.templates().unwrap()[0].bytes().to_vec();
            let stamp = Stamp { trial: stamp::PRIME, number: 9, departure: 8 };
            stream.templates().unwrap()[0].write(&mut packet, 0, stamp);
            let mut answer = packet.clone();
            turn_around(&mut answer);
            assert_eq!(Stamp::find(&answer), Some(stamp));
            let (from, to) = ends(&packet);
            assert_eq!(ends(&answer), (to, from));
            turn_around(&mut answer);
            assert_eq!(answer, packet);
        }
    }
}
