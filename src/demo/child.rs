//! weir itself, run as a user would run it, but so that it never outlives the demo.

use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

/// The demo's word for the step between itself and weir.
pub const STEP: &str = "--step";
/// The region below the demo's folder.
const REGION: &str = "weir.region";
/// What weir says on its terminal.
const OUTPUT: &str = "logs/output";
/// How long weir may take until it listens.
const START: Duration = Duration::from_secs(30);
/// How long it may take to end before it is killed.
const STOP: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);

/// A running weir in its own folder.
pub struct Weir {
    child: Child,
    folder: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its region.
    pub region: PathBuf,
}

/// Where the demo's parts are; `None` is a weir that could not start.
pub enum Started {
    Running(Weir),
    AddressTaken,
}

/// Writes the configuration into `folder` and starts weir on it. It is for the thread that lives
/// as long as the demo: the kernel sends the death signal when the thread that forked ends.
pub fn start(folder: &Path, address: SocketAddr, consul: SocketAddr) -> Result<Started, String> {
    let about = |what: &str, error: io::Error| format!("{what}: {error}");
    for name in ["conf", "logs"] {
        fs::create_dir_all(folder.join(name)).map_err(|error| about(name, error))?;
    }
    let region = folder.join(REGION);
    let text = configuration(address, consul);
    fs::write(folder.join("conf/weir.conf"), text)
        .map_err(|error| about("conf/weir.conf", error))?;
    let output = fs::File::create(folder.join(OUTPUT)).map_err(|error| about(OUTPUT, error))?;
    let errors = output.try_clone().map_err(|error| about(OUTPUT, error))?;
    let program = env::current_exe().map_err(|error| about("this program", error))?;
    let child = Command::new(program)
        .args(["demo", STEP, &std::process::id().to_string()])
        .arg("-p")
        .arg(folder)
        .args(["-c", "conf/weir.conf", "-g", "daemon off;"])
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        // Ctrl-C reaches the demo alone, which then ends weir in order.
        .process_group(0)
        .spawn()
        .map_err(|error| about("weir", error))?;
    let weir = Weir {
        child,
        folder: folder.to_owned(),
        address,
        region,
    };
    weir.wait_until_listening()
}

/// Runs in the started process: asks for the death signal, then becomes weir. The signal survives
/// the exec. A demo that was gone before the question was asked is noticed by its process id.
pub fn step(arguments: &[String]) -> ExitCode {
    let parent = arguments
        .first()
        .and_then(|pid| pid.parse().ok())
        .and_then(Pid::from_raw);
    let asked = set_parent_process_death_signal(Some(Signal::TERM));
    if parent.is_none() || getppid() != parent || asked.is_err() {
        return ExitCode::FAILURE;
    }
    let error = match env::current_exe() {
        Ok(program) => Command::new(program)
            .arg0("weir")
            .args(&arguments[1..])
            .exec(),
        Err(error) => error,
    };
    super::complain(&format!("weir cannot be started: {error}"));
    ExitCode::FAILURE
}

impl Weir {
    /// The pid file appears only when every listener listens.
    fn wait_until_listening(mut self) -> Result<Started, String> {
        let until = Instant::now() + START;
        while !self.folder.join("logs/weir.pid").exists() {
            if let Some(status) = self.ended() {
                // Its log may still tell of an earlier try.
                return if self.read(OUTPUT).contains("Address already in use") {
                    Ok(Started::AddressTaken)
                } else {
                    Err(format!("weir ended ({status}):\n{}", self.said()))
                };
            }
            if Instant::now() > until {
                let said = self.said();
                self.stop();
                return Err(format!("weir does not listen after {START:?}:\n{said}"));
            }
            thread::sleep(POLL);
        }
        Ok(Started::Running(self))
    }

    /// How it ended, when it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// What it wrote to its terminal and its error log.
    pub fn said(&self) -> String {
        self.read(OUTPUT) + &self.read("logs/error.log")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }

    /// Ends it: a fast stop, and a kill when that takes too long.
    pub fn stop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let (None, Some(pid)) = (self.ended(), pid) {
            // It is not reaped yet, so that the id cannot be another's.
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + STOP;
        while self.ended().is_none() {
            if Instant::now() > until {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The paths in it are relative, so that no folder's name has to be quoted.
fn configuration(address: SocketAddr, consul: SocketAddr) -> String {
    format!(
        "worker_processes 2;
error_log logs/error.log notice;
region {REGION} servers=1024 upstreams=16;

events {{
    worker_connections 1024;
}}

http {{
    access_log off;

    upstream test {{
        upsync {consul}/v1/kv/upstreams/test upsync_timeout=6m upsync_interval=500ms upsync_type=consul strong_dependency=off;
    }}

    server {{
        listen {address};

        location = /proxy_test {{
            proxy_pass http://test;
        }}

        location = /upstream_show {{
            upstream_show;
        }}

        location = /stub_status {{
            stub_status;
        }}
    }}
}}
"
    )
}
