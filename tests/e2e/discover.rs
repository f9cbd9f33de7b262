//! upsync_discover: upstreams that are folders of Consul.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::backend::Backend;
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::fault::{Fault, FaultProxy};
use crate::support::load::Load;
use crate::support::process;
use crate::support::weir::{SOON, Setup, Weir, in_server};
use crate::support::{PATIENCE, holds_for, wait_until};

/// So long an upstream is seen not to go.
const STAYS: Duration = Duration::from_millis(300);
/// A new folder takes its time only where the machine is busy with other tests.
const USUAL: Duration = Duration::from_millis(250);
/// A long poll that has nothing to say takes at least so long.
const PARKED: Duration = Duration::from_secs(10);
const ROUTES: &str = "location = /upstream_show { upstream_show; }
    location / { proxy_pass http://$arg_to; }";

fn discovering(folder: &str, more: &str, template: &str) -> Setup {
    discovering_at(&Consul::shared().address(), folder, more, template)
}

fn discovering_at(address: &str, folder: &str, more: &str, template: &str) -> Setup {
    Setup::http(&format!(
        "{more} upstream like {{ {template} }} upstream fixed {{ server 127.0.0.1:1 down; }}
         upsync_discover {address}/v1/kv/{folder} template=like upsync_interval=200ms;\n{}",
        in_server(ROUTES)
    ))
}

fn put(folder: &str, name: &str, backend: &Backend) {
    let key = format!("{folder}/{name}/{}", backend.address());
    Consul::shared().put(&key, ENTRY);
}

fn status(weir: &Weir, name: &str) -> u16 {
    weir.get(&format!("/?to={name}")).status
}

/// What a command said that has to end well.
#[track_caller]
fn told(weir: &Weir, arguments: &[&str]) -> String {
    let done = weir.weirctl(arguments);
    assert_eq!(done.code, Some(0), "{arguments:?}: {done:?}");
    done.stdout
}

#[test]
fn a_folder_is_an_upstream_on_every_worker_until_it_goes() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let folder = consul::folder();
    put(&folder, "stays", &two);
    let weir = discovering(&folder, "", "").workers(2).start();
    assert_eq!(weir.get("/?to=stays").text(), "two\n");
    assert_eq!(status(&weir, "web"), 502);
    weir.wait_log("no resolver defined to resolve web");
    let mut clients = weir.each_worker(2);
    let mut times = Vec::new();
    for round in 0..5 {
        let name = format!("Web-{round}.x");
        put(&folder, &name, &one);
        let began = Instant::now();
        for client in clients.values_mut() {
            let target = format!("/?to={name}");
            wait_until(SOON, "the worker reaches it", || {
                client.get(&target).unwrap().status == 200
            });
            assert_eq!(client.get(&target).unwrap().text(), "one\n");
        }
        times.push(began.elapsed());
    }
    times.sort();
    assert!(times[2] < USUAL, "{times:?}");
    assert!(
        weir.shown("")
            .contains("Upstream name: web-0.x; Backend server count: 1")
    );
    assert!(weir.shown("web-0.x").contains(one.address()));
    let table = weir.weirctl_json(&["table"]);
    let upstreams = table["upstreams"].as_array().unwrap();
    let found = upstreams.iter().find(|u| u["name"] == "web-1.x").unwrap();
    assert_eq!(found["template"], "like");

    Consul::shared().delete_folder(&format!("{folder}/Web-0.x"));
    for client in clients.values_mut() {
        wait_until(SOON, "it is gone", || {
            client.get("/?to=web-0.x").unwrap().status == 502
        });
    }
    weir.wait_log("upstream \"web-0.x\" is gone with its folder of ");
    assert_eq!(status(&weir, "web-1.x"), 200);
}

