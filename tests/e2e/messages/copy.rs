//! A proxy that reads nothing: it copies bytes both ways. What it lets through shows whether the
//! tables bite.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Listens until it is dropped.
pub struct Copier {
    pub address: String,
    stopped: Arc<AtomicBool>,
}

impl Copier {
    pub fn start(target: &str) -> Copier {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stopped = Arc::<AtomicBool>::default();
        let (own, target) = (Arc::clone(&stopped), target.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if own.load(Ordering::Acquire) {
                    return;
                }
                let Ok(server) = TcpStream::connect(&target) else {
                    return;
                };
                for stream in [&client, &server] {
                    stream.set_nodelay(true).unwrap();
                }
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || copy(client, server));
                thread::spawn(move || copy(back.0, back.1));
            }
        });
        Copier { address, stopped }
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        drop(TcpStream::connect(&self.address));
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut piece = [0; 16_384];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
