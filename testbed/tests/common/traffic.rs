//! Real traffic between namespaces, each byte checked where it arrives.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use margay_testbed::ip::in_netns;
use margay_testbed::netns;
use socket2::{Domain, Protocol, Socket, Type};

/// An address and the namespace that has it.
#[derive(Debug, Clone)]
pub struct Place {
    pub netns: String,
    pub address: IpAddr,
    /// Where servers listen; 0: anywhere.
    pub port: u16,
}

/// Longest wait for one piece of traffic; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest wait for a handshake: SYNs are sent again after 1, 2, 3 and 4 s.
const HANDSHAKE: Duration = Duration::from_secs(6);

/// Bytes of the largest datagram.
const LARGEST: usize = 65_507;

/// How late an echo may be on a machine that has other things to do; what is lost does not come at all.
const LATE: Duration = Duration::from_secs(5);

/// Time for a handshake whose first SYN was lost.
const ONE_MORE_SYN: Duration = Duration::from_millis(2500);

impl Place {
    fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::within(&self.netns, work).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The same with servers at this port.
    pub fn at(&self, port: u16) -> Self {
        Self { port, ..self.clone() }
    }

    /// Whether a TCP connection opens. The server is gone then, and its port free.
    pub fn opens(&self, to: &Self) -> bool {
        let (_listener, address) = to.listen();
        self.within(|| TcpStream::connect_timeout(&address, ONE_MORE_SYN).is_ok())
    }

    /// Whether one of a few pings comes back.
    pub fn pings(&self, to: &Self) -> bool {
        let mut ping = Command::new("ping");
        ping.args(["-c", "3", "-i", "0.2", "-W", "1"]).arg(to.address.to_string()).stdout(Stdio::null());
        self.within(move || ping.status().unwrap().success())
    }

    /// Whether one of a few pings with so many bytes comes back.
    pub fn pings_with(&self, to: &Self, bytes: usize) -> bool {
        let mut ping = Command::new("ping");
        ping.args(["-c", "3", "-i", "0.2", "-W", "1", "-s", &bytes.to_string()]).arg(to.address.to_string());
        self.within(move || ping.stdout(Stdio::null()).status().unwrap().success())
    }

    fn listen(&self) -> (TcpListener, SocketAddr) {
        let listener = self.within(|| TcpListener::bind((self.address, self.port)).unwrap());
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.within(|| TcpStream::connect_timeout(&to, HANDSHAKE))
    }
}

/// What a program says in the namespace of the place, errors too.
pub fn say(place: &Place, program: &str, arguments: &[&str]) -> String {
    let output = in_netns(&place.netns, program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// The largest packet that the place's kernel has learnt that it may send to the address; `None`: what its link takes.
pub fn path_mtu(from: &Place, to: IpAddr) -> Option<u32> {
    let said = say(from, "ip", &["-o", "route", "get", &to.to_string()]);
    let (_, rest) = said.split_once(" mtu ")?;
    Some(rest.split_whitespace().next()?.parse().unwrap())
}

/// Bytes without a pattern that a misplaced packet could repeat (xorshift64).
pub fn blob(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}

/// Sends `bytes` over one TCP connection and returns what arrived.
pub fn tcp_transfer(from: &Place, to: &Place, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let (listener, address) = to.listen();
    thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let mut stream = from.connect(address)?;
            stream.write_all(bytes)?;
            stream.shutdown(Shutdown::Write)?;
            // The receiver closes once it has everything.
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.read(&mut [0]).map(|_| ())
        });
        let receiver = scope.spawn(move || {
            listener.set_nonblocking(false)?;
            let (mut stream, _) = accept(&listener)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut received = Vec::new();
            stream.read_to_end(&mut received)?;
            io::Result::Ok(received)
        });
        let sent = sender.join().unwrap();
        let received = receiver.join().unwrap();
        sent.and(received)
    })
}

/// As `TcpListener::accept`, with an end.
fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    listener.set_nonblocking(true)?;
    let tries = PATIENCE.as_millis() / 10;
    for _ in 0..tries {
        match listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(10));
            }
            Ok((stream, peer)) => {
                stream.set_nonblocking(false)?;
                return Ok((stream, peer));
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Sends each datagram, waits for its echo and compares; a datagram may be lost twice. Returns the number that came
/// back whole.
pub fn udp_echoes(from: &Place, to: &Place, datagrams: &[Vec<u8>]) -> usize {
    let server = to.within(|| UdpSocket::bind((to.address, to.port)).unwrap());
    let address = server.local_addr().unwrap();
    let client = from.within(|| UdpSocket::bind((from.address, 0)).unwrap());
    client.connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let echoing = std::sync::atomic::AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; LARGEST];
            while echoing.load(std::sync::atomic::Ordering::Relaxed) {
                if let Ok((length, peer)) = server.recv_from(&mut buffer) {
                    server.send_to(&buffer[..length], peer).unwrap();
                }
            }
        });
        let mut buffer = vec![0; LARGEST];
        let mut comes_back = |datagram: &Vec<u8>| {
            (0..3).any(|_| {
                client.send(datagram).is_ok()
                    && client.recv(&mut buffer).is_ok_and(|length| buffer[..length] == **datagram)
            })
        };
        let back = datagrams.iter().filter(|datagram| comes_back(datagram)).count();
        echoing.store(false, std::sync::atomic::Ordering::Relaxed);
        back
    })
}

