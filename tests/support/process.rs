//! Processes that cannot outlive the test that started them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{PATIENCE, tool, wait_for};

/// A child that the kernel kills when the thread that started it ends, however that comes about.
pub struct Process {
    child: Child,
}

/// A command whose process gets SIGKILL when the starting thread dies. The wrapper replaces
/// itself by `program`, so pid and command line are the program's own.
pub fn guarded(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(tool("setpriv"));
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command.stdin(Stdio::null());
    command
}

impl Process {
    /// Starts a command made by [`guarded`]; both output streams go to `output`.
    pub fn start(command: &mut Command, output: &Path) -> Process {
        let file = File::create(output).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Process::spawn(command)
    }

    /// Starts a command made by [`guarded`] with the streams as they are set.
    pub fn spawn(command: &mut Command) -> Process {
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Process { child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        wait_for(limit, "the process ends", || self.ended())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command that ends by itself has said.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end, which must come within [`PATIENCE`].
#[track_caller]
pub fn finish(command: &mut Command) -> Finished {
    finish_within(command, PATIENCE)
}

/// Runs a command to its end. Its output goes through files, so that a daemon that keeps the
/// streams open does not hold the caller up.
#[track_caller]
pub fn finish_within(command: &mut Command, limit: Duration) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    let [out, err] = ["out", "err"].map(|name| folder.path().join(name));
    command
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap());
    let mut process = Process::spawn(command);
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = process.ended() {
            break status;
        }
        assert!(
            Instant::now() < deadline,
            "{command:?} still runs after {limit:?}; stderr: {}",
            read_lossy(&err)
        );
        std::thread::sleep(Duration::from_millis(5));
    };
    Finished {
        code: status.code(),
        signal: status.signal(),
        stdout: read_lossy(&out),
        stderr: read_lossy(&err),
    }
}

/// A file's text; empty when it is not there.
pub fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Without what follows the last end of a line.
pub fn whole_lines(mut text: String) -> String {
    text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
    text
}

/// Sends a signal to one process; one that has just ended is fine.
pub fn send(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid as i32), signal);
}

/// Whether a process is there and is not a zombie.
pub fn alive(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

/// What a process does, as `ps` puts it: `T` is stopped, `Z` a zombie.
pub fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

/// The command line as `ps` shows it.
pub fn title(pid: u32) -> String {
    let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&text).replace('\0', " ");
    words.trim_end().to_owned()
}

/// The children of one process.
pub fn children(pid: u32) -> Vec<u32> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// Every process below one, children of children too.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut all = children(pid);
    let mut next = 0;
    while next < all.len() {
        all.extend(children(all[next]));
        next += 1;
    }
    all
}

/// The id of the user that a process runs as.
pub fn owner(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Kills a process that is nobody's child here, such as a daemon, when the test ends: by a shell
/// that waits for the end of its input.
pub struct Leash {
    pid: u32,
    shell: Child,
}

impl Leash {
    pub fn new(pid: u32) -> io::Result<Leash> {
        let script = format!("read word; [ \"$word\" = done ] || kill -9 {pid}");
        let shell = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()?;
        Ok(Leash { pid, shell })
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        send(self.pid, Signal::SIGKILL);
        if let Some(mut input) = self.shell.stdin.take() {
            let _ = input.write_all(b"done\n");
        }
        let _ = self.shell.wait();
    }
}
