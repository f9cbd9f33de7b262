//! weir itself, started as an operator would, in a prefix of its own.

mod setup;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::client::{Client, Response};
use super::process::{self, Finished, Process, guarded, read_lossy, whole_lines};
use super::{PATIENCE, wait_for, wait_until};
pub use setup::{Setup, in_http, in_server};

/// Connections that may be tried until each worker has accepted one of them.
const SPREAD: usize = 2000;

/// How long one change in Consul may take to be routed by, on a machine that is busy; the delay
/// itself is measured by the benchmark.
pub const SOON: Duration = Duration::from_secs(5);

/// A location that tells the worker that answers; [`Weir::each_worker`] needs it.
pub const WHO: &str = "location = /who { add_header X-Pid $pid; return 200 who; }\n";

/// A running weir; dropping it stops it and looks through its logs.
pub struct Weir {
    process: Option<Process>,
    setup: Setup,
}

impl Weir {
    pub fn path(&self, name: &str) -> PathBuf {
        self.setup.dir().join(name)
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("weir runs")
    }

    /// The master.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("weir runs").pid()
    }

    pub fn signal(&self, signal: Signal) {
        process::send(self.pid(), signal);
    }

    /// The workers that take connections.
    pub fn workers(&self) -> Vec<u32> {
        self.titled("weir: worker process")
    }

    #[track_caller]
    pub fn syncer(&self) -> u32 {
        wait_for(PATIENCE, "there is one syncer", || {
            match self.titled("weir: syncer process")[..] {
                [pid] => Some(pid),
                _ => None,
            }
        })
    }

    fn titled(&self, title: &str) -> Vec<u32> {
        let mut pids = process::children(self.pid());
        pids.retain(|pid| process::title(*pid) == title);
        pids.sort_unstable();
        pids
    }

    pub fn port(&self, name: &str) -> u16 {
        self.setup.values[name].parse().unwrap()
    }

    /// Where `@PORT@` listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port("PORT"))
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        super::client::get(self.address(), target)
    }

    /// What `location = /upstream_show` says of one upstream.
    pub fn shown(&self, upstream: &str) -> String {
        self.get(&format!("/upstream_show?{upstream}")).text()
    }

    /// Waits until that says so, with the words of `upstream_show`.
    #[track_caller]
    pub fn wait_shown(&self, upstream: &str, expected: &str) {
        let mut last = String::new();
        let deadline = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < deadline {
            last = self.shown(upstream);
            if last.trim_end() == expected.trim_end() {
                return;
            }
        }
        panic!("upstream_show still says\n{last}\nand not\n{expected}");
    }

    /// A connection to each of `number` workers, with its pid; needs [`WHO`].
    #[track_caller]
    pub fn each_worker(&self, number: usize) -> BTreeMap<u32, Client> {
        let mut found = BTreeMap::new();
        for _ in 0..SPREAD {
            let mut client = self.connect();
            let pid = who(&mut client);
            found.entry(pid).or_insert(client);
            if found.len() == number {
                return found;
            }
        }
        panic!("only {} of {number} workers take connections", found.len());
    }

    /// Replaces the configuration file; ports keep their numbers.
    pub fn rewrite(&mut self, text: &str) {
        self.setup.text = text.to_owned();
        self.setup.write();
    }

    /// The text that the file was made from.
    pub fn text(&self) -> String {
        self.setup.text.clone()
    }

    /// Sends HUP and waits until every worker runs the next generation.
    #[track_caller]
    pub fn reload(&self) {
        let before = self.generations();
        let last = before.iter().max().copied().unwrap_or_default();
        self.signal(Signal::SIGHUP);
        wait_until(PATIENCE, "every worker has the new configuration", || {
            let now = self.generations();
            now.len() == before.len() && now.iter().all(|now| *now > last)
        });
    }

    /// The configuration generation of each worker, as `weirctl workers` shows it.
    pub fn generations(&self) -> Vec<u64> {
        let rows = self.weirctl_json(&["workers"]);
        let rows = rows["workers"]
            .as_array()
            .or(rows.as_array())
            .cloned()
            .unwrap_or_default();
        rows.iter()
            .filter_map(|row| row["generation"].as_u64())
            .collect()
    }

    pub fn weirctl(&self, arguments: &[&str]) -> Finished {
        let region = self.path("weir.region").display().to_string();
        weirctl(&[&["--region", &region], arguments].concat())
    }

    #[track_caller]
    pub fn weirctl_json(&self, arguments: &[&str]) -> serde_json::Value {
        let done = self.weirctl(&[arguments, &["--json"]].concat());
        serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
    }

    /// The whole lines: one that is being written is left out.
    pub fn error_log(&self) -> String {
        whole_lines(read_lossy(&self.path("logs/error.log")))
    }

    /// The whole lines: one that is being written is left out.
    pub fn access_log(&self) -> String {
        whole_lines(read_lossy(&self.path("logs/access.log")))
    }

    /// Waits for a line in the error log.
    #[track_caller]
    pub fn wait_log(&self, text: &str) {
        wait_until(PATIENCE, &format!("the error log says {text:?}"), || {
            self.error_log().contains(text)
        });
    }

    /// Runs `weir` with this one's prefix and configuration, such as `-s reload`.
    #[track_caller]
    pub fn command(&self, arguments: &[&str]) -> Finished {
        process::finish(command(self.setup.dir()).args(arguments))
    }

    /// Starts again in the same prefix, after an end.
    #[track_caller]
    pub fn start_again(&mut self) {
        let started = self.setup.launch();
        self.process = Some(started.unwrap_or_else(|output| panic!("no second start: {output}")));
    }

    /// Stops by TERM.
    #[track_caller]
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        self.process().wait(PATIENCE);
    }

    /// Lines that no test may leave behind.
    fn complaints(&self) -> Vec<String> {
        let logs = [self.error_log(), read_lossy(&self.path("output"))].concat();
        let bad = |line: &&str| {
            let severe = ["[alert]", "[emerg]"]
                .iter()
                .any(|level| line.contains(level));
            let allowed = self
                .setup
                .allowed
                .iter()
                .any(|text| line.contains(text.as_str()));
            line.contains("panicked") || (severe && !allowed)
        };
        logs.lines().filter(bad).map(str::to_owned).collect()
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        if std::thread::panicking() {
            for pid in process::descendants(process.pid()) {
                process::send(pid, Signal::SIGKILL);
            }
            drop(process);
            let log = self.error_log();
            // A test that polls leaves thousands of these.
            let polls = "closed keepalive connection";
            let lines: Vec<&str> = log.lines().filter(|line| !line.ends_with(polls)).collect();
            let tail = lines[lines.len().saturating_sub(60)..].join("\n");
            eprintln!(
                "--- error log\n{tail}\n--- output\n{}",
                read_lossy(&self.path("output"))
            );
            return;
        }
        process.signal(Signal::SIGTERM);
        process.wait(PATIENCE);
        let complaints = self.complaints();
        assert!(complaints.is_empty(), "the error log has {complaints:#?}");
    }
}

/// The pid of the worker behind a connection.
#[track_caller]
pub fn who(client: &mut Client) -> u32 {
    let response = client
        .get("/who")
        .unwrap_or_else(|error| panic!("GET /who: {error}"));
    let pid = response
        .field("x-pid")
        .unwrap_or_else(|| panic!("no X-Pid: {}", response.head));
    pid.parse().unwrap()
}

/// Runs `weirctl`.
#[track_caller]
pub fn weirctl(arguments: &[&str]) -> Finished {
    process::finish(guarded(env!("CARGO_BIN_EXE_weirctl")).args(arguments))
}

/// `weir` with its prefix and configuration file.
pub fn command(prefix: &Path) -> Command {
    let mut command = bare();
    command
        .arg("-p")
        .arg(prefix)
        .arg("-c")
        .arg(prefix.join("conf/weir.conf"));
    command
}

/// `weir` without an argument.
pub fn bare() -> Command {
    guarded(env!("CARGO_BIN_EXE_weir"))
}
