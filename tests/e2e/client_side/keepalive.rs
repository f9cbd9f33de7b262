//! How long a connection is kept.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::PATIENCE;
use crate::support::weir::Setup;

use super::one;

#[test]
fn connections_are_kept_as_long_as_they_may_be() {
    let weir = one(
        "",
        "location / { return 200 x; }
         location /named { keepalive_timeout 75s 20s; return 200 x; }
         location /off { keepalive_timeout 0; return 200 x; }
         location /three { keepalive_requests 3; return 200 x; }
         location /short { keepalive_timeout 200ms; return 200 x; }
         location /young { keepalive_time 300ms; keepalive_requests 1000000; return 200 x; }",
    );
    let named = weir.get("/named");
    assert_eq!(named.field("keep-alive"), Some("timeout=20"));
    assert_eq!(weir.get("/").field("keep-alive"), None);
    assert!(!weir.get("/off").keeps());

    let mut client = weir.connect();
    let kept = [(); 3].map(|()| client.get("/three").unwrap().keeps());
    assert_eq!(kept, [true, true, false]);
    assert!(client.closed().unwrap());

    let mut client = weir.connect();
    assert!(client.get("/short").unwrap().keeps());
    assert!(client.closed().unwrap());

    let mut client = weir.connect();
    let begun = Instant::now();
    while client.get("/young").unwrap().keeps() {
        assert!(begun.elapsed() < PATIENCE);
    }
    assert!(begun.elapsed() >= Duration::from_millis(290));
    assert!(client.closed().unwrap());
}

#[test]
fn old_browsers_connections_are_not_kept() {
    const MSIE6: &str = "User-Agent: Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)\r\n";
    const SAFARI: &str = "User-Agent: Mozilla/5.0 (Macintosh; Mac OS X) Version/17 Safari/605\r\n";
    let weir = one(
        "",
        "location / { return 200 x; }
         location /none { keepalive_disable none; return 200 x; }
         location /safari { keepalive_disable safari; return 200 x; }",
    );
    let keeps = |method: &str, path: &str, agent: &str| {
        let response = weir.connect().request(method, path, agent, b"");
        response.unwrap().keeps()
    };
    assert!(!keeps("POST", "/", MSIE6));
    assert!(keeps("GET", "/", MSIE6));
    assert!(keeps("POST", "/", SAFARI));
    assert!(keeps("POST", "/none", MSIE6));
    assert!(keeps("POST", "/safari", MSIE6));
    assert!(!keeps("GET", "/safari", SAFARI));
}

#[test]
fn a_kept_connection_outlives_the_worker_for_its_least_time() {
    let weir = Setup::server(
        "location / { return 200 x; }
         location /held { keepalive_min_timeout 8s; return 200 x; }",
    )
    .workers(1)
    .start();
    let (mut plain, mut held) = (weir.connect(), weir.connect());
    assert!(plain.get("/").unwrap().keeps());
    assert!(held.get("/held").unwrap().keeps());
    let begun = Instant::now();
    weir.signal(Signal::SIGQUIT);
    assert!(plain.closed().unwrap());
    // The worker ends, and still answers whom it keeps.
    assert!(held.get("/held").unwrap().keeps());
    assert!(!held.get("/").unwrap().keeps());
    assert!(begun.elapsed() < PATIENCE);
    assert!(held.closed().unwrap());
}
