//! As a container runs it: process 1 of its process namespace, in the foreground, logs to the
//! standard streams.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};

use nix::sys::signal::Signal;
use nix::unistd::getuid;

use crate::support::client::{Client, get};
use crate::support::process::{Process, children, finish, guarded, read_lossy, send, title};
use crate::support::weir::{Setup, in_server};
use crate::support::{PATIENCE, free_port, tool, wait_for, wait_until};

/// `unshare`, and what it takes to use it without being root.
fn unshare() -> Command {
    let mut command = guarded(tool("unshare"));
    if !getuid().is_root() {
        command.args(["--user", "--map-current-user"]);
    }
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child", "--"]);
    command
}

/// A weir that is process 1.
struct Container {
    setup: Setup,
    process: Process,
    port: u16,
}

impl Container {
    fn start(body: &str, port: u16) -> Container {
        Container::after(None, body, port)
    }

    /// After a line of the shell, in which `$0` is weir's prefix.
    fn after(line: Option<&str>, body: &str, port: u16) -> Container {
        let mut setup = Setup::server(body).set("PORT", port);
        setup.write();
        let dir = setup.dir();
        let mut command = unshare();
        if let Some(line) = line {
            command.args(["sh", "-c", &format!("{line} && exec \"$@\"")]);
            command.arg(dir);
        }
        command.arg(env!("CARGO_BIN_EXE_weir")).arg("-p").arg(dir);
        command.arg("-c").arg(dir.join("conf/weir.conf"));
        let process = Process::start(&mut command, &dir.join("output"));
        Container {
            setup,
            process,
            port,
        }
    }

    /// The master, by its number out here, once it serves.
    #[track_caller]
    fn serving(&self) -> u32 {
        let pid_file = self.setup.dir().join("logs/weir.pid");
        wait_until(PATIENCE, "it serves as process 1", || {
            read_lossy(&pid_file) == "1\n"
        });
        self.master()
    }

    #[track_caller]
    fn master(&self) -> u32 {
        let found = || {
            let children = children(self.process.pid());
            children.first().copied()
        };
        let master = wait_for(PATIENCE, "it has started", found);
        wait_until(PATIENCE, "it is weir", || {
            title(master).starts_with("weir: master")
        });
        master
    }

    fn log(&self) -> String {
        read_lossy(&self.setup.dir().join("logs/error.log"))
    }
}

#[test]
fn process_1_obeys_its_signals() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let mut container = Container::start("location /x { return 200 x; }", free_port());
        let master = container.serving();
        let address = format!("127.0.0.1:{}", container.port);
        assert_eq!(get(address, "/x").text(), "x");
        send(master, Signal::SIGHUP);
        wait_until(PATIENCE, "it reloads", || {
            container.log().contains("config generation 2 live in")
        });
        send(master, signal);
        let status = container.process.wait(PATIENCE);
        assert_eq!(status.code(), Some(0), "{signal}: {}", container.log());
    }
}

/// The kernel drops a signal that process 1 has no handler for.
#[test]
fn a_signal_to_process_1_is_not_lost_while_it_waits_for_an_address() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let mut container = Container::start("", port);
    wait_until(PATIENCE, "it waits", || {
        container.log().contains("Address already in use")
    });
    send(container.master(), Signal::SIGTERM);
    drop(other);
    let status = container.process.wait(PATIENCE);
    assert_eq!(status.code(), Some(0), "{}", container.log());
    assert!(container.log().contains("signal 15 (SIGTERM) received"));
    assert!(Client::try_connect(format!("127.0.0.1:{port}")).is_err());
}

#[test]
fn process_1_reaps_orphans() {
    let container = Container::start("", free_port());
    let master = container.serving();
    let own = children(master);
    let mut enter = guarded(tool("nsenter"));
    if !getuid().is_root() {
        enter.args(["--user", "--preserve-credentials"]);
    }
    enter.args(["--pid", "--target", &master.to_string(), "--"]);
    // The shell ends at once, and what it leaves behind becomes a child of process 1.
    enter.args(["sh", "-c", "sleep 1000 <&- >&- 2>&- &"]);
    Process::spawn(&mut enter).wait(PATIENCE);
    let orphan = wait_for(PATIENCE, "it is adopted", || {
        let mut adopted = children(master)
            .into_iter()
            .filter(|pid| !own.contains(pid));
        adopted.next()
    });
    send(orphan, Signal::SIGKILL);
    wait_until(PATIENCE, "nothing is left of it, not even a zombie", || {
        !Path::new(&format!("/proc/{orphan}")).exists()
    });
    assert_eq!(children(master), own);
    assert!(!container.log().contains(&orphan.to_string()), "no line");
}

