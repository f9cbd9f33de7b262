//! The text alone gives the settings that the files gave.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use crate::config::{Paths, build, read};

fn paths(prefix: &Path, directives: Option<&str>) -> Paths {
    let prefix = format!("{}/", prefix.display());
    Paths {
        file: format!("{prefix}conf/weir.conf"),
        prefix,
        error_log: "logs/error.log".into(),
        directives: directives.map(str::to_owned),
    }
}

fn write(prefix: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = prefix.join("conf").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Reads, moves the files away, rebuilds from the text, and compares.
fn same_without_files(paths: Paths, prefix: &Path) -> String {
    let loaded = read(paths).loaded.unwrap();
    fs::remove_dir_all(prefix.join("conf")).unwrap();
    let built = build(&loaded.text).unwrap();
    assert!(built.settings == loaded.settings && built.worker == loaded.worker);
    format!("{:?}{:?}", built.settings, built.worker)
}

#[test]
fn includes_globs_and_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path();
    write(
        prefix,
        "weir.conf",
        "events { include events.conf; }\nhttp { include ./sites/../sites/*.conf; include none/*.conf; include sites/a.conf.off; }",
    );
    write(prefix, "events.conf", "worker_connections 77;");
    write(prefix, "sites/b.conf", "server { listen 81; }");
    write(
        prefix,
        "sites/a.conf",
        "server { listen 80; } # \u{e4}\n# configuration file x:\nserver { listen 82; }",
    );
    write(prefix, "sites/.hidden.conf", "bad");
    write(
        prefix,
        "sites/a.conf.off",
        "server { listen localhost:83; return 200 '\n# configuration file y:\n'; }",
    );
    let shown = same_without_files(paths(prefix, Some("worker_processes 5;")), prefix);
    for part in [
        "worker_processes: 5",
        "worker_connections: 77",
        "127.0.0.1:83",
    ] {
        assert!(shown.contains(part), "{part}");
    }
    let at = |address: &str| shown.find(address).unwrap();
    assert!(at("0.0.0.0:80") < at("0.0.0.0:82") && at("0.0.0.0:82") < at("0.0.0.0:81"));
}

#[test]
fn bytes_that_are_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path();
    write(
        prefix,
        "weir.conf",
        b"events {} # caf\xe9 \xff\xfe\nhttp { server { listen 80; } }",
    );
    let shown = same_without_files(paths(prefix, None), prefix);
    assert!(shown.contains("0.0.0.0:80"));
    write(prefix, "weir.conf", b"events {}\nuser caf\xe9;");
    let message = read(paths(prefix, None)).loaded.unwrap_err();
    assert_eq!(
        message,
        format!(
            "invalid UTF-8 in \"caf\\xe9\" in {}/conf/weir.conf:2",
            prefix.display()
        )
    );
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path();
    let shown = prefix.display();
    let message = || read(paths(prefix, None)).loaded.unwrap_err();
    let missing = "failed (2: No such file or directory)";
    assert_eq!(
        message(),
        format!("open() \"{shown}/conf/weir.conf\" {missing}")
    );
    write(prefix, "weir.conf", "events {}\ninclude a.conf;");
    assert_eq!(
        message(),
        format!("open() \"{shown}/conf/a.conf\" {missing} in {shown}/conf/weir.conf:2")
    );
    fs::create_dir(prefix.join("conf/a.conf")).unwrap();
    let reason = "failed (21: Is a directory)";
    assert_eq!(
        message(),
        format!("read() \"{shown}/conf/a.conf\" {reason} in {shown}/conf/weir.conf:2")
    );
    fs::remove_dir(prefix.join("conf/a.conf")).unwrap();
    write(prefix, "weir.conf", "include *.conf;");
    let file = format!("{shown}/conf/weir.conf");
    assert_eq!(message(), format!("\"{file}\" includes itself in {file}:1"));
}

