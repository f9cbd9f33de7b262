//! `top`: a live view of the region, until `q` or Ctrl-C; with `--json` a line for each look.

mod sample;
mod view;

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::json;

use super::Failure;
use super::find::is_alive;
use super::show::document;
use super::text::shown;
use sample::{Sampler, to_json};
use view::{Screen, draw};

/// Rows that a page key moves by.
const PAGE: usize = 10;

/// Shows it, with a new look every `interval_ms`.
pub fn run(path: &Path, interval_ms: u64, as_json: bool) -> Result<(), Failure> {
    let mut sampler = Sampler::open(path)?;
    let interval = Duration::from_millis(interval_ms);
    if as_json {
        return lines(&mut sampler, interval);
    }
    let fail = |error: io::Error| Failure::Message(format!("terminal: {error}"));
    let mut terminal = ratatui::try_init().map_err(fail)?;
    let ended = follow(&mut terminal, &mut sampler, interval);
    ratatui::restore();
    ended.map_err(fail)
}

/// A line for each look, until nobody reads them.
fn lines(sampler: &mut Sampler, interval: Duration) -> Result<(), Failure> {
    loop {
        let line = match sampler.look(Instant::now()) {
            Ok(sample) => to_json(&sample, is_alive),
            Err(message) => json!({ "trouble": message }),
        };
        super::write(&document(&line))?;
        thread::sleep(interval);
    }
}

fn follow(
    terminal: &mut DefaultTerminal,
    sampler: &mut Sampler,
    interval: Duration,
) -> io::Result<()> {
    let mut screen = Screen::default();
    loop {
        let now = Instant::now();
        match sampler.look(now) {
            Ok(sample) => screen.show(sample),
            Err(message) => screen.trouble(shown(&message)),
        }
        let next = now + interval;
        loop {
            terminal.draw(|frame| draw(frame, &mut screen))?;
            let left = next.saturating_duration_since(Instant::now());
            if !event::poll(left)? {
                break;
            }
            // A resize, or anything else that is no key, is drawn anew as well.
            if let Event::Key(key) = event::read()?
                && is_end(&mut screen, key)
            {
                return Ok(());
            }
        }
    }
}

/// Does what a key says; true if it is the end.
fn is_end(screen: &mut Screen, key: KeyEvent) -> bool {
    if key.kind == KeyEventKind::Release {
        return false;
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return true,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
        KeyCode::Down | KeyCode::Char('j') => screen.down(1),
        KeyCode::Up | KeyCode::Char('k') => screen.up(1),
        KeyCode::PageDown | KeyCode::Char(' ') => screen.down(PAGE),
        KeyCode::PageUp => screen.up(PAGE),
        KeyCode::Home => screen.up(usize::MAX),
        _ => {}
    }
    false
}
