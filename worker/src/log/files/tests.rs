use super::*;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::settings::LogBuffer;

fn buffered(path: &str, size: usize, flush_ms: Option<u64>) -> LogFile {
    LogFile {
        path: path.to_owned(),
        buffer: Some(LogBuffer {
            size,
            flush: flush_ms.map(Duration::from_millis),
        }),
    }
}

fn plain(path: &str) -> LogFile {
    LogFile {
        path: path.to_owned(),
        buffer: None,
    }
}

/// The logs of a first configuration.
fn first(files: Vec<File>, names: &[LogFile]) -> Files {
    let (files, lost) = Files::succeed(&Files::new(Vec::new()), files, names);
    assert!(lost.is_empty());
    files
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn create(&self, name: &str) -> File {
        let mut options = File::options();
        options.append(true).create(true);
        options.open(self.path(name)).unwrap()
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

#[test]
fn a_replaced_file_gets_the_lines_from_then_on() {
    let folder = Folder::new();
    let files = Files::new(vec![folder.create("old")]);
    files.write(0, b"one\n").unwrap();
    assert!(files.replace(0, folder.create("new")).is_none());
    files.write(0, b"two\n").unwrap();
    assert_eq!(folder.text("old"), "one\n");
    assert_eq!(folder.text("new"), "two\n");
    assert_eq!(
        files.write(1, b"x").unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
}

#[test]
fn a_full_disk_and_a_full_pipe_are_errors_and_no_more() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (mut reader, writer) = io::pipe().unwrap();
    let writer = OwnedFd::from(writer);
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let files = Files::new(vec![full, File::from(writer)]);
    assert_eq!(
        files.write(0, b"x\n").unwrap_err().kind(),
        io::ErrorKind::StorageFull
    );
    while files.write(1, &[b'x'; 4096]).is_ok() {}
    assert_eq!(
        files.write(1, b"x").unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    let mut some = [0; 8192];
    reader.read_exact(&mut some).unwrap();
    files.write(1, b"again\n").unwrap();
}

#[test]
fn a_full_disk_is_left_alone_for_its_second_and_told_once_a_minute() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let files = first(vec![full], &[plain("/dev/full")]);
    let lost = files.append(0, b"x\n", 5_000).unwrap_err();
    assert_eq!(lost.path, "/dev/full");
    assert!(files.append(0, b"x\n", 5_999).is_ok(), "not even tried");
    assert!(files.append(0, b"x\n", 6_000).is_err());
    assert!(files.complains(0, 6_000));
    assert!(!files.complains(0, 65_999));
    assert!(files.complains(0, 66_000));
    assert!(!files.complains(1, 66_000), "no such log");
}

#[test]
fn a_buffer_is_written_when_its_time_has_come() {
    let folder = Folder::new();
    let names = [buffered("/a", 100, Some(50)), buffered("/b", 100, Some(70))];
    let files = first(vec![folder.create("a"), folder.create("b")], &names);
    assert_eq!(files.next_due_ms(), None);
    files.append(1, b"b\n", 1000).unwrap();
    files.append(0, b"a\n", 1010).unwrap();
    assert_eq!(files.next_due_ms(), Some(1060));
    assert!(files.flush_due(1059).is_empty());
    assert_eq!((folder.text("a"), folder.text("b")), ("".into(), "".into()));
    assert!(files.flush_due(1060).is_empty());
    assert_eq!(
        (folder.text("a"), folder.text("b")),
        ("a\n".into(), "".into())
    );
    assert_eq!(files.next_due_ms(), Some(1070));
    assert!(files.flush().is_empty());
    assert_eq!(folder.text("b"), "b\n");
    assert!(files.flush_due(1070).is_empty());
    assert_eq!(files.next_due_ms(), None);
}

#[test]
fn what_a_buffer_holds_goes_into_the_old_file() {
    let folder = Folder::new();
    let files = first(vec![folder.create("old")], &[buffered("/a", 100, None)]);
    files.append(0, b"one\n", 0).unwrap();
    assert!(files.replace(0, folder.create("new")).is_none());
    files.append(0, b"two\n", 0).unwrap();
    assert!(files.flush().is_empty());
    assert_eq!(
        (folder.text("old"), folder.text("new")),
        ("one\n".into(), "two\n".into())
    );
}

#[test]
fn requests_of_an_older_configuration_write_to_the_newest_file() {
    let folder = Folder::new();
    let names = [
        buffered("/kept", 100, None),
        buffered("/gone", 100, Some(10)),
    ];
    let old = first(vec![folder.create("kept"), folder.create("gone")], &names);
    old.append(0, b"1\n", 0).unwrap();
    old.append(1, b"1\n", 0).unwrap();
    let names = [plain("/new"), plain("/kept")];
    let opened = vec![folder.create("new"), folder.create("kept")];
    let (new, lost) = Files::succeed(&old, opened, &names);
    assert!(lost.is_empty());
    assert_eq!(
        (folder.text("kept"), folder.text("gone")),
        ("1\n".into(), "1\n".into())
    );
    assert!(new.replace(1, folder.create("rotated")).is_none());
    old.append(0, b"2\n", 0).unwrap();
    new.append(1, b"3\n", 0).unwrap();
    old.append(1, b"4\n", 0).unwrap();
    assert_eq!(folder.text("rotated"), "2\n3\n");
    assert_eq!(
        folder.text("gone"),
        "1\n4\n",
        "no buffer is left that nobody would write"
    );
    assert_eq!(folder.text("new"), "");
}

#[test]
fn lines_of_many_threads_stay_whole() {
    let folder = Folder::new();
    let files = Files::new(vec![folder.create("log")]);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let files = &files;
            scope.spawn(move || {
                let line = format!("{}\n", thread.to_string().repeat(200));
                for _ in 0..200 {
                    files.write(0, line.as_bytes()).unwrap();
                }
            });
        }
    });
    let text = folder.text("log");
    assert_eq!(text.lines().count(), 800);
    for line in text.lines() {
        assert!(line.len() == 200 && line.bytes().all(|byte| byte == line.as_bytes()[0]));
    }
}
