//! What requests notice that have nothing to do with a table that changes.
//!
//! One worker has CPU 0. The client, its server, Consul, the syncer and all else share CPU 1, where
//! the client and its server go first: what they see is the worker's doing, not a lack of CPUs. What
//! large answers cost on their way through the kernel they see all the same, so the same is measured
//! beside a weir that follows the table with another worker, by one that does not follow it.

use std::fs;
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
/// How often the kinds take turns in a round: neighbours in time have the same neighbours on the machine.
const TURNS: usize = 10;
/// Of one kind's turn.
const TURN: Duration = Duration::from_secs(1);
/// Between an answer and the next request.
const REST: Duration = Duration::from_micros(300);
const WORKER_CPU: u32 = 0;
const OTHER_CPU: u32 = 1;

const KINDS: [Kind; 3] = [Kind::Quiet, Kind::Beside, Kind::Following];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Nothing changes.
    Quiet,
    /// The table changes; the worker that is asked does not follow it.
    Beside,
    /// The worker that is asked follows the table, which changes.
    Following,
}

/// All turns of a kind in a round: percentiles of the requests in microseconds.
struct Part {
    p50: f64,
    p99: f64,
    /// Versions of the table a second.
    versions: f64,
}

/// Everything that takes part.
struct Rig<'a> {
    follower: Weir,
    sight: Sight,
    bystander: Weir,
    shape: Shape,
    consul: &'a mut Consul,
    /// Of the latest change.
    number: u64,
}

pub fn measure(folder: &Path, shape: Shape, consul: &mut Consul) -> Result<(), String> {
    let (send, receive) = mpsc::channel();
    let serving = thread::spawn(move || {
        prefer(thread_id())?;
        responder::serve(([127, 0, 0, 1], 0).into(), |address| {
            let _ = send.send(address);
        })
        .map_err(|error| error.to_string())
    });
    let Ok(server) = receive.recv() else {
        let ended = serving.join().map_err(|_| "the server panicked".to_owned());
        return ended.and_then(|ended: Result<(), String>| ended);
    };
    let location = format!("proxy_pass http://{server};");
    let follower = table::follow(folder, 1, shape, consul, &location)?;
    let sight = Sight::new(&follower)?;
    sight.wait_for(shape)?;
    let beside = folder.join("bystander");
    fs::create_dir(&beside).map_err(|error| error.to_string())?;
    let none = Shape {
        upstreams: 0,
        servers: 0,
    };
    let mut rig = Rig {
        bystander: table::follow(&beside, 1, none, consul, &location)?,
        follower,
        sight,
        shape,
        consul,
        // Those before were timed one by one.
        number: CHANGES,
    };
    rig.place()?;
    let mut parts: [Vec<Part>; KINDS.len()] = Default::default();
    for _ in 0..ROUNDS {
        for (parts, part) in parts.iter_mut().zip(rig.round()?) {
            parts.push(part);
        }
    }
    report(&parts);
    Ok(())
}

fn report(parts: &[Vec<Part>; KINDS.len()]) {
    let of =
        |part: &[Part], get: fn(&Part) -> f64| median(&part.iter().map(get).collect::<Vec<_>>());
    let [quiet, beside, following] = parts;
    for (what, part) in KINDS.iter().zip(parts) {
        let what = match what {
            Kind::Quiet => "while nothing changes",
            Kind::Beside => "with ten changes a second, of a worker that does not follow them",
            Kind::Following => "with ten changes a second, of one that does",
        };
        let (p50, p99) = (of(part, |part| part.p50), of(part, |part| part.p99));
        let versions = of(part, |part| part.versions);
        println!(
            "  other requests {what}: p50 {p50:.1} us, p99 {p99:.1} us ({versions:.1} versions)"
        );
    }
    let ratios = |part: &[Part], to: &[Part]| {
        let ratios: Vec<f64> = part.iter().zip(to).map(|(a, b)| a.p99 / b.p99).collect();
        let each: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.3}")).collect();
        format!("{:.3} (rounds: {})", median(&ratios), each.join(" "))
    };
    println!(
        "  p99 of the one that follows is {} of that while nothing changes; that of the other one {}",
        ratios(following, quiet),
        ratios(beside, quiet)
    );
    println!(
        "  p99 of the one that follows is {} of the other's",
        ratios(following, beside)
    );
}

