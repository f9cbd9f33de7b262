//! The weir of the campaign, and what may happen to it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::random::Random;
use crate::support::backend::Backend;
use crate::support::consul::{Consul, ENTRY};
use crate::support::process::{read_lossy, send};
use crate::support::weir::{Setup, Weir, in_http, in_server};
use crate::support::{PATIENCE, free_port, wait_until};
use crate::upgrade::New;

/// Workers of the first and the last configuration, and the most that there ever are.
pub const WORKERS: usize = 3;
const WORKERS_MOST: usize = 5;
/// How often a worker is stopped to meet one that waits for events.
const STOPS: usize = 200;
const FOLDER: &str = "upstreams/chaos/test";

/// A worker that was killed, and what the region said that it had then.
#[derive(Clone, Copy, Debug)]
pub struct Killed {
    pub pid: u32,
    pub at: Instant,
    pub connections: usize,
}

/// A worker that serves.
struct Serving {
    pid: u32,
    connections: usize,
    /// It waits for events, so that the row is all there is.
    waits: bool,
}

/// A weir with its Consul and servers.
pub struct Site {
    pub weir: Weir,
    consul: Option<Consul>,
    consul_port: u16,
    backends: Vec<Backend>,
    /// Servers that Consul names.
    named: BTreeSet<usize>,
    generation: usize,
    pub killed: Vec<Killed>,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    Put,
    Delete,
    Reload,
    Reopen,
    Add,
    Remove,
    KillWorker,
    KillSyncer,
    ChangeBinary,
    RestartConsul,
}

