//! The README's literal line, as a newcomer types it.

use std::fs::File;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::process::{Process, alive, descendants, finish, guarded, read_lossy, title};
use crate::support::{PATIENCE, repository, wait_for, wait_until};

/// The release build comes first, which takes minutes on a small machine.
const BUILD: Duration = Duration::from_secs(900);

/// The line of the README that starts the demo.
fn line() -> String {
    let readme = read_lossy(&repository().join("README.md"));
    let lines: Vec<_> = readme
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("cargo run") && line.ends_with("demo"))
        .collect();
    assert_eq!(lines, ["cargo run --release -- demo"]);
    lines[0].to_owned()
}

/// Starts it in a folder for its output; returns when it has printed what to try.
fn start(folder: &std::path::Path) -> (Process, String) {
    let output = folder.join("output");
    let mut command = guarded("sh");
    command
        .args(["-c", &format!("exec {}", line())])
        .current_dir(repository())
        // What a killed demo leaves goes with the test's folder.
        .env("TMPDIR", folder);
    command.stdout(File::create(&output).unwrap());
    command.stderr(File::create(folder.join("errors")).unwrap());
    let mut process = Process::spawn(&mut command);
    let said = wait_for(BUILD, "the demo says what to try", || {
        if let Some(status) = process.ended() {
            panic!(
                "it has ended, {status}: {}",
                read_lossy(&folder.join("errors"))
            );
        }
        let said = read_lossy(&output);
        (curls(&said).len() >= 4 && said.contains("Ctrl-C")).then_some(said)
    });
    (process, said)
}

fn curls(said: &str) -> Vec<String> {
    said.lines()
        .map(str::trim)
        .filter(|line| line.starts_with("curl "))
        .map(str::to_owned)
        .collect()
}

fn shell(line: &str) -> String {
    let done = finish(guarded("sh").args(["-c", &line.replacen("curl ", "curl -sS ", 1)]));
    assert_eq!(done.code, Some(0), "{line}: {done:?}");
    done.stdout
}

#[test]
fn the_readmes_line_and_what_it_prints() {
    let folder = tempfile::tempdir().unwrap();
    let (mut process, said) = start(folder.path());
    let lines = curls(&said);
    let find = |word: &str| {
        lines
            .iter()
            .find(|line| line.contains(word))
            .unwrap_or_else(|| panic!("{word} in {lines:?}"))
            .clone()
    };
    let (add, remove) = (find("-X PUT"), find("-X DELETE"));
    let (test, show) = (find("/proxy_test"), find("/upstream_show?test"));
    assert_ne!(shell(&test), "");
    assert!(shell(&show).starts_with("Upstream name: test; Backend server count: 1\n"));
    assert_eq!(shell(&add).trim(), "true");
    wait_until(PATIENCE, "the second server is shown", || {
        shell(&show).starts_with("Upstream name: test; Backend server count: 2\n")
    });
    let mut answers = std::collections::BTreeSet::new();
    wait_until(PATIENCE, "both answer", || {
        answers.insert(shell(&test));
        answers.len() == 2
    });
    assert_eq!(shell(&remove).trim(), "true");
    wait_until(PATIENCE, "it is gone", || {
        shell(&show).starts_with("Upstream name: test; Backend server count: 1\n")
    });
    let before = read_lossy(&folder.path().join("output")).len();
    wait_until(PATIENCE, "the summary lives", || {
        read_lossy(&folder.path().join("output")).len() > before
    });

    // The same line again falls back to free ports.
    let second_folder = tempfile::tempdir().unwrap();
    let (mut second, second_said) = start(second_folder.path());
    let second_test = curls(&second_said)
        .into_iter()
        .find(|line| line.contains("/proxy_test"))
        .unwrap();
    assert_ne!(second_test, test);
    assert_ne!(shell(&second_test), "");

    let left = [descendants(second.pid()), vec![second.pid()]].concat();
    assert!(
        left.iter()
            .any(|pid| title(*pid).starts_with("weir: worker process")),
        "{left:?}"
    );
    second.signal(Signal::SIGINT);
    assert_eq!(
        second.wait(PATIENCE).code(),
        Some(0),
        "Ctrl-C ends it in order"
    );
    wait_until(PATIENCE, "no child is left after Ctrl-C", || {
        !left.iter().any(|pid| alive(*pid))
    });

    let left = descendants(process.pid());
    assert!(left.len() >= 4, "{left:?}");
    process.signal(Signal::SIGKILL);
    process.wait(PATIENCE);
    wait_until(PATIENCE, "no child is left after SIGKILL", || {
        !left.iter().any(|pid| alive(*pid))
    });
    let errors = read_lossy(&folder.path().join("errors"));
    assert!(!errors.contains("panicked"), "{errors}");
}
