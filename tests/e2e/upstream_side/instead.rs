//! Answers of servers that the client does not get.

use std::io::Write;

use crate::support::backend::{Backend, Then, answer};

use super::weir;

/// Answers a path such as `/404` with that status, and with the fields of `X-Say`, apart by `|`.
fn backend() -> Backend {
    Backend::answering(|request, out| {
        let status = request.target.trim_start_matches('/');
        let status = status
            .get(..3)
            .and_then(|digits| digits.parse::<u16>().ok());
        let mut fields = request
            .field("x-say")
            .unwrap_or_default()
            .replace('|', "\r\n");
        if !fields.is_empty() {
            fields.push_str("\r\n");
        }
        let line = format!("{} Own", status.unwrap_or(200));
        let text = format!("{} {}", request.method, request.target);
        let _ = out.write_all(&answer(&line, &fields, text.as_bytes()));
        Then::Keep
    })
}

#[test]
fn an_error_page_takes_the_place_of_an_error_where_that_is_said() {
    let backend = backend();
    let weir = weir(
        &backend,
        "error_page 404 /missing.html; error_page 401 502 =200 @page;
         location / { proxy_pass http://back; proxy_intercept_errors on; }
         location /off/ { proxy_pass http://back/; }
         location = /missing.html { return 200 missing; }
         location @page { return 200 page; }",
    );
    let mut client = weir.connect();
    let mut ask = |target: &str, fields: &str| client.request("GET", target, fields, b"").unwrap();
    let missing = ask("/404", "");
    assert_eq!((missing.status, missing.text().as_str()), (404, "missing"));
    let plain = ask("/403", "");
    assert_eq!((plain.status, plain.text().as_str()), (403, "GET /403"));
    let off = ask("/off/404", "");
    assert_eq!((off.status, off.text().as_str()), (404, "GET /404"));
    let fields = "X-Say: WWW-Authenticate: Basic realm=a|WWW-Authenticate: Other|X-A: a\r\n";
    let asked = ask("/401", fields);
    assert_eq!((asked.status, asked.text().as_str()), (200, "page"));
    assert_eq!(
        asked.fields_named("www-authenticate"),
        ["Basic realm=a", "Other"]
    );
    assert_eq!(asked.field("x-a"), None);
    assert_eq!(ask("/502", "").text(), "page");
    let after = ask("/ok", "");
    assert_eq!(after.text(), "GET /ok");
    assert_eq!(after.field("www-authenticate"), None, "carried no further");
}

#[test]
fn a_server_can_send_a_request_elsewhere_within() {
    let backend = backend();
    let weir = weir(
        &backend,
        "location / { proxy_pass http://back; proxy_cookie_path /app/ /; }
         location /inside/ { internal; proxy_pass http://back/there/; }
         location @named { internal; return 200 named; }
         location /ignore/ { proxy_pass http://back; proxy_ignore_headers X-Accel-Redirect; }",
    );
    let mut client = weir.connect();
    let mut say = |method: &str, target: &str, said: &str| {
        let fields = format!("X-Say: {said}\r\n");
        client.request(method, target, &fields, b"").unwrap()
    };
    let named = say(
        "POST",
        "/500",
        "X-Accel-Redirect: @named|Set-Cookie: a=b; Path=/app/x|Cache-Control: no-store|X-A: a|Expires: 0",
    );
    assert_eq!((named.status, named.text().as_str()), (200, "named"));
    assert_eq!(named.field("set-cookie"), Some("a=b; Path=/x"));
    assert_eq!(named.field("cache-control"), Some("no-store"));
    assert_eq!(named.field("expires"), Some("0"));
    assert_eq!(
        (named.field("x-a"), named.field("x-accel-redirect")),
        (None, None)
    );
    let ignored = say("GET", "/ignore/x", "X-Accel-Redirect: @named");
    assert_eq!(ignored.text(), "GET /ignore/x");
    assert_eq!(ignored.field("x-accel-redirect"), None);
    let unsafe_one = say("GET", "/x", "X-Accel-Redirect: /inside/../x");
    assert_eq!(unsafe_one.status, 404);
    weir.wait_log("unsafe URI \"/inside/../x\" was detected");
    // The request that goes on within still says the same: it is sent on until that is a cycle.
    assert_eq!(weir.get("/inside/x").status, 404);
    let cycle = weir.connect().request(
        "POST",
        "/x",
        "X-Say: X-Accel-Redirect: /inside/a%20b?c\r\n",
        b"",
    );
    assert_eq!(cycle.unwrap().status, 500);
    weir.wait_log(
        "rewrite or internal redirection cycle while internally redirecting to \"/inside/a b\"",
    );
    let targets: Vec<_> = backend
        .requests()
        .into_iter()
        .map(|request| format!("{} {}", request.method, request.target))
        .collect();
    assert!(
        targets.contains(&"GET /there/a%20b?c".to_owned()),
        "{targets:?}"
    );
}
