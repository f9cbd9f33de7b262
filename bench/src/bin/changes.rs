//! How soon a change in Consul reaches the traffic of every worker: `make bench-changes`.
//!
//! A real Consul, a weir with 4 workers, one persistent connection to each of them. 500 times one
//! after another: a PUT moves the only server from one address to the other, and from the PUT's
//! answer on each connection asks until it is served by the new address.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    reason = "a report on standard output is what this program is for"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use weir_bench::client::Client;
use weir_bench::peer::{self, Running};
use weir_bench::responder;
use weir_bench::statistics::percentile;

const WORKERS: usize = 4;
const CHANGES: usize = 500;
/// Changes before counting starts.
const WARM_UP: usize = 20;
/// A change that takes longer is a failure, not a sample.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("changes: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let text = |error: std::io::Error| error.to_string();
    let servers = [start_server()?, start_server()?];
    let (_consul, consul_port) = start_consul(folder.path())?;
    let mut consul = Client::connect(consul_port).map_err(text)?;
    put(&mut consul, &servers[0])?;
    let (_weir, port) = start_weir(folder.path(), consul_port)?;
    let mut clients = connect_to_all(port)?;
    let mut samples = Vec::new();
    for change in 1..=WARM_UP + CHANGES {
        let server = &servers[change % 2];
        put(&mut consul, server)?;
        let elapsed = until_served_by(server, &mut clients)?;
        if change > WARM_UP {
            samples.push(elapsed.as_secs_f64() * 1000.0);
        }
    }
    println!(
        "{CHANGES} changes, {WORKERS} workers, PUT's answer to the first request on all workers: \
         p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        percentile(&samples, 50.0),
        percentile(&samples, 90.0),
        percentile(&samples, 99.0),
        percentile(&samples, 100.0),
    );
    Ok(())
}

/// A server thread; its `ip:port`.
fn start_server() -> Result<String, String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        responder::serve(([127, 0, 0, 1], 0).into(), |address| {
            let _ = send.send(address);
        })
    });
    receive
        .recv()
        .map(|address| address.to_string())
        .map_err(|error| error.to_string())
}

fn put(consul: &mut Client, server: &str) -> Result<(), String> {
    let body = format!("{{\"server\":\"{server}\"}}");
    let answer = consul
        .request("PUT", "/v1/kv/upstreams/test/one", &body)
        .map_err(|error| format!("PUT: {error}"))?;
    if answer.status == 200 {
        Ok(())
    } else {
        Err(format!("PUT: status {}", answer.status))
    }
}

/// One connection to each worker, told apart by pid.
fn connect_to_all(port: u16) -> Result<Vec<Client>, String> {
    let mut clients = BTreeMap::new();
    let deadline = Instant::now() + CHANGE_TIMEOUT;
    while clients.len() < WORKERS {
        if Instant::now() > deadline {
            return Err(format!(
                "only {} of {WORKERS} workers answered",
                clients.len()
            ));
        }
        let mut client = Client::connect(port).map_err(|error| error.to_string())?;
        let answer = client
            .request("GET", "/128", "")
            .map_err(|error| error.to_string())?;
        let pid = answer
            .field("x-pid")
            .ok_or("an answer without X-Pid")?
            .to_string();
        clients.insert(pid, client);
    }
    Ok(clients.into_values().collect())
}

fn until_served_by(server: &str, clients: &mut [Client]) -> Result<Duration, String> {
    let start = Instant::now();
    for client in clients {
        loop {
            let answer = client
                .request("GET", "/128", "")
                .map_err(|error| error.to_string())?;
            if answer.status != 200 {
                return Err(format!("a request failed with {}", answer.status));
            }
            if answer.field("x-upstream") == Some(server) {
                break;
            }
            if start.elapsed() > CHANGE_TIMEOUT {
                return Err(format!("{server} does not serve after {CHANGE_TIMEOUT:?}"));
            }
        }
    }
    Ok(start.elapsed())
}

fn start_consul(folder: &Path) -> Result<(Running, u16), String> {
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
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = Client::connect(http).and_then(|mut c| c.request("PUT", "/v1/kv/ready", "1"));
        match answer {
            Ok(answer) if answer.status == 200 => return Ok((process, http)),
            _ if Instant::now() > deadline => return Err("Consul has no leader".into()),
            _ => std::thread::yield_now(),
        }
    }
}

fn start_weir(folder: &Path, consul: u16) -> Result<(Running, u16), String> {
    let port = peer::free_port().map_err(|error| error.to_string())?;
    let shown = folder.display();
    let configuration = format!(
        "daemon off;\nworker_processes {WORKERS};\npid {shown}/weir.pid;\nerror_log {shown}/error.log;\n\
         region {shown}/weir.region;\nevents {{ }}\nhttp {{\n  access_log off;\n  keepalive_requests 1000000000;\n\
         \x20 upstream test {{ upsync 127.0.0.1:{consul}/v1/kv/upstreams/test upsync_type=consul; }}\n\
         \x20 server {{ listen 127.0.0.1:{port};\n    location / {{ proxy_pass http://test; \
         add_header X-Pid $pid; add_header X-Upstream $upstream_addr; }}\n  }}\n}}\n"
    );
    let file = folder.join("weir.conf");
    fs::write(&file, configuration).map_err(|error| error.to_string())?;
    let arguments = ["-p", &shown.to_string(), "-c", &file.display().to_string()];
    let process = Running::start_unpinned(&peer::weir()?, &arguments, &folder.join("weir.log"))
        .map_err(|error| error.to_string())?;
    peer::wait_for(port)?;
    Ok((process, port))
}
