//! nginx's command line.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use weir_master::{Loaded, Program, Signal};
use weir_worker::log::{ErrorLog, Files};
use weir_worker::settings::{Level, LogTarget};

use crate::config::{self, Paths};
use crate::paths::{self, CONFIGURATION, ERROR_LOG, PREFIX};

/// The nginx whose configuration language weir follows.
pub const NGINX_VERSION: &str = "1.29.7";

/// What the command line asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `-h`, `-?`
    pub help: bool,
    /// `-v`, and all that imply it.
    pub version: bool,
    /// `-V`
    pub configure: bool,
    /// `-t`
    pub test: bool,
    /// `-T`
    pub dump: bool,
    /// `-q`
    pub quiet: bool,
    /// `-s`
    pub signal: Option<Signal>,
    /// `-p`
    pub prefix: Option<String>,
    /// `-e`
    pub error_log: Option<String>,
    /// `-c`
    pub file: Option<String>,
    /// `-g`
    pub directives: Option<String>,
}

impl Options {
    /// Reads the arguments, without the program's name; flags may share a dash, and a value may
    /// follow its flag at once.
    ///
    /// # Errors
    /// nginx's message.
    pub fn parse(arguments: &[String]) -> Result<Options, String> {
        let mut options = Options::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let Some(mut flags) = argument.strip_prefix('-') else {
                return Err(format!("invalid option: \"{argument}\""));
            };
            while let Some(flag) = flags.chars().next() {
                flags = &flags[flag.len_utf8()..];
                if options.set_flag(flag) {
                    continue;
                }
                let what =
                    parameter_of(flag).ok_or_else(|| format!("invalid option: \"{flag}\""))?;
                let value = if flags.is_empty() {
                    arguments.next().map(String::as_str)
                } else {
                    Some(flags)
                };
                let value = value.ok_or_else(|| format!("option \"-{flag}\" requires {what}"))?;
                options.set_value(flag, value)?;
                break;
            }
        }
        Ok(options)
    }

    fn set_flag(&mut self, flag: char) -> bool {
        match flag {
            '?' | 'h' => (self.version, self.help) = (true, true),
            'v' => self.version = true,
            'V' => (self.version, self.configure) = (true, true),
            't' => self.test = true,
            'T' => (self.test, self.dump) = (true, true),
            'q' => self.quiet = true,
            _ => return false,
        }
        true
    }

    fn set_value(&mut self, flag: char, value: &str) -> Result<(), String> {
        let value = value.to_owned();
        match flag {
            'p' => self.prefix = Some(value),
            'e' => self.error_log = Some(value),
            'c' => self.file = Some(value),
            'g' => self.directives = Some(value),
            _ => {
                let signal = Signal::from_name(&value)
                    .ok_or_else(|| format!("invalid option: \"-s {value}\""))?;
                self.signal = Some(signal);
            }
        }
        Ok(())
    }

    /// Where the configuration and its files are.
    pub fn paths(&self) -> Paths {
        let mut prefix = self.prefix.clone().unwrap_or_else(|| PREFIX.to_owned());
        if !prefix.is_empty() && !prefix.ends_with('/') {
            prefix.push('/');
        }
        let file = self.file.as_deref().unwrap_or(CONFIGURATION);
        let file = if file.starts_with('/') {
            file.to_owned()
        } else {
            format!("{prefix}{file}")
        };
        let error_log = self
            .error_log
            .clone()
            .unwrap_or_else(|| ERROR_LOG.to_owned());
        Paths {
            prefix,
            file,
            error_log,
            directives: self.directives.clone(),
        }
    }
}

/// What the flag's value is called; `None` if it takes none.
fn parameter_of(flag: char) -> Option<&'static str> {
    match flag {
        'p' => Some("directory name"),
        'e' | 'c' => Some("file name"),
        'g' | 's' => Some("parameter"),
        _ => None,
    }
}

