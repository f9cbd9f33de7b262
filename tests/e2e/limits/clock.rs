//! The clock that people set. It says what is shown, and decides nothing: here it jumps.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::backend::{Backend, Then, ok};
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::process::finish_within;
use crate::support::weir::{Setup, in_http, in_server};
use crate::support::{PATIENCE, wait_until};

/// Comes before the C library: what it says about the time of day is so many seconds off as a file
/// says, which all processes share.
const OFF: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile long long *off;

__attribute__((constructor)) static void begin(void)
{
    off = mmap(0, sizeof *off, PROT_READ, MAP_SHARED, open(getenv("CLOCK_OFF"), O_RDONLY | O_CLOEXEC), 0);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int done = syscall(SYS_clock_gettime, clock, time);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
        time->tv_sec += *off;
    return done;
}
"#;

const DAY: i64 = 86_400;
/// There and back, and more than any timeout.
const JUMPS: [i64; 3] = [400 * DAY, -400 * DAY, 0];
/// `proxy_read_timeout` of a server that never answers.
const SILENCE: Duration = Duration::from_millis(500);

/// The time of day of one weir.
struct Clock(File);

impl Clock {
    fn of(setup: Setup) -> (Setup, Clock) {
        let (source, library) = (setup.dir().join("off.c"), setup.dir().join("off.so"));
        fs::write(&source, OFF).unwrap();
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-o"]);
        let done = finish_within(compile.arg(&library).arg(&source), PATIENCE);
        assert_eq!(done.code, Some(0), "{done:?}");
        let path = setup.dir().join("off");
        let clock = Clock(File::create(&path).unwrap());
        clock.set(0);
        let setup = setup.environment("LD_PRELOAD", library.display());
        (setup.environment("CLOCK_OFF", path.display()), clock)
    }

    fn set(&self, off: i64) {
        self.0.write_all_at(&off.to_ne_bytes(), 0).unwrap();
    }
}

/// Answers at once, but what is asked for at `/held` when the gate is open.
fn gated(gate: &Arc<AtomicBool>) -> Backend {
    let gate = Arc::clone(gate);
    Backend::answering(move |request, out| {
        while request.head.starts_with("GET /held") && !gate.load(Ordering::Acquire) {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = out.write_all(&ok("x"));
        Then::Keep
    })
}

#[test]
fn a_clock_that_is_set_ends_nothing_and_delays_nothing() {
    let (consul, folder) = (Consul::shared(), consul::folder());
    let gate = Arc::new(AtomicBool::new(false));
    let backend = gated(&gate);
    let silent = Backend::raw(|_, _| thread::park_timeout(PATIENCE));
    consul.put(&format!("{folder}/{}", backend.address()), ENTRY);
    let upstream = format!(
        "upstream test {{ server 127.0.0.1:1; upsync {}/v1/kv/{folder} upsync_type=consul; }}\n",
        consul.address()
    );
    let server = in_server(&format!(
        "location / {{ proxy_pass http://test; }}
         location = /silent {{ proxy_pass http://{}; proxy_read_timeout {}ms; }}
         location = /upstream_show {{ upstream_show; }}",
        silent.address(),
        SILENCE.as_millis()
    ));
    let text = in_http(&(upstream + &server));
    let text = text.replace("daemon off;", "daemon off; worker_watchdog 5s;");
    let (setup, clock) = Clock::of(Setup::whole(&text).workers(2));
    let weir = setup.start();
    let wait_shown = |address: &str| {
        wait_until(PATIENCE, "the server is shown", || {
            weir.shown("test").contains(address)
        });
    };
    wait_shown(backend.address());
    let pids = [vec![weir.syncer()], weir.workers()].concat();

    let mut kept = weir.connect();
    let mut date = || {
        let answer = kept.get("/").unwrap();
        assert_eq!(answer.status, 200);
        // Such as `Sun, 22 Nov 2026 21:15:39 GMT`.
        let words: Vec<_> = answer.field("date").unwrap().split(' ').collect();
        words[2..4].join(" ")
    };
    let today = date();
    for (number, off) in JUMPS.into_iter().enumerate() {
        gate.store(false, Ordering::Release);
        let asked = backend.count();
        let mut held = weir.connect();
        held.send(b"GET /held HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        wait_until(PATIENCE, "it is under way", || backend.count() > asked);

        clock.set(off);
        assert_eq!(date() == today, off == 0, "{off}: the jump is seen");
        let begun = Instant::now();
        assert_eq!(weir.get("/silent").status, 504);
        let waited = begun.elapsed();
        // A worker's time is that of the turn of its loop, in whole milliseconds.
        let least = SILENCE - Duration::from_millis(2);
        assert!((least..SILENCE * 6).contains(&waited), "{off}: {waited:?}");
        let added = format!("192.0.2.{}:80", number + 1);
        consul.put(&format!("{folder}/{added}"), r#"{"down":1}"#);
        wait_shown(&added);
        weir.reload();
        gate.store(true, Ordering::Release);
        assert_eq!(held.response("GET").unwrap().status, 200, "{off}");
        let checked = weir.weirctl(&["check"]);
        assert_eq!(checked.code, Some(0), "{off}: {checked:?}");
    }
    let now = [vec![weir.syncer()], weir.workers()].concat();
    assert_eq!(now, pids, "no process is replaced");
}
