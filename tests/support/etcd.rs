//! A real etcd of one member, with both APIs.

use std::path::{Path, PathBuf};
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
    /// A port for TLS beside the other one, and the arguments that it takes.
    secure: Option<(u16, Vec<String>)>,
    /// What requests are made with, once they have to have one.
    token: Option<String>,
    process: Option<Process>,
}

impl Etcd {
    pub fn start() -> Etcd {
        Etcd::start_with(None)
    }

    /// One that speaks TLS too, with this certificate; and the port for that.
    pub fn start_secure(certificate: &Path, key: &Path) -> (Etcd, u16) {
        let shown = |path: &Path| path.display().to_string();
        let (certificate, key) = (shown(certificate), shown(key));
        let port = free_port();
        let more = ["--cert-file", &certificate, "--key-file", &key].map(str::to_owned);
        (Etcd::start_with(Some((port, more.to_vec()))), port)
    }

    fn start_with(secure: Option<(u16, Vec<String>)>) -> Etcd {
        let mut etcd = Etcd {
            port: free_port(),
            peer: free_port(),
            folder: tempfile::tempdir().unwrap(),
            secure,
            token: None,
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
        let (mut client, peer) = (url(self.port), url(self.peer));
        let mut command = guarded(tool("etcd"));
        if let Some((port, more)) = &self.secure {
            client += &format!(",https://127.0.0.1:{port}");
            command.args(more);
        }
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

    /// Lets nobody in without a token from now on; returns one that may read the keys from `first`
    /// to before `end`.
    #[track_caller]
    pub fn secure(&mut self, first: &str, end: &str) -> String {
        let auth = |what: &str, body: serde_json::Value| {
            self.request("POST", &format!("/v3/auth/{what}"), &body.to_string())
        };
        let range = serde_json::json!({
            "permType": "READ", "key": STANDARD.encode(first), "range_end": STANDARD.encode(end),
        });
        for name in ["root", "reader"] {
            auth("role/add", serde_json::json!({"name": name}));
            auth(
                "user/add",
                serde_json::json!({"name": name, "password": name}),
            );
            auth(
                "user/grant",
                serde_json::json!({"user": name, "role": name}),
            );
        }
        auth(
            "role/grant",
            serde_json::json!({"name": "reader", "perm": range}),
        );
        auth("enable", serde_json::json!({}));
        let token = |name: &str| {
            let answer = auth(
                "authenticate",
                serde_json::json!({"name": name, "password": name}),
            );
            let answer: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            answer["token"].as_str().unwrap().to_owned()
        };
        let (own, readers) = (token("root"), token("reader"));
        self.token = Some(own);
        readers
    }

    #[track_caller]
    fn request(&self, method: &str, target: &str, body: &str) -> Response {
        let run = || -> Result<Response, Failure> {
            let mut client = Client::try_connect(self.address())?;
            let header = self
                .token
                .as_ref()
                .map_or(String::new(), |token| format!("Authorization: {token}\r\n"));
            client.request(method, target, &header, body.as_bytes())
        };
        let answer = run().unwrap_or_else(|error| panic!("{method} {target}: {error}"));
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        answer
    }
}
