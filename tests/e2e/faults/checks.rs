//! What must hold of a row, each a pure function, so that it can be seen to bite.

use std::time::{Duration, Instant};

use crate::support::sight::Look;

/// No look from `since` on misses the server.
pub fn kept(looks: &[Look], since: Instant, server: &str) -> Result<(), String> {
    let first = looks.partition_point(|look| look.at <= since);
    let looks = &looks[first.saturating_sub(1)..];
    if looks.is_empty() {
        return Err("nobody looked".to_owned());
    }
    let missing = |look: &&Look| !look.servers.iter().any(|other| other == server);
    match looks.iter().find(missing) {
        Some(look) => Err(format!("{server} was lost: {:?}", look.servers)),
        None => Ok(()),
    }
}

/// When the server was seen first.
pub fn seen(looks: &[Look], server: &str) -> Option<Instant> {
    let has = |look: &&Look| look.servers.iter().any(|other| other == server);
    looks.iter().find(has).map(|look| look.at)
}

/// The log's lines about an upstream.
pub fn lines_of<'l>(log: &'l str, upstream: &str) -> Vec<&'l str> {
    let name = format!("upstream \"{upstream}\"");
    log.lines().filter(|line| line.contains(&name)).collect()
}

/// One of the lines holds one of `any`; nothing to hold is fine.
pub fn named(lines: &[&str], any: &[String]) -> Result<(), String> {
    let holds = |line: &&str| any.iter().any(|text| line.contains(text.as_str()));
    match any.is_empty() || lines.iter().any(holds) {
        true => Ok(()),
        false => Err(format!(
            "no line of the log says any of {any:?}: {lines:#?}"
        )),
    }
}

/// No line is longer than a terminal's page.
pub fn short(lines: &[&str]) -> Result<(), String> {
    const LONGEST: usize = 2000;
    match lines.iter().find(|line| line.len() > LONGEST) {
        Some(line) => Err(format!("a line of {} bytes: {}", line.len(), &line[..200])),
        None => Ok(()),
    }
}

/// Not more of something than its bound.
pub fn few(what: &str, count: usize, bound: usize) -> Result<(), String> {
    match count <= bound {
        true => Ok(()),
        false => Err(format!("{count} {what}, more than {bound}")),
    }
}

/// Not later than its deadline.
pub fn soon(what: &str, took: Duration, limit: Duration) -> Result<(), String> {
    match took <= limit {
        true => Ok(()),
        false => Err(format!("{what} took {took:?}, more than {limit:?}")),
    }
}
