//! What becomes of the fields of a server's answer.

use std::io::Write;

use crate::support::backend::{Backend, Then, answer};
use crate::support::client::Response;
use crate::support::weir::Weir;

/// Answers with the fields that the request's `X-Say` has, lines apart by `|`.
fn saying() -> Backend {
    Backend::answering(|request, out| {
        let said = request
            .field("x-say")
            .unwrap_or_default()
            .replace('|', "\r\n");
        let fields = if said.is_empty() { said } else { said + "\r\n" };
        let _ = out.write_all(&answer("200 OK", &fields, b"x"));
        Then::Keep
    })
}

/// One worker whose upstream `back` is the backend; `lines` stand in its server.
fn weir(backend: &Backend, lines: &str) -> Weir {
    super::weir(backend, &format!("server_name me; {lines}"))
}

fn say(weir: &Weir, target: &str, fields: &str) -> Response {
    let fields = format!("Host: client.example\r\nX-Say: {fields}\r\n");
    let response = weir.connect().request("GET", target, &fields, b"");
    let response = response.unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "x"));
    response
}

#[test]
fn some_fields_are_hidden_and_others_passed() {
    let backend = saying();
    let weir = weir(
        &backend,
        "location / { proxy_pass http://back; }
         location /hide { proxy_pass http://back; proxy_hide_header x-a; proxy_hide_header Content-Type; }
         location /pass { proxy_pass http://back; proxy_pass_header Server; proxy_pass_header Date;
            proxy_pass_header X-Accel-Expires; proxy_pass_header X-Pad; }",
    );
    let fields = "Server: theirs|Date: yesterday|X-Pad: p|X-Accel-Expires: 1|X-Accel-Charset: c|\
        X-Accel-Buffering: no|X-Accel-Limit-Rate: 0|X-A: a|X-A: b|Content-Type: t/x";
    let plain = say(&weir, "/", fields);
    assert!(plain.field("server").unwrap().starts_with("weir/"));
    assert!(plain.field("date").unwrap().ends_with("GMT"));
    for name in [
        "X-Pad",
        "X-Accel-Expires",
        "X-Accel-Charset",
        "X-Accel-Buffering",
        "X-Accel-Limit-Rate",
    ] {
        assert_eq!(plain.field(name), None, "{name}");
    }
    assert_eq!(plain.fields_named("x-a"), ["a", "b"]);
    assert_eq!(plain.field("content-type"), Some("t/x"));
    let hidden = say(&weir, "/hide", fields);
    assert_eq!(hidden.field("x-a"), None);
    assert_eq!(hidden.field("content-type"), None);
    let passed = say(&weir, "/pass", fields);
    assert_eq!(passed.fields_named("server"), ["theirs"]);
    assert_eq!(passed.fields_named("date"), ["yesterday"]);
    assert_eq!(passed.field("x-accel-expires"), Some("1"));
    assert_eq!(passed.field("x-pad"), Some("p"));
    assert_eq!(passed.field("x-accel-charset"), None);
    let without = say(&weir, "/pass", "");
    assert!(without.field("server").unwrap().starts_with("weir/"));
    assert!(without.field("date").unwrap().ends_with("GMT"));
}

#[test]
fn redirects_lead_back_here() {
    let backend = saying();
    let weir = weir(
        &backend,
        "location /plain/ { proxy_pass http://back; }
         location /uri/ { proxy_pass http://back/there/; }
         location /off/ { proxy_pass http://back; proxy_redirect off; }
         location /rules/ { proxy_pass http://back; proxy_redirect http://one.example/ https://$host/one/;
            proxy_redirect ~^http://(?<name>[a-z]+)\\.example:(\\d+)/(.*)$ http://$name-$2.test/$3;
            proxy_redirect ~*/SECRET /hidden; }",
    );
    let port = weir.port("PORT");
    let here = format!("http://client.example:{port}");
    let location = |target: &str, to: &str| {
        let response = say(&weir, target, &format!("Location: {to}"));
        response.field("location").unwrap_or_default().to_owned()
    };
    assert_eq!(
        location("/plain/", "http://back/a?b"),
        format!("{here}/a?b")
    );
    assert_eq!(
        location("/plain/", "http://back.example/a"),
        "http://back.example/a"
    );
    assert_eq!(location("/plain/", "/relative"), "/relative");
    assert_eq!(
        location("/uri/", "http://back/there/x"),
        format!("{here}/uri/x")
    );
    assert_eq!(location("/uri/", "http://back/else"), "http://back/else");
    assert_eq!(location("/off/", "http://back/a"), "http://back/a");
    assert_eq!(
        location("/rules/", "http://one.example/x"),
        "https://client.example/one/x"
    );
    assert_eq!(
        location("/rules/", "http://two.example:81/x?y"),
        "http://two-81.test/x?y"
    );
    assert_eq!(
        location("/rules/", "http://x/secret"),
        format!("{here}/hidden")
    );
    let refresh = say(&weir, "/plain/", "Refresh: 5; URL=http://back/r");
    assert_eq!(refresh.field("refresh"), Some("5; URL=/r"));
    let other = say(&weir, "/plain/", "Refresh: 5");
    assert_eq!(other.field("refresh"), Some("5"));
}

#[test]
fn cookies_are_moved_and_flagged() {
    let backend = saying();
    let weir = weir(
        &backend,
        "location / { proxy_pass http://back;
            proxy_cookie_domain .back.example $host;
            proxy_cookie_domain ~^(\\w+)\\.test$ $1.example;
            proxy_cookie_path /app/ /;
            proxy_cookie_path ~*^/x(.*) /y$1;
            proxy_cookie_flags sid secure samesite=strict;
            proxy_cookie_flags ~^t httponly $arg_flag; }
         location /off { proxy_pass http://back; proxy_cookie_path off; }",
    );
    let cookies = |target: &str, said: &str| {
        let response = say(&weir, target, said);
        let all = response.fields_named("set-cookie");
        all.iter()
            .map(|value| (*value).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        cookies(
            "/?flag=secure",
            "Set-Cookie: a=1; Domain=.back.example; Path=/app/z|Set-Cookie: b=2; domain=BACK.example;path=/Xq|\
             Set-Cookie: c=3;  Domain=two.test; HttpOnly|Set-Cookie: SID=4; Path=/|Set-Cookie: token=5; Secure|\
             Set-Cookie: plain; Path=/app/|Set-Cookie: d=6;Path=/other"
        ),
        [
            "a=1; Domain=.client.example; Path=/z",
            "b=2; domain=client.example; path=/yq",
            "c=3; Domain=two.example; HttpOnly",
            "SID=4; Path=/; Secure; SameSite=Strict",
            "token=5; Secure; HttpOnly",
            "plain; Path=/app/",
            "d=6;Path=/other",
        ]
    );
    assert_eq!(
        cookies("/off", "Set-Cookie: a=1; Path=/app/z"),
        ["a=1; Path=/app/z"]
    );
}

#[test]
fn what_a_rewrite_brings_in_stays_one_line() {
    let backend = saying();
    let weir = weir(
        &backend,
        "location / { proxy_pass http://back; proxy_redirect http://back/ \"http://$arg_a\nX-Evil: 1/\"; }",
    );
    let response = say(&weir, "/?a=b", "Location: http://back/x");
    assert_eq!(response.field("x-evil"), None);
    assert!(response.field("location").unwrap().starts_with("http://b"));
}
