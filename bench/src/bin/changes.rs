//! How soon changes in Consul reach the traffic of every worker, one after another and in bursts.
//!
//! A real Consul, a weir with 4 workers, one persistent connection to each of them. 500 times one
//! after another: a PUT moves the only server from one address to the other, and from the PUT's
//! answer on each connection asks until it is served by the new address. Then bursts: 1,000 PUTs
//! as fast as they are answered while others ask all the time, none of which may fail; from the last
//! PUT's answer until every worker serves by what it said.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    reason = "a report on standard output is what this program is for"
)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use weir_bench::client::Client;
use weir_bench::consul::{Consul, Weir};
use weir_bench::responder;
use weir_bench::statistics::{median, percentile};

const WORKERS: usize = 4;
const CHANGES: usize = 500;
/// Changes before counting starts.
const WARM_UP: usize = 20;
/// Bursts, and changes of each.
const BURSTS: usize = 5;
const BURST: usize = 1000;
/// Connections that ask all the time while a burst lasts, and their pause between two requests.
const ASKING: usize = 8;
const PAUSE: Duration = Duration::from_millis(2);
/// A change that takes longer is a failure, not a sample.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(5);

const KEY: &str = "upstreams/test/one";

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
    let servers = [start_server()?, start_server()?, start_server()?];
    let mut consul = Consul::start(folder.path())?;
    consul.put(KEY, &value(&servers[0]))?;
    let http = format!(
        "  upstream test {{ upsync 127.0.0.1:{}/v1/kv/upstreams/test upsync_type=consul; }}",
        consul.port
    );
    let server = "    location / { proxy_pass http://test; add_header X-Pid $pid; \
                  add_header X-Upstream $upstream_addr; }";
    let weir = Weir::start(folder.path(), WORKERS, &http, server)?;
    let mut clients = connect_to_all(weir.port)?;
    one_by_one(&servers, &mut consul, &mut clients)?;
    bursts(&servers, &mut consul, &mut clients, weir.port)
}

fn one_by_one(
    servers: &[String; 3],
    consul: &mut Consul,
    clients: &mut [Client],
) -> Result<(), String> {
    let mut samples = Vec::new();
    for change in 1..=WARM_UP + CHANGES {
        let server = &servers[change % 2];
        consul.put(KEY, &value(server))?;
        let elapsed = until_served_by(server, clients)?;
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

/// The last change of a burst names a server that no other change of it does.
fn bursts(
    servers: &[String; 3],
    consul: &mut Consul,
    clients: &mut [Client],
    port: u16,
) -> Result<(), String> {
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (samples, failed) = thread::scope(|scope| {
        let ask = || ask_until(&stop, &answered, port);
        let asking: Vec<_> = (0..ASKING).map(|_| scope.spawn(ask)).collect();
        let samples: Result<Vec<f64>, String> = (0..BURSTS)
            .map(|_| {
                for change in 1..BURST {
                    consul.put(KEY, &value(&servers[change % 2]))?;
                }
                consul.put(KEY, &value(&servers[2]))?;
                let elapsed = until_served_by(&servers[2], clients)?;
                Ok(elapsed.as_secs_f64() * 1000.0)
            })
            .collect();
        stop.store(true, Ordering::Release);
        let failed = asking.into_iter().map(|asking| asking.join().unwrap_or(1));
        (samples, failed.sum::<usize>())
    });
    let samples = samples?;
    println!(
        "{BURSTS} bursts of {BURST} changes, {WORKERS} workers, the last PUT's answer to the first \
         request on all workers: median {:.2} ms, max {:.2} ms; of {} other requests {failed} failed",
        median(&samples),
        percentile(&samples, 100.0),
        answered.load(Ordering::Acquire) + failed,
    );
    match failed {
        0 => Ok(()),
        _ => Err(format!("{failed} requests failed while servers changed")),
    }
}

/// Asks on one connection until told to stop; how often that failed.
fn ask_until(stop: &AtomicBool, answered: &AtomicUsize, port: u16) -> usize {
    let mut failed = 0;
    let mut open = None;
    while !stop.load(Ordering::Acquire) {
        let client = match open.take() {
            Some(client) => Ok(client),
            None => Client::connect(port),
        };
        let asked = client.and_then(|mut client| {
            let answer = client.request("GET", "/128", "")?;
            Ok((client, answer.status))
        });
        match asked {
            Ok((client, 200)) => {
                open = Some(client);
                answered.fetch_add(1, Ordering::AcqRel);
            }
            _ => failed += 1,
        }
        thread::sleep(PAUSE);
    }
    failed
}

/// A server thread; its `ip:port`.
fn start_server() -> Result<String, String> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        responder::serve(([127, 0, 0, 1], 0).into(), |address| {
            let _ = send.send(address);
        })
    });
    receive
        .recv()
        .map(|address| address.to_string())
        .map_err(|error| error.to_string())
}

fn value(server: &str) -> String {
    format!("{{\"server\":\"{server}\"}}")
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
