//! Listening sockets that this process was started with: the master of a binary upgrade gets those
//! of the one that it follows, named by an environment variable as nginx names them in `NGINX`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsRawFd, RawFd};

use nix::unistd::Pid;
use socket2::Socket;
use weir_shm::Address;

use crate::listening::{self, Set};
use crate::process;

/// `PID;PARENT;FD;FD;…`: whom it is for, who started that, and the sockets' numbers. A process with
/// another id has only inherited the variable. A number with `m` behind it is of the service manager.
pub(crate) const VARIABLE: &str = "WEIR";

/// Behind the number of a socket that a service manager keeps.
const MANAGERS: char = 'm';

/// What a new binary was given.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// The master that started it.
    pub(crate) parent: Pid,
    pub(crate) sockets: Set,
    /// Those that a service manager had passed to it.
    pub(crate) passed: Set,
}

/// Takes over what the variable says; `None` in a start of any other kind. `report` gets a line for
/// what cannot be used.
pub(crate) fn claim(report: impl Fn(String)) -> Option<Inherited> {
    let value = process::take_variable(VARIABLE)?.into_string().ok()?;
    let (parent, numbers, wrong) = parse(&value, std::process::id())?;
    if let Some(wrong) = wrong {
        report(format!(
            "invalid socket number \"{wrong}\" in {VARIABLE} environment variable, ignoring the rest of the variable"
        ));
    }
    let (mut sockets, mut passed) = (Vec::new(), Vec::new());
    for (number, is_managers) in numbers {
        match socket(number) {
            Some(socket) if is_managers => passed.push(socket),
            Some(socket) => sockets.push(socket),
            None => report(format!(
                "inherited socket {number} is no listening socket, ignored"
            )),
        }
    }
    Some(Inherited {
        parent,
        sockets,
        passed,
    })
}

/// The variable for the process `pid`, which is to inherit from `parent`, of whose sockets `passed`
/// are a service manager's.
pub(crate) fn variable<'a>(
    pid: u32,
    parent: Pid,
    sockets: impl Iterator<Item = &'a Socket>,
    passed: impl Iterator<Item = &'a Socket>,
) -> OsString {
    let mut value = format!("{pid};{parent};");
    for socket in sockets {
        value.push_str(&format!("{};", socket.as_raw_fd()));
    }
    for socket in passed {
        value.push_str(&format!("{}{MANAGERS};", socket.as_raw_fd()));
    }
    value.into()
}

/// The numbers of the sockets, and whether each is the service manager's.
type Numbers = BTreeMap<RawFd, bool>;

/// The parent, the numbers for `pid`, and the first word that is none. `None` if it is for another
/// process.
fn parse(value: &str, pid: u32) -> Option<(Pid, Numbers, Option<&str>)> {
    let (whom, rest) = value.split_once(';')?;
    if whom.parse() != Ok(pid) {
        return None;
    }
    let (parent, rest) = rest.split_once(';')?;
    let parent = Pid::from_raw(parent.parse().ok().filter(|&parent| parent > 0)?);
    let mut numbers = Numbers::new();
    for word in rest.split_terminator(';') {
        let managers = word.strip_suffix(MANAGERS);
        // The standard streams are nobody's to give.
        match managers.unwrap_or(word).parse::<RawFd>() {
            Ok(number) if number > 2 => numbers.insert(number, managers.is_some()),
            _ => return Some((parent, numbers, Some(word))),
        };
    }
    Some((parent, numbers, None))
}

fn socket(number: RawFd) -> Option<(Address, Socket)> {
    let link = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
    if !link.as_os_str().as_encoded_bytes().starts_with(b"socket:") {
        return None;
    }
    let socket = Socket::from(process::own_inherited(number).ok()?);
    if !socket.is_listener().ok()? {
        return None;
    }
    Some((listening::address_of(&socket)?, socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_process_that_it_is_for_takes_it() {
        let numbers = |value| {
            let (parent, numbers, wrong) = parse(value, 77)?;
            assert_eq!(parent, Pid::from_raw(5));
            Some((numbers.into_keys().collect::<Vec<_>>(), wrong))
        };
        assert_eq!(numbers("77;5;3;4;9;"), Some((vec![3, 4, 9], None)));
        assert_eq!(numbers("77;5;"), Some((vec![], None)));
        assert_eq!(numbers("77;5;4;4;3"), Some((vec![3, 4], None)));
        for other in [
            "", "77", "77;5", "78;5;3;", "x;5;3;", ";5;3;", "7;7;5;3;", "77;0;3;", "77;x;3;",
        ] {
            assert_eq!(numbers(other), None, "{other}");
        }
        for (value, wrong) in [
            ("77;5;3;x;4;", "x"),
            ("77;5;3;2;4;", "2"),
            ("77;5;3;;4;", ""),
            ("77;5;3;-1;", "-1"),
            ("77;5;3;99999999999;", "99999999999"),
        ] {
            assert_eq!(numbers(value), Some((vec![3], Some(wrong))), "{value}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let sockets = [(); 3].map(|()| {
            let any = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            Socket::from(any)
        });
        let parent = Pid::from_raw(4);
        let value = variable(5, parent, sockets[..2].iter(), sockets[2..].iter())
            .into_string()
            .unwrap();
        let expected = sockets
            .iter()
            .enumerate()
            .map(|(index, socket)| (socket.as_raw_fd(), index == 2))
            .collect();
        assert_eq!(parse(&value, 5), Some((parent, expected, None)));
    }

    #[test]
    fn a_number_that_is_no_listening_socket_is_left_alone() {
        assert!(socket(RawFd::MAX).is_none());
        let file = fs::File::open("/proc/self/stat").unwrap();
        assert!(socket(file.as_raw_fd()).is_none());
        assert!(file.metadata().is_ok(), "it is still open");
    }
}
