//! The servers behind: they record what they are asked and answer as the case says.

use std::collections::VecDeque;
use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::script::{Answer, Then};
use crate::support::backend::{self, Backend, Request, Stream, Then as Fate};

/// Servers of each proxy. `U` listens on a unix socket.
pub const NAMES: [&str; 4] = ["A", "B", "C", "U"];

/// What a server was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its name.
    pub server: &'static str,
    pub head: String,
    pub body: Vec<u8>,
    /// Which of the connections to it brought this.
    pub connection: u16,
}

#[derive(Default)]
struct Play {
    answers: Vec<(&'static str, VecDeque<Answer>)>,
    asked: Vec<Asked>,
}

/// All servers behind one proxy.
pub struct Peers {
    play: Arc<Mutex<Play>>,
    backends: Vec<(&'static str, Backend)>,
    /// Where the unix socket is; goes last.
    _folder: TempDir,
}

impl Peers {
    pub fn start() -> Peers {
        let folder = tempfile::tempdir().unwrap();
        let mode = Permissions::from_mode(0o777);
        std::fs::set_permissions(folder.path(), mode).unwrap();
        let play = Arc::<Mutex<Play>>::default();
        let backends = NAMES.map(|name| {
            let play = Arc::clone(&play);
            let serve =
                move |request: &Request, out: &mut Stream| answer(&play, name, request, out);
            let backend = match name {
                "U" => Backend::answering_unix(&folder.path().join("U"), serve),
                _ => Backend::answering(serve),
            };
            (name, backend)
        });
        Peers {
            play,
            backends: backends.into(),
            _folder: folder,
        }
    }

    /// The address of each, as a configuration writes it.
    pub fn addresses(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let named = self.backends.iter();
        named.map(|(name, backend)| (*name, backend.address()))
    }

    /// What is answered from now on.
    pub fn script(&self, answers: &[(String, Answer)]) {
        let of = |name: &'static str| {
            let own = answers.iter().filter(|(server, _)| server == name);
            (name, own.map(|(_, answer)| answer.clone()).collect())
        };
        *self.play.lock().unwrap() = Play {
            answers: NAMES.map(of).into(),
            asked: Vec::new(),
        };
    }

    /// What they were asked since then, server by server.
    pub fn asked(&self) -> Vec<Asked> {
        let mut asked = self.play.lock().unwrap().asked.clone();
        asked.sort_by_key(|asked| asked.server);
        asked
    }
}

fn answer(play: &Mutex<Play>, name: &'static str, request: &Request, out: &mut Stream) -> Fate {
    let next = {
        let mut play = play.lock().unwrap();
        play.asked.push(Asked {
            server: name,
            head: request.head.clone(),
            body: request.body.clone(),
            connection: port(out),
        });
        let own = play.answers.iter_mut().find(|(server, _)| *server == name);
        own.and_then(|(_, answers)| answers.pop_front())
    };
    let next = next.unwrap_or_else(|| usual(name, request));
    let _ = out.write_all(&next.bytes);
    match next.then {
        Then::Keep => Fate::Keep,
        Then::Close => Fate::Close,
        Then::Reset => Fate::Reset,
        Then::Hang => {
            let _ = out.read(&mut [0; 1]);
            Fate::Close
        }
    }
}

/// 200 with the server's name.
fn usual(name: &str, request: &Request) -> Answer {
    let body = format!("{name}\n");
    let fields = "Content-Type: text/plain\r\n";
    let mut bytes = backend::answer("200 OK", fields, body.as_bytes());
    if request.method == "HEAD" {
        bytes.truncate(bytes.len() - body.len());
    }
    Answer {
        bytes,
        then: Then::Keep,
    }
}

/// The proxy's port tells its connections apart; those to a unix socket it does not.
fn port(stream: &Stream) -> u16 {
    match stream {
        Stream::Tcp(stream) => stream.peer_addr().map_or(0, |address| address.port()),
        Stream::Unix(_) => 0,
    }
}
