//! One connection through the proxy, a request at a time: long polls are not pipelined.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;

use super::answer::{Plan, Then, piece_plan, plan};
use super::framing::{read_body, read_head};
use super::{Ending, Fault, Shared};

/// What is asked for where etcd tells of changes: the answer has no end.
const STREAM: &str = "/v3/watch";

/// Serves the connection until it ends; an end of either side is one of the other, too.
pub fn run(client: TcpStream, number: usize, shared: &Shared) {
    let (Ok(own), Ok(_)) = (client.try_clone(), client.set_nodelay(true)) else {
        return;
    };
    shared.open.lock().unwrap().insert(number, vec![own]);
    let _ = connection(&client, number, shared);
    for stream in shared
        .open
        .lock()
        .unwrap()
        .remove(&number)
        .into_iter()
        .flatten()
    {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn connection(client: &TcpStream, number: usize, shared: &Shared) -> io::Result<()> {
    match standing(shared) {
        Fault::ResetAtOnce => {
            abort(client);
            return Ok(());
        }
        Fault::Greeting(text) => return (&mut &*client).write_all(text.as_bytes()),
        _ => {}
    }
    let mut requests = BufReader::new(client);
    let mut server: Option<BufReader<TcpStream>> = None;
    loop {
        let mut request = read_head(&mut requests)?;
        let line = String::from_utf8_lossy(&request).into_owned();
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        shared.requests.lock().unwrap().push(target.clone());
        let body = read_body(&mut requests, &request)?;
        request.extend_from_slice(&body);
        let plan = match standing(shared) {
            Fault::ResetOnReuse if server.is_some() => {
                abort(client);
                return Ok(());
            }
            // These need no answer of Consul's, which may be long in coming.
            fault @ (Fault::Answer(_) | Fault::Mute) => plan(b"", b"", &fault),
            _ => {
                let server = match &mut server {
                    Some(server) => server,
                    none => none.insert(connect(number, shared)?),
                };
                server.get_mut().write_all(&request)?;
                let head = read_head(server)?;
                if target == STREAM {
                    return stream(client, &head, server, shared);
                }
                let body = read_body(server, &head)?;
                plan(&head, &body, &next(shared))
            }
        };
        if !answer(client, plan, shared)? {
            return Ok(());
        }
    }
}

/// Passes an answer on that has no end, a piece at a time.
fn stream(
    mut client: &TcpStream,
    head: &[u8],
    server: &mut BufReader<TcpStream>,
    shared: &Shared,
) -> io::Result<()> {
    client.write_all(head)?;
    loop {
        let piece = server.fill_buf()?.to_vec();
        if piece.is_empty() {
            return Ok(());
        }
        server.consume(piece.len());
        if !answer(client, piece_plan(piece, &next(shared)), shared)? {
            return Ok(());
        }
    }
}

/// What the next answer meets.
fn next(shared: &Shared) -> Fault {
    let scripted = shared.script.lock().unwrap().pop_front();
    scripted.unwrap_or_else(|| standing(shared))
}

fn standing(shared: &Shared) -> Fault {
    shared.fault.lock().unwrap().clone().unwrap_or(Fault::None)
}

fn connect(number: usize, shared: &Shared) -> io::Result<BufReader<TcpStream>> {
    let target = shared.target.lock().unwrap().clone();
    let stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    let own = stream.try_clone()?;
    if let Some(open) = shared.open.lock().unwrap().get_mut(&number) {
        open.push(own);
    }
    Ok(BufReader::new(stream))
}

/// Passes one answer on; whether the connection goes on.
fn answer(mut client: &TcpStream, plan: Plan, shared: &Shared) -> io::Result<bool> {
    let changes = shared.changes.load(Ordering::Acquire);
    let mut rest = &plan.bytes[..];
    while let Some((size, pause)) = plan.pieces {
        if rest.len() <= size || shared.changes.load(Ordering::Acquire) != changes {
            break;
        }
        let (piece, after) = rest.split_at(size);
        client.write_all(piece)?;
        thread::sleep(pause);
        rest = after;
    }
    client.write_all(rest)?;
    match plan.then {
        Then::Keep => return Ok(true),
        Then::End(Ending::Fin) => client.shutdown(Shutdown::Both)?,
        Then::End(Ending::Reset) => abort(client),
        Then::EndLate(delay) => {
            thread::sleep(delay);
            client.shutdown(Shutdown::Both)?;
        }
        Then::Hang => while client.read(&mut [0; 1024]).is_ok_and(|count| count > 0) {},
    }
    Ok(false)
}

/// Resets the connection, although another thread may hold a copy of the socket: a plain close
/// with zero linger would wait for that one.
pub fn abort(stream: &TcpStream) {
    let _ = rustix::net::connect_unspec(stream);
}
