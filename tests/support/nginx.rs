//! Real nginx, for tests that compare weir with it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::client::Client;
use super::process::{Process, guarded, read_lossy};
use super::{PATIENCE, free_port, tool, wait_for};

/// Starts that may be lost to another process that took the port first.
const ATTEMPTS: usize = 5;

/// A running nginx of one process, in a prefix of its own.
pub struct Nginx {
    port: u16,
    _process: Process,
    prefix: TempDir,
}

impl Nginx {
    /// With this in `http {}`, where `@PORT@` is the port that it gets and `@DIR@` its prefix.
    #[track_caller]
    pub fn start(body: &str) -> Nginx {
        for _ in 0..ATTEMPTS {
            if let Some(nginx) = Nginx::attempt(body) {
                return nginx;
            }
        }
        panic!("no free port in {ATTEMPTS} attempts");
    }

    fn attempt(body: &str) -> Option<Nginx> {
        let prefix = tempfile::tempdir().unwrap();
        fs::set_permissions(prefix.path(), Permissions::from_mode(0o777)).unwrap();
        let (dir, port) = (prefix.path().display().to_string(), free_port());
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {dir}/{name};\n"))
            .collect();
        let body = body
            .replace("@PORT@", &port.to_string())
            .replace("@DIR@", &dir);
        let conf = prefix.path().join("nginx.conf");
        fs::write(
            &conf,
            format!(
                // A worker of its own would outlive the master that is killed.
                "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log info;\n\
                 events {{}}\nhttp {{\naccess_log {dir}/access.log;\n{temp}{body}\n}}\n"
            ),
        )
        .unwrap();
        let log = prefix.path().join("error.log");
        let mut command = guarded(tool("nginx"));
        command.arg("-e").arg(&log).arg("-c").arg(&conf);
        let mut process = Process::start(&mut command, &prefix.path().join("output"));
        let listens = wait_for(PATIENCE, "nginx listens or ends", || {
            let listens = Client::try_connect(format!("127.0.0.1:{port}")).is_ok();
            (listens || process.ended().is_some()).then_some(listens)
        });
        // Who listens may be another process that took the port: then this one could not.
        let ended = process.ended().is_some();
        if !listens || ended {
            let log = read_lossy(&log);
            assert!(log.contains("Address already in use"), "{log}");
            return None;
        }
        Some(Nginx {
            port,
            _process: process,
            prefix,
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn connect(&self) -> Client {
        Client::connect(format!("127.0.0.1:{}", self.port))
    }

    pub fn error_log(&self) -> String {
        read_lossy(&self.prefix.path().join("error.log"))
    }
}
