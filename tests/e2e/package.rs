//! The Debian package, made of the binaries of these tests: what is in it, what its scripts do, and
//! the weir in it.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::getuid;

use crate::support::client::{Client, get};
use crate::support::process::{
    Finished, Process, alive, children, finish, finish_within, guarded, read_lossy,
};
use crate::support::{PATIENCE, free_port, repository, wait_until};

/// What `make deb` builds into the binaries.
const PLACES: [(&str, &str); 5] = [
    ("WEIR_PREFIX", "/var/lib/weir"),
    ("WEIR_CONF_PATH", "/etc/weir/weir.conf"),
    ("WEIR_PID_PATH", "/run/weir/weir.pid"),
    ("WEIR_ERROR_LOG_PATH", "/var/log/weir/error.log"),
    ("WEIR_HTTP_LOG_PATH", "/var/log/weir/access.log"),
];

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref())
        .unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// Runs a program that has to succeed; what it wrote.
#[track_caller]
fn run(command: &mut Command) -> String {
    let done = finish_within(command, PATIENCE * 2);
    assert_eq!(done.code, Some(0), "{command:?}: {done:?}");
    done.stdout
}

#[test]
fn the_package_has_everything_and_what_is_in_it_works() {
    let folder = tempfile::tempdir().unwrap();
    // Workers are another user.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let binaries = Path::new(env!("CARGO_BIN_EXE_weir")).parent().unwrap();
    let mut make = guarded(repository().join("packaging/deb"));
    make.arg(binaries).arg(folder.path());
    make.env("DEB_COMPRESSION", "none");
    let package = PathBuf::from(run(&mut make).trim());
    let root = folder.path().join("root");
    run(guarded("dpkg-deb").arg("-x").arg(&package).arg(&root));
    run(guarded("dpkg-deb")
        .arg("-e")
        .arg(&package)
        .arg(root.join("DEBIAN")));

    control_says_what_it_is(&package);
    files_are_roots_and_have_their_modes(&package);
    sums_and_pages_are_good(&root);
    the_places_agree(&root);
    the_unit_is_good(&root);
    a_stop_ends_the_new_master_first(&root);
    scripts_do_what_they_should(&root, folder.path());
    the_packaged_weir_serves(&root);
}

fn control_says_what_it_is(package: &Path) {
    let field = |name: &str| {
        run(guarded("dpkg-deb").arg("-f").arg(package).arg(name))
            .trim()
            .to_owned()
    };
    assert_eq!(field("Package"), "weir");
    assert_eq!(field("Version"), format!("{}-1", env!("CARGO_PKG_VERSION")));
    let architecture = run(guarded("dpkg").arg("--print-architecture"));
    assert_eq!(field("Architecture"), architecture.trim());
    let depends = field("Depends");
    let version = depends
        .strip_prefix("libc6 (>= 2.")
        .and_then(|rest| rest.split_once("), libgcc-s1, adduser"));
    let version: Option<u32> = version.and_then(|(version, _)| version.parse().ok());
    assert!(
        version.is_some_and(|minor| (17..100).contains(&minor)),
        "{depends}"
    );
}

fn files_are_roots_and_have_their_modes(package: &Path) {
    let list = run(guarded("dpkg-deb").arg("-c").arg(package));
    let mut modes = BTreeMap::new();
    for line in list.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[1], "root/root", "{line}");
        assert!(!words[0].contains(['s', 't']), "no set-user-ID: {line}");
        modes.insert(words[5].trim_start_matches('.'), words[0]);
    }
    for (path, mode) in [
        ("/usr/sbin/weir", "-rwxr-xr-x"),
        ("/usr/bin/weirctl", "-rwxr-xr-x"),
        ("/etc/weir/weir.conf", "-rw-r--r--"),
        ("/etc/weir/mime.types", "-rw-r--r--"),
        ("/etc/logrotate.d/weir", "-rw-r--r--"),
        ("/usr/lib/systemd/system/weir.service", "-rw-r--r--"),
        ("/usr/lib/systemd/system/weir.socket", "-rw-r--r--"),
        ("/usr/lib/tmpfiles.d/weir.conf", "-rw-r--r--"),
        ("/usr/share/man/man1/weirctl.1.gz", "-rw-r--r--"),
        ("/usr/share/man/man1/weirctl-table.1.gz", "-rw-r--r--"),
        ("/usr/share/man/man8/weir.8.gz", "-rw-r--r--"),
        (
            "/usr/share/bash-completion/completions/weirctl",
            "-rw-r--r--",
        ),
        ("/usr/share/zsh/vendor-completions/_weirctl", "-rw-r--r--"),
        (
            "/usr/share/fish/vendor_completions.d/weirctl.fish",
            "-rw-r--r--",
        ),
        ("/usr/share/doc/weir/copyright", "-rw-r--r--"),
        ("/usr/share/doc/weir/changelog.Debian.gz", "-rw-r--r--"),
        ("/usr/share/doc/weir/docs/directives.md", "-rw-r--r--"),
        ("/var/log/weir/", "drwxr-x---"),
        ("/var/lib/weir/", "drwxr-xr-x"),
        ("/var/lib/weir/dump/", "drwxr-x---"),
    ] {
        assert_eq!(modes.get(path), Some(&mode), "{path}");
    }
}

