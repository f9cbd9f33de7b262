//! How a weir is set up: its prefix, its configuration with ports of its own, and its start.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::super::process::{self, Finished, Process, guarded, read_lossy};
use super::super::{PATIENCE, free_port, wait_for};
use super::{WHO, Weir, command};

/// Starts that may be lost to another process that took a port first.
const ATTEMPTS: usize = 5;

/// The main context of most tests.
const MAIN: &str = "
daemon off;
worker_processes @WORKERS@;
error_log logs/error.log info;
pid logs/weir.pid;
region @DIR@/weir.region servers=@SERVERS@ upstreams=512;
events { worker_connections 2048; }
http {
    access_log logs/access.log;
";

/// A configuration in which `@NAME@` is replaced: `@DIR@` by the prefix, `@PORT@`, `@PORT2@`, … by
/// free ports, others by what [`Setup::set`] says.
pub struct Setup {
    pub(super) text: String,
    pub(super) values: BTreeMap<String, String>,
    pub(super) allowed: Vec<String>,
    arguments: Vec<String>,
    wrapper: Vec<String>,
    environment: Vec<(String, String)>,
    prefix: TempDir,
}

impl Setup {
    /// A whole configuration file.
    pub fn whole(text: &str) -> Setup {
        let prefix = tempfile::tempdir().unwrap();
        for folder in ["", "conf", "logs", "dump"] {
            let path = prefix.path().join(folder);
            fs::create_dir_all(&path).unwrap();
            // Workers and syncer run as another user when the tests run as root.
            fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        }
        let mut setup = Setup {
            text: text.to_owned(),
            values: BTreeMap::new(),
            allowed: Vec::new(),
            arguments: Vec::new(),
            wrapper: Vec::new(),
            environment: Vec::new(),
            prefix,
        };
        setup = setup.set("WORKERS", 2).set("SERVERS", 1024);
        let dir = setup.dir().display().to_string();
        setup.set("DIR", dir)
    }

    /// What stands in `http {}`.
    pub fn http(body: &str) -> Setup {
        Setup::whole(&in_http(body))
    }

    /// One server on `@PORT@` with these locations, and [`WHO`].
    pub fn server(body: &str) -> Setup {
        Setup::http(&in_server(body))
    }

    pub fn set(mut self, name: &str, value: impl Display) -> Setup {
        self.values.insert(name.to_owned(), value.to_string());
        self
    }

    pub fn workers(self, number: usize) -> Setup {
        self.set("WORKERS", number)
    }

    /// Lines of level alert or emerg that hold this text are part of the test.
    pub fn allow(mut self, text: &str) -> Setup {
        self.allowed.push(text.to_owned());
        self
    }

    /// One more argument of the command line.
    pub fn argument(mut self, argument: &str) -> Setup {
        self.arguments.push(argument.to_owned());
        self
    }

    /// A program, with its arguments, that replaces itself by weir.
    pub fn under(mut self, wrapper: &[&str]) -> Setup {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// A variable of weir's environment.
    pub fn environment(mut self, name: &str, value: impl Display) -> Setup {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// Without any of these.
    pub fn without_environment(mut self) -> Setup {
        self.environment.clear();
        self
    }

    pub fn dir(&self) -> &Path {
        self.prefix.path()
    }

    /// A file below the prefix, for workers to read too.
    pub fn file(self, name: &str, text: &str) -> Setup {
        fs::write(self.dir().join(name), text).unwrap();
        self
    }

    /// Writes the configuration file.
    pub fn write(&mut self) {
        let text = fill(&self.text, &mut self.values);
        // Whole at once: weir may be reading it for an earlier HUP.
        let next = self.dir().join("conf/weir.conf.next");
        fs::write(&next, text).unwrap();
        fs::rename(next, self.dir().join("conf/weir.conf")).unwrap();
    }

    /// Runs weir to its end, which is expected to come at once: `-t`, or a start that fails.
    #[track_caller]
    pub fn run(&mut self, arguments: &[&str]) -> Finished {
        self.write();
        process::finish(self.command().args(arguments))
    }

    /// Starts it and waits for the pid file.
    #[track_caller]
    pub fn start(mut self) -> Weir {
        for _ in 0..ATTEMPTS {
            self.write();
            match self.launch() {
                Ok(process) => {
                    return Weir {
                        process: Some(process),
                        setup: self,
                    };
                }
                Err(output) if output.contains("Address already in use") => {
                    self.values.retain(|name, _| !name.starts_with("PORT"));
                    let _ = fs::remove_file(self.dir().join("logs/error.log"));
                }
                Err(output) => panic!("weir does not start: {output}"),
            }
        }
        panic!("no free port in {ATTEMPTS} attempts");
    }

    fn command(&self) -> Command {
        let weir = command(self.dir());
        let mut command = match self.wrapper.split_first() {
            None => weir,
            Some((program, arguments)) => {
                let mut command = guarded(program);
                command.args(arguments).arg(env!("CARGO_BIN_EXE_weir"));
                // Without the guard's own.
                let of_weir = weir.get_args().skip_while(|word| *word != "-p");
                command.args(of_weir);
                command
            }
        };
        command.args(&self.arguments);
        let variables = self.environment.iter();
        command.envs(variables.map(|(name, value)| (name, value)));
        command
    }

    /// Starts it and waits for the pid file, or for its end: with which code, and what it said.
    #[track_caller]
    pub fn try_start(mut self) -> Result<Weir, Box<(Setup, Option<i32>, String)>> {
        self.write();
        let output = self.dir().join("output");
        let mut process = Process::start(&mut self.command(), &output);
        let pid = process.pid().to_string();
        let ended = wait_for(PATIENCE, "weir writes its pid or ends", || {
            let written = read_lossy(&self.dir().join("logs/weir.pid")).trim() == pid;
            let ended = process.ended();
            (written || ended.is_some()).then_some(ended)
        });
        match ended {
            None => Ok(Weir {
                process: Some(process),
                setup: self,
            }),
            Some(status) => {
                let said = read_lossy(&output);
                Err(Box::new((self, status.code(), said)))
            }
        }
    }

    /// Starts the process with the file as it is; what it said if it ends instead of listening.
    #[track_caller]
    pub(super) fn launch(&self) -> Result<Process, String> {
        let output = self.dir().join("output");
        let mut process = Process::start(&mut self.command(), &output);
        let pid = process.pid().to_string();
        let pid_file = self.dir().join("logs/weir.pid");
        wait_for(PATIENCE, "weir writes its pid or ends", || {
            let written = read_lossy(&pid_file).trim() == pid;
            (written || process.ended().is_some()).then_some(written)
        })
        .then_some(process)
        .ok_or_else(|| read_lossy(&output) + &read_lossy(&self.dir().join("logs/error.log")))
    }
}

/// The usual main context around what stands in `http {}`.
pub fn in_http(body: &str) -> String {
    format!("{MAIN}{body}\n}}\n")
}

/// One server on `@PORT@` with these locations.
pub fn in_server(body: &str) -> String {
    format!("server {{\nlisten 127.0.0.1:@PORT@;\n{WHO}{body}\n}}\n")
}

/// Replaces every `@NAME@`, choosing ports as they are met; names are capital letters and digits.
fn fill(text: &str, values: &mut BTreeMap<String, String>) -> String {
    let is_name = |name: &str| {
        let good = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        !name.is_empty() && name.bytes().all(good)
    };
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('@') {
        filled.push_str(before);
        let name = after.split_once('@').filter(|(name, _)| is_name(name));
        let Some((name, after)) = name else {
            filled.push('@');
            rest = after;
            continue;
        };
        if name.starts_with("PORT") && !values.contains_key(name) {
            values.insert(name.to_owned(), free_port().to_string());
        }
        let value = values
            .get(name)
            .unwrap_or_else(|| panic!("@{name}@ is not set"));
        filled.push_str(value);
        rest = after;
    }
    filled + rest
}