/// The arguments as text.
///
/// # Errors
/// One that is not UTF-8 is told on standard error; the code to exit with.
pub fn arguments(given: impl Iterator<Item = OsString>) -> Result<Vec<String>, ExitCode> {
    given
        .map(OsString::into_string)
        .collect::<Result<_, _>>()
        .map_err(|argument| {
            let shown = argument.to_string_lossy();
            say(&format!("invalid option: \"{shown}\" is not UTF-8"));
            ExitCode::FAILURE
        })
}

/// The `weir` command.
pub fn run(arguments: &[String]) -> ExitCode {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(message) => {
            say(&message);
            return ExitCode::FAILURE;
        }
    };
    if options.version {
        show_version(&options);
        if !options.test {
            return ExitCode::SUCCESS;
        }
    }
    if options.test {
        return test(&options);
    }
    let loaded = match config::load(options.paths()) {
        Ok(loaded) => loaded,
        Err(message) => {
            emerg(&message);
            early_log(&options.paths(), &message);
            return ExitCode::FAILURE;
        }
    };
    match options.signal {
        Some(signal) => send(signal, &loaded),
        None => weir_master::run(program(&options), loaded),
    }
}

/// A start that fails before the configuration names a log leaves its reason in the first log.
fn early_log(paths: &Paths, message: &str) {
    if paths.error_log == "stderr" {
        return;
    }
    let path = paths.full(&paths.error_log);
    match File::options().append(true).create(true).open(&path) {
        Err(error) => say(&format!(
            "[alert] could not open error log file: open() \"{path}\" failed {}",
            config::errno(&error)
        )),
        Ok(file) => {
            let targets = [LogTarget {
                resource: 0,
                level: Level::Error,
            }];
            let log = ErrorLog::new(Arc::new(Files::new(vec![file])), targets.into());
            for line in message.lines() {
                log.log(Level::Emerg, format_args!("{line}"));
            }
        }
    }
}

/// `-s`
fn send(signal: Signal, loaded: &Loaded) -> ExitCode {
    match weir_master::send_signal(&loaded.settings.pid, signal) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            say(&message);
            ExitCode::FAILURE
        }
    }
}

fn program(options: &Options) -> Program {
    let paths = options.paths();
    let command: Vec<OsString> = std::env::args_os().collect();
    let shown: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    Program {
        prefix: paths.prefix.clone().into(),
        load: Box::new(move || config::load(paths.clone())),
        build: config::build,
        build_worker: config::build_worker,
        title: format!("weir: master process {}", shown.join(" ")),
        command,
    }
}

/// `-t` and `-T`
fn test(options: &Options) -> ExitCode {
    let paths = options.paths();
    let file = paths.file.clone();
    let read = config::read(paths);
    warn(&read.warnings);
    if read.syntax_ok && !options.quiet {
        say(&format!("the configuration file {file} syntax is ok"));
    }
    warn(&read.late_warnings);
    let checked = read
        .loaded
        .and_then(|loaded| weir_master::check(&loaded.settings));
    if let Err(message) = &checked {
        emerg(message);
        say(&format!("configuration file {file} test failed"));
        return ExitCode::FAILURE;
    }
    if !options.quiet {
        say(&format!("configuration file {file} test is successful"));
    }
    if options.dump && dump(&read.files).is_err() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn dump(files: &[(String, Vec<u8>)]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for (path, content) in files {
        writeln!(out, "# configuration file {path}:")?;
        out.write_all(&config::redacted(content))?;
        writeln!(out)?;
    }
    out.flush()
}

fn show_version(options: &Options) {
    write_error(&format!(
        "weir version: weir/{}\n",
        env!("CARGO_PKG_VERSION")
    ));
    if options.help {
        write_error(&help());
    }
    if options.configure {
        write_error(&format!("nginx version: nginx/{NGINX_VERSION}\n"));
        let mut arguments = paths::arguments();
        for module in config::missing_modules() {
            arguments.push_str(" --without-");
            arguments.push_str(module);
        }
        write_error(&format!("configure arguments: {arguments}\n"));
    }
}

fn help() -> String {
    format!(
        "Usage: weir [-?hvVtTq] [-s signal] [-p prefix]
            [-e filename] [-c filename] [-g directives]
       weir demo

Options:
  -?,-h         : this help
  -v            : show version and exit
  -V            : show version and configure options then exit
  -t            : test configuration and exit
  -T            : test configuration, dump it and exit
  -q            : suppress non-error messages during configuration testing
  -s signal     : send signal to a master process: stop, quit, reopen, reload
  -p prefix     : set prefix path (default: {PREFIX}/)
  -e filename   : set error log file (default: {ERROR_LOG})
  -c filename   : set configuration file (default: {CONFIGURATION})
  -g directives : set global directives out of configuration file

"
    )
}

/// A line on standard error; there is nobody to tell when that fails.
fn say(message: &str) {
    write_error(&format!("weir: {message}\n"));
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        say(&format!("[warn] {warning}"));
    }
}

