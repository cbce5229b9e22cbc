//! What the kernel says of a device by generic netlink: the family `netdev` (`Documentation/netlink/specs/netdev.yaml`), of
//! which libbpf asks for the features of XDP alone.

use std::fmt::Debug;
use std::io;

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage, NetlinkPayload,
    NlasIterator, ParseableParametrized, parse_u64,
};
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

const FAMILY: &str = "netdev";
const DEV_GET: u8 = 1;
const IFINDEX: u16 = 1;
const XSK_FEATURES: u16 = 6;

/// `NETDEV_XSK_FLAGS_TX_CHECKSUM`: a frame in zero-copy mode may leave a checksum to the device.
pub(super) const TX_CHECKSUM: u64 = 1 << 1;

/// What is asked about a device.
#[derive(Debug)]
struct Question {
    ifindex: u32,
}

/// What is said of it, as far as it is used here.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    /// `None` in kernels before 6.8.
    xsk_features: Option<u64>,
}

impl GenlFamily for Question {
    fn family_name() -> &'static str {
        FAMILY
    }

    fn command(&self) -> u8 {
        DEV_GET
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Question {
    fn attribute(&self) -> DefaultNla {
        DefaultNla::new(IFINDEX, self.ifindex.to_ne_bytes().to_vec())
    }
}

impl Emitable for Question {
    fn buffer_len(&self) -> usize {
        self.attribute().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.attribute().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Answer {
    fn parse_with_param(attributes: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        let mut xsk_features = None;
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute?;
            if attribute.kind() == XSK_FEATURES {
                xsk_features = Some(parse_u64(attribute.value())?);
            }
        }
        Ok(Self { xsk_features })
    }
}

/// What the device takes before a frame that it sends in zero-copy mode. An error where the kernel knows nothing of that, or
/// not the device.
pub(super) fn xsk_features(ifindex: u32) -> io::Result<u64> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // The kernel has answered when it has taken the question.
    socket.set_non_blocking(true)?;
    let mut question = GenlMessage::from_payload(Question { ifindex });
    question.set_resolved_family_id(family(&socket, FAMILY)?);
    let answer: Answer = ask(&socket, question)?;
    answer.xsk_features.ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// The number of a family.
fn family(socket: &Socket, name: &str) -> io::Result<u16> {
    let nlas = vec![GenlCtrlAttrs::FamilyName(name.to_owned())];
    let question = GenlMessage::from_payload(GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas });
    let answer: GenlCtrl = ask(socket, question)?;
    let id = answer.nlas.into_iter().find_map(|attribute| match attribute {
        GenlCtrlAttrs::FamilyId(id) => Some(id),
        _ => None,
    });
    id.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn ask<Q, A>(socket: &Socket, question: GenlMessage<Q>) -> io::Result<A>
where
    Q: GenlFamily + Emitable + Debug,
    GenlMessage<A>: NetlinkDeserializable<Error = DecodeError>,
    A: Debug,
{
    let mut question = NetlinkMessage::from(question);
    question.header.flags = NLM_F_REQUEST;
    question.finalize();
    let mut bytes = vec![0; question.buffer_len()];
    question.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (bytes, _) = socket.recv_from_full()?;
    read(&bytes)
}

/// What an answer says, or the error that it is.
fn read<A>(bytes: &[u8]) -> io::Result<A>
where
    GenlMessage<A>: NetlinkDeserializable<Error = DecodeError>,
    A: Debug,
{
    let answer = NetlinkMessage::<GenlMessage<A>>::deserialize(bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    match answer.payload {
        NetlinkPayload::InnerMessage(message) => Ok(message.into_parts().1),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::net::if_::if_nametoindex;
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// An answer of Linux 6.18 about a veth, with these features of `AF_XDP`.
    fn answer(features: u64) -> Vec<u8> {
        let attribute = |kind: u16, value: &[u8]| {
            [&(4 + value.len() as u16).to_ne_bytes(), &kind.to_ne_bytes(), value].concat()
        };
        let attributes = [
            attribute(IFINDEX, &5u32.to_ne_bytes()),
            attribute(3, &0x27u64.to_ne_bytes()),
            attribute(5, &7u64.to_ne_bytes()),
            attribute(XSK_FEATURES, &features.to_ne_bytes()),
        ]
        .concat();
        let header =
            [&(20 + attributes.len() as u32).to_ne_bytes()[..], &[0x22, 0, 0, 0], &[1, 0, 0, 0], &[7; 4]];
        [&header.concat()[..], &[DEV_GET, 1, 0, 0], &attributes].concat()
    }

    fn features(bytes: &[u8]) -> Option<u64> {
        read::<Answer>(bytes).ok()?.xsk_features
    }

    #[test]
    fn an_answer_says_what_the_device_takes() {
        for said in [0, 1, TX_CHECKSUM, TX_CHECKSUM | 1, u64::MAX] {
            assert_eq!(features(&answer(said)), Some(said));
        }
    }

    #[test]
    fn an_answer_that_is_cut_off_or_says_nothing_of_it_is_none() {
        let whole = answer(TX_CHECKSUM);
        for len in 0..whole.len() {
            assert_eq!(features(&whole[..len]), None, "{len}");
            // Shorter by its own account too.
            let mut cut = whole[..len].to_vec();
            if let Some(said) = cut.first_chunk_mut() {
                *said = (len as u32).to_ne_bytes();
            }
            assert_eq!(features(&cut), None, "{len}");
        }
        // The attribute with half its value.
        let mut short = whole.clone();
        let at = short.len() - 12;
        short[at..at + 2].copy_from_slice(&8u16.to_ne_bytes());
        assert_eq!(features(&short), None);
    }

    fn within_a_namespace<T: Send + 'static>(work: fn() -> T) -> T {
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
            work()
        });
        thread.join().expect("it does not panic")
    }

    /// Of one that is made for this.
    fn veth() -> u32 {
        let made = Command::new("ip").args("link add near type veth peer name far".split(' ')).status();
        assert!(made.expect("iproute2 is installed").success());
        if_nametoindex("near").expect("a device")
    }

    #[test]
    fn the_kernel_answers_for_its_devices_and_knows_no_others() {
        let loopback = 1;
        assert_eq!(xsk_features(loopback).expect("Linux 6.8") & TX_CHECKSUM, 0);
        let error = xsk_features(u32::MAX >> 1).expect_err("no such device");
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        if nix::unistd::geteuid().is_root() {
            assert_eq!(within_a_namespace(|| xsk_features(veth())).expect("Linux 6.8") & TX_CHECKSUM, 0);
        }
        let mut socket = Socket::new(NETLINK_GENERIC).expect("a socket");
        socket.bind_auto().and_then(|_| socket.connect(&SocketAddr::new(0, 0))).expect("a socket");
        let error = family(&socket, "no-such").expect_err("no such family");
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }
}
