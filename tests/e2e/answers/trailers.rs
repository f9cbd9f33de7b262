//! Trailer fields: `add_trailer`, and those of servers beside it.

use std::io::Write;

use super::Both;
use crate::support::backend::{Backend, Then, answer};
use crate::support::process::read_lossy;
use crate::support::weir::Setup;
use crate::support::{PATIENCE, wait_until};

#[test]
fn added_trailers_are_as_in_nginx() {
    let backend = Backend::answering(|request, out| {
        let (status, rest) = match request.target.as_str() {
            "/length" => ("200 OK", "Content-Length: 2\r\n\r\nok"),
            "/nothing" => ("200 OK", "Content-Length: 0\r\n\r\n"),
            "/chunks" => (
                "200 OK",
                "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3\r\nyes\r\n0\r\nX-Theirs: 1\r\n\r\n",
            ),
            "/close" => ("200 OK", "\r\nok"),
            "/missing" => ("404 Not Found", "Content-Length: 2\r\n\r\nno"),
            "/modified" => ("304 Not Modified", "ETag: \"a\"\r\n\r\n"),
            _ => ("204 No Content", "\r\n"),
        };
        let rest = match request.method.as_str() {
            "HEAD" => rest.split_inclusive("\r\n\r\n").next().unwrap_or_default(),
            _ => rest,
        };
        let _ = out.write_all(format!("HTTP/1.1 {status}\r\n{rest}").as_bytes());
        match request.target.as_str() {
            "/close" => Then::Close,
            _ => Then::Keep,
        }
    });
    let both = Both::server(&format!(
        r#"add_trailer X-A a; add_trailer X-Always "b $status" always; add_trailer X-Empty "$arg_none";
           add_trailer X-Empty2 ""; add_trailer X-Type $sent_http_content_type; add_trailer x-a $arg_a;
           add_trailer X-Of $sent_trailer_x_always;
           location = /text {{ return 200 x; }}
           location = /empty {{ return 200; }}
           location = /201 {{ return 201 x; }}
           location = /204 {{ return 204; }}
           location = /301 {{ return 301 /x; }}
           location = /304 {{ return 304; }}
           location = /404 {{ return 404; }}
           location = /404t {{ return 404 x; }}
           location = /599 {{ return 599; }}
           location = /own {{ add_trailer X-B "b $arg_b"; add_header X-Head h; return 200 xyz; }}
           location = /safe {{ add_trailer X-B b; return 404 none; }}
           location = /off {{ chunked_transfer_encoding off; return 200 x; }}
           location = /page {{ error_page 404 =200 /own; return 404; }}
           location /proxy/ {{ proxy_http_version 1.1; proxy_set_header Connection "";
             proxy_pass http://{0}/; }}
           location /proxyoff/ {{ chunked_transfer_encoding off; proxy_pass http://{0}/; }}"#,
        backend.address()
    ));
    for target in [
        "/text?a=1",
        "/empty",
        "/201",
        "/204",
        "/301",
        "/304",
        "/404",
        "/404t",
        "/599",
        "/own?b=%41",
        "/safe",
        "/off",
        "/page",
        "/proxy/length",
        "/proxy/nothing",
        "/proxy/chunks",
        "/proxy/close",
        "/proxy/missing",
        "/proxy/modified",
        "/proxy/none",
        "/proxyoff/length",
    ] {
        both.get(target);
        both.ask("HEAD", target, "", "");
        both.say("GET", &format!("GET {target} HTTP/1.0\r\nHost: h\r\n\r\n"));
        let kept = "Host: h\r\nConnection: keep-alive\r\n\r\n";
        both.say("GET", &format!("GET {target} HTTP/1.0\r\n{kept}"));
    }
    // That the comparison was of something.
    let text = both.get("/text?a=1");
    assert!(
        text.ends_with("\nx\nX-A: a\nX-Always: b 200\nX-Type: text/plain\nx-a: 1\nX-Of: b 200"),
        "{text}"
    );
    for target in ["/404t", "/proxy/missing"] {
        assert!(both.get(target).ends_with("\nX-Always: b 404"), "{target}");
    }
    assert!(both.get("/safe").contains("Content-Length: 4\n"));
}

/// The values are those of the end, and one section has the trailers of both.
#[test]
fn a_section_has_the_servers_trailers_and_those_that_are_added() {
    let backend = Backend::answering(|request, out| {
        let parts: [&str; 4] = match request.target.as_str() {
            "/long" => [
                "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n",
                "2\r\nok\r\n",
                "3\r\nyes\r\n0\r\n",
                "X-Sum: 7\r\nX-Hidden: 1\r\nX-Powered: 1\r\nHost: x\r\nServer: x\r\n\r\n",
            ],
            _ => [
                "HTTP/1.1 200 OK\r\n",
                "Content-Length: 5\r\n\r\n",
                "ok",
                "yes",
            ],
        };
        for part in parts {
            let _ = out.write_all(part.as_bytes());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Then::Keep
    });
    let weir = Setup::http(&format!(
        r#"log_format t '$uri|$upstream_response_time|$sent_trailer_x_time|$sent_trailer_x_sum|$sent_trailer_x_hidden|$upstream_trailer_x_hidden|$sent_trailer_x_no';
           access_log logs/t.log t;
           upstream back {{ server {}; }}
           server {{ listen 127.0.0.1:@PORT@;
             add_trailer X-Time $upstream_response_time; add_trailer X-Length $upstream_response_length;
             add_trailer X-Of "$sent_trailer_x_sum+$sent_trailer_x_length";
             location / {{ proxy_pass http://back; proxy_pass_trailers on; proxy_hide_header x-hidden;
               proxy_hide_header X-POWERED; }}
             location = /own {{ add_trailer X-Own own; return 200 own; }}
             location = /dropped {{ proxy_pass http://back/long; }} }}"#,
        backend.address()
    ))
    .workers(1)
    .start();
    let mut client = weir.connect();
    let mut seen = Vec::new();
    let long = client.get("/long").unwrap();
    assert_eq!(
        (long.text().as_str(), long.field("trailer")),
        ("okyes", Some("X-Sum"))
    );
    let names = |lines: &[String]| -> Vec<_> {
        let names = lines
            .iter()
            .map(|line| line.split(':').next().unwrap_or_default());
        names.map(str::to_owned).collect()
    };
    assert_eq!(
        names(&long.trailers),
        ["X-Sum", "X-Time", "X-Length", "X-Of"]
    );
    let length = long.trailers[2].strip_prefix("X-Length: ").unwrap();
    assert!(length.parse::<u32>().unwrap() > 10, "{length}");
    assert_eq!(long.trailers[3], format!("X-Of: 7+{length}"));
    seen.push(long);
    let short = client.get("/short").unwrap();
    assert_eq!(
        (short.text().as_str(), short.field("content-length")),
        ("okyes", None)
    );
    assert_eq!(names(&short.trailers), ["X-Time", "X-Length", "X-Of"]);
    assert_eq!(short.trailers[1..], ["X-Length: 5", "X-Of: +5"]);
    seen.push(short);
    let dropped = client.get("/dropped").unwrap();
    assert_eq!(dropped.text(), "okyes");
    assert_eq!(dropped.field("trailer"), None);
    assert_eq!(names(&dropped.trailers), ["X-Time", "X-Length", "X-Of"]);
    seen.push(dropped);
    assert_eq!(client.get("/own").unwrap().trailers, ["X-Own: own"]);
    let log = || read_lossy(&weir.path("logs/t.log"));
    wait_until(PATIENCE, "all are logged", || log().lines().count() == 4);
    let log = log();
    let lines: Vec<Vec<&str>> = log.lines().map(|line| line.split('|').collect()).collect();
    for (line, seen) in lines.iter().zip(&seen) {
        let time = seen
            .trailers
            .iter()
            .find_map(|line| line.strip_prefix("X-Time: "));
        assert_eq!((Some(line[1]), Some(line[2])), (time, time), "{log}");
        let seconds: f64 = line[1].parse().unwrap();
        assert!(seconds >= 0.04, "{log}");
    }
    assert_eq!(lines[0][3..], ["7", "-", "1", "-"], "{log}");
    assert_eq!(lines[1][3..], ["-"; 4], "{log}");
    assert_eq!(lines[2][3..], ["-"; 4], "{log}");
    assert_eq!(lines[3], ["/own", "-", "-", "-", "-", "-", "-"], "{log}");
}

#[test]
fn an_answer_that_breaks_off_has_no_trailers() {
    let backend = Backend::answering(|_, out| {
        let _ = out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok");
        Then::Close
    });
    let weir = Setup::server(&format!(
        "location / {{ add_trailer X-A a; proxy_pass http://{}; }}",
        backend.address()
    ))
    .start();
    let mut client = weir.connect();
    let failure = client.get("/").unwrap_err();
    assert!(failure.to_string().starts_with("truncated"), "{failure}");
}

#[test]
fn levels_take_over_trailers_as_they_are_told_to() {
    let backend = Backend::answering(|_, out| {
        let _ = out.write_all(&answer("200 OK", "", b"x"));
        Then::Keep
    });
    let weir = Setup::server(&format!(
        "add_trailer X-Outer 1; add_header X-Head 1;
         location = /on {{ add_trailer X-Own 1; return 200 x; }}
         location = /taken {{ add_header_inherit off; return 200 x; }}
         location = /off {{ add_trailer_inherit off; return 200 x; }}
         location /merge {{ add_trailer_inherit merge; add_trailer X-Own 1;
           location /merge/in {{ add_trailer X-In 1; proxy_pass http://{}; }}
           location /merge/back {{ add_trailer_inherit on; add_trailer X-In 1; return 200 x; }}
           return 200 x; }}",
        backend.address()
    ))
    .start();
    for (target, expected, head) in [
        ("/on", vec!["X-Own: 1"], Some("1")),
        ("/taken", vec!["X-Outer: 1"], None),
        ("/off", vec![], Some("1")),
        ("/merge", vec!["X-Own: 1", "X-Outer: 1"], Some("1")),
        (
            "/merge/in",
            vec!["X-In: 1", "X-Own: 1", "X-Outer: 1"],
            Some("1"),
        ),
        ("/merge/back", vec!["X-In: 1"], Some("1")),
    ] {
        let response = weir.get(target);
        assert_eq!(response.trailers, expected, "{target}");
        assert_eq!(response.field("x-head"), head, "{target}");
        let framed = response.field("content-length").is_none();
        assert_eq!(framed, !expected.is_empty(), "{target}");
    }
}
