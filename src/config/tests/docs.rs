//! docs/directives.md and the tables say the same.

use std::collections::BTreeSet;

use super::built;
use crate::config::directive::{
    self, Arity, Contexts, EVENTS, HTTP, LOCATION, MAIN, SERVER, UPSTREAM,
};
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

/// A row of a table with a context column.
struct Row {
    /// Each way to write it, without the name.
    syntax: Vec<String>,
    name: String,
    defaults: Vec<String>,
    contexts: String,
}

/// What stands between backticks.
fn code(cell: &str) -> Vec<String> {
    let spans = cell.split('`').skip(1).step_by(2);
    spans.map(|span| span.replace("\\|", "|")).collect()
}

fn documented(page: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut listed = false;
    for line in page.lines() {
        if line.starts_with("| Syntax |") {
            listed = true;
        } else if !line.starts_with('|') {
            listed = false;
        } else if listed && line.starts_with("| `") {
            // A bar that is part of a cell has a backslash before it.
            let cells = line.replace("\\|", "\\\u{0}");
            let cells: Vec<_> = cells
                .split('|')
                .map(|cell| cell.replace('\0', "|"))
                .collect();
            let syntax = code(&cells[1]);
            let name = syntax[0].split(' ').next().unwrap().to_owned();
            let rest = |way: &String| way[name.len().min(way.len())..].trim().to_owned();
            rows.push(Row {
                syntax: syntax.iter().map(rest).collect(),
                defaults: code(&cells[2]),
                contexts: cells[3].trim().to_owned(),
                name,
            });
        }
    }
    rows
}

fn on_page(page: &str) -> BTreeSet<(String, String)> {
    let rows = documented(page).into_iter();
    rows.map(|row| (row.name, row.contexts)).collect()
}

fn in_tables() -> BTreeSet<(String, String)> {
    directive::all()
        .map(|row| (row.name.to_owned(), names(row.contexts)))
        .collect()
}

#[test]
fn every_directive_is_documented_once_with_its_contexts() {
    let page = on_page(PAGE);
    assert_eq!(documented(PAGE).len(), page.len(), "a row stands twice");
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
    assert_ne!(on_page(&PAGE.replace(line, "")), in_tables());
}

/// Least and most parameters of a sequence; `[…]` may be left out, `…` says that more may follow.
fn parameters(words: &[&str], by_word: bool) -> (usize, usize) {
    let (mut least, mut most, mut depth, mut after_bar) = (0, 0, 0_usize, false);
    for word in words {
        let alternative = std::mem::take(&mut after_bar);
        let inside = depth > 0 || word.starts_with('[');
        match *word {
            "|" => after_bar = by_word || depth > 0,
            "..." | "...]" => most = MANY,
            _ if alternative => {}
            _ => {
                least += usize::from(!inside);
                most = (most + 1).min(MANY);
            }
        }
        depth = (depth + word.matches('[').count()).saturating_sub(word.matches(']').count());
    }
    (least, most)
}

/// More than any directive has to take.
const MANY: usize = 1000;

/// What the ways to write a directive say together: a bar stands between words, or between ways.
fn arities(syntax: &[String]) -> [(usize, usize, bool); 2] {
    let block = syntax.iter().any(|way| way.ends_with("{ ... }"));
    let together = |counts: Vec<(usize, usize)>| {
        let least = counts.iter().map(|(least, _)| *least).min().unwrap();
        let most = counts.iter().map(|(_, most)| *most).max().unwrap();
        (least, most, block)
    };
    let words = |way: &String| -> Vec<String> {
        let way = way.trim_end_matches("{ ... }");
        way.split_whitespace().map(str::to_owned).collect()
    };
    let counted = |parts: Vec<Vec<String>>, by_word| {
        let count = |part: &Vec<String>| {
            let part: Vec<_> = part.iter().map(String::as_str).collect();
            parameters(&part, by_word)
        };
        together(parts.iter().map(count).collect())
    };
    let whole: Vec<_> = syntax.iter().map(words).collect();
    let mut ways = Vec::new();
    for way in &whole {
        let (mut part, mut depth) = (Vec::new(), 0_usize);
        for word in way {
            if word == "|" && depth == 0 {
                ways.push(std::mem::take(&mut part));
                continue;
            }
            depth = (depth + word.matches('[').count()).saturating_sub(word.matches(']').count());
            part.push(word.clone());
        }
        ways.push(part);
    }
    [counted(whole, true), counted(ways, false)]
}

