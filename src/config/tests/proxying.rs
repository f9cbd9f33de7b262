//! What shapes a `proxy_pass`: inheritance, defaults and refusals.

use weir_worker::http::Known;
use weir_worker::settings::{Bind, NextUpstream, RewriteFrom, Template};

use super::{proxy, refused, server};

#[test]
fn failures_add_up_on_a_level_and_are_inherited_as_a_whole() {
    let built = server(
        "proxy_next_upstream http_500; proxy_next_upstream_tries 3; proxy_next_upstream_timeout 5s;
        location / { proxy_pass http://u; }
        location /a { proxy_next_upstream HTTP_404 http_429; proxy_next_upstream non_idempotent;
            proxy_pass http://u; }
        location /off { proxy_next_upstream error off; proxy_pass http://u; }
        location /updating { proxy_next_upstream updating; proxy_pass http://u; }",
    );
    let outer = proxy(&built, "/");
    assert_eq!(outer.next_upstream, NextUpstream::HTTP_500);
    assert_eq!(outer.next_upstream_tries, 3);
    assert_eq!(outer.next_upstream_timeout.as_secs(), 5);
    let inner = NextUpstream::HTTP_404
        .and(NextUpstream::HTTP_429)
        .and(NextUpstream::NON_IDEMPOTENT);
    assert_eq!(proxy(&built, "/a").next_upstream, inner);
    assert_eq!(proxy(&built, "/a").next_upstream_tries, 3);
    assert_eq!(proxy(&built, "/off").next_upstream, NextUpstream::OFF);
    assert_eq!(proxy(&built, "/updating").next_upstream, NextUpstream::OFF);
    let plain = server("location / { proxy_pass http://u; }");
    assert_eq!(proxy(&plain, "/").next_upstream, NextUpstream::DEFAULT);
}

#[test]
fn words_that_are_none_are_refused() {
    let in_location = |line: &str| {
        refused(&format!(
            "events {{}}\nhttp {{ server {{ location / {{\n{line}\n}} }} }}"
        ))
    };
    for (line, message) in [
        ("proxy_bind localhost;", "invalid address \"localhost\""),
        ("proxy_bind 127.0.0.1 x;", "invalid parameter \"x\""),
        (
            "proxy_bind off; proxy_bind ::1;",
            "\"proxy_bind\" directive is duplicate",
        ),
        ("proxy_redirect on;", "invalid parameter \"on\""),
        (
            "proxy_redirect off; proxy_redirect a b;",
            "\"proxy_redirect\" directive is duplicate",
        ),
        (
            "proxy_redirect a b; proxy_redirect off;",
            "\"proxy_redirect\" directive is duplicate",
        ),
        (
            "proxy_redirect default;",
            "\"proxy_redirect default\" should be placed after the \"proxy_pass\" directive",
        ),
        (
            "proxy_pass http://$host; proxy_redirect default;",
            "\"proxy_redirect default\" cannot be used with \"proxy_pass\" directive with variables",
        ),
        (
            "proxy_redirect ~(a b;",
            "regex \"(a\" compilation failed: unclosed group",
        ),
        ("proxy_cookie_path ~(?<n>a) $m;", "unknown \"m\" variable"),
        ("proxy_cookie_domain a;", "invalid parameter \"a\""),
        ("proxy_cookie_flags a;", "invalid parameter \"a\""),
        ("proxy_cookie_flags a tasty;", "invalid parameter \"tasty\""),
        ("proxy_ignore_headers Server;", "invalid value \"Server\""),
        (
            "proxy_method A; proxy_method B;",
            "\"proxy_method\" directive is duplicate",
        ),
        ("proxy_set_body $no;", "unknown \"no\" variable"),
        (
            "proxy_pass_request_body yes;",
            "invalid value \"yes\" in \"proxy_pass_request_body\" directive, it must be \"on\" or \"off\"",
        ),
        (
            "proxy_next_upstream http_505;",
            "invalid value \"http_505\"",
        ),
        (
            "proxy_next_upstream_tries x;",
            "\"proxy_next_upstream_tries\" directive invalid number",
        ),
        (
            "proxy_next_upstream_timeout 1; proxy_next_upstream_timeout 1;",
            "\"proxy_next_upstream_timeout\" directive is duplicate",
        ),
    ] {
        assert_eq!(in_location(line), format!("{message} in weir.conf:3"));
    }
}

#[test]
fn redirects_come_from_the_proxy_pass_unless_a_level_has_its_own() {
    let built = server(
        "location /plain/ { proxy_pass http://u; }
         location /uri/ { proxy_pass HTTP://u:81/x; }
         location /var { proxy_pass http://$host; }
         location /off/ { proxy_redirect off; proxy_pass http://u; }
         location /own/ { proxy_pass http://u/y/; proxy_redirect /a /b; proxy_redirect default;
            location /own/in { proxy_pass http://v; } }",
    );
    let rules = |path| -> Vec<_> {
        let rules = proxy(&built, path).redirects.iter();
        let text =
            |template: &Template| String::from_utf8(template.as_text().unwrap().to_vec()).unwrap();
        rules
            .map(|rule| match &rule.from {
                RewriteFrom::Prefix(from) => (text(from), text(&rule.to)),
                other => panic!("{other:?}"),
            })
            .collect()
    };
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(rules("/plain/"), [pair("http://u/", "/")]);
    assert_eq!(rules("/uri/"), [pair("HTTP://u:81/x", "/uri/")]);
    assert_eq!(rules("/var"), []);
    assert_eq!(rules("/off/"), []);
    let own = [pair("/a", "/b"), pair("http://u/y/", "/own/")];
    assert_eq!(rules("/own/"), own);
    assert_eq!(rules("/own/in"), own);
}

#[test]
fn hidden_and_passed_fields_are_inherited_apart() {
    let built = server(
        "proxy_hide_header X-A; proxy_hide_header x-b; proxy_pass_header Server;
         location / { proxy_pass http://u; }
         location /hide { proxy_pass http://u; proxy_hide_header X-C; }
         location /pass { proxy_pass http://u; proxy_pass_header X-B; proxy_pass_header x-accel-redirect; }",
    );
    let names = |path| proxy(&built, path).hidden.names.join(&b' ');
    assert_eq!(names("/"), b"x-a x-b");
    assert_eq!(names("/hide"), b"x-c");
    assert_eq!(names("/pass"), b"x-a");
    assert_eq!(proxy(&built, "/hide").hidden.passed, [Known::Server]);
    assert_eq!(
        proxy(&built, "/pass").hidden.passed,
        [Known::XAccelRedirect]
    );
}

#[test]
fn an_address_to_bind_to_is_inherited_and_undone() {
    let built = server(
        "proxy_bind 127.0.0.2; proxy_socket_keepalive on;
         location / { proxy_pass http://u; }
         location /off { proxy_pass http://u; proxy_bind off; proxy_socket_keepalive off; }
         location /var { proxy_pass http://u; proxy_bind $remote_addr:80; }",
    );
    let local = Bind::Address(([127, 0, 0, 2], 0).into());
    assert_eq!(proxy(&built, "/").bind, Some(local));
    assert!(proxy(&built, "/").socket_keepalive);
    assert_eq!(proxy(&built, "/off").bind, None);
    assert!(!proxy(&built, "/off").socket_keepalive);
    assert!(matches!(proxy(&built, "/var").bind, Some(Bind::Value(_))));
    let message =
        refused("events {}\nhttp { server { location / {\nproxy_bind $host transparent;\n} } }");
    assert_eq!(
        message,
        "transparent proxying is not supported by weir in weir.conf:3 \
         (its workers keep no privilege that it would take)"
    );
}
