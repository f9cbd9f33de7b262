//! One line about what goes on: redrawn in place on a terminal, else printed when it says
//! something new and now and then.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;
use weir_shm::{ReadError, Reader};

use super::traffic::Seen;

/// How often a line is printed that says nothing new, where it cannot be redrawn.
const REPEAT: Duration = Duration::from_secs(10);

/// Draws the line.
pub struct Summary {
    seen: Arc<Mutex<Seen>>,
    before: Seen,
    at: Instant,
    region: PathBuf,
    printed: Option<(String, Instant)>,
}

impl Summary {
    pub fn new(region: &Path, seen: Arc<Mutex<Seen>>) -> Summary {
        Summary {
            seen,
            region: region.to_owned(),
            before: Seen::default(),
            at: Instant::now(),
            printed: None,
        }
    }

    /// Shows what happened since the last time; the error is that nobody reads it.
    pub fn show(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let seen = self
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let table = table(&self.region);
        let line = format!("{table} | {}", line(&self.before, &seen, now - self.at));
        let news = format!("{table} {}", answering(&self.before, &seen).join(" "));
        (self.before, self.at) = (seen, now);

        let mut out = io::stdout().lock();
        if out.is_terminal() {
            let width = tcgetwinsize(&out).map_or(0, |size| usize::from(size.ws_col));
            let width = if width == 0 { 80 } else { width };
            // One column stays free: a line that fills the last one wraps on some terminals.
            let fitting: String = line.chars().take(width - 1).collect();
            write!(out, "\r\x1b[K{fitting}")?;
        } else if self
            .printed
            .as_ref()
            .is_none_or(|(before, at)| *before != news || now - *at >= REPEAT)
        {
            writeln!(out, "{line}")?;
            self.printed = Some((news, now));
        }
        out.flush()
    }
}

/// The table version, and how many workers route by it.
fn table(region: &Path) -> String {
    let read = || {
        let reader = Reader::open(region)?;
        let (version, workers) = (reader.version()?, reader.workers()?);
        let current = workers
            .iter()
            .filter(|row| row.table_version == version)
            .count();
        Ok::<_, ReadError>(format!(
            "table {version} on {current}/{} workers",
            workers.len()
        ))
    };
    read().unwrap_or_else(|error| error.to_string())
}

/// The backends that answered between two looks, in order.
fn answering(before: &Seen, now: &Seen) -> Vec<String> {
    now.answers
        .iter()
        .filter(|(name, count)| before.answers.get(*name) != Some(count))
        .map(|(name, _)| name.clone())
        .collect()
}

fn line(before: &Seen, now: &Seen, passed: Duration) -> String {
    let answered = now.answered() - before.answered();
    let rate = answered as f64 / passed.as_secs_f64().max(0.001);
    let shares: Vec<String> = answering(before, now)
        .iter()
        .map(|name| {
            let count =
                now.answers.get(name).unwrap_or(&0) - before.answers.get(name).unwrap_or(&0);
            format!("{} {}%", port(name), count * 100 / answered.max(1))
        })
        .collect();
    let shares = if shares.is_empty() {
        "no backend answers".to_owned()
    } else {
        shares.join(", ")
    };
    format!("{rate:.0} req/s, {} failed | {shares}", now.failed)
}

/// All backends have one address, so that the port names them in the little room there is.
fn port(backend: &str) -> &str {
    backend.rfind(':').map_or(backend, |at| &backend[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(answers: &[(&str, u64)], failed: u64) -> Seen {
        let answers = answers
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect();
        Seen { answers, failed }
    }

    #[test]
    fn says_who_answered_since_the_last_look() {
        let before = seen(&[("a:1", 10), ("b:2", 10)], 0);
        let now = seen(&[("a:1", 40), ("b:2", 10), ("c:3", 10)], 2);
        assert_eq!(
            line(&before, &now, Duration::from_secs(2)),
            "20 req/s, 2 failed | :1 75%, :3 25%"
        );
        assert_eq!(
            line(&now, &now, Duration::ZERO),
            "0 req/s, 2 failed | no backend answers"
        );
    }
}
