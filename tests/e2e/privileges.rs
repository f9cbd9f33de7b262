//! What workers and syncer may do, what they hold, and who may read and write weir's files. As root
//! the children are another user; as anyone else they have lost what there is to lose.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use nix::unistd::{Gid, User, getgid, getgrouplist, getgroups, getuid};

use crate::support::consul::{self, Consul, ENTRY};
use crate::support::process::{children, finish, guarded, read_lossy, send, title};
use crate::support::weir::{SOON, Setup, Weir, in_server};
use crate::support::{PATIENCE, tool, wait_for, wait_until};

/// Whom the children become.
const USER: &str = "nobody";

/// Starts weir with the inheritable and ambient capability that nobody took away.
const WITH_CAPABILITY: [&str; 4] = [
    "--inh-caps",
    "+net_bind_service",
    "--ambient-caps",
    "+net_bind_service",
];

struct Expected {
    uid: u32,
    gid: u32,
    groups: BTreeSet<u32>,
}

/// Whom children run as.
fn expected() -> Expected {
    let raw = |groups: Vec<Gid>| groups.into_iter().map(Gid::as_raw).collect();
    if !getuid().is_root() {
        return Expected {
            uid: getuid().as_raw(),
            gid: getgid().as_raw(),
            groups: raw(getgroups().unwrap()),
        };
    }
    let user = User::from_name(USER).unwrap().unwrap();
    let name = std::ffi::CString::new(USER).unwrap();
    Expected {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups: raw(getgrouplist(&name, user.gid).unwrap()),
    }
}

/// `/proc/PID/task/TID/status` of every thread, by field.
fn statuses(pid: u32) -> Vec<BTreeMap<String, String>> {
    let fields = |text: String| {
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        pairs
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect()
    };
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .map(|task| fields(read_lossy(&task.unwrap().path().join("status"))))
        .collect()
}

/// What a process has that it should not have.
fn excess(pid: u32, expected: &Expected) -> Vec<String> {
    let mut all = Vec::new();
    let numbers =
        |text: &str| -> Vec<u32> { text.split_whitespace().flat_map(str::parse).collect() };
    for status in statuses(pid) {
        let mut tell = |name: &str, good: bool| {
            if !good {
                all.push(format!("{name}: {}", status[name]));
            }
        };
        tell("Uid", numbers(&status["Uid"]) == [expected.uid; 4]);
        tell("Gid", numbers(&status["Gid"]) == [expected.gid; 4]);
        let groups: BTreeSet<u32> = numbers(&status["Groups"]).into_iter().collect();
        tell("Groups", groups == expected.groups);
        for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            tell(name, u64::from_str_radix(&status[name], 16) == Ok(0));
        }
        // Only who may set user ids may change this one.
        if getuid().is_root() {
            tell(
                "CapBnd",
                u64::from_str_radix(&status["CapBnd"], 16) == Ok(0),
            );
        }
        tell("NoNewPrivs", status["NoNewPrivs"] == "1");
    }
    all
}

fn assert_confined(weir: &Weir, number: usize) {
    let children = children(weir.pid());
    assert_eq!(children.len(), number, "all are looked at");
    let expected = expected();
    for pid in children {
        assert_eq!(excess(pid, &expected), [""; 0], "{}", title(pid));
    }
}

#[test]
fn children_have_no_privilege_and_no_way_back() {
    let mut wrapper = vec!["setpriv"];
    if getuid().is_root() {
        wrapper.extend(WITH_CAPABILITY);
    }
    let weir = Setup::server("")
        .workers(2)
        .under(&wrapper)
        .allow("exited on signal 9")
        .start();
    assert_confined(&weir, 3);
    let masters = excess(weir.pid(), &expected());
    assert!(
        masters.iter().any(|each| each.starts_with("NoNewPrivs")),
        "a process that has something is told of: {masters:?}"
    );
    if getuid().is_root() {
        for name in ["Uid", "CapEff", "CapInh", "CapAmb", "CapBnd"] {
            assert!(
                masters.iter().any(|each| each.starts_with(name)),
                "{masters:?}"
            );
        }
    }
    // Those that take the places of the dead are no different.
    let before = children(weir.pid());
    for pid in &before {
        send(*pid, Signal::SIGKILL);
    }
    wait_until(PATIENCE, "each has a successor that serves", || {
        let now = children(weir.pid());
        now.len() == 3 && now.iter().all(|pid| !before.contains(pid))
    });
    assert_eq!(weir.each_worker(2).len(), 2);
    weir.syncer();
    assert_confined(&weir, 3);
}

/// As an unprivileged user who was given the one capability that it takes to bind port 80.
#[test]
fn a_master_that_is_not_root_keeps_its_capability_for_itself() {
    let nobody = expected();
    let (uid, gid) = (nobody.uid.to_string(), nobody.gid.to_string());
    let user = if getuid().is_root() {
        let user = [
            "setpriv",
            "--reuid",
            &uid,
            "--regid",
            &gid,
            "--clear-groups",
        ];
        [&user[..], &WITH_CAPABILITY].concat()
    } else {
        // In a user namespace everybody has them all.
        vec!["unshare", "--user", "--keep-caps"]
    };
    let setup = Setup::server("").workers(1).under(&user);
    let weir = reachable(setup).start();
    let master = &statuses(weir.pid())[0];
    assert_ne!(master["CapEff"], "0000000000000000", "it has it");
    for pid in children(weir.pid()) {
        for status in statuses(pid) {
            for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                assert_eq!(status[name], "0000000000000000", "{name} of {}", title(pid));
            }
            assert_eq!(status["NoNewPrivs"], "1");
        }
    }
}

