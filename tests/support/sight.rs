//! Looks at every upstream's servers all the time, as a worker has them, and keeps each change.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::client::Client;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// From when on an upstream had these servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    pub at: Instant,
    pub servers: Vec<String>,
}

/// Each upstream's changes, the oldest first.
pub type History = BTreeMap<String, Vec<Look>>;

/// The looking thread; it ends with this value.
pub struct Sight {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    history: Mutex<History>,
}

impl Sight {
    /// Asks `target`, an `upstream_show` of all upstreams, at `address`.
    pub fn start(address: &str, target: &str) -> Sight {
        let shared = Arc::<Shared>::default();
        let (own, address, target) = (Arc::clone(&shared), address.to_owned(), target.to_owned());
        let thread = thread::spawn(move || run(&own, &address, &target));
        Sight {
            shared,
            thread: Some(thread),
        }
    }

    /// What an upstream had so far.
    pub fn history(&self, upstream: &str) -> Vec<Look> {
        let history = self.shared.history.lock().unwrap();
        history.get(upstream).cloned().unwrap_or_default()
    }

    /// What it had when it was looked at last; nothing when it never was.
    pub fn servers(&self, upstream: &str) -> Vec<String> {
        let latest = self.history(upstream).pop();
        latest.map(|look| look.servers).unwrap_or_default()
    }
}

impl Drop for Sight {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, address: &str, target: &str) {
    let mut client = None;
    while !shared.stop.load(Ordering::Acquire) {
        let open = client.take().or_else(|| Client::try_connect(address).ok());
        if let Some(mut open) = open
            && let Ok(response) = open.get(target)
        {
            let at = Instant::now();
            note(&mut shared.history.lock().unwrap(), &response.text(), at);
            client = response.keeps().then_some(open);
        }
        thread::sleep(PAUSE);
    }
}

/// Takes in one answer.
fn note(history: &mut History, text: &str, at: Instant) {
    for part in text.split("Upstream name: ").skip(1) {
        let name = part.split(';').next().unwrap_or_default();
        let mut servers: Vec<_> = part
            .lines()
            .filter_map(|line| line.trim().strip_prefix("server ")?.split(' ').next())
            .map(str::to_owned)
            .collect();
        servers.sort_unstable();
        let looks = history.entry(name.to_owned()).or_default();
        if looks.last().is_none_or(|last| last.servers != servers) {
            looks.push(Look { at, servers });
        }
    }
}

#[test]
fn a_look_is_kept_when_it_differs() {
    let text = |servers: &str| {
        format!(
            "Upstream name: a; Backend server count: 1\n{servers}\nUpstream name: b; Backend server count: 0\n"
        )
    };
    let (mut history, at) = (History::new(), Instant::now());
    for servers in ["   server 1.2.3.4:5 weight=1;\n   server 1.2.3.4:4 weight=1 down;"; 3] {
        note(&mut history, &text(servers), at);
    }
    assert_eq!(history["a"].len(), 1);
    assert_eq!(history["a"][0].servers, ["1.2.3.4:4", "1.2.3.4:5"]);
    note(&mut history, &text("   server 1.2.3.4:5 weight=1;"), at);
    assert_eq!(history["a"][1].servers, ["1.2.3.4:5"]);
    assert!(history["b"][0].servers.is_empty());
}
