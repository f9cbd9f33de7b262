//! nginx's configuration language: from text to the settings of master, syncer and workers.

mod body;
mod build;
mod client;
mod core;
mod directive;
mod draft;
mod error;
mod events;
mod http;
mod known;
mod level;
mod lexer;
mod listen;
mod location;
mod log;
mod parser;
mod proxy;
mod redact;
mod resolver;
mod response;
mod source;
mod upstream;
mod upsync;
mod url;
mod variable;

use weir_master::{Built, Loaded};
use weir_worker::unit;

use self::error::Fault;
pub use self::error::errno;
use self::parser::Parser;
pub use self::redact::redacted;
pub use self::source::Paths;
use self::source::Source;

/// What a reading of the files gave.
pub struct Read {
    /// The configuration, if it is one.
    pub loaded: Result<Loaded, String>,
    /// The directives were read without a fault.
    pub syntax_ok: bool,
    /// Warnings of the directives.
    pub warnings: Vec<String>,
    /// Warnings of how the whole fits the machine.
    pub late_warnings: Vec<String>,
    /// Every file that was read, once, in the order of the first reading.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Reads the files.
pub fn read(paths: Paths) -> Read {
    let mut parser = Parser::run(Source::live(paths));
    let verdict = parser.verdict();
    let Parser {
        mut source,
        draft,
        warnings,
        ..
    } = parser;
    let mut read = Read {
        loaded: Err(String::new()),
        syntax_ok: verdict.is_ok(),
        warnings: lines(&warnings),
        late_warnings: Vec::new(),
        files: source
            .files()
            .iter()
            .map(|(path, bytes)| (path.clone(), bytes.to_vec()))
            .collect(),
    };
    let outcome =
        verdict.and_then(|()| build::build(draft, &mut source).map_err(|fault| vec![fault]));
    match outcome {
        Err(faults) => read.loaded = Err(lines(&faults).join("\n")),
        Ok(outcome) => {
            read.warnings.extend(lines(&outcome.warnings));
            read.late_warnings = lines(&outcome.late_warnings);
            read.loaded = settle(&source, &read);
        }
    }
    read
}

/// The settings in force come from the text, as every child's do: all run on the same.
fn settle(source: &Source, read: &Read) -> Result<Loaded, String> {
    let text = source.text();
    let Built { settings, worker } = build(&text)?;
    let warnings = read
        .warnings
        .iter()
        .chain(&read.late_warnings)
        .cloned()
        .collect();
    Ok(Loaded {
        text,
        settings,
        worker,
        warnings,
    })
}

/// Reads the files, at start and on a reload.
pub fn load(paths: Paths) -> Result<Loaded, String> {
    read(paths).loaded
}

/// Builds from the text of a configuration: of [`Loaded`], or as `-T` prints it, or one file.
pub fn build(text: &str) -> Result<Built, String> {
    let mut parser = Parser::run(Source::from_text(text)?);
    let verdict = parser.verdict();
    let Parser {
        mut source, draft, ..
    } = parser;
    verdict
        .and_then(|()| build::build(draft, &mut source).map_err(|fault| vec![fault]))
        .map(|outcome| outcome.built)
        .map_err(|faults| lines(&faults).join("\n"))
}

/// Builds the worker's half.
pub fn build_worker(text: &str) -> Result<weir_worker::settings::Settings, String> {
    build(text).map(|built| built.worker)
}

/// nginx's http modules of which weir takes no directive, as its `configure` names them.
pub fn missing_modules() -> impl Iterator<Item = &'static str> {
    known::missing(|name| directive::all().any(|row| row.name == name))
}

#[cfg(test)]
mod tests;

fn lines(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(Fault::to_string).collect()
}
