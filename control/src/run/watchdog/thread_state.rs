//! What the kernel says of one of our threads (`/proc/self/task`).

use std::fs;
use std::time::Duration;

/// Ticks of the clock in which `stat` counts, a second (`USER_HZ`).
const TICKS: u64 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ThreadState {
    /// As `stat` writes it.
    pub letter: char,
    /// Processor time since its start.
    pub used: Duration,
}

impl ThreadState {
    pub(super) fn read(thread: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/self/task/{thread}/stat")).ok()?)
    }

    /// `NUMBER (NAME) LETTER ...`; a name may hold anything.
    fn parse(stat: &str) -> Option<Self> {
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let letter = fields.next()?.chars().next()?;
        // The state is the third field, and these are the fourteenth and the fifteenth.
        let mut ticks = fields.skip(10).map_while(|field| field.parse::<u64>().ok());
        let used = ticks.next()? + ticks.next()?;
        Some(Self { letter, used: Duration::from_millis(used * 1000 / TICKS) })
    }

    /// Whether it runs, or would if it got a processor.
    pub(super) fn is_ready(self) -> bool {
        self.letter == 'R'
    }

    pub(super) fn is_stopped(self) -> bool {
        matches!(self.letter, 'T' | 't')
    }

    /// Where it is, for people.
    pub(super) fn describe(thread: i32) -> String {
        let read = |file| fs::read_to_string(format!("/proc/self/task/{thread}/{file}")).unwrap_or_default();
        let letter = Self::parse(&read("stat")).map_or('?', |state| state.letter);
        let (asleep, call) = (read("wchan"), read("syscall"));
        // Number, arguments, stack and place; or `running`.
        let call = call.split_whitespace().next().unwrap_or("unknown").to_owned();
        let asleep = if ["", "0"].contains(&asleep.trim()) { "nothing" } else { asleep.trim() };
        format!("state {letter}, waits for {asleep}, system call {call}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_and_time_are_found_whatever_the_name() {
        let stat = |name| format!("7 ({name}) R 1 7 7 0 -1 4194560 90 0 0 0 31 11 0 0 20 0 4 0 99 7 8 9\n");
        for name in ["margay-worker-0", "a) S 1 2 3", ") ", "", "("] {
            let state = ThreadState::parse(&stat(name)).expect(name);
            assert_eq!((state.letter, state.used), ('R', Duration::from_millis(420)), "{name}");
        }
        for cut in ["", "7", "7 (a)", "7 (a) ", "7 (a) S 1 7 7 0 -1 4194560 90 0 0 0 31"] {
            assert_eq!(ThreadState::parse(cut), None, "{cut:?}");
        }
    }

    #[test]
    fn the_kernel_says_it_of_this_thread() {
        let thread = nix::unistd::gettid().as_raw();
        assert_eq!(ThreadState::read(thread).map(|state| state.letter), Some('R'));
        assert!(ThreadState::describe(thread).starts_with("state R, "), "{}", ThreadState::describe(thread));
        assert_eq!(ThreadState::read(i32::MAX), None);
    }
}