/// Rows whose syntax says another number of parameters than the table has.
fn other_arities(page: &str) -> Vec<String> {
    let rows = documented(page).into_iter().filter(|row| {
        let directive = directive::all()
            .find(|known| known.name == row.name && names(known.contexts) == row.contexts);
        !directive.is_some_and(|directive| {
            let Arity { least, most, block } = directive.arity;
            arities(&row.syntax)
                .iter()
                .any(|&(page_least, page_most, page_block)| {
                    // `…` may stand for a number that nginx bounds; and where nginx's table
                    // takes any number, the directive itself may look for the last one.
                    let as_many = page_most == most
                        || page_most == MANY && most > page_least
                        || most > MANY && page_most > page_least;
                    (page_least, page_block) == (least, block) && as_many
                })
        })
    });
    rows.map(|row| row.name).collect()
}

#[test]
fn every_syntax_has_the_tables_number_of_parameters() {
    assert_eq!(other_arities(PAGE), [""; 0]);
    let page = PAGE.replace(
        "`keepalive_timeout TIME [TIME]`",
        "`keepalive_timeout TIME`",
    );
    assert_eq!(other_arities(&page), ["keepalive_timeout"]);
    let page = PAGE.replace(
        "`proxy_set_header NAME VALUE`",
        "`proxy_set_header NAME [VALUE]`",
    );
    assert_eq!(other_arities(&page), ["proxy_set_header"]);
}

/// A configuration that says `text` in a context.
fn saying(context: &str, text: &str) -> weir_master::Built {
    let at = |here: &str| if here == context { text } else { "" };
    built(&format!(
        "{} events {{ {} }} http {{ {} upstream u {{ server 127.0.0.1:1; {} }} \
         server {{ listen 127.0.0.1:80; {} location / {{ proxy_pass http://u; {} }} }} }}",
        at("main"),
        at("events"),
        at("http"),
        at("upstream"),
        at("server"),
        at("location"),
    ))
}

/// Directives whose default is not the same as nothing when it is written down: a user that may not
/// be there, what adds to others, and values that are told from none.
const WRITTEN: [&str; 7] = [
    "access_log",
    "limit_rate",
    "limit_rate_after",
    "listen",
    "proxy_limit_rate",
    "proxy_set_header",
    "user",
];

/// Rows whose default, when it is written down, changes something; and how many were tried.
fn other_defaults(page: &str) -> (Vec<String>, usize) {
    let plain = saying("main", "");
    let (mut other, mut tried) = (Vec::new(), 0);
    for row in documented(page) {
        if WRITTEN.contains(&row.name.as_str()) || row.defaults.is_empty() {
            continue;
        }
        tried += 1;
        // The innermost one: `proxy_redirect default` has to follow its `proxy_pass`.
        let context = row.contexts.split(", ").last().unwrap_or_default();
        let context = match context {
            "upstream" if row.contexts.contains("location") => "location",
            context => context,
        };
        let lines = row
            .defaults
            .iter()
            .map(|value| format!("{} {value};", row.name));
        let said = saying(context, &lines.collect::<String>());
        if said.settings != plain.settings || said.worker != plain.worker {
            other.push(row.name);
        }
    }
    (other, tried)
}

#[test]
fn a_default_that_is_written_down_changes_nothing() {
    let (other, tried) = other_defaults(PAGE);
    assert_eq!(other, [""; 0]);
    assert!(tried > 50, "only {tried}");
    let row = "| `client_max_body_size SIZE` | `1m` |";
    let (other, _) = other_defaults(&PAGE.replace(row, &row.replace("1m", "2m")));
    assert_eq!(other, ["client_max_body_size"]);
}