#[test]
fn all_folders_at_once_are_held_over_a_crash_and_a_restart() {
    let backend = Backend::named("here");
    let folder = consul::folder();
    put(&folder, "a", &backend);
    put(&folder, "b", &backend);
    let mut weir = discovering(&folder, "", "")
        .workers(1)
        .allow("syncer process")
        .start();
    assert_eq!((status(&weir, "a"), status(&weir, "b")), (200, 200));
    Consul::shared().delete_folder(&folder);
    weir.wait_log("upstream \"a\": the answer of ");
    weir.wait_log("upstream \"b\": the answer of ");
    process::send(weir.syncer(), Signal::SIGKILL);
    let held = || weir.error_log().matches("is held by upsync_guard").count();
    wait_until(PATIENCE, "the next syncer holds them too", || held() == 4);
    assert_eq!((status(&weir, "a"), status(&weir, "b")), (200, 200));
    weir.stop();
    weir.start_again();
    assert_eq!((status(&weir, "a"), status(&weir, "b")), (200, 200));
    put(&folder, "a", &backend);
    wait_until(SOON, "b goes, as a is back", || status(&weir, "b") == 502);
    assert_eq!(status(&weir, "a"), 200);
}

#[test]
fn after_a_reboot_without_consul_the_state_file_has_them() {
    let backend = Backend::named("here");
    let folder = consul::folder();
    put(&folder, "a", &backend);
    let proxy = FaultProxy::start(&Consul::shared().address(), Fault::None);
    let mut weir = discovering_at(proxy.address(), &folder, "", "")
        .workers(1)
        .start();
    assert_eq!(status(&weir, "a"), 200);
    let line = || {
        let told = told(&weir, &["table", "a"]);
        told.lines().nth(2).unwrap_or_default().to_owned()
    };
    wait_until(SOON, "it is fresh", || line().ends_with(", fresh"));
    assert!(
        line().contains(", discovered, template like, "),
        "{}",
        line()
    );
    // A template without a server is no trouble.
    let check = weir.weirctl(&["check"]);
    assert_eq!(check.stdout, "CRITICAL without a server: fixed\n");
    weir.stop();
    proxy.refuse();
    fs::remove_file(weir.path("weir.region")).unwrap();
    weir.start_again();
    assert_eq!(weir.get("/?to=a").text(), "here\n");
    let line = told(&weir, &["table", "a"]);
    assert!(
        line.contains(", discovered, template like, stale for "),
        "{line}"
    );
    assert!(line.contains(", from the state file\n"), "{line}");

    // Its folder goes while nobody can see it.
    Consul::shared().delete_folder(&folder);
    let other = Backend::named("other");
    put(&folder, "b", &other);
    proxy.listen();
    wait_until(PATIENCE, "it is gone", || status(&weir, "a") == 502);
    assert_eq!(weir.get("/?to=b").text(), "other\n");
}

#[test]
fn an_operator_keeps_what_is_gone_and_lets_it_go() {
    let backend = Backend::named("here");
    let folder = consul::folder();
    for name in ["a", "b", "c"] {
        put(&folder, name, &backend);
    }
    let weir = discovering(&folder, "", "").workers(1).start();
    told(&weir, &["pin", "a"]);
    Consul::shared().delete_folder(&format!("{folder}/a"));
    Consul::shared().delete_folder(&format!("{folder}/b"));
    wait_until(SOON, "b goes", || status(&weir, "b") == 502);
    holds_for(STAYS, "a is pinned", || status(&weir, "a") == 200);
    told(&weir, &["unpin", "a"]);
    wait_until(SOON, "a goes", || status(&weir, "a") == 502);

    Consul::shared().delete_folder(&format!("{folder}/c"));
    wait_until(SOON, "it is held", || {
        told(&weir, &["guard", "list"]).starts_with("held answers 1")
    });
    let late = weir.weirctl(&["wait", "--index", "1", "--timeout", "500ms"]);
    assert_eq!(late.code, Some(3), "{late:?}");
    assert!(late.stdout.contains("\"c\": an answer is held"), "{late:?}");
    told(&weir, &["guard", "accept", "c"]);
    wait_until(SOON, "c goes", || status(&weir, "c") == 502);
    assert!(!weir.shown("").contains("Upstream name: c;"));
}

#[test]
fn without_the_guard_the_last_folder_goes_at_once() {
    let backend = Backend::named("here");
    let folder = consul::folder();
    put(&folder, "a", &backend);
    let weir = discovering(&folder, "upsync_guard off;", "keepalive 2;")
        .workers(1)
        .start();
    assert_eq!(status(&weir, "a"), 200);
    Consul::shared().delete_folder(&folder);
    wait_until(SOON, "it is gone", || status(&weir, "a") == 502);
    put(&folder, "a", &backend);
    wait_until(SOON, "it is back", || status(&weir, "a") == 200);
}

