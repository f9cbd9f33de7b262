//! The command line of `weirctl`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand};
use clap_complete::Shell;
use weir_shm::Address;
use weir_worker::unit;

use super::{Failure, find, wait};

/// Shows the upstream tables, workers, sources and counters that a weir shares among its processes,
/// and asks its master for changes
///
/// It exits with 0, with 1 when there is nothing good to show (the reason is on standard error), and
/// with 2 when it was called wrongly. wait exits with 3 when its time is over; check exits with 1
/// for what is stale or refused and with 2 for what is held or down.
#[derive(Debug, Parser)]
#[command(name = "weirctl", version, disable_help_subcommand = true)]
pub struct Arguments {
    /// The configuration whose weir is meant
    #[arg(
        short = 'c',
        value_name = "FILE",
        global = true,
        conflicts_with = "region"
    )]
    pub config: Option<String>,
    /// The prefix whose weir is meant
    #[arg(
        short = 'p',
        value_name = "PREFIX",
        global = true,
        conflicts_with = "region"
    )]
    pub prefix: Option<String>,
    /// The region itself
    #[arg(long, value_name = "FILE", global = true)]
    pub region: Option<PathBuf>,
    /// JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// The region that is meant.
    pub fn path(&self) -> Result<PathBuf, Failure> {
        Ok(match (&self.region, &self.config, &self.prefix) {
            (Some(path), ..) => path.clone(),
            (None, None, None) => find::running()?,
            (None, file, prefix) => find::configured(file.clone(), prefix.clone())?,
        })
    }
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// The upstream table: all upstreams, or one
    Table {
        /// The name of an upstream
        upstream: Option<String>,
        /// As it was at an earlier table version
        #[arg(long, value_name = "VERSION")]
        at: Option<u64>,
    },
    /// The workers: what they do and the table that they route by
    Workers,
    /// What was counted for each server
    Counters,
    /// A line for each table that is published, until Ctrl-C
    Watch,
    /// The latest changes: version, when, why, what
    History {
        /// So many of them
        #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 20)]
        number: usize,
    },
    /// What is different between two table versions
    Diff {
        /// The earlier one
        #[arg(value_name = "VERSION")]
        from: u64,
        /// The later one; the present one unless given
        #[arg(value_name = "VERSION")]
        to: Option<u64>,
    },
    /// The watches: where they ask, how they do, and the state of each upstream
    Sources,
    /// Entries that are not applied
    Errors,
    /// How long changes take: seen by the syncer, published, first used by each worker
    Latency,
    /// Waits until every worker, the idle too, routes by something; exits with 3 when the time is
    /// over
    Wait(Wait),
    /// Keeps the servers of an upstream, or of all with a source, as they are
    Pin {
        /// The name of an upstream
        upstream: Option<String>,
    },
    /// Lets an upstream, or all that are pinned, follow their source again
    Unpin {
        /// The name of an upstream
        upstream: Option<String>,
    },
    /// Gives the upstreams with a source what they had at an earlier table version, and pins them
    Rollback {
        /// The earlier version
        version: u64,
    },
    /// Answers that are held back
    #[command(subcommand)]
    Guard(Guard),
    /// What entries would do, without doing it
    Try {
        /// KEY=VALUE, or a file with a JSON list of entries as of "consul kv export" or
        /// /v1/kv/PREFIX?recurse
        #[arg(value_name = "FILE|KEY=VALUE")]
        what: String,
    },
    /// One line for a monitor: exits with 0 if all is fresh, 1 if something is stale or refused, 2 if
    /// something is held or down
    Check,
    /// A live view of everything; q ends it
    Top {
        /// Between two looks, in milliseconds
        #[arg(long, value_name = "MS", default_value_t = 1000,
              value_parser = clap::value_parser!(u64).range(50..=60_000))]
        interval: u64,
    },
    /// Checks the header, the checksums and the versions
    Verify,
    /// A script that completes weirctl's command line
    Completions {
        /// The shell
        shell: Shell,
    },
    /// The manual page, or all pages into a folder
    Man {
        /// The folder
        folder: Option<PathBuf>,
    },
}

/// What to wait for.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("what").required(true))]
pub struct Wait {
    /// This table version, or a later one
    #[arg(group = "what")]
    pub version: Option<u64>,
    /// A table in which the upstream has this server
    #[arg(long, value_name = "UPSTREAM/ADDRESS", group = "what", value_parser = wait::server)]
    pub has: Option<(String, Address)>,
    /// A table in which the upstream does not have this server any more
    #[arg(long, value_name = "UPSTREAM/ADDRESS", group = "what", value_parser = wait::server)]
    pub gone: Option<(String, Address)>,
    /// What a source's answer with this index, or a later one, said
    #[arg(long, value_name = "INDEX", group = "what")]
    pub index: Option<u64>,
    /// With --index: of the source that feeds this upstream
    #[arg(long, requires = "index", conflicts_with_all = ["version", "has", "gone"])]
    pub upstream: Option<String>,
    /// For so long at most, as in a configuration: 500ms, 30s, 5m
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = time)]
    pub timeout: Duration,
}

fn time(text: &str) -> Result<Duration, String> {
    unit::millis(text).ok_or_else(|| "it is no time as 500ms, 30s or 5m".to_owned())
}

#[derive(Clone, Debug, Subcommand)]
pub enum Guard {
    /// The answers that are held back, and why
    List,
    /// Applies the one of an upstream
    Accept {
        /// The name of the upstream
        upstream: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The command lines that a document shows, as words, quotes taken off.
    fn shown(document: &str) -> Vec<Vec<String>> {
        let lines = document.lines().filter_map(|line| {
            let line = line.strip_prefix("    ")?;
            let line = line.strip_prefix("$ ").unwrap_or(line);
            line.starts_with("weirctl ").then_some(line)
        });
        let usage = |line: &&str| !line.contains("COMMAND");
        let words = |line: &str| {
            let line = line.split(" # ").next().unwrap_or(line);
            let words = line.split_whitespace();
            words
                .map(|word| word.trim_matches('\'').to_owned())
                .collect()
        };
        lines.filter(usage).map(words).collect()
    }

    #[test]
    fn the_documents_show_command_lines_that_are_taken() {
        let readme = include_str!("../../README.md");
        let page = include_str!("../../docs/weirctl.md");
        let lines: Vec<_> = [readme, page].into_iter().flat_map(shown).collect();
        assert!(lines.len() > 10, "{lines:?}");
        for line in lines {
            let taken = Arguments::try_parse_from(&line);
            assert!(taken.is_ok(), "{line:?}: {taken:?}");
        }
        // The negative control.
        assert!(Arguments::try_parse_from(["weirctl", "rollback", "yesterday"]).is_err());
    }

    #[test]
    fn an_upstream_is_for_an_index_alone() {
        let taken = |what: &[&str]| {
            let line = ["weirctl", "wait"].iter().chain(what);
            Arguments::try_parse_from(line.chain(&["--upstream", "a"])).is_ok()
        };
        assert!(taken(&["--index", "1"]));
        for other in [
            &["1"][..],
            &["--has", "a/[::1]:1"],
            &["--gone", "a/[::1]:1"],
            &[],
        ] {
            assert!(!taken(other), "{other:?}");
        }
    }
}
