use std::sync::Arc;

use super::*;
use crate::http::{Limits, Parsed, RequestHead, ResponseHead};
use crate::log::Clock;
use crate::settings::{Escape, LogFormat, Variable};

const HEAD: &str = "GET /a//b%20c?x=1&Y=2&z HTTP/1.1\r\nHost: Example.COM:8080\r\n\
    User-Agent: \"curl\" \\ \x7f\u{e9}\r\nCookie: a=1; B=two\r\nCookie: c=3\r\n\
    X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-For: 10.0.0.2\r\nAuthorization: Basic bWU6c2VjcmV0\r\n\
    X-Several: 1\r\nx-several: 2\r\n\r\n";

fn head() -> Vec<u8> {
    HEAD.replace('\x7f', "").into_bytes()
}

fn with_values(test: impl FnOnce(&mut Values<'_>)) {
    let bytes = head();
    let mut request = RequestHead::new();
    let limits = Limits::default();
    assert_eq!(request.parse(&bytes, &limits), Parsed::Head(bytes.len()));
    let clock = Clock::new(784_111_777_123);
    let mut values = Values::new(&request, &bytes, &clock);
    values.client = Some(([192, 0, 2, 7], 1234).into());
    values.local = Some(([192, 0, 2, 8], 8080).into());
    test(&mut values);
}

fn template(variables: &[Variable]) -> Template {
    let text = |text: &str| Part::Text(text.as_bytes().to_vec());
    let parts = variables
        .iter()
        .flat_map(|variable| [Part::Variable(variable.clone()), text("|")]);
    Template {
        parts: parts.collect(),
    }
}

fn line(variables: &[Variable], escape: Escape) -> LogFormat {
    LogFormat {
        line: template(variables),
        escape,
    }
}

/// The variables' values, each followed by a bar.
fn value(values: &Values<'_>, variables: &[Variable]) -> String {
    let mut out = Vec::new();
    template(variables).write(values, &mut out);
    String::from_utf8(out).unwrap()
}

fn named(make: fn(Vec<u8>) -> Variable, name: &str) -> Variable {
    make(name.as_bytes().to_vec())
}

#[test]
fn only_a_template_without_variables_is_a_text() {
    let text = Part::Text(b"plain".to_vec());
    assert_eq!(
        Template { parts: vec![text] }.as_text(),
        Some(&b"plain"[..])
    );
    assert_eq!(Template::default().as_text(), Some(&b""[..]));
    assert_eq!(template(&[Variable::Host]).as_text(), None);
}

#[test]
fn a_request_has_its_values() {
    with_values(|values| {
        for (variables, expected) in [
            (
                &[Variable::Request][..],
                "GET /a//b%20c?x=1&Y=2&z HTTP/1.1|",
            ),
            (
                &[
                    Variable::RequestMethod,
                    Variable::ServerProtocol,
                    Variable::Scheme,
                ],
                "GET|HTTP/1.1|http|",
            ),
            (
                &[Variable::Uri, Variable::DocumentUri, Variable::RequestUri],
                "/a/b c|/a/b c|/a//b%20c?x=1&Y=2&z|",
            ),
            (
                &[Variable::IsArgs, Variable::Args, Variable::QueryString],
                "?|x=1&Y=2&z|x=1&Y=2&z|",
            ),
            (
                &["x", "y", "z", "w"].map(|name| named(Variable::Arg, name)),
                "1|2|||",
            ),
            (
                &[Variable::Host, named(Variable::Http, "host")],
                "example.com|Example.COM:8080|",
            ),
            (
                &["a", "b", "c", "d"].map(|name| named(Variable::Cookie, name)),
                "1|two|3||",
            ),
            (&[named(Variable::Http, "cookie")], "a=1; B=two; c=3|"),
            (&[named(Variable::Http, "x-several")], "1, 2|"),
            (
                &[Variable::ProxyAddXForwardedFor],
                "10.0.0.1, 10.0.0.2, 192.0.2.7|",
            ),
            (
                &[Variable::RemoteAddr, Variable::RemotePort],
                "192.0.2.7|1234|",
            ),
            (
                &[Variable::ServerAddr, Variable::ServerPort],
                "192.0.2.8|8080|",
            ),
            (&[Variable::RemoteUser], "me|"),
            (
                &[Variable::Msec, Variable::NginxVersion],
                "784111777.123|1.29.7|",
            ),
            (
                &[
                    Variable::ContentLength,
                    Variable::ProxyHost,
                    Variable::Https,
                ],
                "|||",
            ),
        ] {
            assert_eq!(value(values, variables), expected, "{variables:?}");
        }
        values.client = Some(([1, 2, 3, 4], 5).into());
        assert_eq!(
            value(values, &[Variable::BinaryRemoteAddr]),
            "\u{1}\u{2}\u{3}\u{4}|"
        );
        let pid = format!("{}|", std::process::id());
        assert_eq!(value(values, &[Variable::Pid]), pid);
    });
}

#[test]
fn an_answered_request_has_more() {
    with_values(|values| {
        let mut values = *values;
        let upstream = b"HTTP/1.1 200 OK\r\nX-Back: end\r\nContent-Length: 5\r\n\
            Set-Cookie: a=1; Path=/\r\nset-cookie: b=2\r\n\r\n";
        let mut answer = ResponseHead::new();
        answer.parse(upstream, values.request.method, 4096);
        let attempts = [
            Attempt::at(Arc::from("127.0.0.1:1")),
            Attempt {
                status: 200,
                response_ms: Some(1_005),
                ..Attempt::at(Arc::from("127.0.0.1:2"))
            },
        ];
        values.attempts = &attempts;
        values.upstream = Some(Answered {
            fields: &answer.fields,
            head: upstream,
        });
        values.sent = b"HTTP/1.1 200 OK\r\nServer: weir\r\nContent-Type: text/html\r\n\r\n";
        values.sent_trailers = b"X-Sum: 7\r\n";
        values.upstream_trailers = b"X-Sum: 7\r\nx-sum: 8\r\n";
        values.status = 200;
        values.started = values.clock.millis() - 1_042;
        (values.proxy_host, values.proxy_port) = (b"[::1]:8080", 8080);
        for (variables, expected) in [
            (&[Variable::UpstreamAddr][..], "127.0.0.1:1, 127.0.0.1:2|"),
            (&[Variable::UpstreamStatus], "-, 200|"),
            (&[Variable::UpstreamResponseTime], "-, 1.005|"),
            (&[named(Variable::UpstreamHttp, "x-back")], "end|"),
            (
                &["a", "b", "path"].map(|name| named(Variable::UpstreamCookie, name)),
                "1|2||",
            ),
            (&[named(Variable::SentHttp, "content-type")], "text/html|"),
            (&[named(Variable::SentHttp, "connection")], "|"),
            (&[named(Variable::SentTrailer, "x-sum")], "7|"),
            (&[named(Variable::UpstreamTrailer, "x-sum")], "7, 8|"),
            (&[Variable::Status, Variable::RequestTime], "200|1.042|"),
            (
                &[Variable::ProxyHost, Variable::ProxyPort],
                "[::1]:8080|8080|",
            ),
        ] {
            assert_eq!(value(&values, variables), expected, "{variables:?}");
        }
        (values.proxy_host, values.proxy_port) = (b"[::1]", 80);
        assert_eq!(value(&values, &[Variable::ProxyPort]), "80|");
        (values.proxy_host, values.proxy_port) = (b"localhost", 0);
        assert_eq!(value(&values, &[Variable::ProxyPort]), "|");
    });
}

#[test]
fn a_log_line_shows_what_is_missing_and_escapes_what_is_foreign() {
    with_values(|values| {
        values.status = 494;
        values.body_bytes_sent = 12;
        let mut out = Vec::new();
        let variables = [
            Variable::RemoteUser,
            Variable::TimeLocal,
            Variable::Request,
            Variable::Status,
            Variable::BodyBytesSent,
            named(Variable::Http, "referer"),
            named(Variable::Http, "user-agent"),
        ];
        line(&variables, Escape::Default).write(values, &mut out);
        let local = std::str::from_utf8(values.clock.local()).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!(
                "me|{local}|GET /a//b%20c?x=1&Y=2&z HTTP/1.1|400|12|-|\
                 \\x22curl\\x22 \\x5C \\xC3\\xA9|\n"
            )
        );
    });
}

