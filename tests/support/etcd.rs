//! A real etcd of one member, with both APIs.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::client::{Client, Failure, Response};
use super::process::{Process, guarded, read_lossy};
use super::{free_port, tool, wait_for};

/// How long etcd may take to elect itself on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A running member.
pub struct Etcd {
    port: u16,
    peer: u16,
    folder: tempfile::TempDir,
    process: Option<Process>,
}

impl Etcd {
    pub fn start() -> Etcd {
        let mut etcd = Etcd {
            port: free_port(),
            peer: free_port(),
            folder: tempfile::tempdir().unwrap(),
            process: None,
        };
        etcd.start_again();
        etcd
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts it after a [`kill`](Etcd::kill), with what it had.
    pub fn start_again(&mut self) {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let (client, peer) = (url(self.port), url(self.peer));
        let mut command = guarded(tool("etcd"));
        command.arg("--data-dir").arg(self.data());
        command.args(["--enable-v2=true", "--name", "one"]);
        command.args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ]);
        command.args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ]);
        command.args(["--initial-cluster", &format!("one={peer}")]);
        let log = self.folder.path().join("log");
        let mut process = Process::start(&mut command, &log);
        wait_for(START, "etcd has a leader", || {
            if let Some(status) = process.ended() {
                panic!("etcd has ended, {status}: {}", read_lossy(&log));
            }
            let mut client = Client::try_connect(self.address()).ok()?;
            let answer = client
                .request("POST", "/v3/kv/range", "", b"{\"key\":\"YQ==\"}")
                .ok()?;
            (answer.status == 200).then_some(())
        });
        self.process = Some(process);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Goes on at another port with what it had; the port before.
    pub fn move_to(&mut self, port: u16) -> u16 {
        self.kill();
        let before = std::mem::replace(&mut self.port, port);
        self.start_again();
        before
    }

    /// Kills it and forgets all that it had.
    pub fn wipe(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.data()).unwrap();
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    #[track_caller]
    pub fn put(&self, key: &str, value: &str) {
        self.post(
            "put",
            &format!(
                "{{\"key\":\"{}\",\"value\":\"{}\"}}",
                STANDARD.encode(key),
                STANDARD.encode(value)
            ),
        );
    }

    #[track_caller]
    pub fn delete(&self, key: &str) {
        self.post(
            "deleterange",
            &format!("{{\"key\":\"{}\"}}", STANDARD.encode(key)),
        );
    }

    /// Forgets all changes so far.
    #[track_caller]
    pub fn compact(&self) {
        let answer = self.post("range", "{\"key\":\"YQ==\"}");
        let answer: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let revision = answer["header"]["revision"].as_str().unwrap();
        self.post("compaction", &format!("{{\"revision\":\"{revision}\"}}"));
    }

    #[track_caller]
    fn post(&self, what: &str, body: &str) -> Response {
        self.request("POST", &format!("/v3/kv/{what}"), body)
    }

    #[track_caller]
    pub fn put_old(&self, key: &str, value: &str) {
        self.request("PUT", &format!("/v2/keys/{key}?value={value}"), "");
    }

    #[track_caller]
    pub fn delete_old(&self, key: &str) {
        self.request("DELETE", &format!("/v2/keys/{key}"), "");
    }

    #[track_caller]
    fn request(&self, method: &str, target: &str, body: &str) -> Response {
        let run = || -> Result<Response, Failure> {
            let mut client = Client::try_connect(self.address())?;
            client.request(method, target, "", body.as_bytes())
        };
        let answer = run().unwrap_or_else(|error| panic!("{method} {target}: {error}"));
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        answer
    }
}
