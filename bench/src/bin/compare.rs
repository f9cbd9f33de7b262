//! weir, nginx and HAProxy side by side: `make bench`.
//!
//! Each proxy has one worker on CPU 0; wrk and the responder have CPU 1. Rounds are interleaved, so
//! that what else the machine does hits all alike, and ratios are taken within a round. The CPU
//! time is that of the proxy's whole process tree.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    reason = "a report on standard output is what this program is for"
)]

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use weir_bench::peer::{self, Running};
use weir_bench::statistics::median;
use weir_bench::wrk::{self, Load};

const PROXY_CPU: u32 = 0;
const LOAD_CPU: u32 = 1;

struct Workload {
    name: &'static str,
    path: &'static str,
    connections: u32,
    close: bool,
}

const WORKLOADS: [Workload; 5] = [
    Workload {
        name: "128 B",
        path: "/128",
        connections: 64,
        close: false,
    },
    Workload {
        name: "128 B, 1 connection",
        path: "/128",
        connections: 1,
        close: false,
    },
    Workload {
        name: "16 KB",
        path: "/16384",
        connections: 64,
        close: false,
    },
    Workload {
        name: "1 MB",
        path: "/1048576",
        connections: 64,
        close: false,
    },
    Workload {
        name: "connection per request",
        path: "/128",
        connections: 64,
        close: true,
    },
];

struct Proxy {
    name: &'static str,
    port: u16,
    process: Running,
}

/// CPU µs a request, requests/s and p99 in ms of one proxy in one round.
#[derive(Clone, Copy, Default)]
struct Sample {
    cpu_us: f64,
    rate: f64,
    p99_ms: f64,
    errors: u64,
}

