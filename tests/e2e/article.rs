//! The article's configuration and its `curl` lines, on a real Consul and four workers.

use std::collections::BTreeMap;

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::consul::Consul;
use crate::support::process::{finish, guarded, read_lossy};
use crate::support::weir::{SOON, Setup, WHO, Weir};
use crate::support::{holds_for, wait_until};

const WORKERS: usize = 4;

/// As the article prints it; only addresses, ports and paths are replaced below.
const ARTICLE: &str = r"events {
  worker_connections  4096;  ## Default: 1024
}

http {
    upstream test {
        # fake server otherwise ngx_http_upstream will report error when startup
        server 127.0.0.1:11111;

        # all backend server will pull from consul when startup and will delete fake server
        upsync 127.0.0.1:8500/v1/kv/upstreams/test upsync_timeout=6m upsync_interval=500ms upsync_type=consul strong_dependency=off;
        upsync_dump_path /usr/local/nginx/conf/servers/servers_test.conf;
    }

    upstream bar {
        server 127.0.0.1:8090 weight=1 fail_timeout=10 max_fails=3;
    }

    server {
        listen 8080;

        location = /proxy_test {
            proxy_pass http://test;
        }

        location = /bar {
            proxy_pass http://bar;
        }

        location = /upstream_show {
            upstream_show;
        }

    }
}
";

/// What the article's main context leaves to its installation's defaults.
const DIRECTIVES: &str =
    "daemon off; worker_processes 4; pid logs/weir.pid; error_log logs/error.log info;";

fn start(consul: &Consul, bar: &Backend) -> Weir {
    let text = ARTICLE
        .replace("127.0.0.1:8500", &consul.address())
        .replace("127.0.0.1:8090", bar.address())
        .replace("listen 8080;", &format!("listen @PORT@;\n{WHO}"))
        .replace("/usr/local/nginx/conf/servers", "@DIR@/dump");
    let setup = Setup::whole(&text);
    let region = format!("{DIRECTIVES} region {}/weir.region;", setup.dir().display());
    setup.argument("-g").argument(&region).start()
}

/// The article's `curl -X PUT`, by curl itself.
#[track_caller]
fn curl(consul: &Consul, method: &str, server: &str) {
    let line = format!(
        "curl -sS -X {method} -d '{{\"weight\":1, \"max_fails\":2, \"fail_timeout\":10}}' \
         http://{}/v1/kv/upstreams/test/{server}",
        consul.address()
    );
    let done = finish(guarded("sh").args(["-c", &line]));
    assert_eq!(done.stdout.trim(), "true", "{done:?}");
}

fn lines(servers: &[&Backend], indent: &str) -> String {
    servers
        .iter()
        .map(|server| {
            let address = server.address();
            format!("{indent}server {address} weight=1 max_fails=2 fail_timeout=10s;\n")
        })
        .collect()
}

/// Asks one worker until an answer comes from each of `servers`.
#[track_caller]
fn wait_served_by(pid: u32, client: &mut Client, servers: &[(&Backend, &str)]) {
    for (_, name) in servers {
        wait_until(
            SOON,
            &format!("worker {pid} sends a request to {name}"),
            || {
                let answer = client.get("/proxy_test").unwrap();
                answer.status == 200 && answer.text().trim() == *name
            },
        );
    }
}

/// Checks the table, the dump and every worker's traffic; the newest server comes first.
#[track_caller]
fn check(weir: &Weir, workers: &mut BTreeMap<u32, Client>, servers: &[(&Backend, &str)]) {
    let mut newest_first: Vec<_> = servers.iter().map(|(backend, _)| *backend).collect();
    newest_first.reverse();
    let count = servers.len();
    let body = lines(&newest_first, "        ");
    weir.wait_shown(
        "test",
        &format!("Upstream name: test; Backend server count: {count}\n{body}"),
    );
    wait_until(SOON, "the dump follows", || {
        read_lossy(&weir.path("dump/servers_test.conf")) == lines(&newest_first, "")
    });
    for (pid, client) in workers.iter_mut() {
        wait_served_by(*pid, client, servers);
    }
}

