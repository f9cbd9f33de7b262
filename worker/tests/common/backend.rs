//! Servers that a worker passes requests to.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::client::{Client, Message};
use super::{PATIENCE, listener};

/// A server of the test, which hands each of its connections to the test.
pub struct Backend {
    pub address: SocketAddr,
    pub connections: Receiver<Client>,
}

impl Backend {
    pub fn start() -> Backend {
        let (listener, address) = listener();
        let (sender, connections): (Sender<Client>, _) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if sender.send(Client::from(stream.unwrap())).is_err() {
                    return;
                }
            }
        });
        Backend {
            address,
            connections,
        }
    }

    /// Answers every request on every connection with its own path, kept alive.
    pub fn echo() -> SocketAddr {
        Backend::serve(|client, request| {
            let path = request.head.split(' ').nth(1).unwrap().to_owned();
            client.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}",
                path.len()
            ));
        })
    }

    /// Calls `answer` for every request.
    pub fn serve(answer: impl Fn(&mut Client, Message) + Clone + Send + 'static) -> SocketAddr {
        let (listener, address) = listener();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut client = Client::from(stream.unwrap());
                let answer = answer.clone();
                std::thread::spawn(move || {
                    while client.is_there() {
                        let request = client.message();
                        answer(&mut client, request);
                    }
                });
            }
        });
        address
    }

    pub fn accept(&self) -> Client {
        self.connections.recv_timeout(PATIENCE).unwrap()
    }
}
