//! How a `Location` is built.

use super::Both;
use crate::support::backend::Backend;
use crate::support::weir::Setup;

#[test]
fn a_path_becomes_a_url_of_this_server() {
    let backend = Backend::named("behind");
    let both = Both::http(&format!(
        "server {{ listen 127.0.0.1:@PORT@; server_name .first.example second;
           location = /on {{ return 301 /x; }}
           location = /relative {{ absolute_redirect off; return 301 /x; }}
           location = /bare {{ port_in_redirect off; return 301 /x; }}
           location = /named {{ server_name_in_redirect on; return 301 /x; }}
           location = /all {{ server_name_in_redirect on; port_in_redirect off; return 301 /x; }}
           location /slash/ {{ proxy_pass http://{0}; }}
           location \"/odd %20é/\" {{ proxy_pass http://{0}; }}
           location /rel/ {{ absolute_redirect off; proxy_pass http://{0}; }} }}
         server {{ listen 127.0.0.1:@PORT@; server_name *.third.example;
           location / {{ server_name_in_redirect on; return 301 /$server_name; }} }}",
        backend.address()
    ));
    for target in [
        "/on",
        "/relative",
        "/bare",
        "/named",
        "/all",
        "/slash",
        "/slash?a=b",
        "/slash?",
        "//slash",
        "/odd%20%2520%C3%A9",
        "/rel?x",
    ] {
        both.get(target);
        for host in ["A.First.Example", "second:99", "[::1]:1", "x.third.example"] {
            let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            both.say("GET", &request);
        }
        both.say("GET", &format!("GET {target} HTTP/1.0\r\n\r\n"));
        both.say(
            "GET",
            &format!("GET http://abs.example:7{target} HTTP/1.1\r\nHost: h\r\n\r\n"),
        );
    }
    assert!(
        both.get("/on")
            .contains("Location: http://h.example:PORT/x\n")
    );
    assert!(both.get("/rel?x").contains("Location: /rel/?x\n"));
    assert_eq!(backend.count(), 0);
}

/// nginx writes them as they are, and so lets a client write fields of the answer.
#[test]
fn no_line_ends_in_a_location() {
    let weir = Setup::server("location / { return 302 $uri; }").start();
    let response = weir.get("/a%0d%0aX-Evil:%201");
    assert_eq!(response.field("x-evil"), None);
    assert!(
        response
            .field("location")
            .is_some_and(|url| url.ends_with("/a%0D%0AX-Evil: 1")),
        "{}",
        response.head
    );
}
