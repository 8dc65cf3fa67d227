//! `top` without an object: a live view of the cluster on the whole screen.
//!
//! Owns: the terminal while it is shown, keys. Does not own: what is shown (`model`), how it looks (`view`), where it comes from
//! (`feed`).
//!
//! Invariant: the terminal is as before when the command ends, whatever ends it but SIGKILL, and while Ctrl-Z has it
//! stopped.

mod feed;
mod model;
mod rows;
mod view;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal::{SIGCONT, SIGTSTP};
use nix::unistd::Pid;
use ratatui::Terminal;
use ratatui::backend::{Backend as _, CrosstermBackend};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::io::{IsTerminal, Stdout};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use self::feed::Feed;
use self::model::{Action, Model};
use crate::commands::Context;
use crate::ending_signals::EndingSignals;

/// How often the screen is brought up to date, unless told otherwise.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long a key may wait until it is noticed that nobody wants it any more.
const KEY_PATIENCE: Duration = Duration::from_millis(200);
/// Keys that wait: more are dropped by whoever leans on one.
const KEYS_QUEUED: usize = 64;
/// How soon Ctrl-Z has stopped this process, if it does: where no shell could continue it, it does not.
const STOP_PATIENCE: Duration = Duration::from_millis(200);
/// The screen says how old its picture is.
const CLOCK: Duration = Duration::from_secs(1);

/// `stint top`.
pub async fn run(context: &Context, interval: Option<Duration>) -> Result<ExitCode> {
    let interval = interval.unwrap_or(INTERVAL);
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        bail!("the screen of stint top needs a terminal: use stint top nodes or stint top pods instead");
    }
    if std::env::var_os("TERM").is_some_and(|name| name == "dumb") {
        bail!(
            "a terminal whose TERM is dumb has no screen to draw on: use stint top nodes or stint top pods instead"
        );
    }
    // Ctrl-C comes as a key, unless another process sends it.
    let mut signals = EndingSignals::listen()?;
    // Whoever stopped it may have used the terminal meanwhile.
    let mut continued =
        signal(SignalKind::from_raw(SIGCONT as i32)).context("signals can't be waited for")?;
    let mut feed = Feed::begin(context.client.clone(), interval);
    let mut keys = listen_to_keys()?;
    let mut model = Model::new(interval, std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()));
    let mut clock = tokio::time::interval(CLOCK);
    restore_before_panics();
    let mut restored = Restored::take()?;
    let mut terminal = empty_screen()?;
    loop {
        terminal.draw(|frame| view::draw(frame, &mut model)).context("the terminal can't be drawn on")?;
        tokio::select! {
            news = feed.next() => model.take(news),
            key = keys.recv() => match key.map(|key| action_of(&key)) {
                // The terminal is gone.
                None | Some(Some(Action::Quit)) => return Ok(ExitCode::SUCCESS),
                Some(Some(Action::Suspend)) => {
                    drop(restored);
                    stop(&mut continued).await?;
                    (restored, terminal) = (Restored::take()?, empty_screen()?);
                }
                Some(Some(action)) => {
                    model.act(action);
                    feed.show(model.tab());
                }
                Some(None) => {}
            },
            _ = clock.tick() => {}
            // Another process stopped it, with no word before.
            _ = continued.recv() => {
                drop(restored);
                (restored, terminal) = (Restored::take()?, empty_screen()?);
            }
            code = signals.received() => return Ok(code),
        }
    }
}

/// Stops this process and those that share its pipeline, as the terminal does where Ctrl-Z is no key; returns when it goes on.
async fn stop(continued: &mut Signal) -> Result<()> {
    nix::sys::signal::kill(Pid::from_raw(0), SIGTSTP).context("the command can't be stopped")?;
    // The signal stops all threads, this one perhaps a little later.
    let _ = tokio::time::timeout(STOP_PATIENCE, continued.recv()).await;
    Ok(())
}

/// A screen on which nothing is drawn yet.
fn empty_screen() -> Result<Terminal<CrosstermBackend<Stdout>>> {
    let terminal = Terminal::new(CrosstermBackend::new(std::io::stdout()));
    let mut terminal = terminal.context("the terminal can't be drawn on")?;
    // Not the terminal's own, which first asks where the cursor is: not every terminal answers.
    terminal.backend_mut().clear().context("the terminal can't be drawn on")?;
    Ok(terminal)
}

/// Gives the screen back before a panic is told.
fn restore_before_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        ratatui::restore();
        before(panic);
    }));
}

/// The whole screen in raw mode; given back when it is dropped.
struct Restored;

impl Restored {
    fn take() -> Result<Restored> {
        let restored = Restored;
        ratatui::crossterm::terminal::enable_raw_mode().context("the terminal can't be made raw")?;
        ratatui::crossterm::execute!(
            std::io::stdout(),
            ratatui::crossterm::terminal::EnterAlternateScreen,
            ratatui::crossterm::cursor::Hide
        )
        .context("the terminal can't be drawn on")?;
        Ok(restored)
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        // Nobody can be told that the terminal is gone.
        let _ = ratatui::crossterm::execute!(std::io::stdout(), ratatui::crossterm::cursor::Show);
        ratatui::restore();
    }
}

/// Keys and changes of size; ends when nobody listens any more, or when the terminal is gone.
fn listen_to_keys() -> Result<mpsc::Receiver<Event>> {
    let (sender, keys) = mpsc::channel(KEYS_QUEUED);
    // A thread: whoever reads a terminal waits, and nothing ends that wait from outside.
    std::thread::Builder::new()
        .name("keys".to_owned())
        .spawn(move || {
            while !sender.is_closed() {
                let read = match event::poll(KEY_PATIENCE) {
                    Ok(true) => event::read(),
                    Ok(false) => continue,
                    Err(error) => Err(error),
                };
                let Ok(read) = read else { return };
                // A full queue loses a key.
                let _ = sender.try_send(read);
            }
        })
        .context("keys can't be waited for")?;
    Ok(keys)
}

/// What a key asks for; a new size of the screen asks for nothing but to be drawn.
fn action_of(event: &Event) -> Option<Action> {
    let Event::Key(KeyEvent { code, modifiers, kind, .. }) = event else { return None };
    if *kind == KeyEventKind::Release {
        return None;
    }
    Some(match code {
        KeyCode::Char('c' | 'd') if modifiers.contains(KeyModifiers::CONTROL) => Action::Quit,
        KeyCode::Char('z') if modifiers.contains(KeyModifiers::CONTROL) => Action::Suspend,
        KeyCode::Char('q') | KeyCode::Esc => Action::Quit,
        KeyCode::Char('j') => Action::Jobs,
        KeyCode::Char('p') => Action::Pods,
        KeyCode::Char('n') => Action::Nodes,
        KeyCode::Tab => Action::NextTab,
        KeyCode::Char('s') => Action::NextOrder,
        KeyCode::Char('r') => Action::Reverse,
        KeyCode::Char(' ') => Action::Hold,
        KeyCode::Up => Action::Move(-1),
        KeyCode::Down => Action::Move(1),
        KeyCode::PageUp => Action::Move(-10),
        KeyCode::PageDown => Action::Move(10),
        KeyCode::Home => Action::Move(i64::MIN),
        KeyCode::End => Action::Move(i64::MAX),
        _ => return None,
    })
}
