//! A proxy under measurement: its configuration, its process tree, its CPU time.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a started program has until it accepts connections.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A program that ends with this value.
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts `program` quietly on one CPU; it dies with this process.
    pub fn start(cpu: u32, program: &Path, arguments: &[&str], log: &Path) -> io::Result<Running> {
        let pin = ["taskset", "-c", &cpu.to_string()].map(str::to_string);
        Running::spawn(&pin, program, arguments, log)
    }

    /// The same on any CPU.
    pub fn start_unpinned(program: &Path, arguments: &[&str], log: &Path) -> io::Result<Running> {
        Running::spawn(&[], program, arguments, log)
    }

    fn spawn(
        pin: &[String],
        program: &Path,
        arguments: &[&str],
        log: &Path,
    ) -> io::Result<Running> {
        let log = fs::File::create(log)?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM"])
            .args(pin)
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Running { child })
    }

    /// The first process; taskset and setpriv exec, so it is the program's own.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of the whole process tree so far, in nanoseconds.
    pub fn cpu_ns(&self) -> u64 {
        tree(self.pid()).into_iter().map(cpu_ns).sum()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// `pid` and every process below it.
pub fn tree(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        let tasks = fs::read_dir(format!("/proc/{parent}/task"))
            .into_iter()
            .flatten()
            .flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .filter_map(|word| word.parse::<u32>().ok()),
            );
        }
        next += 1;
    }
    found
}

/// Time on a CPU of every thread of `pid`, from schedstat.
pub fn cpu_ns(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// Addresses of `count` servers that are one responder: it listens at `port` on every address of the
/// loopback network.
pub fn servers(port: u16, count: u16) -> Vec<SocketAddr> {
    let address = |number: u16| {
        let [high, low] = number.to_be_bytes();
        SocketAddr::from(([127, 1, high, low], port))
    };
    (1..=count).map(address).collect()
}

/// Proportional set size of `pid` and all below it, in bytes.
pub fn pss(pid: u32) -> u64 {
    let of = |pid: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    tree(pid).into_iter().filter_map(of).sum::<u64>() * 1024
}

/// A port of the loopback interface that nobody has now.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Waits until `port` accepts a connection.
pub fn wait_for(port: u16) -> Result<(), String> {
    let deadline = Instant::now() + START_TIMEOUT;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    while TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err() {
        if Instant::now() > deadline {
            return Err(format!(
                "nothing listens on {address} after {START_TIMEOUT:?}"
            ));
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// The program `name` on PATH, where `tests/setup` puts what the benchmarks compare with.
pub fn program(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| format!("{name} is not on PATH: run `make bench`, which gets it"))
}

/// The release binary of weir beside the running benchmark.
pub fn weir() -> Result<PathBuf, String> {
    let beside = std::env::current_exe()
        .map_err(|error| error.to_string())?
        .with_file_name("weir");
    if beside.is_file() {
        Ok(beside)
    } else {
        Err("build weir first: make bench".into())
    }
}