fn main() -> ExitCode {
    let number = |name: &str, default: u32| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    match compare(number("ROUNDS", 5).max(1), number("SECONDS", 2).max(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(rounds: u32, seconds: u32) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (_responder, backend) = start_responder(folder.path())?;
    let proxies = [
        start_weir(folder.path(), backend)?,
        start_nginx(folder.path(), backend)?,
        start_haproxy(folder.path(), backend)?,
    ];
    let wrk = peer::program("wrk")?;
    for workload in &WORKLOADS {
        println!("\n{} ({rounds} rounds of {seconds} s)", workload.name);
        let mut samples = vec![Vec::new(); proxies.len()];
        for round in 1..=rounds {
            for (proxy, samples) in proxies.iter().zip(&mut samples) {
                samples.push(measure(&wrk, proxy, workload, seconds)?);
            }
            print_round(round, &samples);
        }
        print_medians(&proxies, &samples);
    }
    Ok(())
}

fn measure(wrk: &Path, proxy: &Proxy, workload: &Workload, seconds: u32) -> Result<Sample, String> {
    let url = format!("http://127.0.0.1:{}{}", proxy.port, workload.path);
    let before = proxy.process.cpu_ns();
    let load = Load {
        connections: workload.connections,
        seconds,
        close: workload.close,
        cpu: LOAD_CPU,
        url: &url,
    };
    let run = wrk::run(wrk, load).map_err(|error| format!("{}: {error}", proxy.name))?;
    let cpu_ns = proxy.process.cpu_ns() - before;
    Ok(Sample {
        cpu_us: cpu_ns as f64 / 1000.0 / run.requests,
        rate: run.rate,
        p99_ms: run.p99_ms,
        errors: run.errors,
    })
}

fn print_round(round: u32, samples: &[Vec<Sample>]) {
    let last: Vec<Sample> = samples
        .iter()
        .filter_map(|all| all.last().copied())
        .collect();
    if let [weir, nginx, haproxy] = last.as_slice() {
        println!(
            "  round {round}: CPU weir/nginx {:.2}  weir/HAProxy {:.2}   requests/s {:.2} {:.2}   p99 {:.2} {:.2}",
            weir.cpu_us / nginx.cpu_us,
            weir.cpu_us / haproxy.cpu_us,
            weir.rate / nginx.rate,
            weir.rate / haproxy.rate,
            weir.p99_ms / nginx.p99_ms,
            weir.p99_ms / haproxy.p99_ms,
        );
    }
}

fn print_medians(proxies: &[Proxy], samples: &[Vec<Sample>]) {
    let of = |samples: &[Sample], part: fn(&Sample) -> f64| {
        median(&samples.iter().map(part).collect::<Vec<_>>())
    };
    println!(
        "  {:8} {:>16} {:>12} {:>10} {:>8}",
        "median", "CPU us/request", "requests/s", "p99 ms", "errors"
    );
    for (proxy, samples) in proxies.iter().zip(samples) {
        println!(
            "  {:8} {:>16.2} {:>12.0} {:>10.2} {:>8}",
            proxy.name,
            of(samples, |sample| sample.cpu_us),
            of(samples, |sample| sample.rate),
            of(samples, |sample| sample.p99_ms),
            samples.iter().map(|sample| sample.errors).sum::<u64>(),
        );
    }
    for (other, others) in proxies.iter().zip(samples).skip(1) {
        let ratios: Vec<f64> = samples[0]
            .iter()
            .zip(others)
            .map(|(ours, theirs)| ours.cpu_us / theirs.cpu_us)
            .collect();
        println!(
            "  CPU weir/{}: {:.2} (median of the rounds' ratios)",
            other.name,
            median(&ratios)
        );
    }
}

fn start_responder(folder: &Path) -> Result<(Running, u16), String> {
    let port = peer::free_port().map_err(|error| error.to_string())?;
    let program = peer::weir()?.with_file_name("responder");
    let process = start(
        LOAD_CPU,
        &program,
        &[&port.to_string()],
        &folder.join("responder.log"),
        port,
    )?;
    Ok((process, port))
}

fn start(
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

/// The same text serves weir and nginx: what differs is said in `more`.
fn nginx_configuration(
    folder: &Path,
    port: u16,
    backend: u16,
    more: &str,
    more_http: &str,
) -> String {
    let folder = folder.display();
    format!(
        "daemon off;\nworker_processes 1;\npid {folder}/pid-{port};\nerror_log {folder}/error-{port}.log;\n{more}\
         events {{ worker_connections 4096; }}\n\
         http {{\n{more_http}  access_log off;\n  keepalive_requests 1000000;\n\
         \x20 upstream backend {{ server 127.0.0.1:{backend}; keepalive 128; keepalive_requests 1000000; }}\n\
         \x20 server {{ listen 127.0.0.1:{port};\n    location / {{ proxy_pass http://backend; proxy_http_version 1.1; \
         proxy_set_header Connection \"\"; }}\n  }}\n}}\n"
    )
}

fn start_weir(folder: &Path, backend: u16) -> Result<Proxy, String> {
    let prefix = folder.display().to_string();
    let more = format!("region {}/weir.region;\n", folder.display());
    start_proxy(
        "weir",
        &peer::weir()?,
        folder,
        &["-p", &prefix, "-c"],
        |port| nginx_configuration(folder, port, backend, &more, ""),
    )
}

fn start_nginx(folder: &Path, backend: u16) -> Result<Proxy, String> {
    let prefix = folder.display().to_string();
    // Else it makes folders where it was built to.
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("  {name}_temp_path {}/{name};\n", folder.display()))
        .concat();
    start_proxy(
        "nginx",
        &peer::program("nginx")?,
        folder,
        &["-p", &prefix, "-c"],
        |port| nginx_configuration(folder, port, backend, "", &temporary),
    )
}

fn start_haproxy(folder: &Path, backend: u16) -> Result<Proxy, String> {
    let program = peer::program("haproxy")?;
    start_proxy("haproxy", &program, folder, &["-db", "-f"], |port| {
        format!(
            "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  \
             timeout client 60s\n  timeout server 60s\n  http-reuse always\nlisten front\n  \
             bind 127.0.0.1:{port}\n  server one 127.0.0.1:{backend}\n"
        )
    })
}

/// Starts a proxy on a free port; its last `options` takes the configuration's file.
fn start_proxy(
    name: &'static str,
    program: &Path,
    folder: &Path,
    options: &[&str],
    configuration: impl FnOnce(u16) -> String,
) -> Result<Proxy, String> {
    let port = peer::free_port().map_err(|error| error.to_string())?;
    let file = folder.join(format!("{name}.conf"));
    fs::write(&file, configuration(port))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    let file = file.display().to_string();
    let arguments: Vec<&str> = options.iter().copied().chain([file.as_str()]).collect();
    let log = folder.join(format!("{name}.log"));
    let process = start(PROXY_CPU, program, &arguments, &log, port)?;
    Ok(Proxy {
        name,
        port,
        process,
    })
}