/// What a log shows of variables without a value, and of those that are empty.
#[test]
fn no_value_is_not_an_empty_value() {
    let shown = |values: &Values<'_>, variables: &[Variable]| {
        let mut out = Vec::new();
        line(variables, Escape::Default).write(values, &mut out);
        String::from_utf8(out).unwrap()
    };
    with_values(|values| {
        let mut values = *values;
        let request = RequestHead::new();
        values.request = &request;
        values.head = b"\r\nGET /half";
        for (variables, expected) in [
            (
                &[
                    Variable::Args,
                    Variable::Uri,
                    Variable::RequestUri,
                    Variable::RequestMethod,
                    Variable::ServerProtocol,
                    Variable::ProxyHost,
                    Variable::ProxyPort,
                    Variable::UpstreamAddr,
                    Variable::RequestId,
                    Variable::RequestBody,
                ][..],
                "-|-|-|-|-|-|-|-|-|-|\n",
            ),
            (
                &[
                    Variable::IsArgs,
                    Variable::Https,
                    Variable::Host,
                    Variable::ServerName,
                    Variable::RequestCompletion,
                    Variable::RequestPort,
                    Variable::IsRequestPort,
                ],
                "|||||||\n",
            ),
            (&[Variable::Request], "GET /half|\n"),
            (
                &[Variable::Pipe, Variable::LimitRate, Variable::Status],
                ".|0|000|\n",
            ),
            (
                &[Variable::ConnectionTime, Variable::RequestTime],
                "0.000|0.000|\n",
            ),
            (&[named(Variable::SentHttp, "connection")], "close|\n"),
        ] {
            assert_eq!(shown(&values, variables), expected, "{variables:?}");
        }
        values.client = None;
        values.local = None;
        values.local_path = b"/run/weir.sock";
        assert_eq!(
            shown(
                &values,
                &[
                    Variable::RemoteAddr,
                    Variable::BinaryRemoteAddr,
                    Variable::RemotePort,
                    Variable::ServerAddr,
                    Variable::ServerPort,
                ]
            ),
            "unix:|unix:||unix:/run/weir.sock||\n"
        );
    });
}

