//! The system calls of a worker: what its loop makes, and what ending a thread, a panic included, takes.

use std::env::consts::ARCH;
use std::sync::Arc;

use nix::libc;
use seccompiler::{BpfProgram, Error, SeccompAction, SeccompFilter, apply_filter};

use crate::config::Seccomp;

/// Each with its reason.
const CALLS: &[i64] = &[
    // Wakeups of rings.
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_poll,
    // Sleep, and what is watched meanwhile.
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_restart_syscall,
    // The clock, where the kernel has no faster way to it.
    libc::SYS_clock_gettime,
    // Memory of a command of control's, of a panic, and of a thread that ends.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_mprotect,
    // Waking who waits for the thread, or for what a panic tells.
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_write,
    libc::SYS_getrandom,
    // Its sockets and its epoll, where it unwinds.
    libc::SYS_close,
    libc::SYS_fcntl,
    // Signals: those of a debugger, and of an abort.
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// A program for the kernel, for any number of threads.
#[derive(Clone, Debug)]
pub(super) struct Filter(Arc<BpfProgram>);

impl Filter {
    /// `None` where there is to be none.
    pub(super) fn of(config: Seccomp) -> Result<Option<Self>, Error> {
        let otherwise = match config {
            Seccomp::Kill => SeccompAction::KillProcess,
            Seccomp::Log => SeccompAction::Log,
            Seccomp::Off => return Ok(None),
        };
        let calls = CALLS.iter().map(|call| (*call, Vec::new())).collect();
        let filter = SeccompFilter::new(calls, otherwise, SeccompAction::Allow, ARCH.try_into()?)?;
        Ok(Some(Self(Arc::new(filter.try_into()?))))
    }

    /// Confines the calling thread, for good.
    pub(super) fn apply(&self) -> Result<(), Error> {
        apply_filter(&self.0)
    }
}
