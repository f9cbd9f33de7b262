//! Asking the master over its control socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use weir_worker::channel::{Command, Outcome};

use super::place::Place;
use super::text::shown;

/// The master's own patience, twice, and some.
const PATIENCE: Duration = Duration::from_secs(30);
/// No answer is longer, in bytes.
const ANSWER_MAX: u64 = 1 << 20;

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    outcome: Outcome,
    #[serde(default)]
    error: String,
}

/// Has the master do something.
pub fn ask(place: &Place, command: &Command) -> Result<Outcome, String> {
    let path = socket(place);
    let about = |what: &str| {
        let path = shown(&path.to_string_lossy());
        format!("control socket \"{path}\": {what}")
    };
    let answer = exchange(&path, command).map_err(|error| about(&error.to_string()))?;
    if answer.is_empty() {
        return Err(about("the master is gone"));
    }
    let answer: Answer =
        serde_json::from_slice(&answer).map_err(|error| about(&error.to_string()))?;
    match answer.ok {
        true => Ok(answer.outcome),
        false => Err(shown(&answer.error)),
    }
}

/// Where the report says that it is; else beside the region.
fn socket(place: &Place) -> PathBuf {
    let report = place.report().unwrap_or_default();
    let beside = || place.path.with_extension("control");
    report.control.unwrap_or_else(beside)
}

fn exchange(path: &std::path::Path, command: &Command) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(command)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(ANSWER_MAX)).read_until(b'\n', &mut answer)?;
    Ok(answer)
}
