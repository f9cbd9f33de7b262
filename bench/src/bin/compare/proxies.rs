//! Starts the proxies, each with one worker on its CPU and a responder of its own on the other.

use std::fs;
use std::path::Path;

use weir_bench::peer::{self, Running};

use crate::workload::Kind;

const PROXY_CPU: u32 = 0;
pub const LOAD_CPU: u32 = 1;
/// Room for 10,000 servers' idle connections and the clients.
const CONNECTIONS: u32 = 16_384;
/// The same for HAProxy, which counts both sides of a request as one.
const HAPROXY_CONNECTIONS: u32 = 9_000;
/// With pipes, which need descriptors too.
const SPLICE_CONNECTIONS: u32 = 4_096;
/// Servers of [`Kind::WeirThree`].
const FEW_SERVERS: u16 = 3;
/// HAProxy's `roundrobin` takes no more servers than this.
const ROUND_ROBIN_SERVERS: u16 = 4095;

/// A proxy that runs, and the responder behind it.
pub struct Proxy {
    pub kind: Kind,
    pub port: u16,
    pub process: Running,
    _responder: Running,
}

/// Starts a proxy over `servers` servers.
pub fn start(kind: Kind, servers: u16, folder: &Path) -> Result<Proxy, String> {
    let (responder, backend) = start_responder(folder)?;
    let port = peer::free_port().map_err(|error| error.to_string())?;
    let servers = match kind {
        Kind::WeirThree => FEW_SERVERS,
        _ => servers,
    };
    let setting = Setting {
        folder,
        port,
        backend,
        servers,
    };
    let process = match kind {
        Kind::Weir | Kind::WeirThree | Kind::WeirLogged => setting.start_weir(kind),
        Kind::Nginx | Kind::NginxLogged => setting.start_nginx(kind),
        Kind::Haproxy | Kind::HaproxySplice => setting.start_haproxy(kind),
        Kind::Forwarder => setting.start_forwarder(),
    }?;
    Ok(Proxy {
        kind,
        port,
        process,
        _responder: responder,
    })
}

fn start_responder(folder: &Path) -> Result<(Running, u16), String> {
    let port = peer::free_port().map_err(|error| error.to_string())?;
    let program = peer::weir()?.with_file_name("responder");
    let log = folder.join("responder.log");
    let process = start_program(LOAD_CPU, &program, &[&port.to_string()], &log, port)?;
    Ok((process, port))
}

fn start_program(
    cpu: u32,
    program: &Path,
    arguments: &[&str],
    log: &Path,
    port: u16,
) -> Result<Running, String> {
    let process = Running::start(cpu, program, arguments, log)
        .map_err(|error| format!("{}: {error}", program.display()))?;
    peer::wait_for(port).map_err(|error| {
        format!(
            "{}: {error}\n{}",
            program.display(),
            fs::read_to_string(log).unwrap_or_default()
        )
    })?;
    Ok(process)
}

struct Setting<'a> {
    folder: &'a Path,
    port: u16,
    backend: u16,
    servers: u16,
}

impl Setting<'_> {
    fn start_weir(&self, kind: Kind) -> Result<Running, String> {
        let prefix = self.folder.display().to_string();
        let more = format!("region {prefix}/weir-{}.region;\n", self.port);
        let text = self.nginx_configuration(kind == Kind::WeirLogged, &more, "");
        self.start_with(&peer::weir()?, &["-p", &prefix, "-c"], &text)
    }

    fn start_nginx(&self, kind: Kind) -> Result<Running, String> {
        let prefix = self.folder.display().to_string();
        // Else it makes folders where it was built to.
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("  {name}_temp_path {prefix}/{name};\n"))
            .concat();
        let text = self.nginx_configuration(kind == Kind::NginxLogged, "", &temporary);
        self.start_with(&peer::program("nginx")?, &["-p", &prefix, "-c"], &text)
    }

    /// The same text serves weir and nginx: what differs is said in `more`.
    fn nginx_configuration(&self, log: bool, more: &str, more_http: &str) -> String {
        let (folder, port) = (self.folder.display(), self.port);
        let log = match log {
            true => format!("{folder}/access-{port}.log"),
            false => "off".to_owned(),
        };
        let servers: String = peer::servers(self.backend, self.servers)
            .iter()
            .map(|server| format!("    server {server};\n"))
            .collect();
        let keepalive = 128.max(u32::from(self.servers) * 3 / 2);
        format!(
            "daemon off;\nworker_processes 1;\npid {folder}/pid-{port};\nerror_log {folder}/error-{port}.log;\n{more}\
             events {{ worker_connections {CONNECTIONS}; }}\n\
             http {{\n{more_http}  access_log {log};\n  keepalive_requests 1000000;\n\
             \x20 upstream backend {{\n{servers}    keepalive {keepalive};\n    keepalive_requests 1000000;\n  }}\n\
             \x20 server {{\n    listen 127.0.0.1:{port};\n    location / {{\n      proxy_pass http://backend;\n      \
             proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n    }}\n  }}\n}}\n"
        )
    }

    fn start_haproxy(&self, kind: Kind) -> Result<Running, String> {
        let (splice, connections) = match kind {
            Kind::HaproxySplice => ("  option splice-response\n", SPLICE_CONNECTIONS),
            _ => ("", HAPROXY_CONNECTIONS),
        };
        let balance = match self.servers {
            ..=ROUND_ROBIN_SERVERS => "roundrobin",
            _ => "static-rr",
        };
        let servers: String = peer::servers(self.backend, self.servers)
            .iter()
            .enumerate()
            .map(|(number, server)| format!("  server s{number} {server}\n"))
            .collect();
        // Without the ratios and the delay it would close idle connections to so many servers.
        let text = format!(
            "global\n  nbthread 1\n  maxconn {connections}\n  tune.pool-high-fd-ratio 95\n  \
             tune.pool-low-fd-ratio 90\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 120s\n  \
             timeout server 120s\n  http-reuse always\n  default-server pool-purge-delay 1h\n{splice}listen front\n  \
             bind 127.0.0.1:{}\n  balance {balance}\n{servers}",
            self.port
        );
        self.start_with(&peer::program("haproxy")?, &["-db", "-f"], &text)
    }

    fn start_forwarder(&self) -> Result<Running, String> {
        let program = peer::weir()?.with_file_name("forwarder");
        let numbers = [self.port, self.backend, self.servers].map(|number| number.to_string());
        let arguments = numbers.each_ref().map(String::as_str);
        let log = self.folder.join("forwarder.log");
        start_program(PROXY_CPU, &program, &arguments, &log, self.port)
    }

    /// Starts `program`; the last of its `options` takes the configuration's file.
    fn start_with(
        &self,
        program: &Path,
        options: &[&str],
        configuration: &str,
    ) -> Result<Running, String> {
        let file = self.folder.join(format!("{}.conf", self.port));
        fs::write(&file, configuration).map_err(|error| format!("{}: {error}", file.display()))?;
        let file = file.display().to_string();
        let arguments: Vec<&str> = options.iter().copied().chain([file.as_str()]).collect();
        let log = self.folder.join(format!("{}.log", self.port));
        start_program(PROXY_CPU, program, &arguments, &log, self.port)
    }
}
