//! A region with something of everything in it, and the program to look at it with.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use weir_shm::{
    Address, Capacity, CounterId, Metric, Publisher, Region, Server, Snapshot, Upstream,
    WorkerRegion, WorkerState,
};

/// How long one run of weirctl may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Small, so that a random word of the file is likely to mean something.
pub const CAPACITY: Capacity = Capacity {
    servers: 16,
    upstreams: 4,
    workers: 2,
    slots: 4,
    history: Capacity::MIN_HISTORY,
};

pub struct Fixture {
    pub publisher: Publisher,
    pub worker: WorkerRegion,
    pub region: Region,
    pub folder: TempDir,
}

impl Fixture {
    /// Three tables were published, the last with a backup, a server that is down and a socket;
    /// one worker has counted, and one server is leaving.
    pub fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let mut fixture = Fixture::bare(folder);
        fixture.region.set_master(std::process::id());
        for ports in [&[8001, 8002, 8009][..], &[8001, 8009], &[8001]] {
            fixture.publish(ports);
            fixture.follow();
        }
        fixture
    }

    /// An empty region of the same name.
    pub fn bare(folder: TempDir) -> Fixture {
        let region = Region::create(&folder.path().join("weir.region"), CAPACITY).unwrap();
        let publisher = Publisher::new(&region, region.writer_file().unwrap()).unwrap();
        let worker = region.worker(0).unwrap();
        let row = worker.scoreboard();
        row.set_pid(std::process::id());
        row.set_generation(7);
        row.add(Metric::Requests, 41);
        row.add(Metric::Active, 2);
        row.set_state(WorkerState::Parked);
        Fixture {
            publisher,
            worker,
            region,
            folder,
        }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("weir.region")
    }

    /// Publishes upstream `test` with servers of these ports, and `other`, which stays.
    pub fn publish(&mut self, ports: &[u16]) {
        let servers = ports
            .iter()
            .map(|port| server(([127, 0, 0, 1], *port).into()));
        let mut other = vec![
            server("[::1]:80".parse().unwrap()),
            server(([10, 0, 0, 1], 80).into()),
        ];
        other[0].backup = true;
        other[1].down = true;
        other[1].fail_timeout_ms = 1500;
        let mut socket = other[0].clone();
        socket.address = Address::Unix("/run/a.sock".into());
        other.push(socket);
        self.publisher
            .publish(
                vec![
                    upstream("test", servers.collect()),
                    upstream("other", other),
                ],
                weir_shm::Seen::NOBODY,
            )
            .unwrap();
    }

    /// Does what a worker does on a new table, with a request to the first server.
    pub fn follow(&mut self) {
        let mut snapshot = Snapshot::default();
        self.worker.read(0, &mut snapshot).unwrap();
        let id = self.publisher.table().upstreams[0].servers[0].counter;
        self.worker.counters().reset(id);
        self.worker.counters().begin(id);
        self.worker.counters().end(id, 1000, 100);
        self.worker
            .scoreboard()
            .set_table_version(self.publisher.table().version);
    }
}

fn server(address: std::net::SocketAddr) -> Server {
    Server {
        address: Address::Ip(address),
        weight: 1,
        max_fails: 2,
        fail_timeout_ms: 10_000,
        down: false,
        backup: false,
        counter: CounterId::default(),
    }
}

fn upstream(name: &str, servers: Vec<Server>) -> Upstream {
    Upstream {
        name: name.to_owned(),
        changed: 0,
        learned: false,
        template: None,
        servers,
    }
}

/// `weirctl`, its streams piped. It dies with this thread.
pub fn program() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", env!("CARGO_BIN_EXE_weirctl")]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// `weirctl --region PATH` and further arguments.
pub fn weirctl(region: &Path, arguments: &[&str]) -> Command {
    let mut command = program();
    command.arg("--region").arg(region).args(arguments);
    command
}

/// Runs a command to its end; one that does not end fails the test.
pub fn run(mut command: Command) -> Output {
    let mut child = command.spawn().unwrap();
    // What these commands write fits the pipes, so that nobody has to read meanwhile.
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{command:?} does not end: {:?}", child.wait_with_output());
        }
        thread::sleep(Duration::from_millis(1));
    }
    child.wait_with_output().unwrap()
}

/// Standard output of a command that has to succeed.
pub fn shown(region: &Path, arguments: &[&str]) -> String {
    let output = run(weirctl(region, arguments));
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
