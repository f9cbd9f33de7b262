//! `weir demo`: three sample backends, a Consul-compatible endpoint and weir, in one command.

mod backend;
mod child;
mod http;
mod kv;
mod store;
mod summary;
mod traffic;

use std::env;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use child::{Started, Weir};
use kv::Endpoint;
use summary::Summary;

const WEIR_PORT: u16 = 8080;
const CONSUL_PORT: u16 = 8500;
const BACKEND_PORTS: [u16; 3] = [8001, 8002, 8003];
/// The prefix that the demo's upstream watches.
const PREFIX: &str = "upstreams/test";
/// A server as the article registers it.
const VALUE: &str = r#"{"weight":1, "max_fails":2, "fail_timeout":10}"#;
/// Tries to find weir a port that stays free until it binds it.
const PORT_TRIES: usize = 8;
/// Between two summaries.
const TICK: Duration = Duration::from_secs(1);

/// Runs the demo until a signal ends it; `arguments` are those after `demo`.
pub fn run(arguments: &[String]) -> ExitCode {
    match arguments {
        [] => {}
        [word, rest @ ..] if word == child::STEP => return child::step(rest),
        [other, ..] => {
            complain(&format!(
                "weir: \"demo\" takes no argument, but was given \"{other}\""
            ));
            return ExitCode::FAILURE;
        }
    }
    match play() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("weir demo: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn play() -> Result<(), String> {
    // Before anything is started, so that no signal finds the demo without a handler.
    let signals = signals().map_err(|error| format!("signals: {error}"))?;
    let folder = tempfile::Builder::new()
        .prefix("weir-demo-")
        // The workers may run as another user, who passes through it.
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .map_err(|error| format!("a temporary folder: {error}"))?;

    let backends = BACKEND_PORTS
        .iter()
        .map(|port| backend::start(*port))
        .collect::<io::Result<Vec<_>>>()
        .map_err(|error| format!("the sample backends: {error}"))?;
    let (listener, consul) =
        backend::bind(CONSUL_PORT).map_err(|error| format!("the KV endpoint: {error}"))?;
    let endpoint = Arc::new(Endpoint::default());
    endpoint.set(&format!("{PREFIX}/{}", backends[0]), VALUE);
    http::serve(listener, move |request| endpoint.answer(request));

    let mut weir = start_weir(folder.path(), consul)?;
    if print(&introduction(&weir, consul, &backends)).is_err() {
        return Ok(());
    }
    watch(&mut weir, &signals)
}

/// A port that was free when it was looked at may be taken when weir binds it: then the next.
fn start_weir(folder: &Path, consul: SocketAddr) -> Result<Weir, String> {
    for n in 0..PORT_TRIES {
        let preferred = if n == 0 { WEIR_PORT } else { 0 };
        let (probe, address) =
            backend::bind(preferred).map_err(|error| format!("a port for weir: {error}"))?;
        drop(probe);
        if let Started::Running(weir) = child::start(folder, address, consul)? {
            return Ok(weir);
        }
    }
    Err(format!(
        "no port stayed free for weir in {PORT_TRIES} tries"
    ))
}

/// Shows the summary until a signal arrives, the reader of the output goes away, or weir ends.
fn watch(weir: &mut Weir, signals: &Receiver<i32>) -> Result<(), String> {
    let mut summary = Summary::new(&weir.region, traffic::start(weir.address));
    loop {
        match signals.recv_timeout(TICK) {
            Err(RecvTimeoutError::Timeout) => {
                if summary.show().is_err() {
                    return Ok(());
                }
            }
            Ok(SIGCHLD) => {
                if let Some(status) = weir.ended() {
                    return Err(format!("weir ended ({status}):\n{}", weir.said()));
                }
            }
            Ok(_) | Err(RecvTimeoutError::Disconnected) => {
                // The terminal echoed ^C into the summary's line.
                let _ = print("\nEnding weir, the KV endpoint and the backends.\n");
                return Ok(());
            }
        }
    }
}

fn signals() -> io::Result<Receiver<i32>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCHLD])?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for signal in signals.forever() {
            if sender.send(signal).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

fn introduction(weir: &Weir, consul: SocketAddr, backends: &[SocketAddr]) -> String {
    let kv = format!("http://{consul}/v1/kv/{PREFIX}");
    let listed: Vec<String> = backends.iter().map(SocketAddr::to_string).collect();
    format!(
        "weir, 2 workers   {weir}
KV endpoint       {consul}
sample backends   {listed}

Only the first backend is registered yet. Add another one, see it serve, and
take it away again, under live traffic and without a reload:

  curl -X PUT -d '{VALUE}' {kv}/{second}
  curl http://{weir}/proxy_test
  curl 'http://{weir}/upstream_show?test'
  curl -X DELETE {kv}/{second}

The table that the workers share, live:

  {weirctl} --region {region} watch

Ctrl-C ends everything.

",
        weir = weir.address,
        weirctl = weirctl(),
        region = quoted(&weir.region),
        listed = listed.join(", "),
        second = backends[1],
    )
}

/// How to run weirctl: `cargo run` builds weir alone, an installation has both.
fn weirctl() -> String {
    let beside = env::current_exe().map(|program| program.with_file_name("weirctl"));
    match beside {
        Ok(program) if program.exists() => quoted(&program),
        _ => "cargo run --release --bin weirctl --".to_owned(),
    }
}

/// For a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// Writes to standard output; the error is that nobody reads it any more.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes a line to standard error, if that is there.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
