//! SIGKILL of each process.

use nix::sys::signal::Signal;

use crate::support::backend::{Backend, Then, ok};
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::load::Load;
use crate::support::process::{alive, children, descendants, send};
use crate::support::weir::{SOON, Setup, Weir, in_server};
use crate::support::{PATIENCE, wait_for, wait_until};
use std::io::Write;
use std::time::{Duration, Instant};

/// From a syncer's death to the next change in force.
const SYNCER_BACK: Duration = Duration::from_secs(1);
/// Connections of the load: those of the dead worker may each lose the request in flight.
const CONNECTIONS: usize = 8;

fn with_consul(folder: &str) -> Setup {
    Setup::http(&format!(
        "upstream test {{ server 127.0.0.1:1; upsync {}/v1/kv/{folder} upsync_type=consul; }}\n{}",
        Consul::shared().address(),
        in_server(
            "location / { proxy_pass http://test; } location = /upstream_show { upstream_show; }"
        )
    ))
    .allow("exited on signal 9")
    .allow("keeps dying")
}

#[track_caller]
fn wait_count(weir: &Weir, count: usize) {
    let head = format!("Upstream name: test; Backend server count: {count}\n");
    wait_until(SOON, &format!("{count} servers are shown"), || {
        weir.shown("test").starts_with(&head)
    });
}

#[test]
fn a_killed_worker_takes_only_its_own_requests_along() {
    let backend = Backend::answering(|_, out| {
        let _ = out.write_all(&ok("x"));
        Then::Keep
    });
    let body = format!(
        "location / {{ add_header X-Pid $pid; proxy_pass http://{}; }}",
        backend.address()
    );
    let weir = Setup::server(&body)
        .workers(3)
        .allow("exited on signal 9")
        .start();
    let mut held = weir.each_worker(3);
    let load = Load::start(&weir.address(), "/", CONNECTIONS);
    let victim = weir.workers()[0];
    send(victim, Signal::SIGKILL);
    wait_until(PATIENCE, "a successor takes connections", || {
        let now = weir.workers();
        now.len() == 3 && !now.contains(&victim)
    });
    load.progress();
    let outcome = load.stop();
    let dead = Some(victim.to_string());
    let others: Vec<_> = outcome
        .failures
        .iter()
        .filter(|failed| failed.worker != dead)
        .collect();
    assert!(others.is_empty(), "{others:?}");
    assert!(
        outcome.failures.len() <= CONNECTIONS,
        "{:?}",
        outcome.failures
    );
    assert!(held.remove(&victim).is_some());
    for (pid, client) in &mut held {
        assert_eq!(
            crate::support::weir::who(client),
            *pid,
            "the others keep their connections"
        );
    }
    let all = weir.each_worker(3);
    assert!(all.len() == 3 && !all.contains_key(&victim));
    weir.wait_log(&format!("worker process {victim} exited on signal 9"));
    let alerts = weir
        .error_log()
        .lines()
        .filter(|line| line.contains("[alert]"))
        .count();
    assert_eq!(alerts, 1, "one line for it");
}

#[test]
fn a_worker_that_keeps_dying_is_respawned_each_time() {
    let weir = Setup::server("")
        .workers(1)
        .allow("exited on signal 9")
        .allow("keeps dying")
        .start();
    for _ in 0..4 {
        let victim = wait_for(PATIENCE, "there is a worker", || {
            weir.workers().first().copied()
        });
        send(victim, Signal::SIGKILL);
        wait_until(PATIENCE, "there is another one", || {
            weir.workers().first().is_some_and(|pid| *pid != victim)
        });
    }
    assert_eq!(weir.get("/who").status, 200);
}

#[test]
fn after_the_syncers_death_a_change_is_live_within_a_second() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let backends: Vec<_> = (0..4)
        .map(|number| Backend::named(&number.to_string()))
        .collect();
    consul.put(&format!("{folder}/{}", backends[0].address()), ENTRY);
    let weir = with_consul(&folder).start();
    wait_count(&weir, 1);
    let load = Load::start(&weir.address(), "/", CONNECTIONS);
    let mut quickest = SOON;
    for (number, backend) in backends.iter().enumerate().skip(1) {
        let syncer = weir.syncer();
        let death = Instant::now();
        send(syncer, Signal::SIGKILL);
        consul.put(&format!("{folder}/{}", backend.address()), ENTRY);
        let head = format!(
            "Upstream name: test; Backend server count: {}\n",
            number + 1
        );
        wait_until(SOON, "the change is live", || {
            weir.shown("test").starts_with(&head)
        });
        quickest = quickest.min(death.elapsed());
        assert_ne!(weir.syncer(), syncer);
        weir.wait_log(&format!("syncer process {syncer} exited on signal 9"));
    }
    // One of them at least: the others may have met a machine that was busy elsewhere.
    assert!(quickest <= SYNCER_BACK, "{quickest:?}");
    load.progress();
    let outcome = load.stop();
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
}

#[test]
fn a_killed_master_leaves_nobody_behind_and_the_next_start_works() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let backend = Backend::named("a");
    consul.put(&format!("{folder}/{}", backend.address()), ENTRY);
    let mut weir = with_consul(&folder).start();
    wait_count(&weir, 1);
    let idle = weir.each_worker(2);
    let left = descendants(weir.pid());
    assert_eq!(left.len(), 3);
    weir.signal(Signal::SIGKILL);
    weir.process().wait(PATIENCE);
    wait_until(PATIENCE, "workers and syncer end", || {
        !left.iter().any(|pid| alive(*pid))
    });
    drop(idle);
    assert!(
        weir.path("logs/weir.pid").exists(),
        "nobody could remove the pid file"
    );
    weir.start_again();
    wait_count(&weir, 1);
    assert_eq!(weir.get("/").text(), "a\n");
    assert_eq!(children(weir.pid()).len(), 3);
}

#[test]
fn a_failing_worker_is_counted_out_of_the_totals() {
    let backend = Backend::named("a");
    let body = format!(
        "location / {{ proxy_pass http://{}; }} location = /status {{ stub_status; }}",
        backend.address()
    );
    let weir = Setup::server(&body)
        .workers(2)
        .allow("exited on signal 9")
        .start();
    let mut held = weir.each_worker(2);
    for client in held.values_mut() {
        for _ in 0..10 {
            client.get("/").unwrap();
        }
    }
    let requests = || -> u64 {
        let text = weir.get("/status").text();
        text.lines()
            .nth(2)
            .unwrap()
            .split_whitespace()
            .nth(2)
            .unwrap()
            .parse()
            .unwrap()
    };
    let before = requests();
    assert!(before >= 20, "{before}");
    let victim = weir.workers()[0];
    send(victim, Signal::SIGKILL);
    wait_until(PATIENCE, "there is a successor", || {
        let now = weir.workers();
        now.len() == 2 && !now.contains(&victim)
    });
    assert!(requests() > before, "what the dead worker counted is kept");
    drop(held);
    wait_until(PATIENCE, "its connections are no longer active", || {
        weir.get("/status")
            .text()
            .starts_with("Active connections: 1 ")
    });
}
