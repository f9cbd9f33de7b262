//! `weirctl`: shows the region of a weir, running or dead. It only ever reads.

mod find;
mod show;
mod text;
mod watch;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use weir_shm::{ReadError, Reader};

/// Shows the upstream tables, workers and counters that a weir shares among its processes.
#[derive(Debug, Parser)]
#[command(name = "weirctl", version, disable_help_subcommand = true)]
struct Arguments {
    /// The configuration whose weir is meant
    #[arg(
        short = 'c',
        value_name = "FILE",
        global = true,
        conflicts_with = "region"
    )]
    config: Option<String>,
    /// The prefix whose weir is meant
    #[arg(
        short = 'p',
        value_name = "PREFIX",
        global = true,
        conflicts_with = "region"
    )]
    prefix: Option<String>,
    /// The region itself
    #[arg(long, value_name = "FILE", global = true)]
    region: Option<PathBuf>,
    /// JSON instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// The upstream table: all upstreams, or one
    Table {
        /// The name of an upstream
        upstream: Option<String>,
    },
    /// The workers: what they do and the table that they route by
    Workers,
    /// What was counted for each server
    Counters,
    /// A line for each table that is published, until Ctrl-C
    Watch,
    /// Checks the header, the checksums and the versions
    Verify,
}

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

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match perform(&arguments) {
        Ok(code) => code,
        Err(Failure::Unread) => ExitCode::SUCCESS,
        Err(Failure::Message(message)) => {
            let _ = writeln!(io::stderr(), "weirctl: {message}");
            ExitCode::FAILURE
        }
    }
}

fn perform(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let path = match (&arguments.region, &arguments.config, &arguments.prefix) {
        (Some(path), ..) => path.clone(),
        (None, None, None) => find::running()?,
        (None, file, prefix) => find::configured(file.clone(), prefix.clone())?,
    };
    let about = |error: ReadError| format!("\"{}\": {error}", text::shown(&path.to_string_lossy()));
    if matches!(arguments.command, Command::Watch) {
        watch::run(&path, arguments.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut reader = Reader::open(&path).map_err(about)?;
    let mut code = ExitCode::SUCCESS;
    let shown = match &arguments.command {
        Command::Table { upstream } => {
            let table = reader.table().map_err(about)?;
            show::table(&table, upstream.as_deref(), arguments.json)?
        }
        Command::Workers => {
            let rows = reader.workers().map_err(about)?;
            let version = reader.version().map_err(about)?;
            show::workers(version, &rows, find::is_alive, arguments.json)
        }
        Command::Counters => {
            let table = reader.table().map_err(about)?;
            let counters = reader.counters(&table).map_err(about)?;
            show::counters(table.version, &counters, arguments.json)
        }
        Command::Verify | Command::Watch => {
            let report = reader.verify().map_err(about)?;
            if !report.problems.is_empty() {
                code = ExitCode::FAILURE;
            }
            show::report(&path, &report, arguments.json)
        }
    };
    write(&shown)?;
    Ok(code)
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
