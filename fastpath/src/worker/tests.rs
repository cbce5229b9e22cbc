//! Workers on ports in memory: what is handed over, what happens to ports that come and go, and that no chunk is lost.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use margay_flowtable::conntrack::Timeouts;
use margay_flowtable::publish::Publisher;
use margay_flowtable::table::FlowTable;
use margay_flowtable::{Fragments, NextHop, PortId, Snapshot};

use super::{BURSTS_PER_SAMPLE, Command, Exchange, Idle, Parts, Worker, spawn};
use crate::drop::DropReason;
use crate::pipeline::tests::{OPEN, OPEN_IP, PEER_IP, UPLINK, pieces, snapshot, udp};
use crate::pipeline::{Established, FRAGMENT_TIMEOUT, MidFlow};
use crate::port::memory::{MemoryPort, Wire};
use crate::tap::{Spec, TAPS, TapId, TapReader, What, tap};
use crate::umem::{Layout, Umem};

const CHUNKS: usize = 4096;
/// Large buffers beside them.
const LARGE: usize = 64;

struct Plane {
    exchange: Arc<Exchange>,
    workers: Vec<Worker>,
    publisher: Publisher<Snapshot>,
    now: u64,
}

impl Plane {
    fn new(workers: usize) -> Self {
        let (umem, frames) = Umem::heap(Layout { chunk_size: 2048, chunks: CHUNKS as u32 });
        let exchange = Arc::new(Exchange::new(umem, frames, workers));
        let table = Arc::new(FlowTable::new(4096, [1, 2, 3, 4], Timeouts::default()));
        let fragments = Arc::new(Fragments::new(64, [1, 2], FRAGMENT_TIMEOUT));
        let mut publisher = Publisher::new(snapshot());
        let workers = (0..workers)
            .map(|index| {
                let (exchange, table) = (Arc::clone(&exchange), Arc::clone(&table));
                Worker::new(Parts {
                    index,
                    exchange,
                    table,
                    fragments: Arc::clone(&fragments),
                    reader: publisher.reader(),
                    mid_flow: MidFlow::Pickup,
                    established: Established::default(),
                    rules: 1000,
                })
            })
            .collect();
        Self { exchange, workers, publisher, now: 0 }
    }

    /// Gives a port to one worker, and tells the others the way.
    fn attach(&self, id: PortId, owner: usize, room: usize) -> Wire {
        let port = MemoryPort::new(id, room);
        let wire = port.wire();
        let mut port = Some(port);
        for (index, worker) in self.workers.iter().enumerate() {
            let command = match port.take_if(|_| index == owner) {
                Some(port) => Command::Attach(Box::new(port)),
                None => Command::Via { port: id, worker: owner },
            };
            worker.mailbox().send(command).expect("room in the mailbox");
        }
        wire
    }

    /// One turn of each worker, after which every chunk is somewhere.
    fn turn(&mut self) {
        self.now += 1;
        for worker in &mut self.workers {
            worker.turn(self.now);
        }
        let held: usize =
            self.workers.iter().map(Worker::census).map(|(own, ports)| own + ports.total()).sum();
        let spare = self.exchange.spare() + self.exchange.spare_large();
        assert_eq!(spare + self.exchange.handed_over() + held, CHUNKS + LARGE, "a frame is lost");
    }

    /// Puts a UDP packet of the pod `open` to a peer behind the uplink on the wire.
    fn send(&self, wire: &Wire, sport: u16) {
        self.inject(wire, &udp(OPEN_IP, PEER_IP, (sport, 53), b"query"));
    }

    fn inject(&self, wire: &Wire, packet: &[u8]) {
        let is_long = packet.len() > self.exchange.umem.layout().longest_frame() as usize;
        let spare = if is_long { &self.exchange.spare_large } else { &self.exchange.spare };
        let mut frame = spare.pop().expect("a spare frame");
        assert!(self.exchange.umem.fill(&mut frame, packet));
        wire.inject(frame).expect("room on the wire");
    }

