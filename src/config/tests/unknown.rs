//! Directives that weir does not have.

use super::refused;

#[test]
fn all_are_listed_in_one_run_with_their_lines() {
    let text = "user root;\nworker_cpu_affinity auto;\nevents {}\nhttp {\n    gzip on;\n    \
        map $http_upgrade $up {\n        default upgrade;\n    }\n    server {\n        \
        location / {\n            rewrite ^ /x;\n        }\n        no_such on;\n    }\n}\n";
    let message = refused(text);
    let lines: Vec<_> = message.lines().collect();
    let expected = [
        "unknown directive \"worker_cpu_affinity\" in weir.conf:2 (weir does not have it; harmless to drop)",
        "unknown directive \"gzip\" in weir.conf:5 (weir does not have it; dropping it changes behaviour)",
        "unknown directive \"map\" in weir.conf:6 (weir does not have it; dropping it changes behaviour)",
        "unknown directive \"rewrite\" in weir.conf:11 (weir does not have it; dropping it changes behaviour)",
        "unknown directive \"no_such\" in weir.conf:13 (nginx itself does not have it either)",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_fault_between_them_does_not_hide_them() {
    let message = refused(
        "events {}\nhttp {\naio on;\nserver {\nlisten 80 80;\ngzip on;\nlisten x:y;\n}\netag on;\n}",
    );
    let lines: Vec<_> = message
        .lines()
        .map(|line| line.split(" (").next().unwrap())
        .collect();
    let expected = [
        "unknown directive \"aio\" in weir.conf:3",
        "invalid parameter \"80\" in weir.conf:5",
        "unknown directive \"gzip\" in weir.conf:6",
        "unknown directive \"etag\" in weir.conf:9",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn lua_is_passed_over() {
    let text = "events {}\nhttp {\n init_by_lua_block {\n  local s = \"}\" .. '}' .. [[}]] .. [==[ ]] } ]==]\n  \
        -- } a comment\n  --[[ }\n } ]] local t = { a = { 1 } }\n  local u = t[1]\n }\n lua_shared_dict a 1m;\n \
        server { location / { content_by_lua_block { ngx.say(\"it's\") } } }\n gzip on;\n}";
    let message = refused(text);
    let lines: Vec<_> = message
        .lines()
        .map(|line| line.split(" (").next().unwrap())
        .collect();
    let expected = [
        "unknown directive \"init_by_lua_block\" in weir.conf:3",
        "unknown directive \"lua_shared_dict\" in weir.conf:10",
        "unknown directive \"content_by_lua_block\" in weir.conf:11",
        "unknown directive \"gzip\" in weir.conf:12",
    ];
    assert_eq!(lines, expected);
    let message = refused("events {}\nhttp {\n init_by_lua_block { {\n }\n");
    assert!(
        message.ends_with("unexpected end of file, expecting \"}\" in weir.conf:5"),
        "{message}"
    );
}

#[test]
fn a_known_directive_in_the_wrong_place_is_not_unknown() {
    let message = refused("events {} http { proxy_pass http://a; }");
    assert_eq!(
        message,
        "\"proxy_pass\" directive is not allowed here in weir.conf:1"
    );
}

#[test]
fn a_flood_is_cut_short() {
    let message = refused(&"nothing on;\n".repeat(1500));
    assert_eq!(message.lines().count(), 1001);
    assert!(message.ends_with("500 more unknown directives"));
}
