//! How what a running gateway says is shown: once, or again and again.

use std::io::{self, IsTerminal};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use crossterm::cursor::MoveTo;
use crossterm::queue;
use crossterm::style::Print;
use crossterm::terminal::{self, Clear, ClearType};
use jiff::Unit;
use margay_control::clock;
use serde::Serialize;

use super::{Output, until_gone};

/// How often, in seconds, where nothing is said.
const OFTEN: &str = "2";

#[derive(Debug, clap::Args)]
pub(crate) struct Shown {
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Show it again every so many seconds (2 unless said), until interrupted; of JSON a line each time.
    #[arg(
        short,
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = OFTEN,
        value_parser = interval
    )]
    watch: Option<Duration>,
}

pub(super) fn interval(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("it is 0.1 to 3600 seconds".to_owned()),
    }
}

impl Shown {
    /// Shows what `ask` gets, as JSON or as `text` tells it. Watching ends where nobody reads any more; a gateway that
    /// answered once and does not now is waited for.
    pub(crate) fn show<T: Serialize>(
        &self,
        mut ask: impl FnMut() -> anyhow::Result<T>,
        text: impl Fn(&T) -> String,
    ) -> anyhow::Result<()> {
        let mut answer = Ok(ask()?);
        let Some(every) = self.watch else {
            return answer.and_then(|answer| self.output.print(&answer, text));
        };
        loop {
            let is_read = match (&answer, self.output) {
                (Ok(answer), Output::Table) => draw(every, &text(answer)),
                (Ok(answer), Output::Json) => until_gone(&(serde_json::to_string(answer)? + "\n")),
                (Err(error), Output::Table) => draw(every, &format!("{error:#}\n")),
                (Err(error), Output::Json) => {
                    eprintln!("margay: {error:#}");
                    Ok(true)
                }
            };
            if !is_read? {
                return Ok(());
            }
            thread::sleep(every);
            answer = ask();
        }
    }
}

/// Puts it in the place of what stood on the terminal, as far as there is room; elsewhere behind it. False where nobody
/// reads any more.
fn draw(every: Duration, text: &str) -> anyhow::Result<bool> {
    let now = clock::wall().round(Unit::Second).unwrap_or_default();
    let text = format!("every {} s, {now}\n\n{text}", every.as_secs_f64());
    let Some((columns, rows)) = terminal::size().ok().filter(|_| io::stdout().is_terminal()) else {
        return until_gone(&(text + "\n"));
    };
    let mut screen = Vec::new();
    queue!(screen, MoveTo(0, 0))?;
    for line in text.lines().take(usize::from(rows.saturating_sub(1))) {
        let line: String = line.chars().take(columns.into()).collect();
        queue!(screen, Print(line), Clear(ClearType::UntilNewLine), Print("\r\n"))?;
    }
    queue!(screen, Clear(ClearType::FromCursorDown))?;
    until_gone(&String::from_utf8(screen).context("a screen is text")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_sensible() {
        assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
        assert!(["0", "-1", "nan", "inf", "1e9", "x", ""].iter().all(|text| interval(text).is_err()));
    }
}
