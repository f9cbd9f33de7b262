//! Everything at once, with a fixed seed: changes in Consul, reloads, signals and a killed syncer
//! under load, and no request fails.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::backend::Backend;
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::load::Load;
use crate::support::process::send;
use crate::support::weir::{Setup, in_http, in_server};
use crate::support::{PATIENCE, wait_until};

const SPAN: Duration = Duration::from_secs(6);
const SEED: u64 = 0x5EED;

/// A small generator (xorshift64), so that a failure can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn nothing_fails_while_everything_changes() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let backends: Vec<_> = (0..4)
        .map(|number| Backend::named(&number.to_string()))
        .collect();
    // The first stays, so that there is always a server.
    consul.put(&format!("{folder}/{}", backends[0].address()), ENTRY);
    let text = in_http(&format!(
        "upstream test {{ upsync {}/v1/kv/{folder} upsync_type=consul upsync_interval=200ms; \
         upsync_dump_path @DIR@/dump/test.conf; }}\n{}",
        consul.address(),
        in_server(
            "location = /upstream_show { upstream_show; } location / { add_header X-Pid $pid; proxy_pass http://test; }
             location = /generation { return 200 g0; }"
        )
    ));
    let mut weir = Setup::whole(&text)
        .workers(3)
        .allow("exited on signal 9")
        .allow("keeps dying")
        .allow("there is no syncer process at the moment")
        .allow(" died")
        .allow("sendmsg() to syncer process")
        .start();
    wait_until(PATIENCE, "it serves", || weir.get("/").status == 200);
    let load = Load::start(&weir.address(), "/", 6);
    let mut random = Random(SEED);
    let (mut generation, mut extra, end) = (0, 0, Instant::now() + SPAN);
    while Instant::now() < end {
        let backend = backends[1 + random.below(3) as usize].address();
        match random.below(10) {
            0..=3 => consul.put(
                &format!("{folder}/{backend}"),
                &format!(r#"{{"weight":{}}}"#, 1 + random.below(9)),
            ),
            4..=5 => consul.delete(&format!("{folder}/{backend}")),
            6 => {
                generation += 1;
                weir.rewrite(&text.replace("g0", &format!("g{generation}")));
                weir.signal(Signal::SIGHUP);
            }
            7 if extra < 2 => {
                extra += 1;
                weir.signal(Signal::SIGTTIN);
            }
            7 => {
                extra -= 1;
                weir.signal(Signal::SIGTTOU);
            }
            8 => weir.signal(Signal::SIGUSR1),
            _ => send(weir.syncer(), Signal::SIGKILL),
        }
        load.progress();
    }
    let outcome = load.stop();
    assert!(
        outcome.unexplained().is_empty(),
        "{:?}",
        outcome.unexplained()
    );
    // In the end it is as the last configuration and Consul say. A reload in which the syncer was
    // killed may have been refused.
    generation += 1;
    weir.rewrite(&text.replace("g0", &format!("g{generation}")));
    weir.signal(Signal::SIGHUP);
    let refused = || weir.error_log().matches("reconfiguring refused").count();
    let mut before = refused();
    wait_until(PATIENCE, "every worker has the last configuration", || {
        if refused() > before {
            before = refused();
            weir.signal(Signal::SIGHUP);
        }
        (0..12).all(|_| weir.get("/generation").text() == format!("g{generation}"))
    });
    for backend in &backends {
        consul.put(&format!("{folder}/{}", backend.address()), ENTRY);
    }
    wait_until(PATIENCE, "every worker has all servers", || {
        (0..12).all(|_| {
            weir.shown("test")
                .starts_with("Upstream name: test; Backend server count: 4\n")
        })
    });
    let mut client = weir.connect();
    for backend in &backends {
        let before = backend.count();
        wait_until(PATIENCE, "each server serves", || {
            client.get("/").unwrap();
            backend.count() > before
        });
    }
    assert_eq!(weir.weirctl(&["verify"]).code, Some(0));
}
