//! A running weir of this test, and what can be seen of it from outside.

use std::cell::RefCell;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weir_shm::{Reader, WorkerState};

/// How long anything may take before it counts as not happening.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What keeps a worker busy for a moment.
const REQUESTS: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// A weir and its folder; it ends with this value.
pub struct Weir {
    master: RefCell<Child>,
    folder: tempfile::TempDir,
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn command(folder: &tempfile::TempDir, configuration: &str) -> Command {
    let path = folder.path().join("weir.conf");
    fs::write(&path, configuration).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("--weir").arg(path).stdin(Stdio::null());
    command
}

impl Weir {
    /// Starts it and waits until it serves.
    pub fn start(configuration: &str) -> Weir {
        let folder = tempfile::tempdir().unwrap();
        let master = command(&folder, configuration).spawn().unwrap();
        let weir = Weir {
            master: RefCell::new(master),
            folder,
        };
        let pid_file = weir.folder.path().join("weir.pid");
        weir.wait_for("the pid file", || pid_file.exists());
        assert_eq!(
            fs::read_to_string(pid_file).unwrap(),
            format!("{}\n", weir.master())
        );
        weir
    }

    /// Starts another master in the same folder, when the one before has ended.
    pub fn start_again(&self, configuration: &str) {
        let mut master = self.master.borrow_mut();
        master.wait().unwrap();
        *master = command(&self.folder, configuration).spawn().unwrap();
        let pid = format!("{}\n", master.id());
        drop(master);
        self.wait_for("the pid file", || {
            fs::read_to_string(self.file("weir.pid")).is_ok_and(|text| text == pid)
        });
    }

    /// Starts one that fails: its code, its standard error, and what is left in its folder.
    pub fn fail(configuration: &str) -> (Option<i32>, String, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let ended = command(&folder, configuration).output().unwrap();
        let mut left: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        (
            ended.status.code(),
            String::from_utf8(ended.stderr).unwrap(),
            left,
        )
    }

    /// Puts another configuration in its file.
    pub fn write(&self, configuration: &str) {
        fs::write(self.folder.path().join("weir.conf"), configuration).unwrap();
    }

    pub fn master(&self) -> i32 {
        self.master.borrow().id() as i32
    }

    pub fn signal(&self, signal: Signal) {
        self.send(self.master(), signal);
    }