/// `weirctl` of a user who may not look into weir's processes, and names nothing: the configuration is
/// where weir looks for it too, below the default prefix.
#[test]
fn anybody_may_look_at_the_table_of_the_weir_that_is_configured() {
    let there = "mount -t tmpfs none /usr/local && mkdir /usr/local/weir \
        && cp -R \"$0/conf\" /usr/local/weir";
    // Whoever is not root may look into all the processes here.
    let there = getuid().is_root().then_some(there);
    let container = Container::after(there, "", free_port());
    let weirctl = container.setup.dir().join("weirctl");
    fs::copy(env!("CARGO_BIN_EXE_weirctl"), &weirctl).unwrap();
    let master = container.serving();
    let mut enter = guarded(tool("nsenter"));
    if !getuid().is_root() {
        enter.args(["--user", "--preserve-credentials"]);
    }
    enter.args(["--pid", "--mount", "--target", &master.to_string(), "--"]);
    if getuid().is_root() {
        enter.args(["setpriv", "--reuid", "nobody", "--clear-groups", "--"]);
    }
    let done = finish(enter.arg(&weirctl).arg("workers"));
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("parked"), "{done:?}");
}

/// The lines that come, read by a thread.
fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
}

#[track_caller]
fn wait_line(lines: &Receiver<String>, text: &str) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        let line = lines.recv_timeout(left);
        let line = line.unwrap_or_else(|_| panic!("no line with {text:?}"));
        if line.contains(text) {
            return;
        }
    }
}

/// As in nginx's images: links from the log folder to the standard streams, which are pipes of
/// root's; workers are another user.
#[test]
fn logs_go_to_the_standard_streams_also_after_they_were_reopened() {
    let body = in_server("location / { return 200 x; }");
    let mut setup = Setup::http(&body).workers(2);
    setup.write();
    let dir = setup.dir().to_owned();
    symlink("/dev/stdout", dir.join("logs/access.log")).unwrap();
    symlink("/dev/stderr", dir.join("logs/error.log")).unwrap();
    let port = {
        let text = read_lossy(&dir.join("conf/weir.conf"));
        let rest = text.split("listen 127.0.0.1:").nth(1).unwrap();
        rest.split(';').next().unwrap().parse::<u16>().unwrap()
    };
    let mut command = crate::support::weir::command(&dir);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::spawn(&mut command);
    let out = lines(process.child().stdout.take().unwrap());
    let err = lines(process.child().stderr.take().unwrap());
    wait_until(PATIENCE, "it serves", || {
        Client::try_connect(format!("127.0.0.1:{port}")).is_ok()
    });
    wait_line(&err, "start worker process");
    for round in ["first", "second"] {
        // More than either worker's share.
        for number in 0..20 {
            let target = format!("/{round}-{number}");
            get(format!("127.0.0.1:{port}"), &target);
            wait_line(&out, &target);
        }
        process.signal(Signal::SIGUSR1);
        wait_line(&err, "reopening logs");
    }
    process.signal(Signal::SIGQUIT);
    assert_eq!(process.wait(PATIENCE).code(), Some(0));
    wait_line(&err, "exit");
    assert!(
        fs::symlink_metadata(dir.join("logs/access.log"))
            .unwrap()
            .file_type()
            .is_symlink(),
        "the links are still there"
    );
}

/// The image: what it is made of has to be there, and is what the tests above run.
#[test]
fn the_image_is_made_of_what_there_is() {
    let root = crate::support::repository();
    let text = fs::read_to_string(root.join("Dockerfile")).unwrap();
    let has = |line: &str| assert!(text.lines().any(|each| each == line), "{line}");
    has("STOPSIGNAL SIGQUIT");
    has("CMD [\"weir\", \"-g\", \"daemon off;\"]");
    has("RUN make deb CARGO_TARGET_DIR=/target DEB=/package");
    let makefile = fs::read_to_string(root.join("Makefile")).unwrap();
    assert!(makefile.contains("\ndeb:\n") && makefile.contains("\nDEB ?= "));
    for log in ["access", "error"] {
        let link = format!("/var/log/weir/{log}.log");
        assert!(text.contains(&link) && makefile.contains(&link), "{link}");
    }
    assert!(text.contains("CMD weirctl check || [ $? -eq 1 ]"));
    let ignored = File::open(root.join(".dockerignore")).unwrap();
    let ignored: Vec<_> = BufReader::new(ignored)
        .lines()
        .map_while(Result::ok)
        .collect();
    assert!(ignored.contains(&"target".to_owned()));
}
