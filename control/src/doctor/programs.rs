//! Whether another XDP program is on a device: there is room for one.

use super::{At, Device, Facts, Finding, Program};

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    facts.devices().map(|(name, device)| of_device(facts, name, device)).collect()
}

fn of_device(facts: &Facts, name: &str, device: &Device) -> Finding {
    let at = At { check: "xdp program", place: name };
    let Some(Program { id, name: program, is_ours, ip_word }) = &device.program else {
        return at.ok("no XDP program of others");
    };
    let off = format!("ip link set dev {name} {ip_word} off");
    match program {
        Some(_) if *is_ours && facts.status.is_none() => at.note(
            format!("Margay's own program (id {id}) is there, and no Margay answers"),
            "an earlier run has left it: packets meet the port's on_failure; the next start takes it over",
            format!("start Margay, or give the device back to the kernel: {off}"),
        ),
        Some(_) if *is_ours => at.ok(format!("Margay's own (id {id})")),
        Some(program) => at.error(
            format!("another XDP program is attached: {program} (id {id})"),
            "a device takes one program, and Margay takes none off that is not its own",
            format!("stop what has attached it, or: {off}"),
        ),
        None if facts.status.is_some() => {
            at.ok(format!("a program (id {id}) whose name takes CAP_SYS_ADMIN"))
        }
        None => at.warning(
            format!("an XDP program is attached (id {id}) whose name takes CAP_SYS_ADMIN"),
            "if it is not Margay's the port is not opened",
            format!("bpftool prog show id {id}; if nobody needs it: {off}"),
        ),
    }
}