    pub fn send(&self, pid: i32, signal: Signal) {
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Waits for a line of the level with the words.
    pub fn log_says(&self, level: &str, words: &str) {
        let path = self.file("error.log");
        let level = format!(" {level} ");
        self.wait_for(&format!("line{level}{words}"), || {
            let log = fs::read_to_string(&path).unwrap();
            log.lines()
                .any(|line| line.contains(&level) && line.contains(words))
        });
    }

    pub fn wait_for(&self, what: &str, condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            if begun.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.file("error.log"));
                panic!("no {what}:\n{}", log.unwrap_or_default());
            }
            thread::sleep(LOOK);
        }
    }

    /// All children of the master, in order.
    pub fn children(&self) -> Vec<i32> {
        let master = self.master();
        let path = format!("/proc/{master}/task/{master}/children");
        let list = fs::read_to_string(path).unwrap_or_default();
        let mut pids: Vec<i32> = list
            .split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect();
        pids.sort_unstable();
        pids
    }

    /// The children with this title.
    pub fn titled(&self, title: &str) -> Vec<i32> {
        let mut pids = self.children();
        pids.retain(|pid| {
            let shown = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let end = shown
                .iter()
                .position(|&byte| byte == 0)
                .unwrap_or(shown.len());
            shown[..end] == *title.as_bytes()
        });
        pids
    }

    pub fn workers(&self) -> Vec<i32> {
        self.titled("weir: worker process")
    }

    pub fn syncer(&self) -> i32 {
        self.titled("weir: syncer process")[0]
    }

    pub fn is_alive(&self, pid: i32) -> bool {
        kill(Pid::from_raw(pid), None).is_ok()
    }

    /// How many descriptors a process has open.
    pub fn descriptors(&self, pid: i32) -> usize {
        fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
    }

    /// The region as anybody reads it.
    pub fn region(&self, moved: &str) -> Reader {
        Reader::open(&self.file(&format!("weir.region{moved}"))).unwrap()
    }

    /// Whether there is a file of this end.
    pub fn has(&self, end: &str) -> bool {
        let files = fs::read_dir(self.folder.path()).unwrap();
        files.into_iter().any(|file| {
            let name = file.unwrap().file_name().into_string().unwrap();
            name.ends_with(end)
        })
    }

    /// Whether a process is stopped by a signal.
    pub fn is_stopped(&self, pid: i32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" T"))
    }

    /// What the descriptors of a process are.
    fn links(&self, pid: i32) -> Vec<PathBuf> {
        let files = fs::read_dir(format!("/proc/{pid}/fd"));
        let files = files.into_iter().flatten().flatten();
        files
            .filter_map(|file| fs::read_link(file.path()).ok())
            .collect()
    }

    /// The logs that a process has open, in order, by the names that they have now.
    pub fn logs(&self, pid: i32) -> Vec<String> {
        let mut logs: Vec<String> = Vec::new();
        for path in self.links(pid) {
            if path.parent() == Some(self.folder.path())
                && path.extension().is_some_and(|end| end == "log")
            {
                logs.push(path.file_name().unwrap().to_str().unwrap().into());
            }
        }
        logs.sort();
        logs
    }

    /// How many sockets a process has open.
    pub fn sockets(&self, pid: i32) -> usize {
        let links = self.links(pid);
        let sockets = links
            .iter()
            .filter(|link| link.to_string_lossy().starts_with("socket:"));
        sockets.count()
    }

    /// Gives a file another name.
    pub fn rename(&self, from: &str, to: &str) {
        fs::rename(self.file(from), self.file(to)).unwrap();
    }

    /// Lets a process open this many files from now on.
    pub fn limit_files(&self, pid: i32, limit: u32) {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &pid.to_string(), &format!("--nofile={limit}:")]);
        assert!(command.status().unwrap().success());
    }

    /// How many files a process may open.
    pub fn files_limit(&self, pid: i32) -> u32 {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let soft = line.and_then(|line| line.split_whitespace().nth(3));
        soft.and_then(|soft| soft.parse().ok()).unwrap_or_default()
    }

    /// Stops a worker while it works: it is asked things until a stop meets it so.
    pub fn stop_at_work(&self, pid: i32, port: u16) -> bool {
        let region = Reader::open(&self.file("weir.region")).unwrap();
        let ends = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !ends.load(Ordering::Relaxed) {
                        // One that the stopped worker has is not answered.
                        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
                            let _ = stream.set_read_timeout(Some(LOOK));
                            let _ = stream.write_all(REQUESTS.as_bytes());
                            let _ = stream.read(&mut [0; 4096]);
                        }
                    }
                });
            }
            let begun = Instant::now();
            let met = loop {
                self.send(pid, Signal::SIGSTOP);
                self.wait_for("stop", || self.is_stopped(pid));
                let row = region.workers().unwrap();
                let row = row.iter().find(|row| i64::from(row.pid) == i64::from(pid));
                if row.unwrap().state == WorkerState::Running {
                    break true;
                }
                self.send(pid, Signal::SIGCONT);
                if begun.elapsed() > PATIENCE {
                    break false;
                }
                thread::sleep(Duration::from_micros(300));
            };
            ends.store(true, Ordering::Relaxed);
            met
        })
    }

    /// A connection with a request of which a part is missing.
    pub fn hold(&self, port: u16) -> TcpStream {
        let mut stream = self.connect(port);
        stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        stream
    }

    pub fn listens(&self, port: u16) -> bool {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    }

    pub fn connect(&self, port: u16) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The body of an answer on a new connection.
    pub fn get(&self, port: u16) -> String {
        self.ask(self.connect(port))
    }

    pub fn ask(&self, mut stream: TcpStream) -> String {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        body.to_owned()
    }

    /// Ends it: the code is as expected, nobody is left, and neither is the pid file.
    pub fn end(&self, signal: Signal, code: i32) {
        let children = self.children();
        self.signal(signal);
        self.wait_for("end", || {
            self.master.borrow_mut().try_wait().unwrap().is_some()
        });
        let status = self.master.borrow_mut().wait().unwrap();
        assert_eq!(status.code(), Some(code));
        for pid in children {
            assert!(!self.is_alive(pid), "{pid} is left");
        }
        assert!(!self.file("weir.pid").exists());
        assert!(self.file("weir.region").exists());
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        // After a failure: by id, and only those of this test.
        let children = self.children();
        let _ = self.master.borrow_mut().kill();
        let _ = self.master.borrow_mut().wait();
        for pid in children {
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
