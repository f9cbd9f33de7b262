//! A real Consul agent in development mode.

use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use super::client::{Client, Failure, Response};
use super::process::{Process, guarded, read_lossy};
use super::{free_port, tool, unique, wait_for};

/// How long Consul may take to elect itself on a busy machine.
const START: Duration = Duration::from_secs(60);
/// Operations that one transaction may hold; more is Consul's error 413.
const TRANSACTION: usize = 64;

/// A running agent.
pub struct Consul {
    port: u16,
    /// What its requests are made with.
    token: Option<String>,
    /// `None` for one that another thread runs.
    process: Option<Process>,
}

impl Consul {
    /// The agent that the tests share; each keeps to keys of its own, see [`folder`].
    pub fn shared() -> &'static Consul {
        static SHARED: OnceLock<Consul> = OnceLock::new();
        SHARED.get_or_init(|| {
            // The agent dies with the thread that started it, so that thread stays.
            let (sender, receiver) = std::sync::mpsc::channel();
            thread::spawn(move || {
                let mut consul = Consul::start();
                let process = consul.process.take();
                sender.send(consul).unwrap();
                loop {
                    thread::park();
                    std::hint::black_box(&process);
                }
            });
            receiver.recv().expect("consul starts")
        })
    }

    /// An agent of one's own, to be stopped at will.
    pub fn start() -> Consul {
        Consul::start_at(free_port())
    }

    pub fn start_at(port: u16) -> Consul {
        Consul::start_with(port, serde_json::json!({}), None)
    }

    /// One with more settings, and the token that it takes if it takes not any.
    pub fn start_with(port: u16, more: serde_json::Value, token: Option<&str>) -> Consul {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("agent.json");
        std::fs::write(&config, settings(port)).unwrap();
        let added = folder.path().join("more.json");
        std::fs::write(&added, more.to_string()).unwrap();
        let header = token.map_or(String::new(), |token| {
            format!("X-Consul-Token: {token}\r\n")
        });
        let mut command = guarded(tool("consul"));
        command.args([
            "agent",
            "-dev",
            "-bind",
            "127.0.0.1",
            "-client",
            "127.0.0.1",
        ]);
        command
            .args([
                "-node",
                &unique("weir"),
                "-log-level",
                "warn",
                "-config-file",
            ])
            .arg(&config)
            .arg("-config-file")
            .arg(&added);
        let log = folder.path().join("log");
        let mut process = Process::start(&mut command, &log);
        wait_for(START, "consul has a leader and takes keys", || {
            if let Some(status) = process.ended() {
                panic!("consul has ended, {status}: {}", read_lossy(&log));
            }
            let mut client = Client::try_connect(format!("127.0.0.1:{port}")).ok()?;
            let answer = client
                .request("PUT", "/v1/kv/ready", &header, b"yes")
                .ok()?;
            (answer.status == 200).then_some(())
        });
        Consul {
            port,
            token: token.map(str::to_owned),
            process: Some(process),
        }
    }

    /// The agent at a port, which somebody else starts and stops.
    pub fn at(port: u16) -> Consul {
        Consul {
            port,
            token: None,
            process: None,
        }
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    #[track_caller]
    pub fn put(&self, key: &str, value: &str) {
        let answer = self.request("PUT", &format!("/v1/kv/{key}"), value);
        assert!(
            answer.status == 200 && answer.text().trim() == "true",
            "{answer:?}"
        );
    }

    #[track_caller]
    pub fn delete(&self, key: &str) {
        let answer = self.request("DELETE", &format!("/v1/kv/{key}"), "");
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    #[track_caller]
    pub fn delete_folder(&self, key: &str) {
        self.delete(&format!("{key}/?recurse"));
    }

    /// Sets many keys below `folder`, a transaction for as many as one holds.
    #[track_caller]
    pub fn put_many(&self, folder: &str, entries: &[(String, String)]) {
        use base64::Engine;
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        for some in entries.chunks(TRANSACTION) {
            let operations: Vec<_> = some
                .iter()
                .map(|(name, value)| {
                    let key = format!("{folder}/{name}");
                    serde_json::json!({"KV": {"Verb": "set", "Key": key, "Value": encode(value)}})
                })
                .collect();
            let answer = self.request("PUT", "/v1/txn", &serde_json::json!(operations).to_string());
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }

    /// Deletes many keys below `folder` in one transaction.
    #[track_caller]
    pub fn delete_many(&self, folder: &str, entries: &[(String, String)]) {
        assert!(entries.len() <= TRANSACTION);
        let delete = |(name, _): &(String, String)| serde_json::json!({"KV": {"Verb": "delete", "Key": format!("{folder}/{name}")}});
        let operations: Vec<_> = entries.iter().map(delete).collect();
        let answer = self.request("PUT", "/v1/txn", &serde_json::json!(operations).to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Registers an instance of a service.
    #[track_caller]
    pub fn register(&self, service: &str, server: &str) {
        let (address, port) = server.rsplit_once(':').unwrap();
        let instance = serde_json::json!({
            "ID": format!("{service}-{server}"), "Name": service,
            "Address": address, "Port": port.parse::<u16>().unwrap(),
        });
        let target = "/v1/agent/service/register";
        let answer = self.request("PUT", target, &instance.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Takes away what [`Consul::register`] registered.
    #[track_caller]
    pub fn deregister(&self, service: &str, server: &str) {
        let target = format!("/v1/agent/service/deregister/{service}-{server}");
        let answer = self.request("PUT", &target, "");
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// The modify index that a watch of `folder` starts from.
    pub fn index(&self, folder: &str) -> u64 {
        let answer = self.request("GET", &format!("/v1/kv/{folder}?recurse"), "");
        answer.field("x-consul-index").unwrap().parse().unwrap()
    }

    #[track_caller]
    pub fn request(&self, method: &str, target: &str, body: &str) -> Response {
        let token = self.token.as_ref();
        let header = token.map_or(String::new(), |token| {
            format!("X-Consul-Token: {token}\r\n")
        });
        let run = || -> Result<Response, Failure> {
            let mut client = Client::try_connect(self.address())?;
            client.request(method, target, &header, body.as_bytes())
        };
        run().unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    }
}

/// A key prefix of this test's own, which ends in `/test`.
pub fn folder() -> String {
    format!("{}/test", unique("upstreams"))
}

/// The entry's value with the article's settings.
pub const ENTRY: &str = r#"{"weight":1, "max_fails":2, "fail_timeout":10}"#;

/// Everything that an agent would share with another one is on a free port or off.
fn settings(port: u16) -> String {
    let mut ports = serde_json::json!({
        "http": port, "server": free_port(), "serf_lan": free_port(),
        "dns": -1, "https": -1, "grpc": -1, "serf_wan": -1,
    });
    if version() >= (1, 14) {
        ports["grpc_tls"] = (-1).into();
    }
    serde_json::json!({"ports": ports, "disable_update_check": true}).to_string()
}

fn version() -> (u32, u32) {
    let output = Command::new(tool("consul"))
        .arg("version")
        .stderr(Stdio::null())
        .output();
    let text = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
    let numbers = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix('v'));
    let mut numbers = numbers
        .unwrap_or_default()
        .split('.')
        .map_while(|word| word.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
