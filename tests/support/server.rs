//! Consul servers with data on disk, which can be killed, started again and emptied.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::client::{Client, Response};
use super::consul::Consul;
use super::process::{Process, guarded};
use super::{free_port, tool, unique, wait_until};

/// How long servers may take to elect one of them on a busy machine.
const ELECTED: Duration = Duration::from_secs(60);

/// One server.
pub struct Server {
    /// For its keys.
    pub consul: Consul,
    folder: TempDir,
    process: Option<Process>,
}

impl Server {
    /// One that needs no other.
    pub fn start() -> Server {
        let mut servers = Server::start_many(1);
        servers.pop().expect("it was started")
    }

    /// So many that need more than half of them.
    pub fn start_many(count: usize) -> Vec<Server> {
        let serf: Vec<_> = (0..count).map(|_| free_port()).collect();
        let join: Vec<_> = serf
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let mut servers: Vec<_> = serf
            .iter()
            .map(|serf| Server::configured(count, *serf, &join))
            .collect();
        for server in &mut servers {
            server.run();
        }
        for server in &servers {
            server.wait_ready();
        }
        servers
    }

    fn configured(count: usize, serf: u16, join: &[String]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let http = free_port();
        let settings = json!({
            "server": true, "bootstrap_expect": count, "retry_join": join, "retry_interval": "1s",
            "data_dir": folder.path().join("data"), "node_name": unique("weir"),
            "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "log_level": "warn",
            "performance": { "raft_multiplier": 1 }, "disable_update_check": true,
            "ports": {
                "http": http, "server": free_port(), "serf_lan": serf,
                "dns": -1, "https": -1, "grpc": -1, "serf_wan": -1,
            },
        });
        std::fs::write(folder.path().join("agent.json"), settings.to_string()).unwrap();
        Server {
            consul: Consul::at(http),
            folder,
            process: None,
        }
    }

    /// Starts it, with the data that it has.
    pub fn run(&mut self) {
        let mut command: Command = guarded(tool("consul"));
        command
            .args(["agent", "-config-file"])
            .arg(self.file("agent.json"));
        self.process = Some(Process::start(&mut command, &self.file("log")));
    }

    /// Waits until a key can be written.
    #[track_caller]
    pub fn wait_ready(&self) {
        wait_until(ELECTED, "there is a leader", || {
            self.try_put("ready", "yes")
        });
    }

    /// Ends it by SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Takes its data away.
    pub fn wipe(&self) {
        std::fs::remove_dir_all(self.file("data")).unwrap();
    }

    /// Whether the key was written.
    pub fn try_put(&self, key: &str, value: &str) -> bool {
        self.try_request("PUT", &format!("/v1/kv/{key}"), value)
            .is_some_and(|answer| answer.status == 200)
    }

    /// The answer, if one comes.
    pub fn try_request(&self, method: &str, target: &str, body: &str) -> Option<Response> {
        let mut client = Client::try_connect(self.consul.address()).ok()?;
        client.request(method, target, "", body.as_bytes()).ok()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
