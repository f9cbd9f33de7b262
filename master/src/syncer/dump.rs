//! `upsync_dump_path`: the last good servers of an upstream, in a form that nginx includes.

mod writer;

pub use writer::Dumper;

use std::fmt::Write as _;
use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use weir_shm::{Address, CounterId, Server};

use crate::errno::describe;

/// A dump larger than this is none of ours: 1,000,000 servers fit.
pub const SIZE_MAX: u64 = 128 << 20;

/// nginx's defaults of `server`: weight 1, max_fails 1, fail_timeout 10 s.
const NGINX_WEIGHT: u32 = 1;
const NGINX_MAX_FAILS: u32 = 1;
const NGINX_FAIL_TIMEOUT_MS: u64 = 10_000;

/// The dump of `servers`: one `server` directive a line, in their order, every number written out.
///
/// nginx refuses an upstream of backup servers alone (`no servers in upstream`). Without a primary
/// one they serve all the same, so the mark is left out then.
pub fn render(servers: &[Server]) -> String {
    let mut text = String::with_capacity(servers.len() * 80);
    let has_primary = servers.iter().any(|server| !server.backup);
    for server in servers {
        let _ = write!(
            text,
            "server {} weight={} max_fails={} fail_timeout={}",
            server.address,
            server.weight,
            server.max_fails,
            time(server.fail_timeout_ms)
        );
        text.push_str(if server.down { " down" } else { "" });
        let backup = server.backup && has_primary;
        text.push_str(if backup { " backup" } else { "" });
        text.push_str(";\n");
    }
    text
}

/// nginx reads the time of `fail_timeout` in whole seconds, so that a fraction is rounded up.
fn time(ms: u64) -> String {
    format!("{}s", ms.div_ceil(1000))
}

/// Replaces the dump at `path`: a temporary file beside it, fsync, rename; mode 0644. The old dump
/// stays whole until the new one is. An empty list is not written.
///
/// # Errors
/// What the file system said; the temporary file is removed.
pub fn write(path: &Path, servers: &[Server]) -> io::Result<()> {
    if servers.is_empty() {
        return Ok(());
    }
    let temporary = temporary(path);
    let result = write_whole(&temporary, &render(servers))
        .and_then(|()| std::fs::rename(&temporary, path))
        .and_then(|()| File::open(parent(path))?.sync_all());
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result
}

/// A fixed name, so that a killed writer leaves at most one file behind.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    // A leftover may be a link or belong to someone else: it is never written through.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::create_new(path)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Reads a dump, ours or one that upsync wrote.
///
/// # Errors
/// The file cannot be read, is too large, holds no server, or a line of it is none: the whole dump
/// is refused, with the line's number.
pub fn read(path: &Path) -> Result<Vec<Server>, String> {
    let name = path.display();
    let fail = |error: io::Error| format!("open() \"{name}\" failed {}", describe(&error));
    let size = std::fs::metadata(path).map_err(fail)?.len();
    if size > SIZE_MAX {
        return Err(format!("\"{name}\" has {size} bytes, more than {SIZE_MAX}"));
    }
    let bytes = std::fs::read(path).map_err(fail)?;
    let text = String::from_utf8(bytes).map_err(|_| format!("\"{name}\" is not UTF-8"))?;
    parse(&text).map_err(|(line, reason)| format!("{reason} in {name}:{line}"))
}

/// Parses the text of a dump; an error comes with its line, from 1 (0: the dump as a whole).
///
/// # Errors
/// A line that is no `server` directive on an address, one address twice, or no server at all.
pub fn parse(text: &str) -> Result<Vec<Server>, (usize, String)> {
    let mut servers: Vec<Server> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let server = directive(line).map_err(|reason| (number, reason))?;
        if !seen.insert(server.address.clone()) {
            return Err((number, format!("duplicate server \"{}\"", server.address)));
        }
        servers.push(server);
    }
    if servers.is_empty() {
        return Err((0, "no servers".to_owned()));
    }
    Ok(servers)
}

fn directive(line: &str) -> Result<Server, String> {
    let bad = |what: &str| format!("invalid {what}");
    let line = line
        .strip_suffix(';')
        .ok_or_else(|| bad("line without \";\""))?;
    let mut words = line.split_ascii_whitespace();
    if words.next() != Some("server") {
        return Err(bad("line: not a \"server\" directive"));
    }
    let address = words
        .next()
        .ok_or_else(|| bad("number of arguments in \"server\" directive"))?;
    let mut server = Server {
        address: parse_address(address).ok_or_else(|| bad(&format!("address {address:?}")))?,
        weight: NGINX_WEIGHT,
        max_fails: NGINX_MAX_FAILS,
        fail_timeout_ms: NGINX_FAIL_TIMEOUT_MS,
        down: false,
        backup: false,
        counter: CounterId::default(),
    };
    for word in words {
        parameter(&mut server, word).ok_or_else(|| bad(&format!("parameter {word:?}")))?;
    }
    Ok(server)
}

fn parse_address(text: &str) -> Option<Address> {
    if let Some(path) = text.strip_prefix("unix:") {
        return (!path.is_empty()).then(|| Address::Unix(path.into()));
    }
    let address: SocketAddr = text.parse().ok()?;
    (address.port() != 0).then_some(Address::Ip(address))
}