/// Whether a datagram of IPv4 arrives whole whose three pieces are sent in this order.
pub fn arrives_in_pieces(from: &Place, to: &Place, datagram: &[u8], order: [usize; 3]) -> bool {
    let receiver = to.within(|| UdpSocket::bind((to.address, to.port)).unwrap());
    receiver.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
    let port = receiver.local_addr().unwrap().port();
    let length = u16::try_from(8 + datagram.len()).unwrap();
    let header = [&4000u16.to_be_bytes()[..], &port.to_be_bytes(), &length.to_be_bytes(), &[0, 0]].concat();
    let payload = [&header, datagram].concat();
    let cut = (payload.len() / 3).next_multiple_of(8);
    // IPPROTO_RAW: the IP header comes with the packet. The kernel fills in its length and checksum.
    let socket = from.within(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap());
    let ident = port.to_be_bytes();
    for piece in order {
        let (start, end) = (piece * cut, payload.len().min((piece + 1) * cut));
        let more = if end < payload.len() { 0x2000 } else { 0 };
        let place = u16::try_from(start / 8).unwrap() | more;
        let mut packet = [&[0x45, 0, 0, 0][..], &ident, &place.to_be_bytes(), &[64, 17, 0, 0]].concat();
        for end in [from, to] {
            let IpAddr::V4(address) = end.address else { panic!("{end:?} is of another family") };
            packet.extend_from_slice(&address.octets());
        }
        packet.extend_from_slice(&payload[start..end]);
        socket.send_to(&packet, &SocketAddr::from((to.address, 0)).into()).unwrap();
    }
    let mut buffer = vec![0; LARGEST];
    receiver.recv(&mut buffer).is_ok_and(|length| buffer[..length] == *datagram)
}

/// Sends a numbered datagram every few milliseconds until `done`, and has each echoed. Returns how many were sent, and
/// how many of them came back, late ones too.
pub fn steady_echoes(from: &Place, to: &Place, done: &AtomicBool) -> (u64, u64) {
    let server = to.within(|| UdpSocket::bind((to.address, to.port)).unwrap());
    let client = from.within(|| UdpSocket::bind((from.address, 0)).unwrap());
    client.connect(server.local_addr().unwrap()).unwrap();
    server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    client.set_nonblocking(true).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = [0; 8];
            while !over.load(Ordering::Relaxed) {
                if let Ok((_, peer)) = server.recv_from(&mut number) {
                    server.send_to(&number, peer).unwrap();
                }
            }
        });
        let (mut sent, mut back, mut deadline) = (0_u64, BTreeSet::new(), Instant::now());
        loop {
            if !done.load(Ordering::Relaxed) {
                client.send(&sent.to_be_bytes()).unwrap();
                sent += 1;
                deadline = Instant::now() + LATE;
            }
            thread::sleep(Duration::from_millis(5));
            let mut number = [0; 8];
            while client.recv(&mut number).is_ok() {
                back.insert(u64::from_be_bytes(number));
            }
            let is_all = back.len() as u64 == sent;
            if done.load(Ordering::Relaxed) && (is_all || Instant::now() > deadline) {
                over.store(true, Ordering::Relaxed);
                return (sent, back.len() as u64);
            }
        }
    })
}

/// A TCP connection that lives, its far end echoing.
pub struct Connection {
    stream: TcpStream,
    sent: u64,
    echoed: u64,
}

impl Connection {
    pub fn open(from: &Place, to: &Place) -> io::Result<Self> {
        let (listener, address) = to.listen();
        thread::spawn(move || {
            // An error is the end of the test's connection; the thread ends with it.
            if let Ok((mut stream, _)) = accept(&listener) {
                let mut buffer = [0; 64];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..length]).is_err() {
                        return;
                    }
                }
            }
        });
        let stream = from.connect(address)?;
        Ok(Self { stream, sent: 0, echoed: 0 })
    }

    /// Sends a number and waits for its echo, and for those of all numbers before it. What is not echoed in `patience`
    /// stays on its way: TCP sends it again.
    pub fn exchange(&mut self, patience: Duration) -> io::Result<()> {
        self.stream.write_all(&self.sent.to_be_bytes())?;
        self.sent += 1;
        self.stream.set_read_timeout(Some(patience))?;
        while self.echoed < self.sent {
            // A read that ends early ends before the number's first byte: it was sent, and comes, in one segment.
            let mut number = [0; 8];
            self.stream.read_exact(&mut number)?;
            assert_eq!(u64::from_be_bytes(number), self.echoed, "the echo has other bytes");
            self.echoed += 1;
        }
        Ok(())
    }
}
