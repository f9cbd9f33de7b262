//! The weir of the campaign, and what may happen to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use nix::sys::signal::Signal;

use super::clients::Course;
use super::killed::Killed;
use super::masters::Masters;
use super::random::Random;
use crate::support::backend::Backend;
use crate::support::consul::{Consul, ENTRY};
use crate::support::process::{alive, children, read_lossy, send, state, title};
use crate::support::weir::{Setup, Weir, in_http, in_server, weirctl};
use crate::support::{PATIENCE, free_port, wait_until};

/// Workers of the first and the last configuration, and the most that there ever are.
pub const WORKERS: usize = 3;
const WORKERS_MOST: usize = 5;
/// Lines of the log that a failure shows.
const LINES: usize = 60;
/// How often a worker is stopped to meet one that waits for events.
const STOPS: usize = 200;
/// So many sets of routes there are.
const SHAPES: usize = 3;
const FOLDER: &str = "upstreams/chaos/test";

/// What a worker's row says.
struct Row {
    pid: u32,
    /// Requests, of which at least the first byte was read.
    in_flight: usize,
    /// It waits for events, so that the row is all there is.
    waits: bool,
}

/// A weir with its Consul and servers.
pub struct Site {
    pub weir: Weir,
    pub masters: Masters,
    consul: Option<Consul>,
    consul_port: u16,
    backends: Vec<Backend>,
    /// Servers that Consul names.
    named: BTreeSet<usize>,
    generation: usize,
    pub killed: Vec<Killed>,
    /// Nothing happens that replaces processes.
    pub in_place: bool,
    /// How often each thing has happened.
    pub happened: BTreeMap<Action, usize>,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Put,
    Delete,
    Reload,
    Reopen,
    Add,
    Remove,
    KillWorker,
    KillSyncer,
    /// The next step of a change of the binary.
    ChangeBinary,
    /// Ends Consul, or starts it again.
    RestartConsul,
}

impl Action {
    /// The next one.
    pub fn choose(random: &mut Random) -> Action {
        match random.below(43) {
            0..=9 => Action::Put,
            10..=15 => Action::Delete,
            16..=23 => Action::Reload,
            24..=26 => Action::Reopen,
            27..=29 => Action::Add,
            30..=32 => Action::Remove,
            33..=35 => Action::KillWorker,
            36..=37 => Action::KillSyncer,
            38..=40 => Action::ChangeBinary,
            _ => Action::RestartConsul,
        }
    }
}

impl Site {
    pub fn start(make: impl Fn() -> Backend) -> Site {
        let consul_port = free_port();
        let consul = Consul::start_at(consul_port);
        let backends: Vec<Backend> = (0..4).map(|_| make()).collect();
        // The first stays, so that there is always a server.
        consul.put(&format!("{FOLDER}/{}", backends[0].address()), ENTRY);
        let spare = backends[0].address().to_owned();
        let text = configuration(consul_port, &spare, 0, WORKERS, "listen 127.0.0.1:@PORT2@;");
        let guests = free_port();
        let weir = Setup::whole(&text)
            .set("PORT2", guests)
            // What a new master cannot have or change while the old one is there; docs/upgrade.md.
            .allow(&format!(
                "bind() to 127.0.0.1:{guests} failed (98: Address already in use)"
            ))
            .allow("more.sock failed (98: Address already in use)")
            .allow("\"region\" cannot change during a change of the binary")
            .allow("exited on signal 9")
            .allow("keeps dying")
            .allow("there is no syncer process at the moment")
            .allow(" died")
            .allow("sendmsg() to ")
            .start();
        wait_until(PATIENCE, "it serves", || weir.get("/short").status == 200);
        Site {
            masters: Masters::new(weir.pid()),
            weir,
            consul: Some(consul),
            consul_port,
            backends,
            named: BTreeSet::from([0]),
            generation: 0,
            killed: Vec::new(),
            in_place: false,
            happened: BTreeMap::new(),
        }
    }

    /// Where clients go: two addresses that stay, and one that comes and goes.
    pub fn course(&self, longest: usize) -> Course {
        let at = |name| format!("127.0.0.1:{}", self.weir.port(name));
        Course {
            addresses: vec![at("PORT"), at("PORT3")],
            guests: Some(at("PORT2")),
            longest,
        }
    }

