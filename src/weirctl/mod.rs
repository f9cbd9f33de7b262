//! `weirctl`: shows the region of a weir, running or dead, and asks its master for changes. It
//! never writes into the region.

mod arguments;
mod ask;
mod change;
mod check;
mod diff;
mod errors;
mod find;
mod history;
mod latency;
mod pages;
mod place;
mod show;
mod sources;
mod table;
#[cfg(test)]
mod testing;
mod text;
mod top;
mod trial;
mod wait;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use place::Place;

/// Why nothing was shown.
#[derive(Debug)]
enum Failure {
    /// The reader of the output went away, which ends the work and is no fault.
    Unread,
    /// A message for the user.
    Message(String),
}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure::Message(message)
    }
}

/// What a command prints, and the code that it exits with.
struct Outcome {
    text: String,
    code: u8,
}

impl Outcome {
    /// With this code.
    fn with(text: String, code: u8) -> Outcome {
        Outcome { text, code }
    }
}

impl From<String> for Outcome {
    fn from(text: String) -> Outcome {
        Outcome::with(text, 0)
    }
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match perform(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(Failure::Unread) => ExitCode::SUCCESS,
        Err(Failure::Message(message)) => {
            let _ = writeln!(io::stderr(), "weirctl: {message}");
            ExitCode::FAILURE
        }
    }
}

fn perform(arguments: &Arguments) -> Result<u8, Failure> {
    let outcome = match &arguments.command {
        Command::Completions { shell } => pages::completions(*shell).into(),
        Command::Man { folder } => pages::man(folder.as_deref())?.into(),
        Command::Check => check::run(arguments),
        Command::Watch => {
            watch::run(&arguments.path()?, arguments.json)?;
            return Ok(0);
        }
        Command::Wait(wait) => wait::run(&arguments.path()?, wait, arguments.json)?,
        Command::Top { interval } => {
            top::run(&arguments.path()?, *interval, arguments.json)?;
            return Ok(0);
        }
        command => in_place(command, Place::open(arguments)?)?,
    };
    write(&outcome.text)?;
    Ok(outcome.code)
}

/// The commands that look at the region once.
fn in_place(command: &Command, mut place: Place) -> Result<Outcome, Failure> {
    let json = place.json;
    Ok(match command {
        Command::Table { upstream, at } => table::run(&place, upstream.as_deref(), *at)?.into(),
        Command::Workers => {
            let rows = place.read(|reader| reader.workers())?;
            let version = place.read(|reader| reader.version())?;
            show::workers(version, &rows, find::is_alive, json).into()
        }
        Command::Counters => {
            let table = place.read(|reader| reader.table())?;
            let counters = place.read(|reader| reader.counters(&table))?;
            show::counters(table.version, &counters, json).into()
        }
        Command::Verify => {
            let report = place.verify()?;
            let code = u8::from(!report.problems.is_empty());
            Outcome::with(show::report(&place.path, &report, json), code)
        }
        Command::History { number } => history::run(&place, *number)?.into(),
        Command::Diff { from, to } => diff::run(&place, *from, *to)?.into(),
        Command::Sources => sources::run(&place)?.into(),
        Command::Errors => errors::run(&place)?.into(),
        Command::Latency => latency::run(&place)?.into(),
        Command::Guard(guard) => change::guard(&place, guard)?.into(),
        Command::Pin { upstream } => change::pin(&place, upstream.as_deref())?.into(),
        Command::Unpin { upstream } => change::unpin(&place, upstream.as_deref())?.into(),
        Command::Rollback { version } => change::rollback(&place, *version)?.into(),
        Command::Try { what } => trial::run(&place, what)?,
        Command::Check
        | Command::Watch
        | Command::Wait(_)
        | Command::Top { .. }
        | Command::Completions { .. }
        | Command::Man { .. } => String::new().into(),
    })
}

/// Writes to standard output.
fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Unread),
        Err(error) => Err(Failure::Message(format!("standard output: {error}"))),
    }
}
