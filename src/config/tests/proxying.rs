//! What shapes a `proxy_pass`: inheritance, defaults and refusals.

use weir_worker::settings::NextUpstream;

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
