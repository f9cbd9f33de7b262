//! What requests notice that have nothing to do with a table that changes.
//!
//! One worker has CPU 0. The client, its server, Consul, the syncer and all else share CPU 1, where
//! the client and its server go first: what they see is the worker's doing, not a lack of CPUs.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use weir_bench::client::Client;
use weir_bench::consul::{Consul, Weir};
use weir_bench::peer;
use weir_bench::responder;
use weir_bench::statistics::{median, percentile};

use crate::CHANGES;
use crate::table::{self, PAUSE, Shape, Sight};

const ROUNDS: usize = 5;
/// Of each half of a round.
const HALF: Duration = Duration::from_secs(5);
/// Between an answer and the next request.
const REST: Duration = Duration::from_micros(300);
const WORKER_CPU: u32 = 0;
const OTHER_CPU: u32 = 1;

/// One half: percentiles of its requests in microseconds.
struct Half {
    p50: f64,
    p99: f64,
    /// Versions of the table a second.
    versions: f64,
}

pub fn measure(folder: &Path, shape: Shape, consul: &mut Consul) -> Result<(), String> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        prefer(thread_id());
        responder::serve(([127, 0, 0, 1], 0).into(), |address| {
            let _ = send.send(address);
        })
    });
    let server = receive.recv().map_err(|error| error.to_string())?;
    let location = format!("proxy_pass http://{server};");
    let weir = table::follow(folder, 1, shape, consul, &location)?;
    let sight = Sight::new(&weir)?;
    sight.wait_for(shape)?;
    place(&weir, &sight, consul)?;
    // Those before were timed one by one.
    let mut number = CHANGES;
    let mut ratios = Vec::new();
    let mut halves: [Vec<Half>; 2] = Default::default();
    for round in 0..ROUNDS {
        for half in [round % 2, (round + 1) % 2] {
            let changes = (half == 1).then_some(&mut number);
            halves[half].push(self::half(&weir, &sight, shape, consul, changes)?);
        }
        let [without, with] = [0, 1].map(|half| halves[half].last().map_or(0.0, |h| h.p99));
        ratios.push(with / without);
    }
    let [without, with] = halves.map(|halves| {
        let of = |get: fn(&Half) -> f64| median(&halves.iter().map(get).collect::<Vec<_>>());
        (
            of(|half| half.p50),
            of(|half| half.p99),
            of(|half| half.versions),
        )
    });
    println!(
        "  other requests, p50 and p99: {:.1} and {:.1} us while nothing changes, {:.1} and {:.1} us \
         with ten changes a second ({:.1} versions); p99 {:.3} of that without (rounds: {})",
        without.0,
        without.1,
        with.0,
        with.1,
        with.2,
        median(&ratios),
        ratios
            .iter()
            .map(|ratio| format!("{ratio:.3}"))
            .collect::<Vec<_>>()
            .join(" "),
    );
    Ok(())
}

/// Asks for a while; with a number to count on, changes the table meanwhile.
fn half(
    weir: &Weir,
    sight: &Sight,
    shape: Shape,
    consul: &mut Consul,
    changes: Option<&mut u64>,
) -> Result<Half, String> {
    let version = sight.version()?;
    let stop = AtomicBool::new(false);
    let (times, changed) = thread::scope(|scope| {
        let asking = scope.spawn(|| ask(weir.port, &stop));
        let began = Instant::now();
        let mut changed = Ok(0);
        match changes {
            None => thread::sleep(HALF),
            Some(number) => {
                while began.elapsed() < HALF && changed.is_ok() {
                    *number += 1;
                    changed = table::touch(shape, consul, *number)
                        .and(changed)
                        .map(|all| all + 1);
                    let all = *changed.as_ref().unwrap_or(&0) as u32;
                    thread::sleep((PAUSE * all).saturating_sub(began.elapsed()));
                }
            }
        }
        stop.store(true, Ordering::Release);
        let times = asking.join().map_err(|_| "a client panicked".to_owned());
        (times.and_then(|times| times), changed)
    });
    let (times, changed): (Vec<f64>, u64) = (times?, changed?);
    let seen = sight.version()? - version;
    // Consul may be slower than that with large answers, and put several into one.
    if changed > 0 && seen < 2 {
        return Err(format!("of {changed} changes {seen} became versions"));
    }
    Ok(Half {
        p50: percentile(&times, 50.0),
        p99: percentile(&times, 99.0),
        versions: seen as f64 / HALF.as_secs_f64(),
    })
}

/// Asks on one connection until told to stop; how long each took, in microseconds.
fn ask(port: u16, stop: &AtomicBool) -> Result<Vec<f64>, String> {
    prefer(thread_id());
    let text = |error: std::io::Error| format!("a request: {error}");
    let mut client = Client::connect(port).map_err(text)?;
    let mut times = Vec::new();
    while !stop.load(Ordering::Acquire) {
        let began = Instant::now();
        let answer = client.request("GET", "/128", "").map_err(text)?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
        if answer.status != 200 {
            return Err(format!("a request: status {}", answer.status));
        }
        thread::sleep(REST);
    }
    Ok(times)
}

/// Puts everyone on their CPUs.
fn place(weir: &Weir, sight: &Sight, consul: &Consul) -> Result<(), String> {
    for pid in peer::tree(weir.process.pid()) {
        pin(pid, OTHER_CPU);
    }
    pin(consul.process.pid(), OTHER_CPU);
    for worker in sight.workers()? {
        pin(worker, WORKER_CPU);
        first(worker);
    }
    Ok(())
}

/// A thread whose waiting would be measured.
fn prefer(thread: u32) {
    pin(thread, OTHER_CPU);
    first(thread);
}

fn pin(pid: u32, cpu: u32) {
    run(
        "taskset",
        &["-a", "-p", "-c", &cpu.to_string(), &pid.to_string()],
    );
}

/// It is run before all others on its CPU, where that is allowed; where not, the figures vary more.
fn first(thread: u32) {
    run("chrt", &["-f", "-p", "1", &thread.to_string()]);
}

fn run(program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    let command = command.args(arguments).stdout(Stdio::null());
    let _ = command.stderr(Stdio::null()).status();
}

fn thread_id() -> u32 {
    nix::unistd::gettid().as_raw().cast_unsigned()
}
