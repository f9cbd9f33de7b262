//! Shell completions and manual pages, made from the command line's own description.

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::arguments::Arguments;

/// The script for a shell.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "weirctl", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The manual page of `weirctl`; with a folder, a page for each of its commands as well, as files.
///
/// # Errors
/// A page cannot be written.
pub fn man(folder: Option<&Path>) -> Result<String, String> {
    let mut command = Arguments::command();
    command.build();
    let Some(folder) = folder else {
        return page(&command);
    };
    let mut written = String::new();
    write(&command, folder, &mut written)?;
    Ok(written)
}

/// The pages of a command and of those below it.
fn write(command: &Command, folder: &Path, written: &mut String) -> Result<(), String> {
    // Built, a command of another has its name before its own.
    let name = command.get_display_name().unwrap_or(command.get_name());
    let path = folder.join(format!("{name}.1"));
    let done = fs::write(&path, page(command)?);
    done.map_err(|error| format!("\"{}\": {error}", path.display()))?;
    written.push_str(&format!("{}\n", path.display()));
    let inner = command.get_subcommands();
    inner
        .filter(|inner| inner.get_name() != "help")
        .try_for_each(|inner| write(inner, folder, written))
}

fn page(command: &Command) -> Result<String, String> {
    let mut text = Vec::new();
    Man::new(command.clone())
        .render(&mut text)
        .map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
