//! Consul servers with data on disk, which can be killed, started again and emptied.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{Client, Response};
use super::consul::Consul;
use super::process::{Process, guarded};
use super::{free_port, tool, unique, wait_until};

/// How long servers may take to elect one of them on a busy machine.
const ELECTED: Duration = Duration::from_secs(60);

/// A token that may do everything at a server with tokens; another server ignores it.
const MASTER: &str = "6d61b0a3-5d0f-4f7c-9a63-0f6a2c7e11aa";

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

    /// The same, where only a token may read or write; [`MASTER`] may do everything.
    pub fn secured() -> Server {
        let serf = free_port();
        let acl = json!({
            "enabled": true, "default_policy": "deny", "down_policy": "extend-cache",
            "tokens": { "master": MASTER },
        });
        let mut server = Server::configured(1, serf, &[], acl);
        server.run();
        server.wait_ready();
        server
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
            .map(|serf| Server::configured(count, *serf, &join, json!({})))
            .collect();
        for server in &mut servers {
            server.run();
        }
        for server in &servers {
            server.wait_ready();
        }
        servers
    }

    fn configured(count: usize, serf: u16, join: &[String], acl: Value) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let http = free_port();
        let settings = json!({
            "server": true, "bootstrap_expect": count, "retry_join": join, "retry_interval": "1s",
            "data_dir": folder.path().join("data"), "node_name": unique("weir"),
            "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "log_level": "warn",
            "performance": { "raft_multiplier": 1 }, "disable_update_check": true, "acl": acl,
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

    /// The answer to one that may do everything, if one comes.
    pub fn try_request(&self, method: &str, target: &str, body: &str) -> Option<Response> {
        self.request_as(MASTER, method, target, body)
    }

    /// The answer to the holder of a token, if one comes.
    pub fn request_as(
        &self,
        token: &str,
        method: &str,
        target: &str,
        body: &str,
    ) -> Option<Response> {
        let mut client = Client::try_connect(self.consul.address()).ok()?;
        let field = format!("X-Consul-Token: {token}\r\n");
        client.request(method, target, &field, body.as_bytes()).ok()
    }

    /// Makes a policy that may read below a folder.
    #[track_caller]
    pub fn policy(&self, name: &str, folder: &str) {
        let rules = format!("key_prefix \"{folder}/\" {{ policy = \"read\" }}");
        self.acl("PUT", "policy", &json!({"Name": name, "Rules": rules}));
    }

    /// Makes a token with policies: its accessor and secret.
    #[track_caller]
    pub fn token(&self, policies: &[&str]) -> (String, String) {
        let made = self.acl("PUT", "token", &token_with(policies));
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (text("AccessorID"), text("SecretID"))
    }

    /// Gives a token other policies.
    #[track_caller]
    pub fn change_token(&self, accessor: &str, policies: &[&str]) {
        let mut token = token_with(policies);
        token["AccessorID"] = accessor.into();
        self.acl("PUT", &format!("token/{accessor}"), &token);
    }

    #[track_caller]
    pub fn delete_token(&self, accessor: &str) {
        self.acl("DELETE", &format!("token/{accessor}"), &Value::Null);
    }

    #[track_caller]
    fn acl(&self, method: &str, what: &str, body: &Value) -> Value {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = self.try_request(method, &format!("/v1/acl/{what}"), &body);
        let answer = answer.expect("Consul answers");
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_str(&answer.text()).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn token_with(policies: &[&str]) -> Value {
    let policies: Vec<_> = policies.iter().map(|name| json!({"Name": name})).collect();
    json!({"Policies": policies})
}
