//! `upstream_show`: the servers of one upstream or of all, as upsync shows them.

use std::io::Write;

use weir_shm::Server;

/// The type of the answer.
pub const CONTENT_TYPE: &[u8] = b"text/plain";
/// The body for a name that no upstream has.
pub const UNKNOWN: &str = "The upstream you requested does not exist. Please double-check the name";

/// Appends the body. `query` is `$args`: a name, or nothing for all. `upstreams` gives those with
/// an `upstream {}`, in configuration order.
pub fn write<'a, Servers>(
    query: &[u8],
    upstreams: impl IntoIterator<Item = (&'a str, Servers)>,
    out: &mut Vec<u8>,
) where
    Servers: IntoIterator<Item = &'a Server>,
    Servers::IntoIter: ExactSizeIterator,
{
    let mut upstreams = upstreams.into_iter();
    if query.is_empty() {
        for (name, servers) in upstreams {
            write_one(name, servers.into_iter(), out);
            out.push(b'\n');
        }
        return;
    }
    // In any case of letters, as nginx compares the names of upstreams.
    match upstreams.find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(query)) {
        Some((name, servers)) => write_one(name, servers.into_iter(), out),
        None => out.extend_from_slice(UNKNOWN.as_bytes()),
    }
}

fn write_one<'a>(
    name: &str,
    servers: impl ExactSizeIterator<Item = &'a Server>,
    out: &mut Vec<u8>,
) {
    // Writing to a Vec does not fail.
    let _ = writeln!(
        out,
        "Upstream name: {name}; Backend server count: {}",
        servers.len()
    );
    for server in servers {
        let Server {
            address,
            weight,
            max_fails,
            fail_timeout_ms,
            ..
        } = server;
        let _ = write!(
            out,
            "        server {address} weight={weight} max_fails={max_fails} fail_timeout={}s",
            fail_timeout_ms / 1000
        );
        out.extend_from_slice(if server.down { b" down" } else { b"" });
        // upsync does not list backup servers at all; marked as in a dump, none passes for a primary.
        out.extend_from_slice(if server.backup { b" backup;\n" } else { b";\n" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_shm::{Address, CounterId};

    fn server(port: u16, down: bool) -> Server {
        Server {
            address: Address::Ip(([127, 0, 0, 1], port).into()),
            weight: 10,
            max_fails: 3,
            fail_timeout_ms: 10_999,
            down,
            backup: false,
            counter: CounterId::default(),
        }
    }

    fn body(query: &str) -> String {
        let test = [server(8088, false), server(8089, true)];
        let upstreams = [("test", test.as_slice()), ("empty", &[])];
        let mut out = Vec::new();
        write(query.as_bytes(), upstreams, &mut out);
        String::from_utf8(out).unwrap()
    }

    const TEST: &str = "Upstream name: test; Backend server count: 2\n        \
        server 127.0.0.1:8088 weight=10 max_fails=3 fail_timeout=10s;\n        \
        server 127.0.0.1:8089 weight=10 max_fails=3 fail_timeout=10s down;\n";
    const EMPTY: &str = "Upstream name: empty; Backend server count: 0\n";

    #[test]
    fn one_all_and_unknown() {
        assert_eq!(body("test"), TEST);
        assert_eq!(body("empty"), EMPTY);
        assert_eq!(body(""), format!("{TEST}\n{EMPTY}\n"));
        assert_eq!(body("tes"), UNKNOWN);
        assert_eq!(body("TEST"), TEST);
    }

    #[test]
    fn a_backup_server_is_marked() {
        for (down, marks) in [(false, " backup;\n"), (true, " down backup;\n")] {
            let backup = Server {
                backup: true,
                ..server(8090, down)
            };
            let mut out = Vec::new();
            write(b"b", [("b", &[backup])], &mut out);
            let text = String::from_utf8(out).unwrap();
            assert!(
                text.ends_with(&format!(" fail_timeout=10s{marks}")),
                "{text}"
            );
        }
    }
}
