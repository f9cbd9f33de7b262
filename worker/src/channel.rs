//! The control channel between the master and a child: one SEQPACKET packet a message, JSON in
//! the packet, descriptors beside it. A message with more descriptors than one packet carries
//! is sent in several packets of the same generation.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// At most this many descriptors ride on one packet (the kernel's SCM_MAX_FD is 253).
pub const DESCRIPTORS_A_PACKET: usize = 250;

const ANCILLARY_BYTES: usize = rustix::cmsg_space!(ScmRights(DESCRIPTORS_A_PACKET));

/// What the master tells a worker or the syncer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Build the settings of this config generation and answer [`Answer::Prepared`] or
    /// [`Answer::Refused`]; nothing takes effect yet. The packet with `more` false is the last.
    Prepare {
        /// The config generation.
        generation: u64,
        /// What each descriptor beside this packet is.
        descriptors: Vec<Role>,
        /// Further packets of this generation follow.
        more: bool,
    },
    /// The prepared generation takes effect now; answer [`Answer::Committed`].
    Commit {
        /// The config generation.
        generation: u64,
    },
    /// Forget what was prepared.
    Abort {
        /// The config generation.
        generation: u64,
    },
    /// Log files or private files were opened anew: use these from now on.
    Reopen {
        /// The config generation whose numbers they have.
        generation: u64,
        /// What each descriptor beside this packet is.
        descriptors: Vec<Role>,
        /// Further packets follow.
        more: bool,
    },
    /// A retired worker's listening sockets: accept from them too.
    Adopt {
        /// What each descriptor beside this packet is.
        descriptors: Vec<Role>,
        /// Further packets follow.
        more: bool,
    },
    /// The listening sockets of a neighbour, in the place of those that were told before: accept
    /// from them when it is late.
    Help {
        /// Its slot in the region.
        slot: u32,
        /// What each descriptor beside this packet is.
        descriptors: Vec<Role>,
        /// Further packets follow.
        more: bool,
    },
    /// Only for the syncer: do this and answer [`Answer::Done`].
    Command {
        /// Comes back in the answer.
        id: u64,
        /// What to do.
        command: Command,
    },
    /// Stop accepting, finish what is in flight, exit.
    Quit,
}

/// What `weirctl` may ask of the syncer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Keep the servers of an upstream as they are, whatever its source says.
    Pin {
        /// `None`: of every upstream that has a source.
        #[serde(default)]
        upstream: Option<String>,
    },
    /// Follow the source again.
    Unpin {
        /// `None`: every upstream that is pinned.
        #[serde(default)]
        upstream: Option<String>,
    },
    /// Give the upstreams that have a source what they had in an earlier table, pinned.
    Rollback {
        /// The earlier table.
        version: u64,
    },
    /// Apply the answer that is held back for an upstream.
    Accept {
        /// Its name.
        upstream: String,
    },
}

/// What came of a [`Command`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The table version that has it.
    pub version: u64,
    /// The upstreams that it was about, [`Outcome::NAMES_MAX`] at most.
    pub upstreams: Vec<String>,
    /// How many there are.
    pub count: usize,
    /// Upstreams that were left as they are, and why, for people.
    pub notes: Vec<String>,
}

impl Outcome {
    /// Names or notes in one answer, so that it fits a packet.
    pub const NAMES_MAX: usize = 50;
    /// The longest of them, in bytes.
    const NAME_BYTES: usize = 400;

    /// Leaves out what would not fit a packet.
    #[must_use]
    pub fn bounded(mut self) -> Outcome {
        for names in [&mut self.upstreams, &mut self.notes] {
            names.truncate(Outcome::NAMES_MAX);
            for name in names {
                let ends = (0..=Outcome::NAME_BYTES.min(name.len())).rev();
                let end = ends.into_iter().find(|&end| name.is_char_boundary(end));
                name.truncate(end.unwrap_or(0));
            }
        }
        self
    }
}

/// What a descriptor beside a packet is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A sealed memfd with the configuration's text (`# configuration file PATH:` marks).
    Text,
    /// A listening socket, by the display form of its address.
    Listener(String),
    /// An opened log, by its resource number.
    Resource(usize),
    /// An opened private file, by its number: for the syncer alone.
    Private(usize),
}

/// What a child tells the master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// A worker polls its listeners; the syncer has first answers, or its time for them is up.
    Ready,
    /// The syncer cannot go on: `strong_dependency=on`, and no source, dump or table has data.
    Failed {
        /// For the error log and the start's standard error.
        message: String,
    },
    /// The generation can be committed.
    Prepared {
        /// The config generation.
        generation: u64,
    },
    /// The generation cannot be built; everything stays as it was.
    Refused {
        /// The config generation.
        generation: u64,
        /// Why, for the error log.
        message: String,
    },
    /// An order arrived incomplete: its text or its descriptors were cut.
    Unread {
        /// The order, unless its text was cut.
        order: Option<Order>,
        /// For the error log.
        message: String,
    },
    /// The generation is live here.
    Committed {
        /// The config generation.
        generation: u64,
    },
    /// A signal has told a worker to go: it finishes what it has and accepts no more.
    Leaving,
    /// What came of an [`Order::Command`].
    Done {
        /// The order's.
        id: u64,
        /// Or why nothing was done.
        result: Result<Outcome, String>,
    },
}

/// The largest packet, in bytes of JSON; a full [`Order::Prepare`] takes about half of it.
pub const PACKET_BYTES: usize = 64 * 1024;

