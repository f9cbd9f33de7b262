//! Configurations that the documentation and conf/ show are ones that weir takes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::process::{finish, read_lossy};
use crate::support::repository;
use crate::support::weir::bare;

fn documents() -> Vec<PathBuf> {
    let mut files = vec![repository().join("README.md")];
    let docs = fs::read_dir(repository().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files.extend(docs.filter(|path| path.extension().is_some_and(|ext| ext == "md")));
    files.sort();
    files
}

/// The fenced blocks that are marked as nginx's language, each with the line it starts on.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let fence = line.trim_start();
        if !["```nginx", "```conf"]
            .iter()
            .any(|mark| fence.starts_with(mark))
        {
            continue;
        }
        let inner = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| !line.trim_start().starts_with("```"));
        found.push((number + 1, inner.collect::<Vec<_>>().join("\n") + "\n"));
    }
    found
}

/// Puts a fragment into the context that its first directive needs.
fn whole(block: &str) -> String {
    let has = |word: &str| {
        block.lines().any(|line| {
            line.trim_start()
                .strip_prefix(word)
                .is_some_and(|rest| rest.starts_with([' ', '{']))
        })
    };
    let upstreams = "upstream test { server 127.0.0.1:1; }";
    let named = |name: &str| {
        if block.contains(&format!("upstream {name}")) {
            ""
        } else {
            upstreams
        }
    };
    if has("http") {
        return if has("events") {
            block.to_owned()
        } else {
            format!("events {{}}\n{block}")
        };
    }
    if has("events")
        || [
            "user",
            "worker_processes",
            "pid",
            "region",
            "daemon",
            "error_log",
            "worker_shutdown_timeout",
        ]
        .iter()
        .any(|word| block.trim_start().starts_with(word))
    {
        return format!("{block}\n{}", if has("events") { "" } else { "events {}" });
    }
    let http = |inner: &str| format!("events {{}} http {{ {} {inner} }}", named("test"));
    if has("server") && block.contains("server {") || has("upstream") {
        return http(block);
    }
    if has("location") {
        return http(&format!("server {{ {block} }}"));
    }
    if ["upsync", "server", "keepalive"]
        .iter()
        .any(|word| block.trim_start().starts_with(word))
    {
        return http(&format!("upstream fragment {{ {block} }}"));
    }
    http(&format!("server {{ location / {{ {block} }} }}"))
}

/// Paths of an installed system become paths of the test's own.
fn relocated(text: &str, prefix: &Path) -> String {
    let mut text = text.to_owned();
    for path in [
        "/usr/local/weir/",
        "/usr/local/nginx/",
        "/var/log/",
        "/etc/weir/",
        "/run/",
        "/var/lib/weir/",
        "/dev/shm/",
    ] {
        text = text.replace(path, &format!("{}/", prefix.display()));
    }
    text
}

fn check(text: &str) -> Result<(), String> {
    let prefix = tempfile::tempdir().unwrap();
    for folder in [
        "conf/servers",
        "logs",
        "conf/conf.d",
        "dump",
        "weir",
        "nginx",
    ] {
        fs::create_dir_all(prefix.path().join(folder)).unwrap();
    }
    for folder in ["", "conf/servers", "conf", "logs", "dump", "weir"] {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(prefix.path().join(folder), open).unwrap();
    }
    let types = fs::read(repository().join("conf/mime.types")).unwrap();
    fs::write(prefix.path().join("conf/mime.types"), types).unwrap();
    fs::write(
        prefix.path().join("conf/weir.conf"),
        relocated(text, prefix.path()),
    )
    .unwrap();
    let done = finish(
        bare()
            .arg("-p")
            .arg(prefix.path())
            .args(["-c", "conf/weir.conf", "-t"]),
    );
    match done.code {
        Some(0) => Ok(()),
        _ => Err(done.stderr),
    }
}

#[test]
fn configurations_in_the_documents_pass_t() {
    let mut seen = 0;
    let mut bad = Vec::new();
    for file in documents() {
        for (line, block) in blocks(&read_lossy(&file)) {
            seen += 1;
            let text = whole(&block);
            if let Err(error) = check(&text) {
                bad.push(format!("{}:{line}: {error}", file.display()));
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    assert!(seen > 0, "the documents show configurations");
    assert!(
        check("events {} http { no_such_directive on; }").is_err(),
        "the check bites"
    );
}

#[test]
fn configurations_in_conf_pass_t() {
    let entries = fs::read_dir(repository().join("conf"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|ext| ext == "conf"))
        .collect();
    assert!(
        files.iter().any(|path| path.ends_with("weir.conf")),
        "{files:?}"
    );
    for file in files {
        check(&read_lossy(&file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}

/// The targets of `[text](target)` in a page, without those outside the repository.
fn links(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.contains("://") && !target.starts_with('#'))
        .map(|target| target.split('#').next().unwrap())
        .collect()
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let mut seen = 0;
    let mut broken = Vec::new();
    for file in documents() {
        for link in links(&read_lossy(&file)) {
            seen += 1;
            if !file.parent().unwrap().join(link).exists() {
                broken.push(format!("{}: {link}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(seen > 5, "the documents name each other");
    assert_eq!(links("[a](b.md#c) [d](x://y) [e](#f)"), ["b.md"]);
}
