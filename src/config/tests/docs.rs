//! docs/directives.md and the tables say the same.

use std::collections::BTreeSet;

use crate::config::directive::{self, Contexts, EVENTS, HTTP, LOCATION, MAIN, SERVER, UPSTREAM};
use crate::config::variable;

const PAGE: &str = include_str!("../../../docs/directives.md");

/// nginx's names of the contexts.
fn names(contexts: Contexts) -> String {
    let names = [
        (MAIN, "main"),
        (EVENTS, "events"),
        (HTTP, "http"),
        (SERVER, "server"),
        (LOCATION, "location"),
        (UPSTREAM, "upstream"),
    ];
    let named = names.iter().filter(|(context, _)| contexts.meets(*context));
    named.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}

/// Name and contexts of each row of a table with a context column.
fn documented(page: &str) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut listed = false;
    for line in page.lines() {
        if line.starts_with("| Syntax |") {
            listed = true;
        } else if !line.starts_with('|') {
            listed = false;
        } else if let (true, Some(syntax)) = (listed, line.strip_prefix("| `")) {
            let name = syntax.split([' ', '`']).next().unwrap();
            let contexts = line.trim_end_matches(" |").rsplit_once("| ").unwrap().1;
            rows.push((name.to_owned(), contexts.to_owned()));
        }
    }
    rows
}

fn in_tables() -> BTreeSet<(String, String)> {
    directive::all()
        .map(|row| (row.name.to_owned(), names(row.contexts)))
        .collect()
}

#[test]
fn every_directive_is_documented_once_with_its_contexts() {
    let rows = documented(PAGE);
    let page: BTreeSet<_> = rows.iter().cloned().collect();
    assert_eq!(rows.len(), page.len(), "a row stands twice");
    assert_eq!(page, in_tables());
}

/// The variables that the page names; the end of a family is `NAME`.
fn documented_variables(page: &str) -> BTreeSet<String> {
    let section = page.split("### Variables").nth(1).unwrap();
    let section = section.split("Any other name").next().unwrap();
    let names = section.split('`').filter_map(|word| word.strip_prefix('$'));
    names.map(str::to_owned).collect()
}

#[test]
fn every_variable_is_documented() {
    let known: BTreeSet<_> = variable::names().collect();
    assert_eq!(documented_variables(PAGE), known);
    assert_ne!(documented_variables(&PAGE.replace("`$uri`", "")), known);
}

#[test]
fn a_page_with_a_row_less_is_noticed() {
    let line = PAGE
        .lines()
        .find(|line| line.starts_with("| `proxy_pass"))
        .unwrap();
    let page: BTreeSet<_> = documented(&PAGE.replace(line, "")).into_iter().collect();
    assert_ne!(page, in_tables());
}
