//! What every end-to-end test stands on: real processes that die with the test, free ports, a
//! blocking HTTP client that sees resets, recording backends, real Consul and a proxy that breaks it.

pub mod backend;
pub mod client;
pub mod consul;
pub mod dns;
pub mod etcd;
pub mod fault;
pub mod load;
pub mod nginx;
pub mod process;
pub mod server;
pub mod sight;
pub mod weir;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long anything may take that ought to take milliseconds, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at a condition.
const GLANCE: Duration = Duration::from_millis(5);

/// Looks until `condition` gives a value; after `limit` the test fails with `what`.
#[track_caller]
pub fn wait_for<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(GLANCE);
    }
}

/// Looks until `condition` holds; after `limit` the test fails with `what`.
#[track_caller]
pub fn wait_until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(limit, what, || condition().then_some(()));
}

/// Looks during the whole of `span`; the test fails as soon as `condition` no longer holds.
#[track_caller]
pub fn holds_for(span: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + span;
    while Instant::now() < deadline {
        assert!(condition(), "no longer holds: {what}");
        std::thread::sleep(GLANCE);
    }
}

/// Tells threads to end when it is dropped, by a test that fails too.
pub struct Ending<'a>(pub &'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A TCP port of 127.0.0.1 that nobody listens on. Below the ephemeral range, so that no outgoing
/// connection takes it before its user binds it.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_240;
    const COUNT: u32 = 22_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let _ = NEXT.compare_exchange(0, seed() | 1, Ordering::Relaxed, Ordering::Relaxed);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = (FIRST + step % COUNT) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Tells concurrent runs of the tests apart.
fn seed() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.subsec_nanos() ^ std::process::id().wrapping_mul(2_654_435_761)
}

/// A name that no other test, and no other run at the same time, uses.
pub fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{stem}-{}-{number}", std::process::id())
}

/// The top of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A program that `tests/setup` provides under `target/tools/bin`, else one on PATH.
#[track_caller]
pub fn tool(name: &str) -> PathBuf {
    let own = repository().join("target/tools/bin").join(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(own)
        .chain(std::env::split_paths(&path).map(|folder| folder.join(name)))
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("`{name}` is missing: run tests/setup (make test does)"))
}
