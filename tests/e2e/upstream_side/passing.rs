//! Where `proxy_pass` leads: URIs, variables, addresses.

use std::io::Write;

use crate::support::backend::{Backend, Stream, Then, ok};
use crate::support::weir::{Setup, Weir};

/// Answers with the target and the host that it was asked for.
fn echo(request: &crate::support::backend::Request, out: &mut Stream) -> Then {
    let host = request.field("host").unwrap_or("-");
    let _ = out.write_all(&ok(&format!("{} {host}", request.target)));
    Then::Keep
}

fn text(weir: &Weir, target: &str) -> String {
    let response = weir.get(target);
    assert_eq!(response.status, 200, "{target}");
    response.text()
}

#[test]
fn a_uri_takes_the_place_of_what_the_location_has_matched() {
    let backend = Backend::answering(echo);
    let weir = Setup::http(&format!(
        "upstream back {{ server {}; }}
         server {{ listen 127.0.0.1:@PORT@;
            location /none/ {{ proxy_pass http://back; }}
            location /root/ {{ proxy_pass http://back/; }}
            location /deep/ {{ proxy_pass http://back/x/y; }}
            location /query/ {{ proxy_pass http://back/x?a=; }}
            location = /exact {{ proxy_pass http://back/only; }}
            location /var/ {{ proxy_pass http://back/fixed$is_args$args; }}
            location /ask/ {{ proxy_pass http://back?$args; }} }}",
        backend.address()
    ))
    .workers(1)
    .start();
    for (target, asked) in [
        ("/none/a%20b//./c?d", "/none/a%20b//./c?d"),
        ("/root/a%20b//../c?d", "/c?d"),
        ("/root/a%2Fb%3fc", "/a/b%3Fc"),
        ("/root/%E2%82%AC", "/%E2%82%AC"),
        ("/root/a b".replace(' ', "%20").as_str(), "/a%20b"),
        ("/deep/z", "/x/yz"),
        ("/deep/%2e/z?q=1", "/x/yz?q=1"),
        ("/query/z", "/x?a=z"),
        ("/exact?q", "/only?q"),
        ("/var/z?q=1", "/fixed?q=1"),
        ("/ask/z?q=1", "/?q=1"),
    ] {
        assert_eq!(text(&weir, target), format!("{asked} back"), "{target}");
    }
}

#[test]
fn variables_give_addresses_upstreams_and_schemes() {
    let folder = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let path = folder.path().join("back.sock");
    let tcp = Backend::answering(echo);
    let six = Backend::answering_at("[::1]:0", echo);
    let unix = Backend::answering_unix(&path, echo);
    let weir = Setup::http(&format!(
        "upstream Known {{ server {tcp}; }}
         server {{ listen 127.0.0.1:@PORT@;
            location /to/ {{ proxy_pass $arg_s://$arg_h; }}
            location /uri/ {{ proxy_pass http://$arg_h/there; }}
            location /unix/ {{ proxy_pass http://$arg_h{path}; }}
            location /unixuri/ {{ proxy_pass http://$arg_h{path}:/there$uri; }}
            location /static/ {{ proxy_pass http://{tcp}; }} }}",
        tcp = tcp.address(),
        path = path.display(),
    ))
    .workers(1)
    .start();
    let (v4, v6) = (tcp.address(), six.address());
    for (target, asked) in [
        (
            format!("/to/a?s=http&h={v4}"),
            format!("/to/a?s=http&h={v4} {v4}"),
        ),
        (
            format!("/to/?s=HTTP&h={v6}"),
            format!("/to/?s=HTTP&h={v6} {v6}"),
        ),
        (
            "/to/?s=http&h=kNOWN".into(),
            "/to/?s=http&h=kNOWN kNOWN".into(),
        ),
        (format!("/uri/x?h={v4}"), format!("/there {v4}")),
        ("/unix/x?h=unix:".into(), "/unix/x?h=unix: localhost".into()),
        (
            "/unixuri/x?h=unix:".into(),
            "/there/unixuri/x localhost".into(),
        ),
    ] {
        assert_eq!(text(&weir, &target), asked, "{target}");
    }
    drop(unix);
    for (target, status, logged) in [
        (
            "/to/?s=https&h=a",
            500,
            "invalid URL prefix in \"https://a\"",
        ),
        ("/to/?s=&h=a", 500, "invalid URL prefix in \"://a\""),
        ("/to/?s=http&h=", 500, "invalid URL prefix in \"http://\""),
        (
            "/to/?s=http&h=127.0.0.1:0",
            500,
            "invalid port in upstream \"127.0.0.1:0\"",
        ),
        (
            "/to/?s=http&h=[::1",
            500,
            "invalid host in upstream \"[::1\"",
        ),
        (
            "/to/?s=http&h=known:81",
            502,
            "no resolver defined to resolve known",
        ),
        (
            "/to/?s=http&h=name.example",
            502,
            "no resolver defined to resolve name.example",
        ),
        ("/unix/x?h=unix:", 502, "while connecting to upstream"),
    ] {
        assert_eq!(weir.get(target).status, status, "{target}");
        weir.wait_log(logged);
    }
}

#[test]
fn an_address_from_a_variable_is_never_given_up() {
    let backend = Backend::answering(|request, out| match request.target.as_str() {
        "/cut" => Then::Close,
        _ => echo(request, out),
    });
    let weir = Setup::server("location / { proxy_pass http://$http_x_to; }")
        .workers(1)
        .start();
    let fields = format!("X-To: {}\r\n", backend.address());
    let status = |target: &str| {
        let response = weir.connect().request("GET", target, &fields, b"");
        response.unwrap().status
    };
    for _ in 0..3 {
        assert_eq!(status("/cut"), 502);
        assert_eq!(status("/"), 200);
    }
}
