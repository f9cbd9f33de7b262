//! A real Consul agent, and a weir that follows it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::client::Client;
use crate::peer::{self, Running};

/// How long an agent has until it takes keys.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// The most operations that a transaction may have.
const TRANSACTION: usize = 64;

/// An agent in development mode.
pub struct Consul {
    /// Its process.
    pub process: Running,
    /// Where it speaks HTTP.
    pub port: u16,
    client: Client,
}

impl Consul {
    /// Starts one with its files in `folder`, and waits until it takes keys.
    pub fn start(folder: &Path) -> Result<Consul, String> {
        let text = |error: std::io::Error| error.to_string();
        let [http, serf_lan, serf_wan, server] = [(); 4].map(|()| peer::free_port());
        let (http, serf_lan) = (http.map_err(text)?, serf_lan.map_err(text)?);
        let (serf_wan, server) = (serf_wan.map_err(text)?, server.map_err(text)?);
        let ports = format!(
            "ports {{ http = {http} dns = -1 grpc = -1 https = -1 serf_lan = {serf_lan} serf_wan = {serf_wan} server = {server} }}\n"
        );
        let file = folder.join("consul.hcl");
        fs::write(&file, ports).map_err(text)?;
        let file = file.display().to_string();
        let arguments = [
            "agent",
            "-dev",
            "-bind=127.0.0.1",
            "-client=127.0.0.1",
            "-config-file",
            &file,
        ];
        let process = Running::start_unpinned(
            &peer::program("consul")?,
            &arguments,
            &folder.join("consul.log"),
        )
        .map_err(text)?;
        peer::wait_for(http)?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let mut client = Client::connect(http).map_err(text)?;
            match client.request("PUT", "/v1/kv/ready", "1") {
                Ok(answer) if answer.status == 200 => {
                    return Ok(Consul {
                        process,
                        port: http,
                        client,
                    });
                }
                _ if Instant::now() > deadline => return Err("Consul has no leader".into()),
                _ => std::thread::yield_now(),
            }
        }
    }

    /// Sets a key.
    pub fn put(&mut self, key: &str, value: &str) -> Result<(), String> {
        self.send(&format!("/v1/kv/{key}"), value)
    }

    /// Sets many keys, in as few transactions as Consul allows.
    pub fn put_all(&mut self, entries: &[(String, String)]) -> Result<(), String> {
        for some in entries.chunks(TRANSACTION) {
            let set = |(key, value): &(String, String)| {
                let value = STANDARD.encode(value);
                format!(r#"{{"KV":{{"Verb":"set","Key":"{key}","Value":"{value}"}}}}"#)
            };
            let operations: Vec<String> = some.iter().map(set).collect();
            self.send("/v1/txn", &format!("[{}]", operations.join(",")))?;
        }
        Ok(())
    }

    fn send(&mut self, target: &str, body: &str) -> Result<(), String> {
        let answer = self.client.request("PUT", target, body);
        match answer.map_err(|error| format!("PUT {target}: {error}"))? {
            answer if answer.status == 200 => Ok(()),
            answer => Err(format!("PUT {target}: status {}", answer.status)),
        }
    }
}

/// A weir whose configuration is `http { … }` and what every benchmark needs.
pub struct Weir {
    /// The master.
    pub process: Running,
    /// Where `server { … }` listens.
    pub port: u16,
    /// Its region.
    pub region: PathBuf,
}

impl Weir {
    /// Starts one with its files in `folder`; `http` is what the block has beside the server, and
    /// `server` what that has beside its address.
    pub fn start(folder: &Path, workers: usize, http: &str, server: &str) -> Result<Weir, String> {
        let text = |error: std::io::Error| error.to_string();
        let port = peer::free_port().map_err(text)?;
        let shown = folder.display();
        let configuration = format!(
            "daemon off;\nworker_processes {workers};\npid {shown}/weir.pid;\n\
             error_log {shown}/error.log;\nregion {shown}/weir.region;\nevents {{ }}\nhttp {{\n\
             \x20 access_log off;\n  keepalive_requests 1000000000;\n{http}\n\
             \x20 server {{ listen 127.0.0.1:{port};\n{server}\n  }}\n}}\n"
        );
        let file = folder.join("weir.conf");
        fs::write(&file, configuration).map_err(text)?;
        let arguments = ["-p", &shown.to_string(), "-c", &file.display().to_string()];
        let log = folder.join("weir.log");
        let process = Running::start_unpinned(&peer::weir()?, &arguments, &log).map_err(text)?;
        peer::wait_for(port)?;
        Ok(Weir {
            process,
            port,
            region: folder.join("weir.region"),
        })
    }
}