#[test]
fn servers_come_and_go_on_every_worker() {
    let consul = Consul::start();
    let backends = ["1", "2", "3"].map(Backend::named);
    let bar = Backend::named("bar");
    let weir = start(&consul, &bar);
    assert_eq!(weir.workers().len(), WORKERS);
    let mut workers = weir.each_worker(WORKERS);
    assert_eq!(weir.get("/bar").text(), "bar\n");

    let all = [
        (&backends[0], "1"),
        (&backends[1], "2"),
        (&backends[2], "3"),
    ];
    for count in 1..=all.len() {
        curl(&consul, "PUT", all[count - 1].0.address());
        check(&weir, &mut workers, &all[..count]);
    }
    for gone in 0..all.len() - 1 {
        curl(&consul, "DELETE", all[gone].0.address());
        check(&weir, &mut workers, &all[gone + 1..]);
        let before = all[gone].0.count();
        for client in workers.values_mut() {
            for _ in 0..2 * all.len() {
                assert_eq!(client.get("/proxy_test").unwrap().status, 200);
            }
        }
        assert_eq!(
            all[gone].0.count(),
            before,
            "a removed server gets no request"
        );
    }

    // upsync keeps the last list when its prefix is empty, and so does weir.
    curl(&consul, "DELETE", all[2].0.address());
    let last = lines(&[all[2].0], "        ");
    let last = format!("Upstream name: test; Backend server count: 1\n{last}");
    holds_for(
        std::time::Duration::from_millis(700),
        "the last server stays",
        || weir.shown("test").trim_end() == last.trim_end(),
    );
    check(&weir, &mut workers, &all[2..]);
    let logged = read_lossy(&weir.path("logs/access.log"));
    assert!(
        logged.contains("\"GET /proxy_test HTTP/1.1\" 200 "),
        "the access log is on by default"
    );
    let pids: Vec<_> = workers.keys().copied().collect();
    assert_eq!(weir.workers(), pids, "no process was replaced");
}

#[test]
fn one_answer_with_three_servers_puts_each_first() {
    let consul = Consul::start();
    let [one, two, three] = ["1", "2", "3"].map(Backend::named);
    let mut sorted = [&one, &two, &three];
    sorted.sort_by_key(|backend| backend.address().to_owned());
    let entry = |backend: &&Backend| {
        (
            backend.address().to_owned(),
            crate::support::consul::ENTRY.to_owned(),
        )
    };
    consul.put_many(
        "upstreams/test",
        &sorted.iter().map(entry).collect::<Vec<_>>(),
    );
    let bar = Backend::named("bar");
    let weir = start(&consul, &bar);
    sorted.reverse();
    let body = lines(&sorted, "        ");
    weir.wait_shown(
        "test",
        &format!("Upstream name: test; Backend server count: 3\n{body}"),
    );

    // An updated server keeps its place, and no query shows every upstream.
    let changed = sorted[1].address();
    consul.put(
        &format!("upstreams/test/{changed}"),
        r#"{"weight":7, "down":1}"#,
    );
    let body = body.replace(
        &format!("server {changed} weight=1 max_fails=2 fail_timeout=10s;"),
        &format!("server {changed} weight=7 max_fails=2 fail_timeout=10s down;"),
    );
    let test = format!("Upstream name: test; Backend server count: 3\n{body}");
    weir.wait_shown("test", &test);
    let bar = format!(
        "Upstream name: bar; Backend server count: 1\n        server {} weight=1 max_fails=3 fail_timeout=10s;\n",
        bar.address()
    );
    // Another worker may be a moment behind the one that was asked first.
    wait_until(SOON, "no query shows every upstream", || {
        weir.get("/upstream_show").text() == format!("{test}\n{bar}\n")
    });
    let unknown = weir.shown("nothing");
    assert_eq!(
        unknown.trim_end(),
        "The upstream you requested does not exist. Please double-check the name"
    );
    let head = weir
        .connect()
        .request("HEAD", "/upstream_show?test", "", b"")
        .unwrap();
    assert_eq!(
        (head.status, head.field("content-type")),
        (200, Some("text/plain"))
    );
    let post = weir
        .connect()
        .request("POST", "/upstream_show?test", "", b"x")
        .unwrap();
    assert_eq!(post.status, 405);
}
