//! Fields that the configuration adds: `add_header` and `expires`.

use std::io::Write;

use super::Both;
use crate::support::backend::{Backend, Then, answer};
use crate::support::weir::Setup;

#[test]
fn expires_is_as_in_nginx() {
    let both = Both::server(
        r#"expires 1h;
           location = /outer { return 200 x; }
           location = /off { expires off; return 200 x; }
           location = /epoch { expires epoch; return 200 x; }
           location = /max { expires max; return 200 x; }
           location = /zero { expires 0; return 200 x; }
           location = /past { expires -1; return 200 x; }
           location = /modified { expires modified 2d; return 200 x; }
           location = /variable { expires $arg_e; return 200 x; }
           location = /variable2 { expires modified $arg_e; return 200 x; }
           location = /404 { return 404; }
           location = /404t { return 404 x; }
           location = /301 { return 301 /x; }
           location = /304 { return 304; }
           location = /204 { return 204; }
           location = /page { error_page 404 =200 /outer; return 404; }
           location = /cache { add_header Cache-Control public; add_header X-A b; return 200 x; }"#,
    );
    for target in [
        "/outer",
        "/off",
        "/epoch",
        "/max",
        "/zero",
        "/past",
        "/modified",
        "/variable?e=5m",
        "/variable?e=-5m",
        "/variable?e=off",
        "/variable?e=epoch",
        "/variable?e=max",
        "/variable",
        "/variable?e=x",
        "/variable2?e=1h",
        "/variable2?e=off",
        "/404",
        "/404t",
        "/301",
        "/304",
        "/204",
        "/page",
        "/cache",
    ] {
        both.get(target);
        both.ask("HEAD", target, "", "");
    }
    assert!(
        both.get("/outer")
            .contains("Expires: TIME\nCache-Control: max-age=3600\n")
    );
}

#[test]
fn a_time_of_day_comes_within_a_day() {
    let weir = Setup::server("location / { expires @12h30m; return 200 x; }").start();
    let response = weir.get("/");
    let cache = response.field("cache-control").unwrap_or_default();
    let age = cache
        .strip_prefix("max-age=")
        .and_then(|age| age.parse::<u64>().ok());
    assert!(
        age.is_some_and(|age| age <= 25 * 60 * 60),
        "{}",
        response.head
    );
    let expires = response.field("expires").unwrap_or_default();
    assert!(expires.contains(":30:00 GMT"), "{expires}");
}

/// The server's own fields are replaced where nginx replaces them.
#[test]
fn the_servers_own_fields_are_replaced() {
    let backend = Backend::answering(|request, out| {
        let fields = "Expires: Thu, 01 Jan 1970 00:00:09 GMT\r\nCache-Control: a\r\nX-One: 1\r\n\
            Cache-Control: b\r\nETag: \"old\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
            Link: </a>\r\n";
        let status = match request.target.as_str() {
            "/missing" => "404 Not Found",
            _ => "200 OK",
        };
        let _ = out.write_all(&answer(status, fields, b"x"));
        Then::Keep
    });
    let both = Both::server(&format!(
        r#"location / {{ proxy_pass http://{0}; }}
           location = /max {{ expires max; proxy_pass http://{0}/; }}
           location = /epoch {{ expires epoch; proxy_pass http://{0}/; }}
           location = /missing {{ expires max; proxy_pass http://{0}; }}
           location = /modified {{ expires modified 1h; proxy_pass http://{0}/; }}
           location = /long {{ expires modified 100y; proxy_pass http://{0}/; }}
           location = /link {{ add_header Link "</b>"; add_header cache-control c; proxy_pass http://{0}/; }}"#,
        backend.address()
    ));
    for target in ["/", "/max", "/epoch", "/missing", "/modified", "/link"] {
        both.get(target);
    }
    assert!(
        both.get("/max")
            .contains("Expires: Thu, 31 Dec 2037 23:55:55 GMT\n")
    );
    let long = both.weir.get("/long");
    assert_eq!(
        long.field("expires"),
        Some("Tue, 12 Oct 2094 08:49:37 GMT"),
        "{}",
        long.head
    );
    // nginx leaves such a field in its place; here it comes with the others that are added.
    let weir = Setup::server(&format!(
        r#"add_header ETag '"new"'; add_header Last-Modified $arg_m; add_header X-Sent "$sent_http_x_one";
           location / {{ proxy_pass http://{0}; }}
           location = /missing {{ proxy_pass http://{0}; }}
           location = /log {{ add_header ETag x always; return 404; }}"#,
        backend.address()
    ))
    .start();
    let response = weir.get("/");
    assert_eq!(response.fields_named("etag"), ["\"new\""]);
    assert_eq!(response.fields_named("last-modified"), [""; 0]);
    let response = weir.get("/?m=then");
    assert_eq!(response.fields_named("last-modified"), ["then"]);
    let response = weir.get("/missing");
    assert_eq!(response.fields_named("etag"), ["\"old\""]);
    assert_eq!(weir.get("/log").fields_named("etag"), ["x"]);
}

#[test]
fn levels_take_over_fields_as_they_are_told_to() {
    let weir = Setup::server(
        "add_header X-Outer 1;
         location = /on { add_header X-Own 1; return 200 x; }
         location = /taken { return 200 x; }
         location = /off { add_header_inherit off; return 200 x; }
         location /merge { add_header_inherit merge; add_header X-Own 1;
           location /merge/in { add_header X-In 1; return 200 x; }
           location /merge/back { add_header_inherit on; add_header X-In 1; return 200 x; }
           return 200 x; }",
    )
    .start();
    for (target, expected) in [
        ("/on", vec!["X-Own"]),
        ("/taken", vec!["X-Outer"]),
        ("/off", vec![]),
        ("/merge", vec!["X-Own", "X-Outer"]),
        ("/merge/in", vec!["X-In", "X-Own", "X-Outer"]),
        ("/merge/back", vec!["X-In"]),
    ] {
        let response = weir.get(target);
        let fields = response.fields.iter().map(|(name, _)| name.as_str());
        let added: Vec<_> = fields.filter(|name| name.starts_with("X-")).collect();
        assert_eq!(added, expected, "{target}");
    }
}