#[test]
fn the_port_is_the_one_that_the_client_named() {
    for (head, expected) in [
        ("GET / HTTP/1.1\r\nHost: a:8080\r\n\r\n", ":|8080|"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "||"),
        ("GET / HTTP/1.1\r\nHost: [::1]:81\r\n\r\n", ":|81|"),
        ("GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n", "||"),
        ("GET http://b:82/ HTTP/1.1\r\nHost: a:1\r\n\r\n", ":|82|"),
        ("GET http://b/ HTTP/1.1\r\nHost: a:1\r\n\r\n", "||"),
    ] {
        let mut request = RequestHead::new();
        let parsed = request.parse(head.as_bytes(), &Limits::default());
        assert_eq!(parsed, Parsed::Head(head.len()), "{head}");
        let clock = Clock::new(0);
        let values = Values::new(&request, head.as_bytes(), &clock);
        let variables = [Variable::IsRequestPort, Variable::RequestPort];
        assert_eq!(value(&values, &variables), expected, "{head}");
    }
}

#[test]
fn without_a_value_json_and_none_show_nothing() {
    with_values(|values| {
        let variables = [
            Variable::RequestBody,
            Variable::Host,
            named(Variable::Http, "user-agent"),
        ];
        let shown = |escape| {
            let mut out = Vec::new();
            line(&variables, escape).write(values, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            shown(Escape::Json),
            "|example.com|\\\"curl\\\" \\\\ \u{e9}|\n"
        );
        assert_eq!(shown(Escape::None), "|example.com|\"curl\" \\ \u{e9}|\n");
    });
}
