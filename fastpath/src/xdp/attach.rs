//! Attaching the XDP program to a device by netlink: unlike a BPF link, that outlives the process, so that a port goes
//! on failing as configured when Margay is gone. A program of Margay's own is replaced, another's is left alone.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;

use libbpf_rs::libbpf_sys;
use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions};
use libbpf_rs::{MapCore, MapHandle, PrintLevel, Program, Xdp, XdpFlags, set_print};

use super::error::attach_advice;
use super::program::{PROGRAM, SOCKETS, UNSTEERED};
use super::{Mode, ModeChoice, SetupError};

/// What libbpf has warned of: the kernel's own words on why it refuses are among it.
static WARNINGS: Mutex<String> = Mutex::new(String::new());

/// Keeps libbpf's warnings for the errors that they explain, where it would write them to stderr.
pub(super) fn collect_warnings() {
    set_print(Some((PrintLevel::Warn, |_, message| {
        if let Ok(mut warnings) = WARNINGS.lock() {
            warnings.push_str(message.trim_start_matches("libbpf: "));
        }
    })));
}

/// The error, and what libbpf has said since this was last asked.
pub(super) fn explain(error: impl std::fmt::Display) -> String {
    let said = WARNINGS.lock().map(|mut warnings| std::mem::take(&mut *warnings)).unwrap_or_default();
    match said.trim().replace('\n', "; ") {
        said if said.is_empty() => error.to_string(),
        said => format!("{error} ({said})"),
    }
}

/// Attaches the program in the first mode of the choice that the device takes. Where a program of Margay's is there
/// already in a mode that will do, it is replaced without a moment between.
pub(super) fn attach(
    program: BorrowedFd<'_>,
    ifindex: u32,
    device: &str,
    choice: ModeChoice,
) -> Result<Mode, SetupError> {
    let failed = |reasons| SetupError::Attach { device: device.to_owned(), reasons };
    let mut reasons = Vec::new();
    if let Some((mode, id)) = present(program, ifindex).map_err(|error| failed(explain(error)))? {
        let old =
            own(id).map_err(|name| SetupError::Foreign { device: device.to_owned(), name, id, mode })?;
        if choice.modes().contains(&mode) {
            return set(ifindex, Some(program), mode, Some(old.as_fd()))
                .map(|()| mode)
                .map_err(|error| failed(format!("replacing in {mode} mode: {}", because(&error))));
        }
        // Both modes at once is more than the kernel takes.
        set(ifindex, None, mode, Some(old.as_fd()))
            .map_err(|error| failed(format!("leaving {mode} mode: {}", because(&error))))?;
    }
    for &mode in choice.modes() {
        match set(ifindex, Some(program), mode, None) {
            Ok(()) => return Ok(mode),
            Err(error) => reasons.push(format!("{mode} mode: {}", because(&error))),
        }
    }
    Err(failed(reasons.join(", ")))
}

/// The error, what libbpf has said of it, and what to do about it.
fn because(error: &io::Error) -> String {
    explain(error) + attach_advice(error)
}

/// Takes the program off the device, unless something else is there by now. A device that is gone is no error.
pub(super) fn detach(program: BorrowedFd<'_>, ifindex: u32, device: &str) -> Result<(), SetupError> {
    let failed = |error: io::Error| SetupError::Attach {
        device: device.to_owned(),
        reasons: format!("detaching: {}", explain(error)),
    };
    let Ok(Some((mode, id))) = present(program, ifindex) else {
        return Ok(());
    };
    if Program::id_from_fd(program).ok() != Some(id) {
        return Ok(());
    }
    set(ifindex, None, mode, Some(program)).map_err(failed)
}

/// Mode and id of the program on the device.
fn present(program: BorrowedFd<'_>, ifindex: u32) -> libbpf_rs::Result<Option<(Mode, u32)>> {
    let found = Xdp::new(program).query(ifindex.cast_signed(), XdpFlags::NONE)?;
    let by_mode = [
        (Mode::Native, found.drv_prog_id),
        (Mode::Skb, found.skb_prog_id),
        (Mode::Offloaded, found.hw_prog_id),
    ];
    Ok(by_mode.into_iter().find(|&(_, id)| id != 0))
}

/// The program of this id, if it is Margay's: it has its name, and a map of its name for the sockets. Else what it is
/// called.
fn own(id: u32) -> Result<OwnedFd, String> {
    let query = ProgInfoQueryOptions::default().include_map_ids(true);
    let Some(info) = ProgInfoIter::with_query_opts(query).find(|info| info.id == id) else {
        return Err("one that has just gone".to_owned());
    };
    let has_our_map = || {
        info.map_ids
            .iter()
            .filter_map(|&map| MapHandle::from_map_id(map).ok())
            .any(|map| map.name() == SOCKETS)
    };
    let name = info.name.to_string_lossy().into_owned();
    if [PROGRAM, UNSTEERED].contains(&name.as_str()) && has_our_map() {
        return Program::fd_from_id(id).map_err(|_| name);
    }
    Err(name)
}

/// Puts `program` (or none) where `expected` (or none) is.
fn set(
    ifindex: u32,
    program: Option<BorrowedFd<'_>>,
    mode: Mode,
    expected: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mode = match mode {
        Mode::Native => libbpf_sys::XDP_FLAGS_DRV_MODE,
        Mode::Skb => libbpf_sys::XDP_FLAGS_SKB_MODE,
        Mode::Offloaded => libbpf_sys::XDP_FLAGS_HW_MODE,
    };
    let options = libbpf_sys::bpf_xdp_attach_opts {
        sz: size_of::<libbpf_sys::bpf_xdp_attach_opts>() as libbpf_sys::size_t,
        old_prog_fd: expected.map_or(-1, |old| old.as_raw_fd()),
        ..Default::default()
    };
    let guard = match expected {
        Some(_) => libbpf_sys::XDP_FLAGS_REPLACE,
        None => libbpf_sys::XDP_FLAGS_UPDATE_IF_NOEXIST,
    };
    let fd = program.map_or(-1, |program| program.as_raw_fd());
    // SAFETY: both descriptors are borrowed for the call, and `options` is live and as long as it says.
    let result =
        unsafe { libbpf_sys::bpf_xdp_attach(ifindex.cast_signed(), fd, mode | guard, &raw const options) };
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) }
}
