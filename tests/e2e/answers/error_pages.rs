//! `error_page`, internal and named locations.

use std::io::Write;

use super::Both;
use crate::support::backend::{Backend, Then, answer};
use crate::support::process::read_lossy;
use crate::support::weir::Setup;
use crate::support::{PATIENCE, wait_until};

#[test]
fn every_form_is_as_in_nginx() {
    let both = Both::server(
        r#"error_page 404 /outer;
           recursive_error_pages off;
           location /outer { return 200 "outer $uri $args $request_uri $request_method"; }
           location = /text { return 200 "text $uri?$args $request_method"; }
           location = /inside { internal; return 200 "inside $uri"; }
           location = /taken { return 404; }
           location = /own { error_page 403 /text; return 404; }
           location = /uri { error_page 404 /text; return 404; }
           location = /args { error_page 404 /text?a=b; return 404; }
           location = /variable { error_page 404 /text?was=$uri&$args; return 404; }
           location = /code { error_page 404 =200 /text; return 404; }
           location = /204 { error_page 404 =204 /text; return 404; }
           location = /304 { error_page 404 =304 /text; return 404; }
           location = /handlers { error_page 404 = /text; return 404; }
           location = /zero { error_page 404 =0 /text; return 404; }
           location = /url { error_page 404 https://other.example/$uri; return 404; }
           location = /url301 { error_page 404 =301 https://other.example/; return 404; }
           location = /url500 { error_page 404 =500 relative; return 404; }
           location = /named { error_page 404 @name; return 404; }
           location = /named200 { error_page 404 =200 @name; return 404; }
           location = /nobody { error_page 404 @nobody; return 404; }
           location = /internal { error_page 404 /inside; return 404; }
           location = /several { error_page 403 404 405 =  @name; return 405; }
           location = /first { error_page 404 =200 /text; error_page 404 =201 /outer; return 404; }
           location = /moved { error_page 301 = /text; return 301 /zzz; }
           location = /moved2 { error_page 301 =302 @moves; return 301 /zzz; }
           location @moves { return 307 /yyy; }
           location = /text404 { error_page 404 /text; return 404 "as it stands"; }
           location = /again { error_page 404 /again2; return 404; }
           location = /again2 { error_page 403 /text; return 403; }
           location = /recursive { recursive_error_pages on; error_page 404 /recursive2; return 404; }
           location = /recursive2 { recursive_error_pages on; error_page 403 /text; return 403; }
           location = /loop { recursive_error_pages on; error_page 404 /loop; return 404; }
           location = /loop2 { recursive_error_pages on; error_page 404 @loop; return 404; }
           location @loop { recursive_error_pages on; error_page 404 @loop; return 404; }
           location = /denied { deny all; error_page 403 /text; }
           location = /silent { error_page 444 408 /text; return 444; }
           location @name { return 418 "named $uri?$args $request_method"; }
           location /nested { error_page 403 /text; location /nested/in { return 403; } }"#,
    );
    for target in [
        "/taken?x",
        "/own",
        "/uri?x",
        "/args?x",
        "/variable?x",
        "/code",
        "/204",
        "/304",
        "/handlers",
        "/zero",
        "/url",
        "/url301",
        "/url500",
        "/named?x",
        "/named200",
        "/nobody",
        "/internal",
        "/inside",
        "/several",
        "/first",
        "/moved",
        "/moved2",
        "/text404",
        "/again",
        "/recursive",
        "/loop",
        "/loop2",
        "/denied",
        "/silent",
        "/nested/in/x",
        "/@name",
    ] {
        both.get(target);
        both.ask("HEAD", target, "", "");
        both.ask("POST", target, "", "a body");
    }
    assert!(
        both.get("/variable?x")
            .ends_with("\ntext /text?was=/variable&x GET")
    );
    assert!(
        both.ask("POST", "/named?x", "", "b")
            .contains("named /named?x POST")
    );
    for line in [
        "rewrite or internal redirection cycle while internally redirecting to \"/loop\", client: ",
        "rewrite or internal redirection cycle while redirect to named location \"@loop\", client: ",
        "could not find named location \"@nobody\", client: ",
    ] {
        both.weir.wait_log(line);
        assert!(both.nginx.error_log().contains(line), "{line}");
    }
}

/// With a body that has not come when the answer is made, and a request behind it.
#[test]
fn the_rest_of_the_request_is_dropped() {
    let weir = Setup::server("error_page 404 =200 /page; location /page { return 200 page; } location = /x { return 404; }")
        .start();
    let mut client = weir.connect();
    client
        .send(b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel")
        .unwrap();
    assert_eq!(client.response("POST").unwrap().text(), "page");
    client
        .send(b"lo\r\n0\r\n\r\nGET /page HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    assert_eq!(client.response("GET").unwrap().text(), "page");
}

#[test]
fn errors_of_weir_itself_have_pages() {
    let both = Both::server(
        r#"error_page 400 404 405 413 494 502 =  /page;
           location = /page { return 200 "page of $request_uri, $request_method"; }
           location = /large { client_max_body_size 3; proxy_pass http://127.0.0.1:1; }
           location = /kept { error_page 413 /page; client_max_body_size 3; proxy_pass http://127.0.0.1:1; }
           location = /refused { proxy_pass http://127.0.0.1:1; }
           location = /status { stub_status; }"#,
    );
    for request in [
        "GET /x HTTP/1.1\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a b\r\n\r\n",
        "POST /large HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody",
        "POST /kept HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody",
        "POST /refused HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody",
        "DELETE /status HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        assert!(both.say("GET", request).contains("page of "), "{request}");
    }
    let long = "x".repeat(9000);
    assert!(
        both.ask("GET", "/x", &format!("X-Long: {long}\r\n"), "")
            .contains("200 OK")
    );
}

/// What the servers of both see of a request on its way to an error page.
#[test]
fn a_page_may_come_from_a_server() {
    let backend = Backend::answering(|request, out| {
        let text = format!(
            "{} {} length={:?} body={}",
            request.method,
            request.target,
            request.field("content-length"),
            String::from_utf8_lossy(&request.body)
        );
        let status = match request.target.as_str() {
            "/missing" => "404 Missing",
            _ => "201 Page Made",
        };
        let _ = out.write_all(&answer(status, "X-Backend: yes\r\n", text.as_bytes()));
        Then::Keep
    });
    let both = Both::server(&format!(
        r#"error_page 403 /page?x=1; error_page 405 @named; error_page 410 = @named; error_page 413 =200 /page;
           location /page {{ proxy_pass http://{0}; }}
           location /with {{ proxy_pass http://{0}/uri; }}
           location @named {{ proxy_pass http://{0}; }}
           location = /403 {{ return 403; }}
           location = /405 {{ return 405; }}
           location = /410 {{ return 410; }}
           location = /space {{ error_page 403 "/with/a b?$args"; return 403; }}
           location = /204 {{ error_page 403 =204 /page; return 403; }}"#,
        backend.address()
    ));
    for target in ["/403", "/405?q", "/410", "/space?x=y", "/204"] {
        both.get(target);
        both.ask("HEAD", target, "", "");
        both.ask("POST", target, "", "a body");
    }
    assert!(both.get("/405?q").contains("\nGET /405?q "));
    assert!(both.get("/space?x=y").contains("GET /uri/a%20b?x=y "));
    assert!(
        both.ask("POST", "/410", "", "a body")
            .contains("POST /410 length=Some(\"6\") body=a body")
    );
}

#[test]
fn a_failed_server_has_a_page_from_another_one() {
    let backend = Backend::answering(|request, out| {
        let _ = out.write_all(&answer("200 OK", "", &request.body));
        Then::Keep
    });
    let both = Both::http(&format!(
        r#"log_format u "$upstream_addr | $upstream_status | $status | $uri"; access_log logs/u.log u;
           server {{ listen 127.0.0.1:@PORT@;
             error_page 502 = @other;
             location / {{ proxy_pass http://127.0.0.1:1; }}
             location @other {{ proxy_pass http://{}; }} }}"#,
        backend.address()
    ).replace("logs/u.log", "@DIR@/u.log"));
    assert!(both.get("/x").starts_with("HTTP/1.1 200 OK\n"));
    assert!(
        both.ask("POST", "/x", "", "sent again")
            .ends_with("\nsent again")
    );
    let log = || read_lossy(&both.weir.path("u.log"));
    wait_until(PATIENCE, "both are logged", || log().lines().count() == 2);
    let log = log();
    let expected = format!("127.0.0.1:1 : {} | 502 : 200 | 200 | /x", backend.address());
    assert!(log.lines().all(|line| line == expected), "{log}");
}

/// In memory, in a file, in chunks; with `proxy_request_buffering off` as long as all of it is there.
#[test]
fn the_body_goes_to_the_next_server_whole_or_not_at_all() {
    let backend = Backend::answering(|request, out| {
        let _ = out.write_all(&answer("200 OK", "", &request.body));
        Then::Keep
    });
    let weir = Setup::server(&format!(
        r#"error_page 502 504 = @other; client_max_body_size 0;
           location / {{ proxy_pass http://127.0.0.1:1; }}
           location /stream {{ proxy_request_buffering off; proxy_pass http://127.0.0.1:1; }}
           location /own {{ error_page 502 = @own; proxy_pass http://127.0.0.1:1; }}
           location /dropped {{ proxy_set_body x; proxy_pass http://127.0.0.1:1; }}
           location @other {{ proxy_pass http://{0}; }}
           location @own {{ proxy_set_body "own"; proxy_pass http://{0}; }}"#,
        backend.address()
    ))
    .start();
    let large: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
    for body in [&b"small"[..], &large] {
        let mut client = weir.connect();
        let response = client.request("POST", "/x", "", body).unwrap();
        assert!(response.status == 200 && response.body == body);
        let half = body.len() / 2;
        let chunked = [
            format!(
                "POST /y HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{half:x}\r\n"
            )
            .as_bytes(),
            &body[..half],
            format!("\r\n{:x}\r\n", body.len() - half).as_bytes(),
            &body[half..],
            b"\r\n0\r\n\r\n",
        ]
        .concat();
        client.send(&chunked).unwrap();
        let response = client.response("POST").unwrap();
        assert!(response.status == 200 && response.body == body);
        let response = client.request("POST", "/own", "", body).unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "own"));
    }
    let mut client = weir.connect();
    let response = client.request("POST", "/stream", "", b"small").unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "small"));
    let mut client = weir.connect();
    let response = client.request("POST", "/stream", "", &large).unwrap();
    assert_eq!(response.status, 500);
    let mut client = weir.connect();
    let response = client.request("POST", "/dropped", "", b"small").unwrap();
    assert_eq!(response.status, 500);
    assert_eq!(weir.get("/dropped").status, 200);
    weir.wait_log("request body cannot be sent again after an internal redirect");
    for request in backend.requests() {
        assert_eq!(request.fields_named("transfer-encoding"), [""; 0]);
    }
}

/// A head that was refused says nothing that a server could take for good.
#[test]
fn nothing_of_a_refused_request_reaches_a_server() {
    let backend = Backend::named("page");
    let weir = Setup::server(&format!(
        "error_page 400 =200 /page; location /page {{ proxy_pass http://{}; }}",
        backend.address()
    ))
    .start();
    for request in [
        "POST /x HTTP/1.1\r\nHost: h\r\nX-Bad: 1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
        "BAD\u{1} /x HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        let mut client = weir.connect();
        client.send(request.as_bytes()).unwrap();
        let response = client.response("GET").unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "page\n"));
        assert!(!response.keeps());
    }
    let requests = backend.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert_eq!(
            (request.method.as_str(), request.target.as_str()),
            ("GET", "/page")
        );
        assert_eq!(request.field("x-bad"), None);
        assert_eq!(request.field("transfer-encoding"), None);
        assert!(request.body.is_empty());
    }
}