#[test]
fn bad_names_and_those_of_the_configuration_are_refused_and_named() {
    let backend = Backend::named("here");
    let folder = consul::folder();
    put(&folder, "good", &backend);
    put(&folder, "fixed", &backend);
    put(&folder, "b%20d", &backend);
    let mut weir = discovering(&folder, "", "").workers(1).start();
    weir.wait_log("folder \"fixed\" of ");
    weir.wait_log("is no upstream: the configuration has an upstream of this name");
    weir.wait_log("/b d/\" is skipped: the name of an upstream has letters");
    assert_eq!((status(&weir, "good"), status(&weir, "fixed")), (200, 502));
    holds_for(STAYS, "the configured one wins", || {
        weir.shown("").matches("Upstream name: fixed;").count() == 1
    });

    // A reload keeps what was found, and one without the directive does not.
    weir.reload();
    assert_eq!(status(&weir, "good"), 200);
    let text = weir.text();
    let renamed = text.replace("upstream fixed", "upstream other");
    weir.rewrite(&renamed);
    weir.reload();
    assert_eq!(status(&weir, "good"), 200);

    // One that was found gets a block of its own, and goes on.
    let address = Consul::shared().address();
    let own = format!("upstream good {{ upsync {address}/v1/kv/{folder}/good; }} upstream like");
    weir.rewrite(&renamed.replace("upstream like", &own));
    weir.reload();
    assert_eq!((status(&weir, "good"), status(&weir, "fixed")), (200, 200));
    assert_eq!(weir.shown("").matches("Upstream name: good;").count(), 1);
    wait_until(SOON, "it is fresh", || {
        let table = weir.weirctl_json(&["table", "good"]);
        table["upstreams"][0]["status"]["state"] == "fresh"
    });
    let without: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("upsync_discover"))
        .collect();
    weir.rewrite(&without.join("\n").replace("upstream like {  }", ""));
    weir.reload();
    assert_eq!(status(&weir, "good"), 502);
    assert!(!weir.shown("").contains("good"));
}

#[test]
fn a_name_that_comes_free_is_taken_without_a_request_that_fails() {
    let (old, new, other) = (
        Backend::named("old"),
        Backend::named("new"),
        Backend::named("other"),
    );
    let (folder, second) = (consul::folder(), consul::folder());
    put(&folder, "web", &new);
    put(&folder, "twice", &new);
    put(&second, "stays", &other);
    let more = format!(
        "upstream web {{ server {}; }}
         upsync_discover {}/v1/kv/{second} template=like;",
        old.address(),
        Consul::shared().address()
    );
    let mut weir = discovering(&folder, &more, "").workers(2).start();
    assert_eq!(weir.get("/?to=web").text(), "old\n");
    assert_eq!(weir.get("/?to=twice").text(), "new\n");
    put(&second, "twice", &other);
    weir.wait_log("folder \"twice\" of ");
    let listed = |weir: &Weir| {
        let errors = weir.weirctl_json(&["errors"]);
        let refused = errors["refused"].as_array().unwrap().clone();
        let key = |entry: &Value| entry["key"].as_str().unwrap().to_owned();
        refused.iter().map(key).collect::<Vec<_>>()
    };
    let both = [format!("{folder}/web/"), format!("{second}/twice/")];
    wait_until(SOON, "both are listed", || {
        let listed = listed(&weir);
        both.iter().all(|key| listed.contains(key))
    });
    let check = weir.weirctl(&["check"]);
    assert!(check.stdout.contains("refused: 2 entries"), "{check:?}");

    let load = Load::start(&weir.address(), "/?to=web", 2);
    let began = Instant::now();
    let text = weir.text();
    let (before, after) = text.split_once("upstream web {").unwrap();
    let (_, after) = after.split_once('}').unwrap();
    weir.rewrite(&format!("{before}{after}"));
    weir.reload();
    load.progress();
    assert_eq!(weir.get("/?to=web").text(), "new\n");
    let table = weir.weirctl_json(&["table", "web"]);
    assert_eq!(table["upstreams"][0]["template"], "like");
    wait_until(SOON, "it is fresh", || {
        let table = weir.weirctl_json(&["table", "web"]);
        table["upstreams"][0]["status"]["state"] == "fresh"
    });
    let outcome = load.stop();
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    // The next answer of an idle Consul comes so late.
    assert!(began.elapsed() < PARKED, "{:?}", began.elapsed());

    // The configuration takes it back for a while; Consul says nothing new meanwhile.
    weir.rewrite(&text);
    weir.reload();
    let answers = |weir: &Weir, name: &str| {
        let text = format!("{name}\n");
        wait_until(SOON, name, || weir.get("/?to=web").text() == text);
    };
    answers(&weir, "old");
    weir.rewrite(&format!("{before}{after}"));
    weir.reload();
    answers(&weir, "new");

    Consul::shared().delete_folder(&format!("{folder}/twice"));
    wait_until(SOON, "the other prefix has it", || {
        weir.get("/?to=twice").text() == "other\n"
    });
    wait_until(SOON, "nothing is refused", || listed(&weir).is_empty());
}

