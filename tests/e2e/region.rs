//! `weirctl` beside a running weir, on a dead one's region, and on files that are none.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::support::backend::{Backend, Then, ok};
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::process::{Process, finish, guarded};
use crate::support::weir::{SOON, Setup, Weir, in_server, weirctl};
use crate::support::{PATIENCE, wait_until};

fn start(folder: &str, backend: &Backend) -> Weir {
    Setup::http(&format!(
        "upstream test {{ upsync {}/v1/kv/{folder} upsync_type=consul; }}
         upstream fixed {{ server {} weight=3 max_fails=7 fail_timeout=1m; server 192.0.2.1:1 backup down; }}\n{}",
        Consul::shared().address(),
        backend.address(),
        in_server(
            "location = /upstream_show { upstream_show; } location /test { proxy_pass http://test; }
             location / { proxy_pass http://fixed; }"
        )
    ))
    .start()
}

#[test]
fn table_workers_counters_and_verify() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let backend = Backend::named("a");
    consul.put(&format!("{folder}/{}", backend.address()), ENTRY);
    let weir = start(&folder, &backend);
    wait_until(SOON, "the list is there", || {
        weir.shown("test").contains(backend.address())
    });
    let mut held = weir.each_worker(2);
    for client in held.values_mut() {
        for _ in 0..7 {
            assert_eq!(client.get("/x").unwrap().status, 200);
        }
    }

    let table = weir.weirctl_json(&["table"]);
    let names: Vec<_> = table["upstreams"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names[..2], ["test", "fixed"], "configuration order");
    let fixed = weir.weirctl_json(&["table", "fixed"]);
    let servers = &fixed["upstreams"][0]["servers"];
    assert_eq!(servers[0]["address"], backend.address());
    assert_eq!(
        (&servers[0]["weight"], &servers[0]["max_fails"]),
        (&3.into(), &7.into())
    );
    assert_eq!(servers[0]["fail_timeout_ms"], 60_000);
    assert_eq!(
        (&servers[1]["down"], &servers[1]["backup"]),
        (&true.into(), &true.into())
    );
    let text = weir.weirctl(&["table", "fixed"]).stdout;
    let line = format!(
        "server {} weight=3 max_fails=7 fail_timeout=",
        backend.address()
    );
    assert!(
        text.contains(&line) && !text.contains("upstream test"),
        "{text}"
    );
    let unknown = weir.weirctl(&["table", "nothing"]);
    assert!(
        unknown.code == Some(1) && unknown.stderr.contains("\"nothing\""),
        "{unknown:?}"
    );

    wait_until(PATIENCE, "the workers' rows agree", || {
        let workers = weir.weirctl_json(&["workers"]);
        let rows = workers["workers"].as_array().unwrap().clone();
        let pids: Vec<_> = rows
            .iter()
            .map(|row| row["pid"].as_u64().unwrap() as u32)
            .collect();
        assert_eq!(pids.len(), 2);
        weir.workers().iter().all(|pid| pids.contains(pid))
            && rows.iter().all(|row| {
                row["table_version"] == workers["table_version"]
                    && row["requests"].as_u64() >= Some(7)
                    && row["connections"].as_u64() >= Some(1)
            })
    });

    let counters = weir.weirctl_json(&["counters"]);
    let rows = counters["servers"].as_array().unwrap();
    let row = rows
        .iter()
        .find(|row| row["upstream"] == "fixed" && row["address"] == backend.address());
    let row = row.unwrap_or_else(|| panic!("{counters}"));
    assert_eq!(row["requests"], 14);
    assert_eq!(row["in_flight"], 0);
    // HTTP/1.1 200 OK, Content-Length: 2, the empty line and the body.
    assert_eq!(row["received"], 14 * 40);
    assert!(row["sent"].as_u64() >= Some(14 * 30), "{row}");
    let per_worker: Vec<_> = row["workers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["requests"].as_u64())
        .collect();
    assert_eq!(per_worker, [Some(7), Some(7)]);

    let verify = weir.weirctl_json(&["verify"]);
    assert_eq!(
        (&verify["good"], &verify["master_pid"]),
        (&true.into(), &weir.pid().into())
    );
    assert_eq!(verify["writer_pid"], weir.syncer());
    for command in ["table", "workers", "counters", "verify"] {
        let plain = weir.weirctl(&[command]);
        assert!(
            plain.code == Some(0) && plain.stdout.lines().count() > 1,
            "{plain:?}"
        );
    }
}

#[test]
fn a_request_in_flight_is_counted() {
    let (sender, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let backend = Backend::answering(move |_, out| {
        let _ = gate.lock().unwrap().recv();
        let _ = out.write_all(&ok("x"));
        Then::Keep
    });
    let weir = start(&consul::folder(), &backend);
    let mut client = weir.connect();
    client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let in_flight = || {
        let counters = weir.weirctl_json(&["counters"]);
        let rows = counters["servers"].as_array().unwrap().clone();
        rows.iter()
            .find(|row| row["address"] == backend.address())
            .unwrap()["in_flight"]
            .clone()
    };
    wait_until(PATIENCE, "one is in flight", || in_flight() == 1);
    sender.send(()).unwrap();
    assert_eq!(client.response("GET").unwrap().status, 200);
    wait_until(PATIENCE, "none is", || in_flight() == 0);
}

#[test]
fn watch_prints_a_line_a_publish() {
    let consul = Consul::shared();
    let folder = consul::folder();
    let backend = Backend::named("a");
    let weir = start(&folder, &backend);
    let mut command = guarded(env!("CARGO_BIN_EXE_weirctl"));
    command
        .arg("--region")
        .arg(weir.path("weir.region"))
        .arg("watch")
        .stdout(Stdio::piped());
    let mut process = Process::spawn(&mut command);
    let output = process.child().stdout.take().unwrap();
    let (sender, lines) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let first = lines.recv_timeout(PATIENCE).unwrap();
    assert!(!first.is_empty());
    consul.put(&format!("{folder}/192.0.2.77:77"), ENTRY);
    let line = lines.recv_timeout(PATIENCE).unwrap();
    assert!(
        line.contains("test") && line.contains("192.0.2.77:77"),
        "{line}"
    );
    drop(process);
    reader.join().unwrap();
}

#[test]
fn the_region_of_a_dead_weir() {
    let backend = Backend::named("a");
    let mut weir = start(&consul::folder(), &backend);
    weir.get("/");
    weir.signal(Signal::SIGKILL);
    weir.process().wait(PATIENCE);
    let region = weir.path("weir.region").display().to_string();
    for command in ["table", "workers", "counters", "verify"] {
        let done = weirctl(&["--region", &region, command]);
        assert!(done.code == Some(0), "{done:?}");
    }
    assert!(
        weirctl(&["--region", &region, "table"])
            .stdout
            .contains(backend.address())
    );
    weir.start_again();
}

#[test]
fn files_that_are_no_region_are_clear_errors() {
    let backend = Backend::named("a");
    let weir = start(&consul::folder(), &backend);
    let good = fs::read(weir.path("weir.region")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut damaged = good.clone();
    // Every word of the newest slots, so that some of them are in the table that is read.
    for word in damaged[4096..]
        .chunks_mut(8)
        .filter(|word| word.iter().any(|byte| *byte != 0))
    {
        word[0] ^= 0x55;
    }
    let cases: [(&str, Vec<u8>); 6] = [
        ("empty", Vec::new()),
        ("short", good[..100].to_vec()),
        ("truncated", good[..good.len() / 2].to_vec()),
        ("text", b"not a region at all\n".repeat(10_000)),
        ("zeros", vec![0; good.len()]),
        ("damaged", damaged),
    ];
    for (name, bytes) in cases {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        for command in ["table", "workers", "counters", "verify"] {
            let done = weirctl(&["--region", &path.display().to_string(), command]);
            let bad = done.code == Some(1) && !done.stderr.contains("panicked");
            // The scoreboard and the counters carry no checksum.
            let readable = name == "damaged" && matches!(command, "workers");
            assert!(
                bad || (readable && done.code == Some(0)),
                "{name} {command}: {done:?}"
            );
            if bad && command != "verify" {
                assert!(done.stderr.contains(name), "the file is named: {done:?}");
            }
        }
    }
    let missing = weirctl(&["--region", "/no/such/region", "table"]);
    assert!(
        missing.code == Some(1) && missing.stderr.contains("No such file"),
        "{missing:?}"
    );
}

#[test]
fn the_region_is_found_by_configuration_and_prefix() {
    let backend = Backend::named("a");
    let weir = start(&consul::folder(), &backend);
    let (file, prefix) = (weir.path("conf/weir.conf"), weir.path(""));
    let program = env!("CARGO_BIN_EXE_weirctl");
    let by_file = finish(
        guarded(program)
            .arg("-p")
            .arg(&prefix)
            .arg("-c")
            .arg(&file)
            .arg("table"),
    );
    assert!(
        by_file.code == Some(0) && by_file.stdout.contains(backend.address()),
        "{by_file:?}"
    );
    let by_prefix = finish(guarded(program).arg("-p").arg(&prefix).arg("table"));
    assert!(
        by_prefix.code == Some(0) && by_prefix.stdout.contains(backend.address()),
        "{by_prefix:?}"
    );
}

#[test]
fn the_default_region_follows_the_pid_path() {
    let text = crate::support::weir::in_http(&in_server(""));
    let region_line = text
        .lines()
        .find(|line| line.starts_with("region "))
        .unwrap()
        .to_owned();
    let weir = Setup::whole(&text.replace(&region_line, "")).start();
    let pid = weir.path("logs/weir.pid").display().to_string();
    let expected = format!("/dev/shm/weir{}.region", pid.replace('/', "-"));
    let found = fs::metadata(&expected).is_ok();
    let verified = weirctl(&["--region", &expected, "verify"]);
    drop(weir);
    let _ = fs::remove_file(&expected);
    assert!(found, "{expected}");
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

#[test]
fn several_running_instances_are_listed() {
    let backend = Backend::named("a");
    let one = start(&consul::folder(), &backend);
    let region = |weir: &Weir| weir.path("weir.region").display().to_string();
    // Other tests may run a weir beside this one.
    let alone = weirctl(&["verify"]);
    assert!(
        alone.stdout.contains(&region(&one)) || alone.stderr.contains(&region(&one)),
        "{alone:?}"
    );
    let other = start(&consul::folder(), &backend);
    let both = weirctl(&["table"]);
    assert_eq!(both.code, Some(1), "{both:?}");
    for weir in [&one, &other] {
        let line = format!("--region {}  (process {})", region(weir), weir.pid());
        assert!(both.stderr.contains(&line), "{both:?}");
    }
}