    /// Takes what was sent off the wire, and gives the inner source port of each packet.
    fn taken(&self, wire: &Wire) -> Vec<u16> {
        let frames = std::iter::from_fn(|| wire.sent());
        frames
            .map(|frame| {
                let bytes = self.exchange.umem.bytes(&frame);
                let port = u16::from_be_bytes([bytes[84], bytes[85]]);
                let spare = if frame.is_large() { &self.exchange.spare_large } else { &self.exchange.spare };
                drop(spare.push(frame));
                port
            })
            .collect()
    }

    fn drops(&self, worker: usize, reason: DropReason) -> u64 {
        self.workers[worker].counters().port(OPEN).drops[reason as usize].get()
    }
}

#[test]
fn frames_reach_a_port_of_another_worker_in_order() {
    let mut plane = Plane::new(2);
    let pod = plane.attach(OPEN, 0, 256);
    let uplink = plane.attach(UPLINK, 1, 256);
    for burst in 0..4u16 {
        (0..100).for_each(|i| plane.send(&pod, burst * 100 + i));
        (0..3).for_each(|_| plane.turn());
        let sent: Vec<u16> = (0..100).map(|i| burst * 100 + i).collect();
        assert_eq!(plane.taken(&uplink), sent);
    }
    assert_eq!(plane.workers[0].counters().port(OPEN).forwarded.get(), 400);
}

#[test]
fn jumbo_frames_change_workers_and_every_one_is_counted_out() {
    let mut plane = Plane::new(2);
    let mut next = plane.publisher.current().clone();
    let mut next_hops = next.next_hops.to_vec();
    for next_hop in &mut next_hops {
        if let NextHop::Forward { adjacency, .. } = next_hop {
            adjacency.mtu = 9000;
        }
    }
    next.next_hops = next_hops.into();
    next.succeed(plane.publisher.current());
    plane.publisher.publish(next);
    let pod = plane.attach(OPEN, 0, 256);
    let uplink = plane.attach(UPLINK, 1, 256);
    let mut received = 0;
    for round in 0..20u16 {
        for sport in 0..8 {
            // Every fourth does not fit.
            let len = if sport % 4 == 3 { 9000 } else { 8900 };
            plane.inject(&pod, &udp(OPEN_IP, PEER_IP, (round * 8 + sport, 53), &vec![0x5a; len]));
        }
        (0..3).for_each(|_| plane.turn());
        received += plane.taken(&uplink).len();
    }
    let from = plane.workers[0].counters().port(OPEN);
    assert_eq!((from.rx.get(), from.forwarded.get(), received), (160, 120, 120));
    assert_eq!(plane.drops(0, DropReason::FragmentationNeeded), 40);
}

#[test]
fn full_port_holds_a_burst_back_and_drops_what_is_beyond() {
    let mut plane = Plane::new(1);
    let pod = plane.attach(OPEN, 0, 256);
    let uplink = plane.attach(UPLINK, 0, 16);
    (0..192).for_each(|i| plane.send(&pod, i));
    (0..8).for_each(|_| plane.turn());
    // 16 on the wire, 64 waiting, the rest dropped; the first 80 come out in order.
    let mut sent = Vec::new();
    while sent.len() < 80 {
        let more = plane.taken(&uplink);
        assert!(!more.is_empty(), "stuck at {}", sent.len());
        sent.extend(more);
        plane.turn();
    }
    assert!(sent.is_sorted());
    assert_eq!(plane.drops(0, DropReason::TxFull), 192 - 80);
}

#[test]
fn detached_port_comes_back_and_its_frames_with_it() {
    let mut plane = Plane::new(2);
    let pod = plane.attach(OPEN, 0, 256);
    let uplink = plane.attach(UPLINK, 1, 16);
    (0..100).for_each(|i| plane.send(&pod, i));
    (0..4).for_each(|_| plane.turn());
    for worker in &plane.workers {
        worker.mailbox().send(Command::Detach(UPLINK)).expect("room in the mailbox");
    }
    plane.now += 1;
    for worker in &mut plane.workers {
        worker.turn(plane.now);
    }
    let mut ports = 0;
    for worker in &plane.workers {
        let returned = worker.mailbox().returned().expect("each worker answers");
        assert_eq!(returned.id, UPLINK);
        if let Some(port) = returned.port {
            ports += 1;
            assert_eq!(plane.exchange.close(port), 0);
        }
        assert!(worker.mailbox().returned().is_none());
    }
    assert_eq!(ports, 1);
    assert!(uplink.sent().is_none());
    plane.send(&pod, 1);
    plane.turn();
    assert_eq!(plane.drops(0, DropReason::PortGone), 1);
}

