//! What is no configuration at all, whatever directives it has, and how words are read.

use super::super::{at, build, refused, server};

#[test]
fn syntax() {
    for (text, message) in [
        ("events {}\n}", "unexpected \"}\" in weir.conf:2"),
        ("events {}\n;", "unexpected \";\" in weir.conf:2"),
        ("events {}\n{", "unexpected \"{\" in weir.conf:2"),
        (
            "events {\n",
            "unexpected end of file, expecting \"}\" in weir.conf:2",
        ),
        (
            "events {}\nuser root",
            "unexpected end of file, expecting \";\" or \"}\" in weir.conf:2",
        ),
        (
            "events {}\nuser 'root",
            "unexpected end of file, expecting \";\" or \"}\" in weir.conf:2",
        ),
        (
            "events {}\nuser \"root\\\"",
            "unexpected end of file, expecting \";\" or \"}\" in weir.conf:2",
        ),
        ("events {}\nuser root }", "unexpected \"}\" in weir.conf:2"),
        (
            "events {}\nuser \"root\"x;",
            "unexpected \"x\" in weir.conf:2",
        ),
        (
            "events {}\nuser \"root\"\u{1};",
            "unexpected \"\\x01\" in weir.conf:2",
        ),
        (
            "events {}\nuser root {}",
            "directive \"user\" is not terminated by \";\" in weir.conf:2",
        ),
        (
            "events;\n",
            "directive \"events\" has no opening \"{\" in weir.conf:1",
        ),
        (
            "events {}\nuser a b c;",
            "invalid number of arguments in \"user\" directive in weir.conf:2",
        ),
        (
            "events {}\ndaemon on off;",
            "invalid number of arguments in \"daemon\" directive in weir.conf:2",
        ),
        (
            "\u{feff}events {}",
            "unexpected UTF-8 byte order mark in weir.conf:1",
        ),
        (
            "events {}\nuser a\0b;",
            "unexpected NUL byte in weir.conf:2",
        ),
        ("", "no \"events\" section in configuration"),
        (
            "events {}\n\nevents {}",
            "\"events\" directive is duplicate in weir.conf:3",
        ),
        (
            "events {}\nhttp {}\nhttp {}",
            "\"http\" directive is duplicate in weir.conf:3",
        ),
        // As in nginx, the line is the one on which the directive ends.
        (
            "events {}\nuser a\nb\nc;",
            "invalid number of arguments in \"user\" directive in weir.conf:4",
        ),
    ] {
        assert_eq!(refused(text), message, "{text:?}");
    }
}

#[test]
fn long_parameters() {
    let long = |quote: &str| {
        refused(&format!(
            "events {{}}\nuser {quote}{}{quote};\n",
            "a".repeat(5000)
        ))
    };
    assert_eq!(
        long(""),
        "too long parameter \"aaaaaaaaaa...\" started in weir.conf:2"
    );
    let missing = |quote| {
        format!(
            "too long parameter, probably missing terminating \"{quote}\" character in weir.conf:2"
        )
    };
    assert_eq!(long("\""), missing('"'));
    assert_eq!(long("'"), missing('\''));
    let fits = |length| {
        build(&format!(
            "events {{}} http {{ server {{ return 200 '{}'; }} }}",
            "a".repeat(length)
        ))
    };
    assert!(fits(4095).is_ok());
    assert!(fits(4096).is_err());
}

#[test]
fn lexing_is_nginxs() {
    let text = |value: &str| {
        let built = server(&format!("location / {{ return 200 {value}; }}"));
        let ret = at(&built, "/").ret.clone().unwrap();
        match &ret.text.unwrap().parts[..] {
            [weir_worker::settings::Part::Text(text)] => String::from_utf8(text.clone()).unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(text("a\\tb\\nc\\rd"), "a\tb\nc\rd");
    assert_eq!(text(r#""a\"b\\c\'d\x""#), "a\"b\\c'd\\x");
    assert_eq!(text("'a;{}#b'"), "a;{}#b");
    assert_eq!(text("a\\;b"), "a\\;b");
    assert_eq!(text("a\\ b"), "a\\ b");
    assert_eq!(text("a#b\"c'd}"), "a#b\"c'd}");
    assert_eq!(text("\"a\nb\""), "a\nb");
    assert_eq!(text("\\\"a\\\""), "\"a\"");
    assert_eq!(
        server("location / { return 200 a${host}b; }")
            .worker
            .servers
            .len(),
        1
    );
}

#[test]
fn depth_and_size_are_bounded() {
    let nested = |depth| {
        let open = "location / {".repeat(depth);
        format!(
            "events {{}} http {{ server {{ {open} {} }} }}",
            "}".repeat(depth)
        )
    };
    assert!(build(&nested(50)).is_ok());
    assert!(refused(&nested(5000)).starts_with("blocks and includes are nested too deeply"));
    let loops = "# configuration file a.conf:\ninclude b.conf;\n# configuration file b.conf:\ninclude a.conf;\n";
    assert_eq!(refused(loops), "\"a.conf\" includes itself in b.conf:1");
}
