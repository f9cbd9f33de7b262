//! How connections to servers are made.

use std::io::Write;

use crate::support::backend::{Backend, Stream, Then, ok};
use crate::support::weir::Setup;

/// Answers with the address that the connection comes from.
fn telling() -> Backend {
    Backend::answering(|_, out| {
        let from = match out {
            Stream::Tcp(stream) => stream.peer_addr().unwrap().ip().to_string(),
            Stream::Unix(_) => "unix".to_owned(),
        };
        let _ = out.write_all(&ok(&from));
        Then::Keep
    })
}

#[test]
fn a_connection_comes_from_the_address_that_is_said_and_is_not_taken_for_another() {
    let backend = telling();
    let weir = Setup::http(&format!(
        "upstream back {{ server {}; }}
         proxy_bind 127.0.0.2;
         server {{ listen 127.0.0.1:@PORT@;
            location / {{ proxy_pass http://back; }}
            location /again {{ proxy_pass http://back; }}
            location /off {{ proxy_pass http://back; proxy_bind off; }}
            location /var {{ proxy_pass http://back; proxy_bind $arg_from; }}
            location /foreign {{ proxy_pass http://back; proxy_bind 192.0.2.1; }} }}",
        backend.address()
    ))
    .workers(1)
    .start();
    let mut client = weir.connect();
    let mut from = |target: &str| client.get(target).unwrap().text();
    for _ in 0..2 {
        for (target, address) in [
            ("/", "127.0.0.2"),
            ("/again", "127.0.0.2"),
            ("/off", "127.0.0.1"),
            ("/var?from=127.0.0.3", "127.0.0.3"),
            ("/var?from=", "127.0.0.1"),
            ("/var?from=127.0.0.4:x", "127.0.0.1"),
        ] {
            assert_eq!(from(target), address, "{target}");
        }
    }
    assert_eq!(backend.connections(), 3, "one for each origin");
    weir.wait_log("invalid local address \"127.0.0.4:x\"");
    assert_eq!(weir.get("/foreign").status, 500);
    weir.wait_log("[crit]");
    weir.wait_log("bind(192.0.2.1) failed (99: Cannot assign requested address) while connecting to upstream, client: ");
}

#[test]
fn a_connection_that_cannot_be_made_is_logged_once() {
    let weir = Setup::http(
        "upstream back { server unix:@DIR@/nobody.sock; }
         server { listen 127.0.0.1:@PORT@; location / { proxy_pass http://back; } }",
    )
    .workers(1)
    .start();
    assert_eq!(weir.get("/").status, 502);
    let name = weir.path("nobody.sock").display().to_string();
    weir.wait_log(&format!(
        "connect() to unix:{name} failed (2: No such file or directory) while connecting to upstream, client: 127.0.0.1, server: "
    ));
    assert_eq!(weir.error_log().matches("connect()").count(), 1);
}
