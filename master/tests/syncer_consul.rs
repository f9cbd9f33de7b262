//! The syncer against real Consul.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Options, Syncer, poll};

/// A Consul agent of the test's own; it dies with the test, its data stay in the folder.
struct Consul {
    agent: Child,
    folder: tempfile::TempDir,
    ports: [u16; 6],
}

/// From PATH, else where `tests/setup` puts it.
fn program() -> PathBuf {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin/consul");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("consul"))
        .chain([unpacked])
        .find(|program| program.exists())
        .expect("consul is neither on PATH nor unpacked: run tests/setup")
}

fn free_ports() -> [u16; 6] {
    let listeners = [(); 6].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

impl Consul {
    fn start() -> Consul {
        // A port that was free a moment ago may be taken by now.
        for _ in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            let ports = free_ports();
            let mut consul = Consul {
                agent: agent(folder.path(), ports),
                folder,
                ports,
            };
            if consul.leads() {
                return consul;
            }
        }
        panic!("Consul does not start");
    }

    /// SIGKILL, and the same agent again.
    fn crash(&mut self) {
        self.agent.kill().unwrap();
        self.agent.wait().unwrap();
    }

    fn restart(&mut self) {
        self.agent = agent(self.folder.path(), self.ports);
        assert!(self.leads(), "Consul ended");
    }

    /// Waits until it takes writes; `false` when it ended instead.
    fn leads(&mut self) -> bool {
        poll("Consul's leader", || {
            if self.agent.try_wait().unwrap().is_some() {
                return Some(false);
            }
            let written = request(self.ports[0], "PUT", "weir-test", "x")?;
            (written == "true").then_some(true)
        })
    }

    fn put(&self, key: &str, value: &str) {
        let answer = request(self.ports[0], "PUT", key, value);
        assert_eq!(answer.as_deref(), Some("true"), "{key}");
    }

    fn delete(&self, key: &str) {
        assert_eq!(
            request(self.ports[0], "DELETE", key, "").as_deref(),
            Some("true"),
            "{key}"
        );
    }
}

impl Drop for Consul {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

fn agent(folder: &Path, ports: [u16; 6]) -> Child {
    let [http, server, lan, wan, dns, grpc] = ports;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program());
    command.args([
        "agent",
        "-server",
        "-bootstrap",
        "-bind=127.0.0.1",
        "-client=127.0.0.1",
    ]);
    command.arg(format!("-data-dir={}", folder.join("data").display()));
    command
        .arg(format!("-http-port={http}"))
        .arg(format!("-server-port={server}"));
    command
        .arg(format!("-serf-lan-port={lan}"))
        .arg(format!("-serf-wan-port={wan}"));
    command
        .arg(format!("-dns-port={dns}"))
        .arg(format!("-grpc-port={grpc}"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.process_group(0).spawn().unwrap()
}

/// One request on a connection of its own; the body of a 200.
fn request(port: u16, method: &str, key: &str, value: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(
        stream,
        "{method} /v1/kv/{key} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{value}",
        value.len()
    )
    .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200")
        .then(|| body.trim().to_owned())
}

fn start(consul: &Consul) -> Syncer {
    let text = format!(
        "test 127.0.0.1:11111 {} upstreams/test 360000 500 off -",
        consul.ports[0]
    );
    Syncer::start(Options::new(text)).ready()
}

fn key(port: u16) -> String {
    format!("upstreams/test/192.168.56.12:{port}")
}

const VALUE: &str = r#"{"weight":1, "max_fails":2, "fail_timeout":10}"#;

#[test]
fn the_articles_servers_come_and_go() {
    let consul = Consul::start();
    let syncer = start(&consul);
    let address = |port: u16| format!("192.168.56.12:{port}");
    let (one, two, three) = (address(8001), address(8002), address(8003));
    consul.put(&key(8001), VALUE);
    syncer.wait_for("test", &[&one]);
    consul.put(&key(8002), VALUE);
    syncer.wait_for("test", &[&two, &one]);
    consul.put(&key(8003), VALUE);
    let version = syncer.wait_for("test", &[&three, &two, &one]);

    consul.put(&key(8002), VALUE);
    consul.put("upstreams/test2/192.168.56.12:9000", "");
    consul.put("upstreams/test/sub/192.168.56.12:9001", "");
    consul.put("upstreams/testament", "");
    consul.put(&key(8002), r#"{"weight":7}"#);
    poll("the change behind them", || {
        (syncer.table("test").0 > version).then_some(())
    });
    assert_eq!(
        syncer.table("test").0,
        version + 1,
        "one change, one version"
    );
    syncer.wait_for("test", &[&three, &two, &one]);

    consul.delete(&key(8003));
    syncer.wait_for("test", &[&two, &one]);
    consul.delete(&key(8001));
    syncer.wait_for("test", &[&two]);
    consul.delete(&key(8002));
    syncer.wait_for_log("is held by upsync_guard: it has no server; the 1 servers stay");
    assert_eq!(syncer.table("test").1.unwrap(), [two]);
    let errors = syncer.log().matches("[error]").count();
    assert_eq!(errors, 1, "{}", syncer.log());
}

#[test]
fn a_change_is_soon_in_the_table() {
    let consul = Consul::start();
    let syncer = start(&consul);
    consul.put(&key(1), "");
    let mut version = syncer.wait_for("test", &["192.168.56.12:1"]);
    let reader = weir_shm::Reader::open(&syncer.region()).unwrap();
    let mut times = Vec::new();
    for weight in 2..202 {
        consul.put(&key(1), &format!("{{\"weight\":{weight}}}"));
        let answered = Instant::now();
        version = poll("the next version", || {
            Some(reader.version().unwrap()).filter(|v| *v > version)
        });
        times.push(answered.elapsed());
    }
    times.sort();
    let (p50, p99) = (times[100], times[197]);
    assert!(p50 < Duration::from_millis(20), "p50 {p50:?}, p99 {p99:?}");
}

#[test]
fn a_consul_that_was_killed_is_found_again() {
    let mut consul = Consul::start();
    let syncer = start(&consul);
    consul.put(&key(8001), VALUE);
    syncer.wait_for("test", &["192.168.56.12:8001"]);
    consul.crash();
    syncer.wait_for_log(&format!(
        "upsync_recv: recv error with upsync_server: 127.0.0.1:{}",
        consul.ports[0]
    ));
    assert_eq!(syncer.table("test").1.unwrap(), ["192.168.56.12:8001"]);
    consul.restart();
    consul.put(&key(8002), VALUE);
    syncer.wait_for("test", &["192.168.56.12:8002", "192.168.56.12:8001"]);
    syncer.wait_for_log("answers again");
}