    pub fn run(&mut self, action: Action, random: &mut Random) {
        let action = match action {
            Action::KillWorker | Action::ChangeBinary if self.in_place => Action::Reload,
            _ => action,
        };
        *self.happened.entry(action).or_default() += 1;
        self.masters.look(&self.weir);
        let server = 1 + random.below(3) as usize;
        match action {
            Action::Put => {
                let weight = format!(r#"{{"weight":{}}}"#, 1 + random.below(9));
                self.named.insert(server);
                let key = self.key(server);
                self.consul
                    .iter()
                    .for_each(|consul| consul.put(&key, &weight));
            }
            Action::Delete => {
                self.named.remove(&server);
                let key = self.key(server);
                self.consul.iter().for_each(|consul| consul.delete(&key));
            }
            Action::Reload => self.reload_at_random(random),
            Action::Reopen => {
                // As logrotate does it; what was rotated before is gone.
                let _ = std::fs::rename(
                    self.weir.path("logs/access.log"),
                    self.weir.path("logs/access.log.1"),
                );
                self.signal(Signal::SIGUSR1);
            }
            Action::Add if self.serving().len() < WORKERS_MOST => self.signal(Signal::SIGTTIN),
            Action::Add | Action::Remove => self.signal(Signal::SIGTTOU),
            Action::KillWorker => self.kill_worker(random),
            Action::KillSyncer => {
                if let Some(pid) = self.syncer() {
                    send(pid, Signal::SIGKILL);
                }
            }
            Action::ChangeBinary => self.masters.step(&self.weir, random),
            Action::RestartConsul if self.consul.is_some() => self.consul = None,
            Action::RestartConsul => self.start_consul(),
        }
        // They record every request.
        self.backends.iter().for_each(Backend::forget);
    }

    fn signal(&self, signal: Signal) {
        send(self.masters.current(), signal);
    }

    fn reload_at_random(&mut self, random: &mut Random) {
        let workers = 2 + random.below(3) as usize;
        let more = [
            "",
            "listen 127.0.0.1:@PORT2@;",
            "listen unix:@DIR@/more.sock;",
        ];
        let more = more[random.below(3) as usize];
        // These two replace processes, which must not be all that ever happens to them.
        let limit = match random.below(12) {
            0 if !self.in_place => format!("worker_rlimit_nofile {};\n", 4000 + random.below(2)),
            _ => String::new(),
        };
        let other = !self.in_place && random.below(12) == 0;
        let upstreams = 512 - u64::from(other);
        self.reload(&limit, workers, more, upstreams);
    }

    fn reload(&mut self, main: &str, workers: usize, listen: &str, upstreams: u64) {
        self.generation += 1;
        let spare = self.backends[0].address();
        let text = configuration(self.consul_port, spare, self.generation, workers, listen);
        let text = text.replace("upstreams=512", &format!("upstreams={upstreams}"));
        self.weir.rewrite(&format!("{main}{text}"));
        self.signal(Signal::SIGHUP);
    }

    /// Kills a worker that is stopped first: half of them wherever they are, and half while they
    /// wait for events, when their row holds.
    fn kill_worker(&mut self, random: &mut Random) {
        let region = self.masters.any_region(&self.weir, random);
        let anywhere = random.below(2) == 0;
        let ports = ["PORT", "PORT2", "PORT3"].map(|name| self.weir.port(name));
        for _ in 0..STOPS {
            let rows = serving(&region);
            if rows.is_empty() {
                return;
            }
            let pid = rows[random.below(rows.len() as u64) as usize].pid;
            send(pid, Signal::SIGSTOP);
            wait_until(PATIENCE, "a worker is stopped", || {
                !alive(pid) || state(pid) == Some('T')
            });
            let row = serving(&region).into_iter().find(|row| row.pid == pid);
            match row {
                Some(row) if row.waits || anywhere => {
                    let in_flight = row.waits.then_some(row.in_flight);
                    self.killed.push(Killed::kill(pid, &ports, in_flight));
                    return;
                }
                _ => send(pid, Signal::SIGCONT),
            }
        }
    }

    /// The workers of the current master that are not on their way out.
    fn serving(&self) -> Vec<Row> {
        serving(&self.masters.region(&self.weir))
    }

    fn syncer(&self) -> Option<u32> {
        let children = children(self.masters.current());
        let is_syncer = |pid: &u32| title(*pid) == "weir: syncer process";
        children.into_iter().find(is_syncer)
    }

    /// A new Consul, which has forgotten everything, is told.
    fn start_consul(&mut self) {
        let consul = Consul::start_at(self.consul_port);
        for server in &self.named {
            consul.put(&self.key(*server), ENTRY);
        }
        self.consul = Some(consul);
    }

    fn key(&self, server: usize) -> String {
        format!("{FOLDER}/{}", self.backends[server].address())
    }

    /// Lets everything be as the first configuration and Consul say.
    pub fn settle(&mut self, random: &mut Random) {
        self.masters.settle(&self.weir, random);
        if self.consul.is_none() {
            self.start_consul();
        }
        let _ = self.logs();
        // Back to the first routes.
        self.generation = self.generation.next_multiple_of(SHAPES) + SHAPES - 1;
        self.reload("", WORKERS, "listen 127.0.0.1:@PORT2@;", 512);
        let count = |weir: &Weir, text: &str| weir.error_log().matches(text).count();
        let mut refused = count(&self.weir, "reconfiguring refused");
        let wanted = format!("g{}", self.generation);
        wait_until(PATIENCE, "every worker has the last configuration", || {
            let now = count(&self.weir, "reconfiguring refused");
            if now > refused {
                refused = now;
                self.signal(Signal::SIGHUP);
            }
            (0..12).all(|_| self.weir.get("/generation").text() == wanted)
        });
        // TTIN and TTOU may have made another number of it.
        let begun = Instant::now();
        while self.serving().len() != WORKERS {
            let before = self.serving().len();
            self.signal(match before < WORKERS {
                true => Signal::SIGTTIN,
                false => Signal::SIGTTOU,
            });
            wait_until(PATIENCE, "there is one worker more or less", || {
                self.serving().len() != before
            });
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.weir.workers());
        }
        for server in 0..self.backends.len() {
            self.named.insert(server);
            let key = self.key(server);
            self.consul
                .iter()
                .for_each(|consul| consul.put(&key, ENTRY));
        }
        let head = "Upstream name: test; Backend server count: 4\n";
        wait_until(PATIENCE, "every worker has all servers", || {
            (0..12).all(|_| self.weir.shown("test").starts_with(head))
        });
    }

