//! The control socket: how `weirctl` asks the master for what changes something. A unix stream
//! socket of the master's owner, mode 0600; one line of JSON in, one line of JSON out.
//!
//! The master is one thread: nothing here waits. A client has a bounded time and request size, and
//! there is a bounded number of them.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::geteuid;
use rustix::net::sockopt::socket_peercred;
use serde_json::json;
use socket2::{Domain, SockAddr, Type};
use weir_worker::channel::{Command, Outcome};

use crate::errno::describe;
use crate::oldbin;
use crate::socket;

/// Clients at a time; more wait in the socket's queue.
const CLIENTS_MAX: usize = 16;
/// Clients in the socket's queue.
const QUEUE: i32 = 128;
/// A request is no longer, in bytes.
const REQUEST_MAX: usize = 4096;
/// What a client may take to send its request, the syncer to answer, and the client to read that.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between a connection that cannot be accepted and the next try.
const PAUSE: Duration = Duration::from_millis(500);
/// Of the socket's file: its owner alone.
const OWNERS: u32 = 0o600;

/// The socket and its clients.
#[derive(Debug)]
pub(crate) struct Control {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket's file.
    file: (u64, u64),
    clients: Vec<Client>,
    /// Nobody is accepted before.
    paused_until: Option<Instant>,
    next_id: u64,
}

#[derive(Debug)]
struct Client {
    /// Of its command.
    id: u64,
    stream: UnixStream,
    until: Instant,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// What has come of the request.
    Reading(Vec<u8>),
    /// The syncer has the command.
    Waiting,
    /// What is left of the answer.
    Writing(Vec<u8>),
    /// Nothing more to do.
    Done,
}

/// A request that came in whole.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Whom to answer.
    pub(crate) id: u64,
    /// What to do.
    pub(crate) command: Command,
}

