//! upsync_dump_path, strong_dependency, and starts without Consul.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::fault::{Fault, FaultProxy};
use crate::support::process::{finish, guarded, read_lossy};
use crate::support::weir::{SOON, Setup, in_http, in_server};
use crate::support::{free_port, holds_for, tool, wait_until};

const SHOW: &str =
    "location = /upstream_show { upstream_show; } location / { proxy_pass http://test; }";

fn upstream(address: &str, folder: &str, more: &str) -> String {
    format!(
        "upstream test {{ upsync {address}/v1/kv/{folder} upsync_type=consul upsync_interval=200ms {more} }}\n{}",
        in_server(SHOW)
    )
}

const DUMP: &str = "; upsync_dump_path @DIR@/dump/test.conf;";
const STRONG: &str = "strong_dependency=on";

#[test]
fn the_dump_follows_and_nginx_takes_it() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let weir = Setup::http(&upstream(&consul.address(), &folder, DUMP)).start();
    let dump = weir.path("dump/test.conf");
    assert!(
        !dump.exists() || !read_lossy(&dump).is_empty(),
        "never empty"
    );
    consul.put(&format!("{folder}/127.0.0.1:8001"), ENTRY);
    consul.put(
        &format!("{folder}/127.0.0.1:8002"),
        r#"{"weight":40,"max_fails":3,"fail_timeout":20,"down":1}"#,
    );
    consul.put(&format!("{folder}/[::1]:8003"), r#"{"backup":1}"#);
    let expected = "server [::1]:8003 weight=1 max_fails=2 fail_timeout=10s backup;\n\
                    server 127.0.0.1:8002 weight=40 max_fails=3 fail_timeout=20s down;\n\
                    server 127.0.0.1:8001 weight=1 max_fails=2 fail_timeout=10s;\n";
    wait_until(SOON, "the dump has all three", || {
        read_lossy(&dump) == expected
    });
    assert_eq!(
        fs::metadata(&dump).unwrap().permissions().mode() & 0o777,
        0o644
    );
    let entries: Vec<_> = fs::read_dir(weir.path("dump"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(entries, ["test.conf"], "no temporary file is left");

    let dir = weir.path("");
    let config = weir.path("nginx.conf");
    let dir = dir.display();
    fs::write(
        &config,
        format!(
            "pid {dir}/nginx.pid; error_log {dir}/nginx.log; events {{}}
             http {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;
               fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
               upstream test {{ include {}; }} server {{ listen 127.0.0.1:{}; location / {{ proxy_pass http://test; }} }} }}",
            dump.display(),
            free_port()
        ),
    )
    .unwrap();
    let checked = finish(
        guarded(tool("nginx"))
            .arg("-t")
            .arg("-e")
            .arg(weir.path("nginx.log"))
            .arg("-c")
            .arg(&config),
    );
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

/// Readers of the dump see whole lists only, however often it is rewritten.
#[test]
fn the_dump_is_never_torn() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let weir = Setup::http(&upstream(&consul.address(), &folder, DUMP)).start();
    let dump = weir.path("dump/test.conf");
    let entries = |weight: usize| -> Vec<_> {
        (1..=60)
            .map(|n| {
                (
                    format!("192.0.2.1:{n}"),
                    format!(r#"{{"weight":{weight}}}"#),
                )
            })
            .collect()
    };
    for weight in 1..=20 {
        // One transaction, so each list has one weight.
        consul.put_many(&folder, &entries(weight));
        wait_until(SOON, "the dump has the new weight", || {
            let text = read_lossy(&dump);
            let lines: Vec<_> = text.lines().collect();
            let first = lines
                .first()
                .and_then(|line| line.split(' ').nth(2))
                .unwrap_or_default()
                .to_owned();
            if weight > 1 || !text.is_empty() {
                assert!(
                    text.ends_with(";\n") && lines.len() == 60,
                    "{} lines",
                    lines.len()
                );
                assert!(lines.iter().all(|line| line.contains(&first)), "{text}");
            }
            first == format!("weight={weight}")
        });
    }
}

#[test]
fn without_consul_the_dump_serves() {
    let backend = Backend::named("from-the-dump");
    let line = format!(
        "server {} weight=2 max_fails=2 fail_timeout=10s;\n",
        backend.address()
    );
    let nowhere = format!("127.0.0.1:{}", free_port());
    for strong in ["", STRONG] {
        let text = upstream(&nowhere, "upstreams/test", &format!("{strong}{DUMP}"));
        let weir = Setup::http(&text).file("dump/test.conf", &line).start();
        assert_eq!(weir.get("/").text(), "from-the-dump\n");
        assert_eq!(read_lossy(&weir.path("dump/test.conf")), line);
        assert!(weir.shown("test").contains(line.trim_end()));
    }
}

#[test]
fn a_bad_dump_does_not_stop_a_start() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let backend = Backend::named("a");
    consul.put(&format!("{folder}/{}", backend.address()), ENTRY);
    for bad in [
        "server 127.0.0.1:1 weight=1 max_fails=2 fail_tim",
        "\0\u{1}garbage {",
        "server nonsense;\n",
    ] {
        let weir = Setup::http(&upstream(&consul.address(), &folder, DUMP))
            .file("dump/test.conf", bad)
            .start();
        wait_until(SOON, "Consul's list serves", || weir.get("/").status == 200);
        wait_until(SOON, "the dump is good again", || {
            read_lossy(&weir.path("dump/test.conf"))
                .starts_with(&format!("server {}", backend.address()))
        });
    }
}

#[test]
fn strong_dependency_without_data_refuses_to_start() {
    let nowhere = format!("127.0.0.1:{}", free_port());
    let mut setup = Setup::http(&upstream(&nowhere, "upstreams/test", &format!("{STRONG};")));
    let done = setup.run(&[]);
    let said = done.stderr + &read_lossy(&setup.dir().join("logs/error.log"));
    assert!(
        done.code.is_some_and(|code| code != 0) && done.signal.is_none(),
        "{said}"
    );
    assert!(
        said.contains("\"test\"") && said.contains("[emerg]"),
        "the reason names the upstream: {said}"
    );
    assert!(said.contains(&nowhere), "and the Consul: {said}");
    assert!(!said.contains("panicked"), "{said}");
    assert!(!setup.dir().join("logs/weir.pid").exists());
    // Without the dependency it starts: the configured servers, here none, serve.
    let weir = Setup::http(&upstream(&nowhere, "upstreams/test", ";")).start();
    assert_eq!(weir.get("/").status, 502);
}

/// Whoever starts it again and again must not find the configured servers of the first attempt in
/// the region and take them for what Consul said.
#[test]
fn strong_dependency_refuses_the_second_start_as_the_first() {
    let nowhere = format!("127.0.0.1:{}", free_port());
    let text = upstream(&nowhere, "upstreams/test", &format!("{STRONG};"))
        .replace("upsync ", "server 127.0.0.1:1; upsync ");
    let mut setup = Setup::http(&text);
    for attempt in 1..=2 {
        let done = setup.run(&[]);
        assert_eq!(done.code, Some(1), "attempt {attempt}: {}", done.stderr);
    }
}

#[test]
fn strong_dependency_starts_from_the_last_regions_table() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let backend = Backend::named("kept");
    consul.put(&format!("{folder}/{}", backend.address()), ENTRY);
    let port = free_port();
    let proxy = FaultProxy::start_at(port, &consul.address(), Fault::None);
    let mut weir = Setup::http(&upstream(proxy.address(), &folder, &format!("{STRONG};"))).start();
    assert_eq!(
        weir.get("/").text(),
        "kept\n",
        "nobody listens before the first answer is in"
    );
    weir.signal(Signal::SIGKILL);
    weir.process().wait(SOON);
    drop(proxy);
    weir.start_again();
    assert_eq!(weir.get("/").text(), "kept\n");
}

#[test]
fn a_reload_with_a_new_upstream_without_data_is_refused() {
    let plain = in_http(&in_server("location = /x { return 200 old; }"));
    let mut weir = Setup::whole(&plain).allow("[emerg]").start();
    let nowhere = format!("127.0.0.1:{}", free_port());
    weir.rewrite(&in_http(&upstream(
        &nowhere,
        "upstreams/test",
        &format!("{STRONG};"),
    )));
    weir.signal(Signal::SIGHUP);
    weir.wait_log(&nowhere);
    wait_until(SOON, "the refusal names the upstream", || {
        weir.error_log()
            .lines()
            .any(|line| line.contains("\"test\""))
    });
    holds_for(
        std::time::Duration::from_millis(500),
        "the old configuration is in force",
        || weir.get("/x").text() == "old",
    );
    let consul = Consul::shared();
    let folder = consul::folder();
    let backend = Backend::named("new");
    consul.put(&format!("{folder}/{}", backend.address()), ENTRY);
    weir.rewrite(&in_http(&upstream(
        &consul.address(),
        &folder,
        &format!("{STRONG};"),
    )));
    weir.reload();
    assert_eq!(weir.get("/").text(), "new\n");
}

#[test]
fn a_dump_folder_that_cannot_be_written_is_an_error_at_start() {
    let consul = Consul::shared();
    let missing = "; upsync_dump_path @DIR@/no-such-folder/test.conf;";
    let mut setup = Setup::http(&upstream(&consul.address(), &consul::folder(), missing));
    for arguments in [&["-t"][..], &[]] {
        let done = setup.run(arguments);
        let said = done.stderr + &read_lossy(&setup.dir().join("logs/error.log"));
        assert_eq!(done.code, Some(1), "{said}");
        assert!(
            said.contains("[emerg]") && said.contains("no-such-folder"),
            "{said}"
        );
    }
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    // Root may write it, the syncer's user may not.
    let mut setup = Setup::http(&upstream(&consul.address(), &consul::folder(), DUMP));
    fs::set_permissions(setup.dir().join("dump"), Permissions::from_mode(0o755)).unwrap();
    for arguments in [&["-t"][..], &[]] {
        let done = setup.run(arguments);
        let said = done.stderr + &read_lossy(&setup.dir().join("logs/error.log"));
        assert_eq!(done.code, Some(1), "{said}");
        assert!(
            said.contains("[emerg]") && said.contains("Permission denied"),
            "{said}"
        );
    }
}

#[test]
fn a_dump_that_fails_later_is_logged_and_routing_goes_on() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let [a, b] = ["a", "b"].map(Backend::named);
    consul.put(&format!("{folder}/{}", a.address()), ENTRY);
    let weir = Setup::http(&upstream(&consul.address(), &folder, DUMP)).start();
    wait_until(SOON, "there is a dump", || {
        weir.path("dump/test.conf").exists()
    });
    let before = read_lossy(&weir.path("dump/test.conf"));
    fs::rename(weir.path("dump"), weir.path("moved")).unwrap();
    consul.put(&format!("{folder}/{}", b.address()), ENTRY);
    let mut client: Client = weir.connect();
    wait_until(SOON, "the new server serves", || {
        client.get("/").unwrap().text() == "b\n"
    });
    weir.wait_log("dump/test.conf");
    fs::rename(weir.path("moved"), weir.path("dump")).unwrap();
    assert_eq!(read_lossy(&weir.path("dump/test.conf")), before);
    consul.put(&format!("{folder}/192.0.2.1:1"), r#"{"down":1}"#);
    wait_until(SOON, "the next change is dumped", || {
        read_lossy(&weir.path("dump/test.conf")).lines().count() == 3
    });
}