#[test]
fn warnings_are_nginxs_and_come_before_or_after_the_syntax() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path();
    write(
        prefix,
        "weir.conf",
        "events { worker_connections 9999999; }\nhttp {\ntypes { a x; b x; }\nallow 10.0.0.1/8;\n\
         server { listen 80; server_name a/b c; }\nserver { listen 80; server_name C; }\n}",
    );
    let read = read(paths(prefix, None));
    let file = format!("{}/conf/weir.conf", prefix.display());
    let expected = [
        format!(
            "duplicate extension \"x\", content type: \"b\", previous content type: \"a\" in {file}:3"
        ),
        format!("low address bits of 10.0.0.1/8 are meaningless in {file}:4"),
        format!("server name \"a/b\" has suspicious symbols in {file}:5"),
        format!("conflicting server name \"c\" on 0.0.0.0:80, ignored in {file}:6"),
    ];
    assert_eq!(read.warnings, expected);
    let late = "9999999 worker_connections exceed open file resource limit: ";
    let [warning] = &read.late_warnings[..] else {
        panic!("{:?}", read.late_warnings);
    };
    assert!(warning.starts_with(late), "{warning}");
    assert_eq!(read.loaded.unwrap().warnings.len(), 5);
}

#[test]
fn faults_in_the_command_line_say_so() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "weir.conf", "events {}");
    let message = |directives| {
        read(paths(folder.path(), Some(directives)))
            .loaded
            .unwrap_err()
    };
    assert_eq!(
        message("daemon off"),
        "unexpected end of parameter, expecting \";\" in command line"
    );
    assert_eq!(
        message("daemon maybe;"),
        "invalid value \"maybe\" in \"daemon\" directive, it must be \"on\" or \"off\" in command line"
    );
    assert_eq!(
        message("http {}"),
        "block directives are not supported in -g option in command line"
    );
}

#[test]
fn damaged_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "weir.conf", "events {}\n");
    let text = read(paths(folder.path(), None)).loaded.unwrap().text;
    assert!(build(&text).is_ok());
    let damaged = |text: &str| build(text).map(|_| ()).unwrap_err();
    assert!(damaged(&text.replace("weir facts: {", "weir facts: ")).contains("damaged"));
    assert!(damaged(&text.replace(" 10 bytes", " 9 bytes")).contains("damaged"));
    assert!(damaged(&text.replace(" 10 bytes", " 99 bytes")).contains("damaged"));
    assert!(damaged(&format!("{text}more")).contains("damaged"));
}

/// A configuration over several files, from a few choices.
fn tree() -> impl Strategy<Value = Vec<(String, String)>> {
    let line = prop_oneof![
        Just("server { listen 80; location / { proxy_pass http://u; } }".to_owned()),
        Just("# configuration file conf/weir.conf:".to_owned()),
        Just("# configuration file conf/a.conf: 3 bytes".to_owned()),
        Just("keepalive_timeout 5;".to_owned()),
        Just("include more/*.conf;".to_owned()),
        Just("include more/[ab].conf;".to_owned()),
        "add_trailer X-[a-z]{1,3} [a-z]{1,3}( always)?;",
        "add_header X-[a-z]{1,3} \"[a-z ;{}#\\n]{0,9}\";",
        "[ \\t\\n]{0,4}#[ -~]{0,20}",
    ];
    let file = proptest::collection::vec(line, 0..5).prop_map(|lines| lines.join("\n"));
    proptest::collection::btree_map("[abc]", file, 0..4).prop_map(|files| {
        files
            .into_iter()
            .map(|(name, content)| (format!("{name}.conf"), content))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_tree_of_files(outer in tree(), inner in tree()) {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path();
        write(prefix, "weir.conf", "events {}\nhttp { upstream u { server 10.0.0.1; }\ninclude sites/*.conf;\n}");
        for (name, content) in &outer {
            write(prefix, &format!("sites/{name}"), content);
        }
        for (name, content) in &inner {
            // These include nothing: a file that includes itself is refused.
            write(prefix, &format!("more/{name}"), content.replace("include more/", "#"));
        }
        let loaded = read(paths(prefix, None)).loaded;
        fs::remove_dir_all(prefix.join("conf")).unwrap();
        if let Ok(loaded) = loaded {
            let built = build(&loaded.text).unwrap();
            prop_assert!(built.settings == loaded.settings && built.worker == loaded.worker);
        }
    }
}