impl Control {
    /// Makes the socket. The file of a dead master is replaced, a live one's is not.
    ///
    /// # Errors
    /// nginx's `bind() to unix:PATH failed (98: Address already in use)` and the like.
    pub(crate) fn open(path: &Path) -> Result<Control, String> {
        let failed = |call: &str, error: &io::Error| {
            format!(
                "{call} to unix:{} failed {}",
                path.display(),
                describe(error)
            )
        };
        refuse_live(path).map_err(|error| failed("bind()", &error))?;
        let mut temporary = path.as_os_str().to_owned();
        temporary.push("~");
        let temporary = PathBuf::from(temporary);
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed("bind()", &error));
            }
            _ => {}
        }
        let made = (|| {
            let socket = socket::open(Domain::UNIX, Type::STREAM.nonblocking().cloexec())?;
            socket.bind(&SockAddr::unix(&temporary)?)?;
            socket.listen(QUEUE)?;
            let listener = UnixListener::from(OwnedFd::from(socket));
            fs::set_permissions(&temporary, Permissions::from_mode(OWNERS))?;
            let found = fs::symlink_metadata(&temporary)?;
            fs::rename(&temporary, path)?;
            Ok((listener, (found.dev(), found.ino())))
        })();
        let (listener, file) = made.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            failed("bind()", &error)
        })?;
        Ok(Control {
            listener,
            path: path.to_owned(),
            file,
            clients: Vec::new(),
            paused_until: None,
            next_id: 1,
        })
    }

    /// What to poll for.
    pub(crate) fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let has_room = self.clients.len() < CLIENTS_MAX && self.paused_until.is_none();
        let listener = has_room.then(|| (self.listener.as_fd(), PollFlags::POLLIN));
        let clients = self.clients.iter().map(|client| {
            let flags = match client.stage {
                Stage::Reading(_) => PollFlags::POLLIN,
                // A client that goes away is told all the same.
                Stage::Waiting | Stage::Done => PollFlags::empty(),
                Stage::Writing(_) => PollFlags::POLLOUT,
            };
            (client.stream.as_fd(), flags)
        });
        listener.into_iter().chain(clients)
    }

    /// When a client's time is over.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        let clients = self.clients.iter().map(|client| client.until);
        clients.chain(self.paused_until).min()
    }

    /// Does what can be done now; the requests that are whole, of which each is told once.
    #[must_use]
    pub(crate) fn turn(&mut self, now: Instant) -> Vec<Asked> {
        self.accept(now);
        let mut asked = Vec::new();
        for client in &mut self.clients {
            asked.extend(client.turn(now));
        }
        self.clients
            .retain(|client| !matches!(client.stage, Stage::Done));
        asked
    }

    fn accept(&mut self, now: Instant) {
        if self.paused_until.is_some_and(|until| now < until) {
            return;
        }
        self.paused_until = None;
        while self.clients.len() < CLIENTS_MAX {
            let stream = match socket::accept(&self.listener) {
                Ok(stream) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Such as no descriptor: the poll would go on telling of the one that waits.
                Err(_) => {
                    self.paused_until = Some(now + PAUSE);
                    return;
                }
            };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            let mut client = Client {
                id: self.next_id,
                until: now + PATIENCE,
                stage: Stage::Reading(Vec::new()),
                stream,
            };
            self.next_id += 1;
            // The file's mode says so already; a descriptor may have been passed on.
            if !is_trusted(&client.stream) {
                client.answer(Err(
                    "only root and the user of weir's master may ask this".into()
                ));
            }
            self.clients.push(client);
        }
    }

    /// Answers a client, if it is still there.
    pub(crate) fn answer(&mut self, id: u64, result: Result<Outcome, String>) {
        let mut clients = self.clients.iter_mut();
        if let Some(client) = clients.find(|client| client.id == id) {
            client.answer(result);
        }
    }

    /// Tells all who wait for the syncer that it will not answer.
    pub(crate) fn lose_syncer(&mut self) {
        for client in &mut self.clients {
            if matches!(client.stage, Stage::Waiting) {
                let message = "the syncer process died, nobody knows whether it was done";
                client.answer(Err(message.to_owned()));
            }
        }
    }

    /// Takes the socket's file away where it is still the one that was made, under either name.
    pub(crate) fn remove(self) -> io::Result<()> {
        for path in [&self.path, &oldbin::name(&self.path)] {
            match fs::symlink_metadata(path) {
                Ok(found) if (found.dev(), found.ino()) == self.file => fs::remove_file(path)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Refuses a file that is no socket, and the socket of a live master, unless that has left it to a
/// new binary.
fn refuse_live(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::from(nix::errno::Errno::EEXIST));
    }
    // Someone else's in a folder for all is nobody's to wait for: the kernel says who may replace it.
    if found.uid() != geteuid().as_raw() {
        return Ok(());
    }
    if socket::is_listened_on(path)? && !oldbin::is_left(path) {
        return Err(io::Error::from(nix::errno::Errno::EADDRINUSE));
    }
    Ok(())
}

fn is_trusted(stream: &UnixStream) -> bool {
    let own = geteuid().as_raw();
    socket_peercred(stream).is_ok_and(|peer| {
        let uid = peer.uid.as_raw();
        uid == 0 || uid == own
    })
}

impl Client {
    fn turn(&mut self, now: Instant) -> Option<Asked> {
        if now >= self.until {
            match self.stage {
                Stage::Reading(_) => {
                    self.answer(Err("no request came in time".to_owned()));
                    self.until = now + PATIENCE;
                }
                Stage::Waiting => {
                    let message = "no answer of the syncer process in time, it may still do it";
                    self.answer(Err(message.to_owned()));
                    self.until = now + PATIENCE;
                }
                Stage::Writing(_) | Stage::Done => self.stage = Stage::Done,
            }
        }
        let asked = self.read();
        self.write();
        asked
    }

    /// A client that waits and is gone would have the master's poll spin.
    fn look(&mut self) {
        let mut ends = [PollFd::new(self.stream.as_fd(), PollFlags::empty())];
        let _ = poll(&mut ends, PollTimeout::ZERO);
        if ends[0].any() == Some(true) {
            self.stage = Stage::Done;
        }
    }

    fn read(&mut self) -> Option<Asked> {
        if matches!(self.stage, Stage::Waiting) {
            self.look();
        }
        let Stage::Reading(text) = &mut self.stage else {
            return None;
        };
        let mut buffer = [0; REQUEST_MAX];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    self.stage = Stage::Done;
                    return None;
                }
                Ok(count) => text.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(_) => {
                    self.stage = Stage::Done;
                    return None;
                }
            }
            if let Some(end) = text.iter().position(|&byte| byte == b'\n') {
                let parsed = serde_json::from_slice::<Command>(&text[..end]);
                return match parsed {
                    Ok(command) => {
                        self.stage = Stage::Waiting;
                        Some(Asked {
                            id: self.id,
                            command,
                        })
                    }
                    Err(error) => {
                        self.answer(Err(format!("no such request: {error}")));
                        None
                    }
                };
            }
            if text.len() > REQUEST_MAX {
                self.answer(Err(format!("a request has at most {REQUEST_MAX} bytes")));
                return None;
            }
        }
    }

    fn write(&mut self) {
        let Stage::Writing(rest) = &mut self.stage else {
            return;
        };
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(0) => break,
                Ok(count) => drop(rest.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => break,
            }
        }
        self.stage = Stage::Done;
    }

    fn answer(&mut self, result: Result<Outcome, String>) {
        let mut value = match result {
            Ok(outcome) => json!({ "ok": true, "outcome": outcome }).to_string(),
            Err(message) => json!({ "ok": false, "error": message }).to_string(),
        };
        value.push('\n');
        self.stage = Stage::Writing(value.into_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    fn opened(folder: &tempfile::TempDir) -> (Control, PathBuf) {
        let path = folder.path().join("weir.control");
        (Control::open(&path).unwrap(), path)
    }

    /// Turns until there is something, for a while.
    fn turns(control: &mut Control, now: Instant) -> Vec<Asked> {
        (0..1000)
            .map(|_| control.turn(now))
            .find(|asked| !asked.is_empty())
            .unwrap_or_default()
    }

    fn line(stream: UnixStream) -> String {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn a_line_in_is_a_line_out() {
        let folder = tempfile::tempdir().unwrap();
        let (mut control, path) = opened(&folder);
        let mode = fs::symlink_metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o7777, OWNERS);
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"{\"command\":\"rollback\",").unwrap();
        let now = Instant::now();
        assert!(control.turn(now).is_empty());
        stream.write_all(b"\"version\":7}\n").unwrap();
        let asked = turns(&mut control, now).remove(0);
        assert_eq!(asked.command, Command::Rollback { version: 7 });
        let outcome = Outcome {
            version: 9,
            ..Outcome::default()
        };
        control.answer(asked.id, Ok(outcome));
        turns(&mut control, now);
        let answer: serde_json::Value = serde_json::from_str(&line(stream)).unwrap();
        assert_eq!(answer["outcome"]["version"], 9);
        assert!(control.clients.is_empty());
        control.remove().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn requests_are_bounded_in_size_time_and_number() {
        let folder = tempfile::tempdir().unwrap();
        let (mut control, path) = opened(&folder);
        let now = Instant::now();
        for (request, reason) in [
            (vec![b' '; REQUEST_MAX + 1], "4096 bytes"),
            (b"{\"command\":\"reboot\"}\n".to_vec(), "no such request"),
        ] {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(&request).unwrap();
            assert!(turns(&mut control, now).is_empty());
            assert!(line(stream).contains(reason), "{reason}");
        }
        let idle: Vec<_> = (0..CLIENTS_MAX + 5)
            .map(|_| UnixStream::connect(&path).unwrap())
            .collect();
        turns(&mut control, now);
        assert_eq!(control.clients.len(), CLIENTS_MAX);
        assert_eq!(control.interests().count(), CLIENTS_MAX);
        assert_eq!(control.next_timer(), Some(now + PATIENCE));
        assert!(control.turn(now + PATIENCE).is_empty());
        assert!(control.turn(now + PATIENCE).is_empty());
        assert!(control.clients.len() <= 5);
        let first = idle.into_iter().next().unwrap();
        assert!(line(first).contains("no request came in time"));
    }

    #[test]
    fn who_waits_and_goes_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let (mut control, path) = opened(&folder);
        let now = Instant::now();
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"{\"command\":\"unpin\"}\n").unwrap();
        assert_eq!(turns(&mut control, now).len(), 1);
        drop(stream);
        assert!(control.turn(now).is_empty());
        assert!(control.clients.is_empty());
        control.answer(1, Ok(Outcome::default()));
    }

    #[test]
    fn who_waits_hears_that_the_syncer_died() {
        let folder = tempfile::tempdir().unwrap();
        let (mut control, path) = opened(&folder);
        let now = Instant::now();
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"{\"command\":\"pin\"}\n").unwrap();
        let asked = turns(&mut control, now).remove(0);
        assert_eq!(asked.command, Command::Pin { upstream: None });
        control.lose_syncer();
        assert!(control.turn(now).is_empty());
        assert!(line(stream).contains("the syncer process died"));
    }

    #[test]
    fn a_live_socket_is_not_stolen_and_a_dead_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (control, path) = opened(&folder);
        let error = Control::open(&path).unwrap_err();
        assert!(
            error.ends_with("failed (98: Address already in use)"),
            "{error}"
        );
        assert!(error.starts_with("bind() to unix:/"), "{error}");
        drop(control);
        assert!(path.exists());
        let (first, _) = opened(&folder);
        // Replaced by hand: the file is another's now.
        fs::remove_file(&path).unwrap();
        let (second, _) = opened(&folder);
        first.remove().unwrap();
        assert!(path.exists());
        second.remove().unwrap();
        fs::write(&path, "mine").unwrap();
        let error = Control::open(&path).unwrap_err();
        assert!(error.ends_with("(17: File exists)"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
