//! weir itself, started as an operator would, in a prefix of its own.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::client::{Client, Response};
use super::process::{self, Finished, Process, guarded, read_lossy, whole_lines};
use super::{PATIENCE, free_port, wait_for, wait_until};

/// Starts that may be lost to another process that took a port first.
const ATTEMPTS: usize = 5;
/// Connections that may be tried until each worker has accepted one of them.
const SPREAD: usize = 2000;

/// The main context of most tests.
const MAIN: &str = "
daemon off;
worker_processes @WORKERS@;
error_log logs/error.log info;
pid logs/weir.pid;
region @DIR@/weir.region servers=@SERVERS@ upstreams=512;
events { worker_connections 2048; }
http {
    access_log logs/access.log;
";

/// A location that tells the worker that answers; [`Weir::each_worker`] needs it.
pub const WHO: &str = "location = /who { add_header X-Pid $pid; return 200 who; }\n";

/// A configuration in which `@NAME@` is replaced: `@DIR@` by the prefix, `@PORT@`, `@PORT2@`, … by
/// free ports, others by what [`Setup::set`] says.
pub struct Setup {
    text: String,
    values: BTreeMap<String, String>,
    allowed: Vec<String>,
    arguments: Vec<String>,
    wrapper: Vec<String>,
    environment: Vec<(String, String)>,
    prefix: TempDir,
}

impl Setup {
    /// A whole configuration file.
    pub fn whole(text: &str) -> Setup {
        let prefix = tempfile::tempdir().unwrap();
        for folder in ["", "conf", "logs", "dump"] {
            let path = prefix.path().join(folder);
            fs::create_dir_all(&path).unwrap();
            // Workers and syncer run as another user when the tests run as root.
            fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        }
        let mut setup = Setup {
            text: text.to_owned(),
            values: BTreeMap::new(),
            allowed: Vec::new(),
            arguments: Vec::new(),
            wrapper: Vec::new(),
            environment: Vec::new(),
            prefix,
        };
        setup = setup.set("WORKERS", 2).set("SERVERS", 1024);
        let dir = setup.dir().display().to_string();
        setup.set("DIR", dir)
    }

    /// What stands in `http {}`.
    pub fn http(body: &str) -> Setup {
        Setup::whole(&in_http(body))
    }

    /// One server on `@PORT@` with these locations, and [`WHO`].
    pub fn server(body: &str) -> Setup {
        Setup::http(&in_server(body))
    }

    pub fn set(mut self, name: &str, value: impl Display) -> Setup {
        self.values.insert(name.to_owned(), value.to_string());
        self
    }

    pub fn workers(self, number: usize) -> Setup {
        self.set("WORKERS", number)
    }

    /// Lines of level alert or emerg that hold this text are part of the test.
    pub fn allow(mut self, text: &str) -> Setup {
        self.allowed.push(text.to_owned());
        self
    }

    /// One more argument of the command line.
    pub fn argument(mut self, argument: &str) -> Setup {
        self.arguments.push(argument.to_owned());
        self
    }

    /// A program, with its arguments, that replaces itself by weir.
    pub fn under(mut self, wrapper: &[&str]) -> Setup {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// A variable of weir's environment.
    pub fn environment(mut self, name: &str, value: impl Display) -> Setup {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// Without any of these.
    pub fn without_environment(mut self) -> Setup {
        self.environment.clear();
        self
    }

    pub fn dir(&self) -> &Path {
        self.prefix.path()
    }

    /// A file below the prefix, for workers to read too.
    pub fn file(self, name: &str, text: &str) -> Setup {
        fs::write(self.dir().join(name), text).unwrap();
        self
    }

    /// Writes the configuration file.
    pub fn write(&mut self) {
        let text = fill(&self.text, &mut self.values);
        // Whole at once: weir may be reading it for an earlier HUP.
        let next = self.dir().join("conf/weir.conf.next");
        fs::write(&next, text).unwrap();
        fs::rename(next, self.dir().join("conf/weir.conf")).unwrap();
    }

    /// Runs weir to its end, which is expected to come at once: `-t`, or a start that fails.
    #[track_caller]
    pub fn run(&mut self, arguments: &[&str]) -> Finished {
        self.write();
        process::finish(self.command().args(arguments))
    }

    /// Starts it and waits for the pid file.
    #[track_caller]
    pub fn start(mut self) -> Weir {
        for _ in 0..ATTEMPTS {
            self.write();
            match self.launch() {
                Ok(process) => {
                    return Weir {
                        process: Some(process),
                        setup: self,
                    };
                }
                Err(output) if output.contains("Address already in use") => {
                    self.values.retain(|name, _| !name.starts_with("PORT"));
                    let _ = fs::remove_file(self.dir().join("logs/error.log"));
                }
                Err(output) => panic!("weir does not start: {output}"),
            }
        }
        panic!("no free port in {ATTEMPTS} attempts");
    }

    fn command(&self) -> Command {
        let weir = command(self.dir());
        let mut command = match self.wrapper.split_first() {
            None => weir,
            Some((program, arguments)) => {
                let mut command = guarded(program);
                command.args(arguments).arg(env!("CARGO_BIN_EXE_weir"));
                // Without the guard's own.
                let of_weir = weir.get_args().skip_while(|word| *word != "-p");
                command.args(of_weir);
                command
            }
        };
        command.args(&self.arguments);
        let variables = self.environment.iter();
        command.envs(variables.map(|(name, value)| (name, value)));
        command
    }

    /// Starts it and waits for the pid file, or for its end: with which code, and what it said.
    #[track_caller]
    pub fn try_start(mut self) -> Result<Weir, Box<(Setup, Option<i32>, String)>> {
        self.write();
        let output = self.dir().join("output");
        let mut process = Process::start(&mut self.command(), &output);
        let pid = process.pid().to_string();
        let ended = wait_for(PATIENCE, "weir writes its pid or ends", || {
            let written = read_lossy(&self.dir().join("logs/weir.pid")).trim() == pid;
            let ended = process.ended();
            (written || ended.is_some()).then_some(ended)
        });
        match ended {
            None => Ok(Weir {
                process: Some(process),
                setup: self,
            }),
            Some(status) => {
                let said = read_lossy(&output);
                Err(Box::new((self, status.code(), said)))
            }
        }
    }

    /// Starts the process with the file as it is; what it said if it ends instead of listening.
    #[track_caller]
    fn launch(&self) -> Result<Process, String> {
        let output = self.dir().join("output");
        let mut process = Process::start(&mut self.command(), &output);
        let pid = process.pid().to_string();
        let pid_file = self.dir().join("logs/weir.pid");
        wait_for(PATIENCE, "weir writes its pid or ends", || {
            let written = read_lossy(&pid_file).trim() == pid;
            (written || process.ended().is_some()).then_some(written)
        })
        .then_some(process)
        .ok_or_else(|| read_lossy(&output) + &read_lossy(&self.dir().join("logs/error.log")))
    }
}

/// The usual main context around what stands in `http {}`.
pub fn in_http(body: &str) -> String {
    format!("{MAIN}{body}\n}}\n")
}

/// One server on `@PORT@` with these locations.
pub fn in_server(body: &str) -> String {
    format!("server {{\nlisten 127.0.0.1:@PORT@;\n{WHO}{body}\n}}\n")
}

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

/// Replaces every `@NAME@`, choosing ports as they are met; names are capital letters and digits.
fn fill(text: &str, values: &mut BTreeMap<String, String>) -> String {
    let is_name = |name: &str| {
        let good = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        !name.is_empty() && name.bytes().all(good)
    };
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('@') {
        filled.push_str(before);
        let name = after.split_once('@').filter(|(name, _)| is_name(name));
        let Some((name, after)) = name else {
            filled.push('@');
            rest = after;
            continue;
        };
        if name.starts_with("PORT") && !values.contains_key(name) {
            values.insert(name.to_owned(), free_port().to_string());
        }
        let value = values
            .get(name)
            .unwrap_or_else(|| panic!("@{name}@ is not set"));
        filled.push_str(value);
        rest = after;
    }
    filled + rest
}

/// How long one change in Consul may take to be routed by, on a machine that is busy; the delay
/// itself is measured by the benchmark.
pub const SOON: Duration = Duration::from_secs(5);