fn sums_and_pages_are_good(root: &Path) {
    let sums = root.join("DEBIAN/md5sums");
    let check = || {
        let mut command = guarded("md5sum");
        command.args(["--check", "--quiet"]).arg(&sums);
        finish(command.current_dir(root))
    };
    assert_eq!(check().code, Some(0));
    let read = root.join("usr/share/doc/weir/README.md");
    let good = text(&read);
    fs::write(&read, "other").unwrap();
    assert_eq!(check().code, Some(1), "another file is seen");
    fs::write(&read, good).unwrap();

    let conffiles = text(root.join("DEBIAN/conffiles"));
    let mut under_etc = run(guarded("find").arg(root.join("etc")).args(["-type", "f"]))
        .lines()
        .map(|path| path.replacen(root.to_str().unwrap(), "", 1))
        .collect::<Vec<_>>();
    let mut listed: Vec<_> = conffiles.lines().map(str::to_owned).collect();
    under_etc.sort();
    listed.sort();
    assert_eq!(listed, under_etc, "what an operator may change is kept");

    let page = root.join("usr/share/man/man8/weir.8.gz");
    let page = run(guarded("gzip").arg("-dc").arg(page));
    let help = finish(guarded(root.join("usr/sbin/weir")).arg("-h")).stderr;
    let options = help.lines().filter_map(|line| line.strip_prefix("  -"));
    let options: Vec<char> = options.flat_map(|rest| rest.chars().next()).collect();
    assert!(options.len() >= 10, "{help}");
    for option in options {
        assert!(
            page.contains(&format!("\\-{option}")),
            "-{option} has a line"
        );
    }
}

/// The configuration, the unit, the log rotation and what is built in name the same places.
fn the_places_agree(root: &Path) {
    let mut make = guarded("make");
    make.args(["-n", "deb"]).current_dir(repository());
    // Of a `make test` around this.
    let planned = run(make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL"));
    for (name, place) in PLACES {
        assert!(planned.contains(&format!("{name}={place}")), "{name}");
    }
    let conf = text(root.join("etc/weir/weir.conf"));
    for line in [
        "user  weir;",
        "pid        /run/weir/weir.pid;",
        "region     /run/weir/weir.region;",
        "error_log  /var/log/weir/error.log  notice;",
        "    access_log  /var/log/weir/access.log  combined;",
    ] {
        assert!(conf.lines().any(|each| each == line), "{line}");
    }
    let rotation = text(root.join("etc/logrotate.d/weir"));
    assert!(rotation.starts_with("/var/log/weir/*.log {"));
    assert!(rotation.contains("kill -USR1 \"$(cat /run/weir/weir.pid)\""));
    assert_eq!(rotation.matches('{').count(), rotation.matches('}').count());
}

/// The settings of a unit file, by section and name.
fn settings(text: &str) -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut all = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some((name, value)) = line.split_once('=') {
            all.push((section.clone(), name.to_owned(), value.to_owned()));
        } else {
            assert_eq!(line, "");
        }
    }
    all
}