#[test]
fn a_tap_comes_back_when_it_is_asked_for_and_with_the_end() {
    let mut plane = Plane::new(1);
    let pod = plane.attach(OPEN, 0, 16);
    let uplink = plane.attach(UPLINK, 0, 16);
    let spec = Spec { filter: None, snap: 100, per_second: 1000, waiting: 1 << 14 };
    let mut readers = Vec::new();
    for id in 0..=TAPS as u64 {
        let (tap, reader) = tap(TapId(id), spec.clone());
        readers.push(reader);
        plane.workers[0].mailbox().send(Command::Tap(Box::new(tap))).expect("room in the mailbox");
    }
    let before = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    plane.send(&pod, 7);
    plane.turn();
    assert_eq!(plane.taken(&uplink), [7]);
    let mailbox = Arc::clone(plane.workers[0].mailbox());
    assert!(mailbox.returned_tap().is_some(), "one too many");
    assert!(mailbox.returned_tap().is_none());
    assert!(readers.pop().is_some_and(|reader| reader.has_ended()));
    for reader in &mut readers {
        let came = reader.next(&mut Vec::new()).map(|note| note.what);
        assert!(
            matches!(came, Some(What::Came(image)) if image.port == OPEN && image.at >= before),
            "{came:?}"
        );
    }
    mailbox.send(Command::Untap(TapId(0))).expect("room in the mailbox");
    mailbox.send(Command::Untap(TapId(99))).expect("room in the mailbox");
    plane.turn();
    assert!(mailbox.returned_tap().is_some());
    assert!(mailbox.returned_tap().is_none());
    mailbox.send(Command::Stop).expect("room in the mailbox");
    plane.workers[0].turn(plane.now);
    assert_eq!(std::iter::from_fn(|| mailbox.returned_tap()).count(), TAPS - 1);
    assert!(readers.iter().all(TapReader::has_ended));
}

#[test]
fn snapshot_is_taken_at_the_next_turn() {
    let mut plane = Plane::new(1);
    let pod = plane.attach(OPEN, 0, 16);
    let uplink = plane.attach(UPLINK, 0, 16);
    plane.send(&pod, 7);
    plane.turn();
    assert_eq!(plane.taken(&uplink), [7]);
    let mut next = Snapshot { fib: margay_flowtable::Fib::default(), ..plane.publisher.current().clone() };
    next.succeed(plane.publisher.current());
    plane.publisher.publish(next);
    plane.send(&pod, 7);
    plane.turn();
    assert_eq!(plane.drops(0, DropReason::NoRoute), 1);
}