#[test]
fn entries_below_a_prefix_are_tried() {
    let backend = Backend::named("here");
    let folder = consul::folder();
    put(&folder, "Web", &backend);
    let weir = discovering(&folder, "", "").workers(1).start();
    assert_eq!(status(&weir, "web"), 200);
    let tried = |key: &str| {
        let entry = format!("{folder}/{key}");
        weir.weirctl(&["try", &entry])
    };
    let known = tried("Web/192.0.2.2:2={\"weight\":3}");
    assert_eq!(
        (known.code, &*known.stdout),
        (
            Some(0),
            "upstream web +192.0.2.2:2\n        servers 1 to 2, 75.0% of the requests move\n"
        )
    );
    // What a source has said of it is waited for as of any upstream.
    let index = || Consul::shared().index(&format!("{folder}/")).to_string();
    told(&weir, &["wait", "--index", &index(), "--upstream", "web"]);
    let sources = weir.weirctl_json(&["sources"]);
    assert_eq!(sources["sources"][0]["upstreams"], json!(["web"]));
    let new = tried("new/192.0.2.2:2=");
    assert_eq!(
        (new.code, &*new.stdout),
        (
            Some(0),
            "upstream new (new) +192.0.2.2:2\n        servers 1, of a new upstream\n"
        )
    );
    for (key, says) in [
        (
            "new/192.0.2.2:0=",
            "it would not be there: it has no server",
        ),
        ("new/192.0.2.2:0=", "has port 0"),
        (
            "b d/192.0.2.2:2=",
            "b d/: the name of an upstream has letters",
        ),
        (
            "fixed/192.0.2.2:2=",
            "fixed/: the configuration has an upstream of this name",
        ),
        ("192.0.2.2:2=", "no upstream has a folder with these keys"),
    ] {
        let done = tried(key);
        let said = format!("{}{}", done.stdout, done.stderr);
        assert!(
            done.code == Some(1) && said.contains(says),
            "{key}: {done:?}"
        );
    }

    // What Consul lists below the prefix, with one thing more.
    let list = Consul::shared().request("GET", &format!("/v1/kv/{folder}/?recurse"), "");
    let mut list: Value = serde_json::from_str(&list.text()).unwrap();
    let more = json!({"Key": format!("{folder}/other/192.0.2.2:2"), "Value": null});
    list.as_array_mut().unwrap().push(more);
    let file = weir.path("entries.json");
    fs::write(&file, list.to_string()).unwrap();
    let trial = weir.weirctl_json(&["try", file.to_str().unwrap()]);
    let upstreams = trial["upstreams"].as_array().unwrap();
    let found = |name: &str| upstreams.iter().find(|u| u["upstream"] == name).unwrap();
    assert_eq!(
        (&found("web")["new"], &found("web")["moved"]),
        (&json!(false), &json!(0.0))
    );
    assert_eq!(found("other")["new"], true);
    assert_eq!(
        (&trial["unused"], &trial["refused"]),
        (&json!(0), &json!([]))
    );
}