impl Rig<'_> {
    /// Puts everyone on their CPUs.
    fn place(&self) -> Result<(), String> {
        for weir in [&self.follower, &self.bystander] {
            for pid in peer::tree(weir.process.pid()) {
                pin(pid, OTHER_CPU);
            }
        }
        pin(self.consul.process.pid(), OTHER_CPU);
        for worker in Sight::new(&self.bystander)?.workers()? {
            prefer_on(worker, WORKER_CPU)?;
        }
        Ok(())
    }

    /// Every kind in turn, several times.
    fn round(&mut self) -> Result<[Part; KINDS.len()], String> {
        let mut times: [Vec<f64>; KINDS.len()] = Default::default();
        let mut versions = [0; KINDS.len()];
        for turn in 0..TURNS {
            for index in 0..KINDS.len() {
                let index = (turn + index) % KINDS.len();
                let before = self.sight.version()?;
                times[index].extend(self.turn(KINDS[index])?);
                versions[index] += self.sight.version()? - before;
            }
        }
        let seconds = (TURN * TURNS as u32).as_secs_f64();
        Ok(std::array::from_fn(|index| Part {
            p50: percentile(&times[index], 50.0),
            p99: percentile(&times[index], 99.0),
            versions: versions[index] as f64 / seconds,
        }))
    }

    /// Asks for a while, and changes the table meanwhile or not; how long each request took, in
    /// microseconds.
    fn turn(&mut self, kind: Kind) -> Result<Vec<f64>, String> {
        for worker in self.sight.workers()? {
            match kind {
                Kind::Beside => defer_on(worker, OTHER_CPU)?,
                _ => prefer_on(worker, WORKER_CPU)?,
            }
        }
        let port = match kind {
            Kind::Beside => self.bystander.port,
            _ => self.follower.port,
        };
        let stop = AtomicBool::new(false);
        let (times, changed) = thread::scope(|scope| {
            let asking = scope.spawn(|| ask(port, &stop));
            let changed = match kind {
                Kind::Quiet => {
                    thread::sleep(TURN);
                    Ok(())
                }
                _ => self.change(),
            };
            stop.store(true, Ordering::Release);
            let times = asking.join().map_err(|_| "a client panicked".to_owned());
            (times.and_then(|times| times), changed)
        });
        changed.and(times)
    }

    /// Changes the table for a while, and waits for the last change to be in force.
    fn change(&mut self) -> Result<(), String> {
        let began = Instant::now();
        let mut changes = 0;
        while began.elapsed() < TURN {
            self.number += 1;
            changes += 1;
            table::touch(self.shape, self.consul, self.number)?;
            thread::sleep((PAUSE * changes).saturating_sub(began.elapsed()));
        }
        self.sight.settle()
    }
}

/// Asks on one connection until told to stop; how long each took, in microseconds.
fn ask(port: u16, stop: &AtomicBool) -> Result<Vec<f64>, String> {
    prefer(thread_id())?;
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

/// A thread whose waiting would be measured.
fn prefer(thread: u32) -> Result<(), String> {
    prefer_on(thread, OTHER_CPU)
}

/// It is run on this CPU, before all others there.
fn prefer_on(thread: u32, cpu: u32) -> Result<(), String> {
    pin(thread, cpu);
    schedule(thread, "-f", "1")
}

/// It is run on this CPU, as any other there.
fn defer_on(thread: u32, cpu: u32) -> Result<(), String> {
    pin(thread, cpu);
    schedule(thread, "-o", "0")
}

fn pin(pid: u32, cpu: u32) {
    let cpu = cpu.to_string();
    run("taskset", &["-a", "-p", "-c", &cpu, &pid.to_string()]);
}

/// Without it the figures would be those of the scheduler.
fn schedule(thread: u32, policy: &str, priority: &str) -> Result<(), String> {
    match run("chrt", &[policy, "-p", priority, &thread.to_string()]) {
        true => Ok(()),
        false => Err(
            "\"chrt\" was refused: what other requests notice is measured with real-time \
             priority (as root, in a cgroup that may have it)"
                .to_owned(),
        ),
    }
}

fn run(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    let command = command.args(arguments).stdout(Stdio::null());
    let status = command.stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn thread_id() -> u32 {
    nix::unistd::gettid().as_raw().cast_unsigned()
}