fn emerg(message: &str) {
    for line in message.lines() {
        say(&format!("[emerg] {line}"));
    }
}

fn write_error(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        let arguments: Vec<_> = arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .collect();
        Options::parse(&arguments)
    }

    #[test]
    fn flags_share_a_dash() {
        let options = parse(&["-tq"]).unwrap();
        assert!(options.test && options.quiet && !options.dump && !options.version);
        let options = parse(&["-Tqc", "a.conf"]).unwrap();
        assert!(options.test && options.dump && options.quiet);
        assert_eq!(options.file.as_deref(), Some("a.conf"));
        assert_eq!(parse(&[]), Ok(Options::default()));
        assert_eq!(parse(&["-"]), Ok(Options::default()));
    }

    #[test]
    fn values_follow_or_stick() {
        let options = parse(&["-cfile", "-p", "dir", "-g", "daemon off;", "-estderr"]).unwrap();
        assert_eq!(options.file.as_deref(), Some("file"));
        assert_eq!(options.prefix.as_deref(), Some("dir"));
        assert_eq!(options.directives.as_deref(), Some("daemon off;"));
        assert_eq!(options.error_log.as_deref(), Some("stderr"));
        assert_eq!(
            parse(&["-s", "reload"]).unwrap().signal,
            Some(Signal::Reload)
        );
        assert_eq!(parse(&["-sstop"]).unwrap().signal, Some(Signal::Stop));
    }

    #[test]
    fn mistakes_are_named_as_in_nginx() {
        for (arguments, message) in [
            (&["x"][..], "invalid option: \"x\""),
            (&["-x"], "invalid option: \"x\""),
            (&["-tä"], "invalid option: \"ä\""),
            (&["--help"], "invalid option: \"-\""),
            (&["-c"], "option \"-c\" requires file name"),
            (&["-e"], "option \"-e\" requires file name"),
            (&["-p"], "option \"-p\" requires directory name"),
            (&["-tg"], "option \"-g\" requires parameter"),
            (&["-s"], "option \"-s\" requires parameter"),
            (&["-s", "restart"], "invalid option: \"-s restart\""),
        ] {
            assert_eq!(parse(arguments).unwrap_err(), message, "{arguments:?}");
        }
    }

    #[test]
    fn paths_start_from_the_prefix() {
        let paths = parse(&["-p", "/srv/weir", "-c", "a.conf"]).unwrap().paths();
        assert_eq!(paths.prefix, "/srv/weir/");
        assert_eq!(paths.file, "/srv/weir/a.conf");
        let paths = parse(&["-c", "/etc/weir.conf"]).unwrap().paths();
        assert_eq!(paths.file, "/etc/weir.conf");
        assert_eq!(paths.prefix, format!("{PREFIX}/"));
        assert_eq!(
            parse(&[]).unwrap().paths().file,
            format!("{PREFIX}/{CONFIGURATION}")
        );
    }
}
