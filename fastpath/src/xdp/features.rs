//! What a device's driver says that it can (`Documentation/netlink/specs/netdev.yaml`).

use std::os::fd::BorrowedFd;

use libbpf_rs::{Xdp, XdpFlags};

use super::netdev;

/// `NETDEV_XDP_ACT_XSK_ZEROCOPY` (include/uapi/linux/netdev.h).
const ZERO_COPY: u64 = 1 << 3;

/// Whether packets in several chunks cost the device its zero-copy mode. Where the kernel does not tell they do not.
pub(super) fn is_zero_copy_of_one_chunk(program: BorrowedFd<'_>, ifindex: u32) -> bool {
    Xdp::new(program)
        .query(ifindex.cast_signed(), XdpFlags::NONE)
        .is_ok_and(|found| found.feature_flags & ZERO_COPY != 0 && found.xdp_zc_max_segs <= 1)
}

/// Whether frames that it sends in zero-copy mode may leave a checksum to the device. Where the kernel does not tell they may not.
pub(super) fn takes_checksums(ifindex: u32) -> bool {
    netdev::xsk_features(ifindex).is_ok_and(|features| features & netdev::TX_CHECKSUM != 0)
}
