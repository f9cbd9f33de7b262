//! Many servers, and tables that do not fit.

use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::weir::{SOON, Setup, Weir, in_server};
use crate::support::{holds_for, wait_until};

const SERVERS: usize = 10_000;
/// Consul itself takes most of it.
const LONG: Duration = Duration::from_secs(60);

fn watching(folder: &str) -> Setup {
    Setup::http(&format!(
        "upstream test {{ server 127.0.0.1:1; upsync {}/v1/kv/{folder} upsync_type=consul; \
         upsync_dump_path @DIR@/dump/test.conf; }}\n{}",
        Consul::shared().address(),
        in_server(
            "location = /upstream_show { upstream_show; } location / { proxy_pass http://test; }"
        )
    ))
}

fn count(weir: &Weir) -> usize {
    let text = weir.shown("test");
    let head = text.lines().next().unwrap_or_default();
    let count = head.strip_prefix("Upstream name: test; Backend server count: ");
    let count = count.unwrap_or_else(|| panic!("{head}")).parse().unwrap();
    assert_eq!(
        text.trim_end().lines().count(),
        count + 1,
        "the table is whole"
    );
    count
}

/// Addresses of the documentation range, all down so that no request goes there.
fn entries(count: usize) -> Vec<(String, String)> {
    (0..count)
        .map(|number| {
            let address = format!("198.18.{}.{}:80", number / 250, number % 250 + 1);
            (address, r#"{"down":1}"#.to_owned())
        })
        .collect()
}

#[test]
fn ten_thousand_servers_in_one_upstream() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let live = Backend::named("live");
    consul.put(&format!("{folder}/{}", live.address()), ENTRY);
    consul.put_many(&folder, &entries(SERVERS - 1));
    let weir = watching(&folder).set("SERVERS", 12_000).start();
    wait_until(LONG, "all are shown", || count(&weir) == SERVERS);
    for client in weir.each_worker(2).values_mut() {
        assert_eq!(client.get("/").unwrap().text(), "live\n");
    }
    let second = Backend::named("second");
    consul.put(&format!("{folder}/{}", second.address()), ENTRY);
    wait_until(LONG, "one more is shown", || count(&weir) == SERVERS + 1);
    for client in weir.each_worker(2).values_mut() {
        wait_until(SOON, "it serves", || {
            client.get("/").unwrap().text() == "second\n"
        });
    }
    let dump = || {
        crate::support::process::read_lossy(&weir.path("dump/test.conf"))
            .lines()
            .count()
    };
    wait_until(LONG, "the dump has them", || dump() == SERVERS + 1);
    let table = weir.weirctl(&["table", "test"]);
    assert!(
        table.code == Some(0) && table.stdout.contains(second.address()),
        "{}",
        table.stderr
    );
    assert_eq!(weir.weirctl(&["verify"]).code, Some(0));
    consul.delete_folder(&folder);
}

#[test]
fn a_table_that_does_not_fit_is_logged_and_the_last_one_stays() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let live = Backend::named("live");
    consul.put(&format!("{folder}/{}", live.address()), ENTRY);
    let weir = watching(&folder).set("SERVERS", 40).start();
    wait_until(SOON, "the first is shown", || {
        weir.shown("test").contains(live.address())
    });
    consul.put_many(&folder, &entries(60));
    wait_until(SOON, "it is logged with both numbers", || {
        let log = weir.error_log();
        log.lines()
            .any(|line| line.contains("61") && line.contains("40"))
    });
    holds_for(Duration::from_millis(300), "the last table stays", || {
        count(&weir) == 1
    });
    assert_eq!(weir.get("/").text(), "live\n");
    consul.delete_folder(&folder);
    // One is up: the guard keeps a list that is down as a whole.
    consul.put(&format!("{folder}/{}", live.address()), ENTRY);
    consul.put_many(&folder, &entries(38));
    wait_until(SOON, "one that fits is taken", || count(&weir) == 39);
}

#[test]
fn a_configuration_that_does_not_fit_the_region_is_an_error() {
    let servers: String = (1..=30)
        .map(|port| format!("server 127.0.0.1:{port};"))
        .collect();
    let text = format!(
        "upstream big {{ {servers} }}\n{}",
        in_server("location / { proxy_pass http://big; }")
    );
    let mut setup = Setup::http(&text).set("SERVERS", 16);
    let done = setup.run(&[]);
    let said =
        done.stderr + &crate::support::process::read_lossy(&setup.dir().join("logs/error.log"));
    assert!(done.code.is_some_and(|code| code != 0), "{said}");
    assert!(
        said.contains("[emerg]") && said.contains("30") && said.contains("16"),
        "{said}"
    );
}