fn parameter(server: &mut Server, word: &str) -> Option<()> {
    match word.split_once('=') {
        None if word == "down" => server.down = true,
        None if word == "backup" => server.backup = true,
        Some(("weight", value)) => {
            server.weight = value.parse().ok().filter(|w| (1..=65535).contains(w))?;
        }
        Some(("max_fails", value)) => server.max_fails = value.parse().ok()?,
        Some(("fail_timeout", value)) => {
            let seconds: u32 = value.strip_suffix('s').unwrap_or(value).parse().ok()?;
            server.fail_timeout_ms = u64::from(seconds) * 1000;
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn server(address: &str) -> Server {
        Server {
            address: Address::Ip(address.parse().unwrap()),
            weight: 1,
            max_fails: 2,
            fail_timeout_ms: 10_000,
            down: false,
            backup: false,
            counter: CounterId::default(),
        }
    }

    #[test]
    fn the_lines_are_upsyncs() {
        let mut down = server("127.0.0.1:8088");
        (down.weight, down.max_fails, down.fail_timeout_ms) = (40, 3, 20_000);
        down.down = true;
        let mut backup = server("[::1]:1");
        backup.backup = true;
        assert_eq!(
            render(&[down.clone(), backup.clone(), server("1.2.3.4:5")]),
            "server 127.0.0.1:8088 weight=40 max_fails=3 fail_timeout=20s down;\n\
             server [::1]:1 weight=1 max_fails=2 fail_timeout=10s backup;\n\
             server 1.2.3.4:5 weight=1 max_fails=2 fail_timeout=10s;\n"
        );
        down.backup = true;
        assert!(render(&[server("1.2.3.4:5"), down]).ends_with(" down backup;\n"));
    }

    #[test]
    fn backup_servers_alone_are_dumped_as_nginx_takes_them() {
        let mut backup = server("1.2.3.4:5");
        backup.backup = true;
        let text = render(&[backup.clone(), backup]);
        assert!(!text.contains("backup"), "{text}");
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn bad_dumps_are_refused_with_the_line() {
        let good = "server 1.2.3.4:5;\n";
        for (text, line) in [
            ("", 0),
            ("# nothing\n\n", 0),
            ("server 1.2.3.4:5", 1),
            ("server;", 1),
            ("server 1.2.3.4:0;", 1),
            ("server example.com:80;", 1),
            ("listen 1.2.3.4:5;", 1),
            ("server 1.2.3.4:6 weight=0;", 1),
            ("server 1.2.3.4:6 weight=65536;", 1),
            ("server 1.2.3.4:6 max_fails=-1;", 1),
            ("server 1.2.3.4:6 fail_timeout=s;", 1),
            ("server 1.2.3.4:6 up;", 1),
            ("server 1.2.3.4:5; # x", 1),
            ("server 1.2.3.4:7;\nserver 1.2.3.4:7 down;", 2),
            ("server 1.2.3.4:7;\nserver 1.2.", 2),
        ] {
            assert_eq!(parse(text).map_err(|e| e.0), Err(line), "{text:?}");
            if line > 0 {
                assert_eq!(
                    parse(&format!("{good}{text}")).map_err(|e| e.0),
                    Err(line + 1)
                );
            }
        }
        assert_eq!(parse(good).unwrap().len(), 1);
    }

    #[test]
    fn a_write_replaces_the_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("servers.conf");
        write(&path, &[server("1.2.3.4:1"), server("1.2.3.4:2")]).unwrap();
        write(&path, &[server("1.2.3.4:3")]).unwrap();
        assert_eq!(read(&path).unwrap(), vec![server("1.2.3.4:3")]);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o644);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_empty_list_and_a_failed_write_leave_the_old_dump() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("servers.conf");
        write(&path, &[server("1.2.3.4:1")]).unwrap();
        write(&path, &[]).unwrap();
        assert_eq!(read(&path).unwrap(), vec![server("1.2.3.4:1")]);
        let nowhere = folder.path().join("absent").join("servers.conf");
        assert!(write(&nowhere, &[server("1.2.3.4:1")]).is_err());
        assert!(read(&nowhere).unwrap_err().contains("absent/servers.conf"));
        // A folder in the temporary file's place cannot be removed as a file.
        std::fs::create_dir(temporary(&path)).unwrap();
        assert!(write(&path, &[server("1.2.3.4:9")]).is_err());
        assert_eq!(read(&path).unwrap(), vec![server("1.2.3.4:1")]);
    }

    #[test]
    fn a_leftover_link_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("servers.conf");
        let victim = folder.path().join("victim");
        std::fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, temporary(&path)).unwrap();
        write(&path, &[server("1.2.3.4:1")]).unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "mine");
        assert!(std::fs::symlink_metadata(&path).unwrap().is_file());
    }

    proptest! {
        #[test]
        fn what_is_rendered_is_read_back(
            servers in proptest::collection::btree_map(
                (any::<u32>(), 1u16..),
                (1u32..=65535, any::<u32>(), 0u64..=u64::from(u32::MAX), any::<bool>(), any::<bool>()),
                1..50,
            )
        ) {
            let servers: Vec<Server> = servers.into_iter().map(|((ip, port), (weight, max_fails, seconds, down, backup))| Server {
                address: Address::Ip((std::net::Ipv4Addr::from(ip), port).into()),
                weight, max_fails, fail_timeout_ms: seconds * 1000, down, backup,
                counter: CounterId::default(),
            }).collect();
            let mut expected = servers.clone();
            if expected.iter().all(|server| server.backup) {
                expected.iter_mut().for_each(|server| server.backup = false);
            }
            prop_assert_eq!(parse(&render(&servers)), Ok(expected));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
