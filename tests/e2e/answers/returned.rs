//! `return`.

use super::Both;

#[test]
fn every_form_is_as_in_nginx() {
    let both = Both::server(
        r#"location = /200 { return 200; }
           location = /text { return 200 "a $arg_x $request_method"; }
           location = /typed { default_type application/json; return 200 "{}"; }
           location = /a.html { return 200 x; }
           location = /a.b/c { return 200 x; }
           location = /A.JPG { return 200 x; }
           location = /.gif { return 200 x; }
           location = /201 { return 201 made; }
           location = /204 { return 204 nothing; }
           location = /207 { return 207 x; }
           location = /304 { return 304 same; }
           location = /301 { return 301; }
           location = /301e { return 301 ""; }
           location = /301v { return 301 /new$request_uri; }
           location = /302r { return 302 relative; }
           location = /303 { return 303 https://other.example/; }
           location = /307 { return 307 /; }
           location = /308 { return 308 /; }
           location = /305 { return 305 x; }
           location = /url { return http://other.example$request_uri; }
           location = /scheme { return $scheme://other.example/; }
           location = /404 { return 404; }
           location = /404t { return 404 "gone"; }
           location = /404e { return 404 ""; }
           location = /404v { return 404 $arg_nothing; }
           location = /408 { return 408; }
           location = /408t { return 408 late; }
           location = /444 { return 444; }
           location = /444t { return 444 x; }
           location = /498 { return 498; }
           location = /499 { return 499; }
           location = /500 { return 500; }
           location = /503t { return 503 later; }
           location = /599 { return 599; }
           location = /999 { return 999; }
           location = /two { return 200 first; return 404 second; }"#,
    );
    for target in [
        "/200",
        "/text?x=1",
        "/typed",
        "/a.html",
        "/a.b/c",
        "/A.JPG",
        "/.gif",
        "/201",
        "/204",
        "/207",
        "/304",
        "/301",
        "/301e",
        "/301v?q=1",
        "/302r",
        "/303",
        "/307",
        "/308",
        "/305",
        "/url?a=b",
        "/scheme",
        "/404",
        "/404t",
        "/404e",
        "/404v",
        "/408",
        "/408t",
        "/444",
        "/444t",
        "/498",
        "/499",
        "/500",
        "/503t",
        "/599",
        "/999",
        "/two",
    ] {
        both.get(target);
        both.ask("HEAD", target, "", "");
        both.ask("POST", target, "", "a body");
    }
    both.say("GET", "GET /301v HTTP/1.0\r\n\r\n");
    both.say("GET", "GET /404 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(
        both.get("/408t")
            .starts_with("HTTP/1.1 408 Request Time-out\n")
    );
    assert_eq!(both.get("/444"), "closed");
}

#[test]
fn the_servers_return_comes_before_its_locations_and_their_limits() {
    let both = Both::server("client_max_body_size 1; return 200 $uri; location / { return 404; }");
    assert!(both.get("/x").ends_with("\n/x"));
    assert!(
        both.ask("POST", "/x", "", "too large")
            .starts_with("HTTP/1.1 200 ")
    );
}

/// nginx sends a body after these, which a client takes for the next answer.
#[test]
fn an_interim_status_closes_the_connection() {
    let weir = crate::support::weir::Setup::server(
        "location = /100 { return 100; } location = /101 { return 101 x; } location = /0 { return 0 x; }",
    )
    .start();
    for (target, line) in [
        ("/100", "HTTP/1.1 100 \r\n"),
        ("/101", "HTTP/1.1 101 \r\n"),
        ("/0", "HTTP/1.1 000 \r\n"),
    ] {
        let mut client = weir.connect();
        let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        client.send(request.as_bytes()).unwrap();
        while client.fill().unwrap() > 0 {}
        let text = String::from_utf8_lossy(client.rest()).into_owned();
        assert!(text.starts_with(line), "{text}");
        assert!(text.ends_with("Connection: close\r\n\r\n"), "{text}");
        assert!(!text.contains("Content-"), "{text}");
    }
}