    /// Ends it, and waits for the end.
    pub fn stop(&mut self) {
        let master = self.masters.current();
        send(master, Signal::SIGTERM);
        wait_until(PATIENCE, "the master ends", || !alive(master));
    }

    /// Waits for the connections of clients that have gone to be forgotten.
    pub fn rest(&self) {
        wait_until(PATIENCE, "no connection is left", || {
            let text = self.weir.get("/status").text();
            text.starts_with("Active connections: 1 ")
        });
    }

    /// What the error log says, for a failure: the whole is kept in a file.
    pub fn logs(&self) -> String {
        let log = self.weir.error_log();
        let kept = format!(
            "{}/chaos-{}.log",
            env!("CARGO_TARGET_TMPDIR"),
            std::process::id()
        );
        let kept = match std::fs::write(&kept, &log) {
            Ok(()) => kept,
            Err(error) => error.to_string(),
        };
        let lines = log.lines().filter(|line| !line.contains("[info]"));
        let lines: Vec<&str> = lines.collect();
        let tail = lines[lines.len().saturating_sub(LINES)..].join("\n");
        format!("{tail}\nthe whole error log: {kept}")
    }

    pub fn output(&self) -> String {
        read_lossy(&self.weir.path("output"))
    }
}

/// The workers of a region that are not on their way out.
fn serving(region: &Path) -> Vec<Row> {
    let done = weirctl(&[
        "--region",
        &region.display().to_string(),
        "workers",
        "--json",
    ]);
    let Ok(all) = serde_json::from_str::<serde_json::Value>(&done.stdout) else {
        // There is none at the path just now: a master gives it another name.
        return Vec::new();
    };
    let rows = all["workers"].as_array().or(all.as_array()).cloned();
    let rows = rows.unwrap_or_default().into_iter();
    let rows = rows.filter(|row| row["alive"] == true && row["state"] != "quitting");
    let number = |row: &serde_json::Value, name: &str| row[name].as_u64().unwrap() as usize;
    rows.map(|row| Row {
        pid: number(&row, "pid") as u32,
        in_flight: number(&row, "reading") + number(&row, "writing"),
        waits: row["state"] == "parked" || row["state"] == "full",
    })
    .collect()
}

/// `spare` is a server that is always there. Routes change with the generation.
fn configuration(
    consul: u16,
    spare: &str,
    generation: usize,
    workers: usize,
    listen: &str,
) -> String {
    let pass = "add_header X-Pid $pid; proxy_http_version 1.1;
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection;";
    let (upstream, routes) = match generation % SHAPES {
        0 => (String::new(), String::new()),
        1 => (
            format!("upstream spare {{ server {spare}; keepalive 4; }}"),
            format!("location = /short {{ {pass} proxy_pass http://spare; }}"),
        ),
        _ => (
            String::new(),
            format!(
                "location = /short {{ {pass} proxy_pass http://test; }}
                 location /upload {{ {pass} proxy_pass http://test; proxy_request_buffering on; }}
                 location ^~ /tunnel {{ {pass} proxy_pass http://test; proxy_read_timeout 30s; }}"
            ),
        ),
    };
    let body = format!(
        "upstream test {{ upsync 127.0.0.1:{consul}/v1/kv/{FOLDER} upsync_type=consul \
         upsync_interval=200ms; upsync_dump_path @DIR@/dump/test.conf; }}
         {upstream}
         keepalive_min_timeout 5s; keepalive_requests 200;
         proxy_next_upstream off; proxy_request_buffering off;
         {}",
        in_server(&format!(
            "listen 127.0.0.1:@PORT3@; {listen}
             location = /upstream_show {{ upstream_show; }}
             location = /status {{ stub_status; }}
             location = /generation {{ return 200 g{generation}; }}
             {routes}
             location / {{ {pass} proxy_pass http://test; }}"
        ))
    );
    in_http(&body).replace(
        "worker_processes @WORKERS@;",
        &format!("worker_processes {workers};"),
    )
}