/// One end of the connection between the master and a child.
///
/// It blocks or not as its socket does; see [`Channel::set_nonblocking`].
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

impl Channel {
    /// Both ends of a new channel, blocking, closed on exec.
    ///
    /// # Errors
    /// As `socketpair`.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let (one, other) = net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Channel::new(one), Channel::new(other)))
    }

    /// Takes over a SEQPACKET socket.
    pub fn new(socket: OwnedFd) -> Channel {
        Channel { socket }
    }

    /// Gives the socket back.
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Whether [`send`](Channel::send) and [`recv`](Channel::recv) answer `WouldBlock` or wait.
    ///
    /// # Errors
    /// As `fcntl`.
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&self.socket, on).map_err(io::Error::from)
    }

    /// Sends one message as one packet, with `descriptors` beside it.
    ///
    /// # Errors
    /// `InvalidInput` when the message or the descriptors do not fit a packet, else as `sendmsg`:
    /// `WouldBlock` when the other end does not read, `BrokenPipe` when it is gone.
    pub fn send<T: Serialize>(&self, message: &T, descriptors: &[BorrowedFd]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        if text.len() > PACKET_BYTES || descriptors.len() > DESCRIPTORS_A_PACKET {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "message is larger than a packet",
            ));
        }
        let mut space = [MaybeUninit::uninit(); ANCILLARY_BYTES];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let text = [IoSlice::new(&text)];
        retry_on_intr(|| net::sendmsg(&self.socket, &text, &mut ancillary, SendFlags::NOSIGNAL))?;
        Ok(())
    }

    /// Receives one message and the descriptors beside it; `None` when the other end is gone.
    ///
    /// # Errors
    /// `InvalidData` for a packet that was cut (in its text or its descriptors) or is not a
    /// message, else as `recvmsg`.
    pub fn recv<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        match self.receive()? {
            Some((message, Some(descriptors))) => Ok(Some((message, descriptors))),
            Some((_, None)) => Err(cut()),
            None => Ok(None),
        }
    }

    /// The same, but a message whose descriptors were cut comes without them: this process may not
    /// have so many.
    ///
    /// # Errors
    /// As [`recv`](Channel::recv).
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Option<Vec<OwnedFd>>)>> {
        let mut text = vec![0; PACKET_BYTES];
        let mut space = [MaybeUninit::uninit(); ANCILLARY_BYTES];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let packet = retry_on_intr(|| {
            let mut parts = [IoSliceMut::new(&mut text)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            net::recvmsg(&self.socket, &mut parts, &mut ancillary, flags)
        });
        let packet = match packet {
            Ok(packet) => packet,
            Err(Errno::CONNRESET) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        if packet.bytes == 0 {
            return Ok(None);
        }
        if packet.flags.contains(ReturnFlags::TRUNC) {
            return Err(cut());
        }
        let is_whole = !packet.flags.contains(ReturnFlags::CTRUNC);
        Ok(Some((
            serde_json::from_slice(&text[..packet.bytes])?,
            is_whole.then_some(descriptors),
        )))
    }
}

/// A message arrived incomplete.
pub(crate) fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "message arrived incomplete")
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare(count: usize) -> Order {
        Order::Prepare {
            generation: 7,
            descriptors: (0..count).map(Role::Resource).collect(),
            more: false,
        }
    }

    #[test]
    fn a_full_packet_arrives_with_every_descriptor() {
        let (master, child) = Channel::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let descriptors = vec![file.as_fd(); DESCRIPTORS_A_PACKET];
        let order = prepare(DESCRIPTORS_A_PACKET);
        master.send(&order, &descriptors).unwrap();
        let (received, handed): (Order, _) = child.recv().unwrap().unwrap();
        assert_eq!(received, order);
        assert_eq!(handed.len(), DESCRIPTORS_A_PACKET);

        let one_more = vec![file.as_fd(); DESCRIPTORS_A_PACKET + 1];
        let error = master.send(&order, &one_more).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_message_stays_one_packet_and_the_end_is_told() {
        let (master, child) = Channel::pair().unwrap();
        master.send(&Order::Quit, &[]).unwrap();
        master.send(&Order::Commit { generation: 2 }, &[]).unwrap();
        drop(master);
        assert_eq!(child.recv::<Order>().unwrap().unwrap().0, Order::Quit);
        let (second, none) = child.recv::<Order>().unwrap().unwrap();
        assert_eq!(second, Order::Commit { generation: 2 });
        assert!(none.is_empty());
        assert!(child.recv::<Order>().unwrap().is_none());
        let error = child.send(&Answer::Ready, &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_nonblocking_end_says_so() {
        let (master, child) = Channel::pair().unwrap();
        master.set_nonblocking(true).unwrap();
        let error = master.recv::<Answer>().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let mut sent = 0;
        let error = loop {
            match master.send(&prepare(100), &[]) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        for _ in 0..sent {
            assert_eq!(child.recv::<Order>().unwrap().unwrap().0, prepare(100));
        }
    }

    #[test]
    fn damage_and_oversize_are_errors() {
        let (master, child) = Channel::pair().unwrap();
        net::send(&master, b"{\"Commit\":", SendFlags::NOSIGNAL).unwrap();
        let error = child.recv::<Order>().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        net::send(&master, &vec![b' '; PACKET_BYTES + 1], SendFlags::NOSIGNAL).unwrap();
        let error = child.recv::<Order>().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let message = "x".repeat(PACKET_BYTES);
        let error = child.send(&Answer::Failed { message }, &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