fn the_unit_is_good(root: &Path) {
    let folder = root.join("usr/lib/systemd/system");
    let unit = settings(&text(folder.join("weir.service")));
    let value = |name: &str| {
        let mut found = unit.iter().filter(|(_, each, _)| each == name);
        found.next().map(|(_, _, value)| value.as_str())
    };
    for (name, expected) in [
        ("Type", "notify"),
        ("KillMode", "mixed"),
        ("KillSignal", "SIGQUIT"),
        ("Restart", "on-failure"),
        ("RuntimeDirectory", "weir"),
        ("RuntimeDirectoryPreserve", "yes"),
        ("StateDirectory", "weir"),
        ("LogsDirectory", "weir"),
    ] {
        assert_eq!(value(name), Some(expected), "{name}");
    }
    let commands = unit.iter().filter(|(_, name, _)| name.starts_with("Exec"));
    let commands: Vec<&String> = commands.map(|(_, _, command)| command).collect();
    assert_eq!(commands.len(), 5);
    for command in commands {
        let program = command.split(' ').next().unwrap();
        let program = program.trim_start_matches(['-', '/']);
        let is_there = program == "bin/sh" || root.join(program).is_file();
        assert!(is_there, "{command}");
    }
    let socket = settings(&text(folder.join("weir.socket")));
    assert!(socket.iter().any(|(_, name, _)| name == "ListenStream"));

    // As systemd reads it, where there is one; what it needs of the system is given as stubs.
    let analyze = ["/usr/bin/systemd-analyze", "/bin/systemd-analyze"];
    let Some(analyze) = analyze.into_iter().find(|path| Path::new(path).exists()) else {
        return;
    };
    for target in [
        "sysinit",
        "basic",
        "shutdown",
        "network-online",
        "nss-lookup",
        "sockets",
        "multi-user",
    ] {
        fs::write(folder.join(format!("{target}.target")), "[Unit]\n").unwrap();
    }
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::copy("/bin/sh", root.join("bin/sh")).unwrap();
    let verify = |unit: &str| {
        let mut command = guarded(analyze);
        command.args(["verify", "--man=no"]);
        command.arg(format!("--root={}", root.display()));
        finish(command.arg(unit)).stderr
    };
    assert_eq!(verify("weir.service"), "");
    assert_eq!(verify("weir.socket"), "");
    let bad = text(folder.join("weir.service")).replace("KillMode=mixed", "KillMode=gently");
    fs::write(folder.join("bad.service"), bad).unwrap();
    assert!(
        verify("bad.service").contains("gently"),
        "it sees a mistake"
    );
}

/// The command of `ExecStop`, in the middle of a binary upgrade and at any other time.
fn a_stop_ends_the_new_master_first(root: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("weir.pid");
    let unit = text(root.join("usr/lib/systemd/system/weir.service"));
    let command = unit.lines().find(|line| line.starts_with("ExecStop="));
    let script = command.unwrap().split('\'').nth(1).unwrap();
    // As systemd expands it.
    let script = script
        .replace("$$", "$")
        .replace("/run/weir/weir.pid", pid_file.to_str().unwrap());
    let script = format!("MAINPID=$1; {script}");
    let stop = |main: u32| finish(guarded("sh").args(["-c", &script, "sh", &main.to_string()]));

    let mut new = Process::spawn(
        guarded("sh")
            .args([
                "-c",
                "trap 'exit 7' QUIT; echo ready; while :; do sleep 0.02; done",
            ])
            .stdout(fs::File::create(folder.path().join("output")).unwrap()),
    );
    wait_until(PATIENCE, "it hears", || {
        read_lossy(&folder.path().join("output")) == "ready\n"
    });
    let pid = new.pid();
    fs::write(&pid_file, format!("{pid}\n")).unwrap();
    assert_ne!(stop(pid).code, Some(0), "nobody is told who is told anyway");
    assert!(new.ended().is_none());
    let ended = std::thread::scope(|scope| {
        // Somebody has to reap it.
        let ended = scope.spawn(|| new.wait(PATIENCE).code());
        let stopped = stop(pid + 1);
        assert_eq!(stopped.code, Some(0), "{stopped:?}");
        assert!(!alive(pid), "it was waited for");
        ended.join().unwrap()
    });
    assert_eq!(ended, Some(7));
}

/// The maintainer scripts with the system's programs replaced by ones that only tell what was asked.
struct Scripts<'a> {
    root: &'a Path,
    folder: PathBuf,
}

