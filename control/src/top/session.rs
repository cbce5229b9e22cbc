//! The terminal while `margay top` runs: answers and keys come, the screen is drawn anew.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures::StreamExt;
use ratatui::DefaultTerminal;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{Flows, Moment, Screen, View, draw};
use crate::admin::ClientError;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections that are asked for: as many as a tall screen has rows.
const MOST_FLOWS: usize = 50;
/// Between two questions about connections at least: rates of all of them are more work than the rest.
const FLOWS_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Asked(#[from] ClientError),
    #[error("the gateway does not answer in {} s", PATIENCE.as_secs())]
    Late,
    #[error("the terminal: {0}")]
    Terminal(#[from] io::Error),
}

/// What comes in while the screen stands.
enum News {
    Moment(Result<Box<Moment>, Error>),
    Flows(Result<Flows, Error>),
}

/// Shows what the gateway at the socket does until `q`, Ctrl-C or a signal. A gateway that has answered and does not any
/// more is waited for; one that never did is an error.
pub async fn run(socket: &Path, every: Duration) -> Result<(), Error> {
    let first = late(Moment::ask(socket)).await?;
    let [terminate, interrupt, hang_up] =
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
    let ends = [terminate?, interrupt?, hang_up?];
    let mut terminal = ratatui::try_init()?;
    let ended = show(&mut terminal, socket, every, first, ends).await;
    ratatui::try_restore()?;
    ended
}

async fn late<T>(asked: impl Future<Output = Result<T, ClientError>>) -> Result<T, Error> {
    Ok(timeout(PATIENCE, asked).await.map_err(|_| Error::Late)??)
}

async fn show(
    terminal: &mut DefaultTerminal,
    socket: &Path,
    every: Duration,
    first: Moment,
    [mut terminate, mut interrupt, mut hang_up]: [Signal; 3],
) -> Result<(), Error> {
    let (news, mut latest) = mpsc::channel(1);
    let asking = [
        tokio::spawn(ask_moments(socket.to_owned(), every, news.clone())),
        tokio::spawn(ask_flows(socket.to_owned(), every.max(FLOWS_EVERY), news)),
    ];
    let mut screen = Screen { view: Some(View::of(None, &first)), every, ..Screen::default() };
    let (mut last, mut events) = (first, EventStream::new());
    loop {
        terminal.draw(|frame| draw(frame, &screen))?;
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => break,
            Some(news) = latest.recv() => take(&mut screen, &mut last, news),
            event = events.next() => match event {
                Some(Ok(event)) if !is_end(&event) => {}
                Some(Err(error)) => return Err(error.into()),
                _ => break,
            },
        }
    }
    asking.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

fn take(screen: &mut Screen, last: &mut Moment, news: News) {
    match news {
        News::Moment(Ok(moment)) => {
            screen.view = Some(View::of(Some(last), &moment));
            screen.trouble = None;
            *last = *moment;
        }
        News::Moment(Err(error)) => screen.trouble = Some(error.to_string()),
        News::Flows(flows) => screen.flows = Some(flows.map_err(|error| error.to_string())),
    }
}

/// Whether this is the end: a key, or an event that is none.
fn is_end(event: &Event) -> bool {
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event else { return false };
    let is_interrupt = *code == KeyCode::Char('c') && modifiers.contains(KeyModifiers::CONTROL);
    is_interrupt || matches!(code, KeyCode::Char('q') | KeyCode::Esc)
}

async fn ask_moments(socket: PathBuf, every: Duration, news: mpsc::Sender<News>) {
    loop {
        sleep(every).await;
        let moment = late(Moment::ask(&socket)).await.map(Box::new);
        if news.send(News::Moment(moment)).await.is_err() {
            return;
        }
    }
}

async fn ask_flows(socket: PathBuf, every: Duration, news: mpsc::Sender<News>) {
    loop {
        let flows = late(Flows::ask(&socket, MOST_FLOWS)).await;
        if news.send(News::Flows(flows)).await.is_err() {
            return;
        }
        sleep(every).await;
    }
}
