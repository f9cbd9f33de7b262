//! The Host field.

use super::super::row::{Request, gets, refused, taken};

pub fn rows() -> Vec<Request> {
    let mut rows = Vec::new();
    for lines in [
        "",
        "Host:\r\n",
        "Host: \t \r\n",
        "Host: h\r\nHost: h\r\n",
        "Host: h\r\nHost: other\r\n",
        "Host: h\r\nhost: other\r\n",
        "Host: h\r\nX: 1\r\nHOST: other\r\n",
        "Host: h\r\nHost:\r\n",
        "Host:\r\nHost: h\r\n",
        "Host : h\r\n",
        "Host\t: h\r\n",
        " Host: h\r\n",
        "\tHost: h\r\n",
        "Host\r\n",
        "Host h\r\n",
        "Host=h\r\n",
        "Host: h\r\nHost : other\r\n",
        "Host: h\r\n Host: other\r\n",
        "Host:\r\n h\r\n",
        "Host: h, other\r\n",
        "Host: h other\r\n",
        "Host: h\tother\r\n",
        "Host: h/a\r\n",
        "Host: /h\r\n",
        "Host: h?a\r\n",
        "Host: h#a\r\n",
        "Host: u@h\r\n",
        "Host: http://h\r\n",
        "Host: h\\a\r\n",
        "Host: <h>\r\n",
        "Host: \"h\"\r\n",
        "Host: h{}\r\n",
        "Host: h^\r\n",
        "Host: h|a\r\n",
        "Host: h`\r\n",
        "Host: h:x\r\n",
        "Host: h:80:80\r\n",
        "Host: h:-1\r\n",
        "Host: h:+80\r\n",
        "Host: h:80 \u{1}\r\n",
        "Host: h:123456\r\n",
        "Host: h:80other\r\n",
        "Host: :80\r\n",
        "Host: .\r\n",
        "Host: h..other\r\n",
        "Host: ..\r\n",
        "Host: [::1\r\n",
        "Host: ::1\r\n",
        "Host: [::1]x\r\n",
        "Host: [::1]:x\r\n",
        "Host: []\r\n",
        "Host: [g::1]\r\n",
        "Host: [::1%25eth0]\r\n",
        "Host: h\u{e9}\r\n",
    ] {
        rows.push(refused(
            &format!("host {lines:?}"),
            format!("GET /a HTTP/1.1\r\n{lines}\r\n"),
            400,
        ));
    }
    for (lines, host) in [
        ("Host:h\r\n", "h"),
        ("Host: h \t\r\n", "h"),
        ("hOST: h\r\n", "h"),
        ("Host: H\r\n", "h"),
        ("Host: h:80\r\n", "h"),
        ("Host: h:\r\n", "h"),
        ("Host: h.\r\n", "h"),
        ("Host: a.b-c_d.example\r\n", "a.b-c_d.example"),
        ("Host: 127.0.0.1:8080\r\n", "127.0.0.1"),
        ("Host: [::1]\r\n", "[::1]"),
        ("Host: [::1]:8080\r\n", "[::1]"),
        ("Host: 1\r\n", "1"),
        // A comma is a byte of a registered name (RFC 3986, section 3.2.2): this is one name.
        ("Host: h,other\r\n", "h,other"),
    ] {
        let text = format!("GET /a HTTP/1.1\r\n{lines}\r\n");
        rows.push(taken(
            &format!("host {lines:?}"),
            text,
            &[gets("GET /a").host(host)],
        ));
    }
    rows.extend([
        taken(
            "the target's host outweighs the field",
            "GET http://real/a HTTP/1.1\r\nHost: other\r\n\r\n",
            &[gets("GET /a").host("real")],
        ),
        taken(
            "and so it does where the field itself is passed on",
            "GET http://Real:81/raw HTTP/1.1\r\nHost: other\r\n\r\n",
            &[gets("GET /raw").host("Real:81")],
        ),
        refused(
            "an absolute target without Host",
            "GET http://h/a HTTP/1.1\r\n\r\n",
            400,
        ),
        refused(
            "an absolute target with a bad Host",
            "GET http://h/a HTTP/1.1\r\nHost: a b\r\n\r\n",
            400,
        ),
        refused(
            "an absolute target with two",
            "GET http://h/a HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
            400,
        ),
        taken(
            "HTTP/1.0 without Host",
            "GET /a HTTP/1.0\r\n\r\n",
            &[gets("GET /a")],
        ),
        refused(
            "HTTP/1.0 with two",
            "GET /a HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n",
            400,
        ),
        refused(
            "HTTP/1.0 with a bad Host",
            "GET /a HTTP/1.0\r\nHost: a/b\r\n\r\n",
            400,
        ),
        taken(
            "another field that names a host",
            "GET /a HTTP/1.1\r\nHost: h\r\nX-Forwarded-Host: other\r\nX-Host: other\r\n\r\n",
            &[gets("GET /a").fields("X-Forwarded-Host: other\r\nX-Host: other\r\n")],
        ),
        taken(
            "an underscore makes another field",
            "GET /a HTTP/1.1\r\nHost: h\r\nHo_st: other\r\n\r\n",
            &[gets("GET /a")],
        ),
    ]);
    rows
}