#[test]
fn threads_forward_and_stop_with_every_frame_back() {
    for idle in [Idle::Spin, Idle::Poll] {
        let mut plane = Plane::new(2);
        let pod = plane.attach(OPEN, 0, 512);
        let uplink = plane.attach(UPLINK, 1, 512);
        let handles: Vec<_> =
            plane.workers.drain(..).map(|worker| spawn(worker, None, idle).expect("a thread")).collect();
        // A few under way at a time: more than the rings hold would be dropped while a thread waits for a core.
        let mut received = 0;
        let mut patience = 0..20_000;
        for sent in 0..2000 {
            plane.send(&pod, sent);
            while usize::from(sent) + 1 - received > 128 && patience.next().is_some() {
                received += plane.taken(&uplink).len();
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        while received < 2000 && patience.next().is_some() {
            received += plane.taken(&uplink).len();
            std::thread::sleep(Duration::from_micros(200));
        }
        assert_eq!(received, 2000, "{idle:?}");
        for handle in &handles {
            handle.mailbox.send(Command::Stop).expect("room in the mailbox");
        }
        let busy = |handle: &super::WorkerHandle| handle.counters.busy_nanoseconds.get() > 0;
        assert!(handles.iter().all(busy), "{idle:?}");
        for handle in handles {
            let mailbox = Arc::clone(&handle.mailbox);
            handle.join().expect("no panic");
            while let Some(returned) = mailbox.returned() {
                returned.port.map(|port| plane.exchange.close(port));
            }
        }
        assert_eq!((plane.exchange.spare(), plane.exchange.spare_large()), (CHUNKS, LARGE), "{idle:?}");
    }
}

/// Fragments of one datagram come to two workers: one that came before the first waits with its own until the other's has
/// come, and no chunk is lost meanwhile.
#[test]
fn a_fragment_waits_for_a_first_one_that_another_worker_gets() {
    let mut plane = Plane::new(2);
    let uplink = plane.attach(UPLINK, 0, 64);
    // Two queues of the pod's port.
    let wires = [0, 1].map(|worker: usize| {
        let port = MemoryPort::new(OPEN, 64);
        let wire = port.wire();
        plane.workers[worker].mailbox().send(Command::Attach(Box::new(port))).expect("room in the mailbox");
        wire
    });
    for round in 0..4u16 {
        let parts = pieces(&udp(OPEN_IP, PEER_IP, (round, 53), &[0x5a; 2000]), round, 1000);
        let (first, later) = parts.split_at(1);
        for part in later {
            plane.inject(&wires[1], part);
        }
        plane.turn();
        assert_eq!(plane.workers[1].pipeline.waiting(), 2);
        plane.inject(&wires[0], &first[0]);
        (0..3).for_each(|_| plane.turn());
        assert_eq!(plane.taken(&uplink).len(), 3);
    }
    let never = pieces(&udp(OPEN_IP, PEER_IP, (9, 53), &[0x5a; 2000]), 9, 1000);
    plane.inject(&wires[1], &never[1]);
    plane.turn();
    plane.now += 1000;
    plane.turn();
    assert_eq!(plane.drops(1, DropReason::FragmentUnmatched), 1);
    // What waits when its port goes comes back as well.
    plane.inject(&wires[1], &never[2]);
    plane.turn();
    assert_eq!(plane.workers[1].pipeline.waiting(), 1);
    plane.workers[1].mailbox().send(Command::Detach(OPEN)).expect("room in the mailbox");
    plane.workers[1].turn(plane.now);
    assert_eq!(plane.workers[1].pipeline.waiting(), 0);
    assert_eq!(plane.drops(1, DropReason::PortGone), 1);
}

/// Frames that count in the latencies of a worker.
fn timed(plane: &Plane, worker: usize) -> u64 {
    plane.workers[worker].counters().latency.buckets().map(|bucket| bucket.frames).sum()
}

#[test]
fn the_first_burst_is_timed_and_then_one_in_so_many() {
    let mut plane = Plane::new(2);
    let pod = plane.attach(OPEN, 0, 256);
    let uplink = plane.attach(UPLINK, 1, 256);
    (0..64).for_each(|i| plane.send(&pod, i));
    plane.turn();
    assert_eq!(timed(&plane, 0), 64);
    for round in 1..=2 * u64::from(BURSTS_PER_SAMPLE) {
        plane.send(&pod, 7);
        plane.turn();
        plane.taken(&uplink);
        assert_eq!(timed(&plane, 0), 64 + round / u64::from(BURSTS_PER_SAMPLE), "round {round}");
    }
    assert_eq!(timed(&plane, 1), 0, "who hands frames on for another takes none from a port");
}

#[test]
fn a_burst_takes_until_its_port_has_had_room_for_it() {
    let mut plane = Plane::new(1);
    let pod = plane.attach(OPEN, 0, 256);
    let uplink = plane.attach(UPLINK, 0, 16);
    (0..64).for_each(|i| plane.send(&pod, i));
    plane.turn();
    for _ in 0..3 {
        assert_eq!(timed(&plane, 0), 0);
        assert_eq!(plane.taken(&uplink).len(), 16);
        plane.turn();
    }
    assert_eq!(timed(&plane, 0), 64);
}
