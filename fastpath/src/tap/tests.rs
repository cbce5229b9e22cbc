//! What a ring holds, and what is counted where it holds no more.

use proptest::prelude::*;

use super::*;

/// As libpcap compiles it for Ethernet, and libpcap's own interpreter of it.
pub(crate) fn compile(filter: &str) -> (Program, pcap::BpfProgram) {
    let dead = pcap::Capture::dead(pcap::Linktype::ETHERNET).expect("libpcap");
    // The optimizer refuses what matches no packet.
    let compiled = dead.compile(filter, true).or_else(|_| dead.compile(filter, false));
    let compiled = compiled.unwrap_or_else(|error| panic!("{filter}: {error}"));
    let program = Program::new(&instructions(&compiled)).unwrap_or_else(|error| panic!("{filter}: {error}"));
    (program, compiled)
}

pub(crate) fn instructions(program: &pcap::BpfProgram) -> Vec<Instruction> {
    let read = |instruction: &pcap::BpfInstruction| {
        let text = instruction.to_string();
        let words: Vec<u32> = text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        Instruction { code: words[0] as u16, jt: words[1] as u8, jf: words[2] as u8, k: words[3] }
    };
    program.get_instructions().iter().map(read).collect()
}

const PORT: PortId = PortId(3);

fn spec(per_second: u32, waiting: usize) -> Spec {
    Spec { filter: None, snap: 100, per_second, waiting }
}

fn sight(bytes: &[u8], at: Duration) -> Sight<'_> {
    Sight { at, port: PORT, bytes, vxlan_port: 4789 }
}

/// A packet that comes in and leaves as it is.
fn pass(tap: &mut Tap, packet: u64, bytes: &[u8], at: Duration) -> bool {
    let is_taken = tap.enter(packet, &sight(bytes, at));
    if is_taken {
        tap.leave(packet, &sight(bytes, at), Leaving::Whole);
        tap.settle(true);
        tap.end(packet, &End { fate: Fate::Forwarded, steps: Steps::default() });
    }
    is_taken
}

#[test]
fn no_more_than_so_many_packets_a_second() {
    let (mut tap, reader) = tap(TapId(1), spec(5, 1 << 16));
    for second in 10..13 {
        let taken = (0..8).filter(|&n| pass(&mut tap, n, &[7; 60], Duration::from_millis(second * 1000 + n)));
        assert_eq!(taken.count(), 5);
    }
    let counts = reader.counts();
    assert_eq!((counts.matched.get(), counts.missed.get(), counts.missed_leaving.get()), (24, 9, 0));
}

#[test]
fn frames_are_cut_to_the_snap_length() {
    let (mut tap, mut reader) = tap(TapId(1), spec(100, 1 << 16));
    let (long, mut bytes) = ((0..=255).collect::<Vec<u8>>(), Vec::new());
    assert!(pass(&mut tap, 9, &long, Duration::from_secs(1)));
    let note = reader.next(&mut bytes).expect("it came");
    let image = Image { port: PORT, at: Duration::from_secs(1), len: 256, copied: 100 };
    assert!(matches!(note, Note { packet: 9, what: What::Came(came) } if came == image), "{note:?}");
    assert_eq!(bytes, long[..100]);
}

#[test]
fn who_reads_learns_that_the_worker_has_let_go() {
    let (tap, reader) = tap(TapId(1), spec(1, 0));
    assert!(!reader.has_ended());
    drop(tap);
    assert!(reader.has_ended());
}

proptest! {
    /// Whoever reads, and however seldom: of each packet that was taken all is told but frames that are counted as missed,
    /// with its own bytes, and it ends.
    #[test]
    fn what_is_taken_is_told_whole(
        packets in prop::collection::vec((0..200usize, any::<bool>()), 1..600),
        waiting in 0..4000usize,
    ) {
        let (mut tap, mut reader) = tap(TapId(1), spec(u32::MAX, waiting));
        let (mut taken, mut told, mut left) = (Vec::new(), Vec::new(), 0);
        let mut bytes = Vec::new();
        let mut read = |reader: &mut TapReader| {
            while let Some(note) = reader.next(&mut bytes) {
                let expected = |len: u32| vec![note.packet as u8; len.min(100) as usize];
                match note.what {
                    What::Came(image) => assert_eq!(bytes, expected(image.len)),
                    What::Leaves { image, is_sent, .. } => {
                        assert_eq!(bytes, expected(image.len));
                        left += u64::from(is_sent);
                    }
                    What::Ended(_) => told.push(note.packet),
                }
            }
        };
        for (number, (len, reads)) in (0u64..).zip(&packets) {
            if pass(&mut tap, number, &vec![number as u8; *len], Duration::ZERO) {
                taken.push(number);
            }
            if *reads {
                read(&mut reader);
            }
        }
        read(&mut reader);
        prop_assert_eq!(&told, &taken);
        let counts = reader.counts();
        prop_assert_eq!(counts.matched.get(), packets.len() as u64);
        prop_assert_eq!(counts.missed.get(), (packets.len() - taken.len()) as u64);
        prop_assert_eq!(left + counts.missed_leaving.get(), taken.len() as u64);
    }
}
