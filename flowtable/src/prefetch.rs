//! Ways to have a cache line come before it is needed. No-ops where the target has none.

#![allow(unsafe_code)]

#[inline]
pub(crate) fn prefetch<T>(line: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch reads nothing the program can see and faults on no address; SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(line).cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = line;
}

/// Loads the line and drops what was loaded. Nothing waits for it, so in a short loop as many are under way as the
/// processor can have. Unlike the hint it is not dropped where the page is not in the TLB: in a virtual machine, whose
/// page walks are long, hints for a table of more than a few MiB do next to nothing.
#[inline(always)]
pub(crate) fn touch<T>(line: &T) {
    const { assert!(size_of::<T>() >= 4) }
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: the four bytes lie in a value that is borrowed; it is the processor's own, so other threads' atomic stores to
    // the value do not race with it in the language's sense, and what it sees is dropped.
    unsafe {
        std::arch::asm!(
            "mov {dropped:e}, dword ptr [{line}]",
            line = in(reg) line,
            dropped = out(reg) _,
            options(nostack, readonly, preserves_flags),
        );
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = line;
}