/// The files of a process by path, in `folder` or where only root may go.
fn files(pid: u32, folder: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    entries
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|link| link.is_absolute() && !link.starts_with("/dev"))
        .filter(|link| !link.starts_with("/memfd:"))
        .map(|link| link.strip_prefix(folder).unwrap_or(&link).to_owned())
        .collect()
}

/// Everything that weir puts on the disk, in one prefix.
fn everything(consul: &Consul, folder: &str) -> Setup {
    let address = consul.address();
    Setup::http(&format!(
        "upstream test {{
            upsync {address}/v1/kv/{folder} upsync_type=consul upsync_interval=200ms;
            upsync_token_file @DIR@/token;
            upsync_dump_path @DIR@/dump/test.conf;
        }}
        {}",
        in_server("location /t { proxy_pass http://test; }")
    ))
    .workers(2)
    .file("token", "secret")
}

#[test]
fn a_child_holds_no_file_but_what_it_was_given() {
    let consul = Consul::shared();
    let setup = everything(consul, &consul::folder());
    let token = setup.dir().join("token");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let weir = setup.start();
    let folder = weir.path("").canonicalize().unwrap();
    let set = |names: &[&str]| names.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
    let given = set(&["logs/access.log", "logs/error.log", "output"]);
    for worker in weir.workers() {
        assert_eq!(files(worker, &folder), given, "a worker");
    }
    let mut syncer = files(weir.syncer(), &folder);
    assert!(
        syncer.remove(Path::new("weir.region")),
        "it writes: {syncer:?}"
    );
    assert_eq!(syncer, given, "the syncer has read the token");
    let master = files(weir.pid(), &folder);
    assert!(
        master.contains(Path::new("logs/weir.pid")),
        "what is open is seen: {master:?}"
    );
}

/// Lets anybody who runs it reach what an unprivileged master has to write.
fn reachable(setup: Setup) -> Setup {
    fs::set_permissions(setup.dir(), fs::Permissions::from_mode(0o777)).unwrap();
    setup
}

/// Owner and mode of a file.
fn rights(path: &Path) -> Option<(u32, u32)> {
    let found = fs::symlink_metadata(path).ok()?;
    Some((found.uid(), found.mode() & 0o7777))
}

#[test]
fn files_belong_to_whom_they_should_whatever_the_umask() {
    for (umask, log) in [("000", 0o644), ("022", 0o644), ("077", 0o600)] {
        let script = format!("umask {umask}; exec \"$@\"");
        let consul = Consul::shared();
        let folder = consul::folder();
        consul.put(&format!("{folder}/127.0.0.1:8001"), ENTRY);
        let mut weir = everything(consul, &folder)
            .under(&["sh", "-c", &script, "sh"])
            .start();
        let (root, user) = (getuid().as_raw(), expected().uid);
        for (name, owner, mode) in [
            ("weir.region", user, 0o644),
            ("weir.control", root, 0o600),
            ("logs/weir.pid", root, 0o644),
            ("logs/access.log", root, log),
            ("logs/error.log", root, log),
            ("client_body_temp", user, 0o700),
            ("proxy_temp", user, 0o700),
            ("state", user, 0o700),
            ("state/weir.state", user, 0o600),
            ("dump/test.conf", user, 0o644),
        ] {
            let path = weir.path(name);
            let found = wait_for(SOON, &format!("{name} is there"), || rights(&path));
            let found = format!("{:?} {:o}", found.0, found.1);
            assert_eq!(
                found,
                format!("{owner:?} {mode:o}"),
                "{name}, umask {umask}"
            );
        }
        only_the_master_s_user_asks(&weir);
        weir.stop();
        assert_eq!(rights(&weir.path("weir.control")), None, "it is gone");
    }
}

/// The control socket, as the workers' user: `weirctl` lies where that user may run it.
fn only_the_master_s_user_asks(weir: &Weir) {
    let program = weir.path("weirctl");
    fs::copy(env!("CARGO_BIN_EXE_weirctl"), &program).unwrap();
    let region = weir.path("weir.region");
    let user = expected();
    let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
    let ask = |wrapper: &[&str]| {
        let mut command = guarded(tool("setpriv"));
        command.args(wrapper).arg(&program);
        command.arg("--region").arg(&region);
        finish(command.args(["rollback", "4711"]))
    };
    let own = ask(&["--"]);
    assert!(
        own.code == Some(1) && own.stderr.contains("4711"),
        "the master answers its own user: {own:?}"
    );
    if getuid().is_root() {
        let other = ask(&["--reuid", &uid, "--regid", &gid, "--clear-groups", "--"]);
        assert!(
            other.code == Some(1) && other.stderr.contains("Permission denied"),
            "{other:?}"
        );
    }
}
