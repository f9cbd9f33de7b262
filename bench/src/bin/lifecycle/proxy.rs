//! nginx or weir with one configuration text, which is reloaded.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weir_bench::client::Client;
use weir_bench::peer::{self, Running};

/// Workers of each.
pub const WORKERS: usize = 4;
/// So many new connections in a row have to meet the new configuration.
const IN_A_ROW: usize = 16;
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(1);

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    Weir,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Nginx => "nginx",
            Kind::Weir => "weir",
        }
    }
}

/// A running one, with its files.
pub struct Proxy {
    process: Running,
    pub port: u16,
    kind: Kind,
    locations: String,
    http: String,
    generation: u64,
    folder: tempfile::TempDir,
}

impl Proxy {
    /// Starts one with these locations; `http` stands beside the server.
    pub fn start(kind: Kind, locations: &str, http: &str) -> Result<Proxy, String> {
        let text = |error: std::io::Error| error.to_string();
        let folder = tempfile::tempdir().map_err(text)?;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(folder.path(), open).map_err(text)?;
        let port = peer::free_port().map_err(text)?;
        let file = folder.path().join("conf");
        let configuration = configuration(kind, &folder.path().display(), port, locations, http, 1);
        fs::write(&file, configuration).map_err(text)?;
        let program = match kind {
            Kind::Nginx => peer::program("nginx")?,
            Kind::Weir => peer::weir()?,
        };
        let prefix = format!("{}/", folder.path().display());
        let arguments = ["-p", &prefix, "-c", &file.display().to_string()];
        let log = folder.path().join("output");
        let process = Running::start_unpinned(&program, &arguments, &log).map_err(text)?;
        peer::wait_for(port)?;
        let proxy = Proxy {
            process,
            port,
            kind,
            locations: locations.to_owned(),
            http: http.to_owned(),
            generation: 1,
            folder,
        };
        // A port is open before there is a worker.
        proxy.wait_live()?;
        Ok(proxy)
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn region(&self) -> PathBuf {
        self.folder.path().join("region")
    }

    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Writes the next configuration, with other locations; its number.
    pub fn write(&mut self, locations: &str) -> Result<u64, String> {
        self.generation += 1;
        let folder = self.folder.path();
        let shown = folder.display();
        let number = self.generation;
        let text = configuration(self.kind, &shown, self.port, locations, &self.http, number);
        fs::write(folder.join("conf"), text).map_err(|error| error.to_string())?;
        Ok(number)
    }

    /// Reloads, with the same locations and `more`, and waits until all new connections meet the new
    /// configuration.
    pub fn reload(&mut self, more: &str) -> Result<(), String> {
        let locations = format!("{}{more}", self.locations);
        self.write(&locations)?;
        self.signal(Signal::SIGHUP);
        self.wait_live()
    }

    /// Waits until all new connections meet the latest configuration.
    fn wait_live(&self) -> Result<(), String> {
        let number = self.generation.to_string();
        let begun = Instant::now();
        let mut row = 0;
        while row < IN_A_ROW {
            if begun.elapsed() > PATIENCE {
                return Err(format!(
                    "{}: configuration {number} is not live within {PATIENCE:?}",
                    self.kind.name()
                ));
            }
            let answer = Client::connect(self.port)
                .and_then(|mut client| client.request("GET", "/generation", ""));
            match answer {
                Ok(answer) if answer.body == number.as_bytes() => row += 1,
                _ => {
                    row = 0;
                    thread::sleep(LOOK);
                }
            }
        }
        Ok(())
    }
}

pub fn send(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
}

fn configuration(
    kind: Kind,
    folder: &impl std::fmt::Display,
    port: u16,
    locations: &str,
    http: &str,
    generation: u64,
) -> String {
    let (main, more) = match kind {
        Kind::Weir => (format!("region {folder}/region;\n"), String::new()),
        Kind::Nginx => {
            let names = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let path = |name| format!("{name}_temp_path {folder}/{name};\n");
            (String::new(), names.map(path).concat())
        }
    };
    format!(
        "daemon off;\nworker_processes {WORKERS};\nworker_rlimit_nofile 8192;\npid {folder}/pid;\n\
         error_log {folder}/error.log;\n{main}events {{ worker_connections 4096; }}\nhttp {{\n\
         access_log off;\nkeepalive_requests 1000000000;\nkeepalive_timeout 1000s;\n{more}{http}\n\
         server {{ listen 127.0.0.1:{port} reuseport;\n\
         location = /generation {{ return 200 {generation}; }}\n{locations}\n}}\n}}\n"
    )
}