impl Action {
    /// The next one; Consul, which takes its time, now and then.
    pub fn choose(random: &mut Random) -> Action {
        match random.below(40) {
            0..=9 => Action::Put,
            10..=15 => Action::Delete,
            16..=23 => Action::Reload,
            24..=26 => Action::Reopen,
            27..=29 => Action::Add,
            30..=32 => Action::Remove,
            33..=35 => Action::KillWorker,
            36..=37 => Action::KillSyncer,
            38 => Action::ChangeBinary,
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
        let text = configuration(consul_port, 0, WORKERS, "");
        let weir = Setup::whole(&text)
            .allow("exited on signal 9")
            .allow("keeps dying")
            .allow("there is no syncer process at the moment")
            .allow(" died")
            .allow("sendmsg() to ")
            .start();
        wait_until(PATIENCE, "it serves", || weir.get("/short").status == 200);
        Site {
            weir,
            consul: Some(consul),
            consul_port,
            backends,
            named: BTreeSet::from([0]),
            generation: 0,
            killed: Vec::new(),
        }
    }

    pub fn run(&mut self, action: Action, random: &mut Random) {
        let server = 1 + random.below(3) as usize;
        match action {
            Action::Put => {
                let weight = format!(r#"{{"weight":{}}}"#, 1 + random.below(9));
                self.named.insert(server);
                self.consul().put(&self.key(server), &weight);
            }
            Action::Delete => {
                self.named.remove(&server);
                self.consul().delete(&self.key(server));
            }
            Action::Reload => {
                let workers = 2 + random.below(3) as usize;
                let more = [
                    "",
                    "listen 127.0.0.1:@PORT2@;",
                    "listen unix:@DIR@/more.sock;",
                ];
                let more = more[random.below(3) as usize];
                let limit = match random.below(4) {
                    0 => format!("worker_rlimit_nofile {};\n", 4000 + random.below(2)),
                    _ => String::new(),
                };
                // Its own sizes make another region.
                let upstreams = 512 - random.below(6) / 5;
                self.reload(&limit, workers, more, upstreams);
            }
            Action::Reopen => self.weir.signal(Signal::SIGUSR1),
            Action::Add if self.serving().len() < WORKERS_MOST => {
                self.weir.signal(Signal::SIGTTIN);
            }
            Action::Add | Action::Remove => self.weir.signal(Signal::SIGTTOU),
            Action::KillWorker => self.kill_worker(random),
            Action::KillSyncer => {
                if let Some(pid) = self.syncer() {
                    send(pid, Signal::SIGKILL);
                }
            }
            Action::ChangeBinary => self.there_and_back(random),
            Action::RestartConsul => self.restart_consul(),
        }
        // They record every request.
        self.backends.iter().for_each(Backend::forget);
    }

    fn reload(&mut self, main: &str, workers: usize, listen: &str, upstreams: u64) {
        self.generation += 1;
        let text = configuration(self.consul_port, self.generation, workers, listen);
        let text = text.replace("upstreams=512", &format!("upstreams={upstreams}"));
        self.weir.rewrite(&format!("{main}{text}"));
        self.weir.signal(Signal::SIGHUP);
    }

    /// Kills a worker that is stopped first, while it waits for events: then its row holds.
    fn kill_worker(&mut self, random: &mut Random) {
        for _ in 0..STOPS {
            let rows = self.serving();
            if rows.is_empty() {
                return;
            }
            let pid = rows[random.below(rows.len() as u64) as usize].pid;
            send(pid, Signal::SIGSTOP);
            let mut stopped = self.serving().into_iter();
            let row = stopped.find(|row| row.pid == pid && row.waits);
            if let Some(row) = row {
                self.killed.push(Killed {
                    pid,
                    at: Instant::now(),
                    connections: row.connections,
                });
                send(pid, Signal::SIGKILL);
                return;
            }
            send(pid, Signal::SIGCONT);
        }
    }

    /// The workers that are not on their way out.
    fn serving(&self) -> Vec<Serving> {
        let rows = self.weir.weirctl_json(&["workers"]);
        let rows = rows["workers"].as_array().or(rows.as_array()).cloned();
        let rows = rows.unwrap_or_default().into_iter();
        let rows = rows.filter(|row| row["alive"] == true && row["state"] != "quitting");
        rows.map(|row| Serving {
            pid: row["pid"].as_u64().unwrap() as u32,
            connections: row["connections"].as_u64().unwrap() as usize,
            waits: row["state"] == "parked" || row["state"] == "full",
        })
        .collect()
    }

    fn syncer(&self) -> Option<u32> {
        let master = self.weir.pid();
        let children = crate::support::process::children(master);
        let title = |pid: &u32| crate::support::process::title(*pid) == "weir: syncer process";
        children.into_iter().find(title)
    }

    /// USR2, and the way back: the new one is told to go, at times after the old one's workers.
    fn there_and_back(&self, random: &mut Random) {
        let old = self.weir.pid();
        let new = New::start(&self.weir, old);
        if random.below(2) == 0 {
            self.weir.signal(Signal::SIGWINCH);
            wait_until(PATIENCE, "the new one serves", || {
                self.weir.get("/short").status == 200
            });
            self.weir.signal(Signal::SIGHUP);
        }
        new.end(Signal::SIGQUIT);
        let pid_file = self.weir.path("logs/weir.pid");
        wait_until(PATIENCE, "the old one has its pid file back", || {
            read_lossy(&pid_file).trim() == old.to_string()
        });
    }

    /// Ends Consul, which forgets everything, and tells the new one.
    fn restart_consul(&mut self) {
        drop(self.consul.take());
        let consul = Consul::start_at(self.consul_port);
        for server in &self.named {
            consul.put(&self.key(*server), ENTRY);
        }
        self.consul = Some(consul);
    }

    fn consul(&self) -> &Consul {
        self.consul.as_ref().expect("Consul runs")
    }

    fn key(&self, server: usize) -> String {
        format!("{FOLDER}/{}", self.backends[server].address())
    }

    /// Lets everything be as the first configuration and Consul say.
    pub fn settle(&mut self) {
        self.reload("", WORKERS, "", 512);
        let count = |weir: &Weir, text: &str| weir.error_log().matches(text).count();
        let mut refused = count(&self.weir, "reconfiguring refused");
        let wanted = format!("g{}", self.generation);
        wait_until(PATIENCE, "every worker has the last configuration", || {
            let now = count(&self.weir, "reconfiguring refused");
            if now > refused {
                refused = now;
                self.weir.signal(Signal::SIGHUP);
            }
            (0..12).all(|_| self.weir.get("/generation").text() == wanted)
        });
        // TTIN and TTOU may have made another number of it.
        let begun = Instant::now();
        while self.serving().len() != WORKERS {
            let before = self.serving().len();
            let more = before < WORKERS;
            let signal = if more {
                Signal::SIGTTIN
            } else {
                Signal::SIGTTOU
            };
            self.weir.signal(signal);
            wait_until(PATIENCE, "there is one worker more or less", || {
                self.serving().len() != before
            });
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.weir.workers());
        }
        for server in 0..self.backends.len() {
            self.named.insert(server);
            self.consul().put(&self.key(server), ENTRY);
        }
        let head = "Upstream name: test; Backend server count: 4\n";
        wait_until(PATIENCE, "every worker has all servers", || {
            (0..12).all(|_| self.weir.shown("test").starts_with(head))
        });
    }

    /// Waits for the connections of clients that have gone to be forgotten.
    pub fn rest(&self) {
        wait_until(PATIENCE, "no connection is left", || {
            let text = self.weir.get("/status").text();
            text.starts_with("Active connections: 1 ")
        });
    }

    /// What the log says, for a failure.
    pub fn tail(&self) -> String {
        let log = self.weir.error_log();
        let all: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("[notice]"))
            .collect();
        all[all.len().saturating_sub(40)..].join("\n")
    }

    pub fn output(&self) -> String {
        read_lossy(&self.weir.path("output"))
    }
}

fn configuration(consul: u16, generation: usize, workers: usize, listen: &str) -> String {
    let body = format!(
        "upstream test {{ upsync 127.0.0.1:{consul}/v1/kv/{FOLDER} upsync_type=consul \
         upsync_interval=200ms; upsync_dump_path @DIR@/dump/test.conf; }}
         keepalive_min_timeout 5s; proxy_next_upstream off; proxy_request_buffering off;
         {}",
        in_server(&format!(
            "{listen}
             location = /upstream_show {{ upstream_show; }}
             location = /status {{ stub_status; }}
             location = /generation {{ return 200 g{generation}; }}
             location / {{
                 add_header X-Pid $pid; proxy_pass http://test; proxy_http_version 1.1;
                 proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection;
             }}"
        ))
    );
    in_http(&body).replace(
        "worker_processes @WORKERS@;",
        &format!("worker_processes {workers};"),
    )
}

/// How long the answer to a kill may come late at the clients.
pub const AFTERMATH: Duration = Duration::from_secs(10);