impl Scripts<'_> {
    fn stub(&self, name: &str, body: &str) {
        let path = self.folder.join("bin").join(name);
        let log = self.folder.join("calls");
        let script = format!(
            "#!/bin/sh\necho \"{name} $*\" >> {}\n{body}\n",
            log.display()
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a script; what it called, and what it said.
    fn run(&self, script: &str, arguments: &[&str]) -> (Vec<String>, Finished) {
        let _ = fs::remove_file(self.folder.join("calls"));
        // A system of its own, under systemd.
        let place = |path: &str| format!("{}{path}", self.folder.display());
        let text = text(self.root.join("DEBIAN").join(script))
            .replace("/run/systemd/system", &place("/systemd"))
            .replace("/run/weir", &place("/run"));
        let here = self.folder.join(script);
        fs::write(&here, text).unwrap();
        let path = format!(
            "{}:{}",
            self.folder.join("bin").display(),
            std::env::var("PATH").unwrap()
        );
        let done = finish(guarded("sh").arg(here).args(arguments).env("PATH", path));
        let calls = read_lossy(&self.folder.join("calls"));
        (calls.lines().map(str::to_owned).collect(), done)
    }
}

fn scripts_do_what_they_should(root: &Path, folder: &Path) {
    let folder = folder.join("system");
    for name in ["bin", "systemd"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    let scripts = Scripts {
        root,
        folder: folder.clone(),
    };
    for name in [
        "adduser",
        "chown",
        "chmod",
        "deb-systemd-helper",
        "deb-systemd-invoke",
        "weir",
        "rm",
    ] {
        scripts.stub(name, "");
    }
    scripts.stub("getent", "exit 2");
    scripts.stub("systemctl", "[ \"$1\" != --quiet ]");
    let has = |calls: &[String], begin: &str| calls.iter().any(|call| call.starts_with(begin));

    let (calls, done) = scripts.run("postinst", &["configure", ""]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let user = "adduser --quiet --system --group --no-create-home";
    assert!(has(&calls, user), "{calls:?}");
    assert!(
        folder.join("run").is_dir(),
        "or no configuration is accepted"
    );
    assert!(has(&calls, "chown root:adm /var/log/weir"), "{calls:?}");
    assert!(has(&calls, "deb-systemd-helper enable weir.service"));
    let place = |begin: &str| calls.iter().position(|call| call.starts_with(begin));
    let (test, start) = (
        place("weir -t -q"),
        place("deb-systemd-invoke start weir.service"),
    );
    assert!(test.is_some() && test < start, "{calls:?}");

    scripts.stub("weir", "exit 1");
    let (calls, done) = scripts.run("postinst", &["configure", ""]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.contains("nothing is started"), "{done:?}");
    assert!(!has(&calls, "deb-systemd-invoke"), "{calls:?}");
    scripts.stub("weir", "");

    a_running_one_is_upgraded(&scripts);

    let (calls, done) = scripts.run("prerm", &["upgrade", "2"]);
    assert_eq!((done.code, calls.len()), (Some(0), 0), "it goes on running");
    let (calls, _) = scripts.run("prerm", &["remove"]);
    assert!(has(
        &calls,
        "deb-systemd-invoke stop weir.socket weir.service"
    ));
    let (calls, done) = scripts.run("postrm", &["remove"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(!has(&calls, "rm "), "only a purge takes files");
    let (calls, _) = scripts.run("postrm", &["purge"]);
    assert!(
        has(&calls, "rm -rf /var/log/weir /var/lib/weir"),
        "{calls:?}"
    );
}

/// With a master that does on USR2 and QUIT what weir's does to its pid file.
fn a_running_one_is_upgraded(scripts: &Scripts) {
    scripts.stub("systemctl", "");
    scripts.stub("getent", "");
    let pid_file = scripts.folder.join("run/weir.pid");
    let shown = pid_file.display();
    let script = format!(
        "trap 'mv {shown} {shown}.oldbin; echo 1 > {shown}' USR2
         trap 'exit 7' QUIT
         echo $$ > {shown}
         while :; do sleep 0.02; done"
    );
    let mut old = Process::spawn(guarded("sh").args(["-c", &script]));
    wait_until(PATIENCE, "it runs", || !read_lossy(&pid_file).is_empty());
    let (calls, done) = scripts.run("postinst", &["configure", "0.0.9-1"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.stderr, "");
    assert_eq!(old.wait(PATIENCE).code(), Some(7), "it was told to quit");
    let touched = |call: &String| {
        let words = ["adduser", "chown", "deb-systemd-invoke"];
        words.iter().any(|word| call.starts_with(word))
    };
    assert!(!calls.iter().any(touched), "{calls:?}");

    // One that does not know how is left alone.
    fs::remove_file(&pid_file).unwrap();
    let (_, done) = scripts.run("postinst", &["configure", "0.0.9-1"]);
    assert!(
        done.stderr.contains("the old version still runs"),
        "{done:?}"
    );
}

/// A program that runs another with no more rights than systemd would give it.
fn rights_of_the_unit(root: &Path) -> Vec<String> {
    let unit = settings(&text(root.join("usr/lib/systemd/system/weir.service")));
    let value = |name: &str| {
        let mut found = unit.iter().filter(|(_, each, _)| each == name);
        found.next().unwrap().2.to_lowercase()
    };
    assert_eq!(value("NoNewPrivileges"), "yes");
    let mut rights = vec!["setpriv".to_owned(), "--no-new-privs".to_owned()];
    if getuid().is_root() {
        let set = value("CapabilityBoundingSet").replace("cap_", "+");
        rights.push(format!("--bounding-set=-all,{}", set.replace(' ', ",")));
    }
    rights
}

fn the_packaged_weir_serves(root: &Path) {
    let port = free_port();
    let shown = root.display();
    let conf = root.join("etc/weir/weir.conf");
    fs::create_dir_all(root.join("run/weir")).unwrap();
    // The user that the scripts would have made; the default will do.
    let here = text(&conf)
        .replace("user  weir;", "")
        .replace(" /run/", &format!(" {shown}/run/"))
        .replace(" /var/", &format!(" {shown}/var/"))
        .replace("listen       80;", &format!("listen 127.0.0.1:{port};"));
    assert!(here.contains(&format!("127.0.0.1:{port}")), "{here}");
    fs::write(&conf, here).unwrap();

    let rights = rights_of_the_unit(root);
    let weir = || {
        let mut command = guarded(&rights[0]);
        command.args(&rights[1..]).arg(root.join("usr/sbin/weir"));
        command.arg("-c").arg(&conf);
        command.arg("-p").arg(root.join("var/lib/weir"));
        command
    };
    let tested = finish(weir().args(["-t", "-q"]));
    assert_eq!((tested.code, tested.stderr.as_str()), (Some(0), ""));
    let output = root.join("output");
    let mut process = Process::start(weir().args(["-g", "daemon off;"]), &output);
    let address = format!("127.0.0.1:{port}");
    wait_until(PATIENCE, "it serves", || {
        assert!(process.ended().is_none(), "{}", read_lossy(&output));
        root.join("run/weir/weir.pid").exists()
    });
    let response = get(address.clone(), "/");
    assert!(response.text().contains("/etc/weir/weir.conf says what"));
    let mut check = guarded(root.join("usr/bin/weirctl"));
    let region = root.join("run/weir/weir.region");
    let check = finish(check.arg("--region").arg(region).arg("check"));
    assert_eq!(check.code, Some(0), "{check:?}");

    for pid in children(process.pid()) {
        let status = read_lossy(Path::new(&format!("/proc/{pid}/status")));
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    }
    // As the unit reloads it, and as the logs are rotated.
    let reloaded = finish(weir().args(["-s", "reload"]));
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    let log = root.join("var/log/weir/error.log");
    wait_until(PATIENCE, "it is reloaded", || {
        read_lossy(&log).contains("config generation 2 live")
    });
    let access = root.join("var/log/weir/access.log");
    fs::rename(&access, access.with_extension("log.1")).unwrap();
    let rotation = text(root.join("etc/logrotate.d/weir"));
    let line = rotation.lines().find(|line| line.contains("kill")).unwrap();
    let line = line.replace("/run/weir/", &format!("{shown}/run/weir/"));
    run(guarded("sh").args(["-ec", &line]));
    wait_until(PATIENCE, "the log is opened anew", || access.exists());
    process.signal(Signal::SIGQUIT);
    assert_eq!(process.wait(PATIENCE).code(), Some(0));
    assert!(Client::try_connect(address).is_err());
}

#[test]
fn a_folder_without_binaries_makes_no_package() {
    let folder = tempfile::tempdir().unwrap();
    let mut make = guarded(repository().join("packaging/deb"));
    let done = finish(make.arg(folder.path()).arg(folder.path()));
    assert_ne!(done.code, Some(0));
    assert!(done.stderr.contains("weir"), "{done:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
