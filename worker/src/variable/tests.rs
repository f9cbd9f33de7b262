use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::http::{Limits, Parsed, RequestHead, ResponseHead};
use crate::log::Clock;

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
    let limits = Limits {
        line: 8192,
        head: 32_768,
    };
    assert_eq!(request.parse(&bytes, &limits), Parsed::Head(bytes.len()));
    let clock = Clock::new(784_111_777_123);
    let mut values = Values::new(&request, &bytes, &clock);
    values.client = Some(([192, 0, 2, 7], 1234).into());
    values.local = Some(([192, 0, 2, 8], 8080).into());
    test(&mut values);
}

fn value(values: &Values<'_>, text: &str) -> String {
    let mut out = Vec::new();
    Template::parse(text).unwrap().write(values, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn names_and_braces_are_told_from_text() {
    let template = Template::parse("a${host}b$uri-$arg_X.$http_User_Agent").unwrap();
    let text = |text: &str| Part::Text(text.as_bytes().to_vec());
    assert_eq!(
        template.parts,
        [
            text("a"),
            Part::Variable(Variable::Host),
            text("b"),
            Part::Variable(Variable::Uri),
            text("-"),
            Part::Variable(Variable::Arg(b"x".to_vec())),
            text("."),
            Part::Variable(Variable::Http(b"user-agent".to_vec())),
        ]
    );
    assert_eq!(
        Template::parse("plain").unwrap().as_text(),
        Some(&b"plain"[..])
    );
    assert_eq!(Template::parse("").unwrap().as_text(), Some(&b""[..]));
    assert_eq!(template.as_text(), None);
}

#[test]
fn bad_names_are_refused_in_nginx_words() {
    for (text, message) in [
        ("$", "invalid variable name"),
        ("a$ b", "invalid variable name"),
        ("${host", "invalid variable name"),
        ("${}", "invalid variable name"),
        ("${a-b}", "invalid variable name"),
        ("$nope", "unknown \"nope\" variable"),
        ("$http_", "unknown \"http_\" variable"),
        ("${arg_}x", "unknown \"arg_\" variable"),
    ] {
        assert_eq!(
            Template::parse(text).unwrap_err().to_string(),
            message,
            "{text}"
        );
    }
}

#[test]
fn every_name_leads_to_its_variable() {
    for (name, variable) in NAMES {
        assert_eq!(Variable::from_name(name).as_ref(), Some(variable));
        assert_eq!(
            Variable::from_name(&name.to_uppercase()).as_ref(),
            Some(variable)
        );
    }
}

#[test]
fn a_request_has_its_values() {
    with_values(|values| {
        for (text, expected) in [
            ("$request", "GET /a//b%20c?x=1&Y=2&z HTTP/1.1"),
            (
                "$request_method $server_protocol $scheme",
                "GET HTTP/1.1 http",
            ),
            (
                "$uri|$document_uri|$request_uri",
                "/a/b c|/a/b c|/a//b%20c?x=1&Y=2&z",
            ),
            ("$is_args$args|$query_string", "?x=1&Y=2&z|x=1&Y=2&z"),
            ("$arg_x$arg_y[$arg_z][$arg_w]", "12[][]"),
            ("$host $http_host", "example.com Example.COM:8080"),
            ("$cookie_a$cookie_b$cookie_c[$cookie_d]", "1two3[]"),
            ("$http_cookie", "a=1; B=two; c=3"),
            ("$http_x_several", "1, 2"),
            (
                "$proxy_add_x_forwarded_for",
                "10.0.0.1, 10.0.0.2, 192.0.2.7",
            ),
            (
                "$remote_addr:$remote_port $server_addr:$server_port",
                "192.0.2.7:1234 192.0.2.8:8080",
            ),
            ("$remote_user", "me"),
            (
                "$msec $time_iso8601",
                "784111777.123 1994-11-06T08:49:37+00:00",
            ),
            ("$nginx_version", "1.29.7"),
            ("[$content_length][$proxy_host][$https]", "[][][]"),
        ] {
            if !text.contains("time_iso8601") {
                assert_eq!(value(values, text), expected, "{text}");
            }
        }
        assert!(value(values, "$msec").starts_with("784111777.123"));
        assert_eq!(value(values, "$pid"), std::process::id().to_string());
    });
}

#[test]
fn an_answered_request_has_more() {
    with_values(|values| {
        let mut values = *values;
        let upstream = b"HTTP/1.1 200 OK\r\nX-Back: end\r\nContent-Length: 5\r\n\r\n";
        let mut answer = ResponseHead::new();
        answer.parse(upstream, values.request.method, 4096);
        let attempts = [
            Attempt {
                address: Arc::from("127.0.0.1:1"),
                status: 0,
                millis: None,
            },
            Attempt {
                address: Arc::from("127.0.0.1:2"),
                status: 200,
                millis: Some(1_005),
            },
        ];
        values.attempts = &attempts;
        values.upstream = Some(Answered {
            fields: &answer.fields,
            head: upstream,
        });
        values.sent = b"HTTP/1.1 200 OK\r\nServer: weir\r\nContent-Type: text/html\r\n\r\n";
        values.status = 200;
        values.started = values.clock.millis() - 1_042;
        values.proxy_host = b"[::1]:8080";
        for (text, expected) in [
            ("$upstream_addr", "127.0.0.1:1, 127.0.0.1:2"),
            ("$upstream_status", "-, 200"),
            ("$upstream_response_time", "-, 1.005"),
            ("$upstream_http_x_back", "end"),
            ("$sent_http_content_type", "text/html"),
            ("$status $request_time", "200 1.042"),
            ("$proxy_host $proxy_port", "[::1]:8080 8080"),
        ] {
            assert_eq!(value(&values, text), expected, "{text}");
        }
        values.proxy_host = b"[::1]";
        assert_eq!(value(&values, "$proxy_port"), "80");
    });
}

#[test]
fn a_log_line_is_combined_as_nginx_writes_it() {
    let combined = "$remote_addr - $remote_user [$time_local] \"$request\" $status \
        $body_bytes_sent \"$http_referer\" \"$http_user_agent\"";
    with_values(|values| {
        values.status = 494;
        values.body_bytes_sent = 12;
        let mut out = Vec::new();
        Template::parse(combined)
            .unwrap()
            .write_log_line(values, &mut out);
        let local = std::str::from_utf8(values.clock.local()).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!(
                "192.0.2.7 - me [{local}] \"GET /a//b%20c?x=1&Y=2&z HTTP/1.1\" 400 12 \"-\" \
                 \"\\x22curl\\x22 \\x5C \\xC3\\xA9\"\n"
            )
        );
    });
}

proptest! {
    #[test]
    fn escaping_is_right_for_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..60), before in 0usize..5) {
        let mut out = vec![b'"'; before];
        out.extend_from_slice(&bytes);
        escape(&mut out, before);
        let mut expected = vec![b'"'; before];
        for byte in bytes {
            if byte.is_ascii_graphic() && byte != b'"' && byte != b'\\' || byte == b' ' {
                expected.push(byte);
            } else {
                expected.extend(format!("\\x{byte:02X}").bytes());
            }
        }
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[$a-z{}_ \u{e9}]{0,20}") {
        let _ = Template::parse(&text);
    }
}
