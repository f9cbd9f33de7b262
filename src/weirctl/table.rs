//! `table [UPSTREAM] [--at VERSION]`

use std::collections::HashMap;
use std::fmt::Write;

use serde_json::{Value, json};
use weir_master::syncer::recorder::past::table_at;
use weir_master::syncer::recorder::report::{Report, State, UpstreamStatus};
use weir_shm::{Server, ServerCounters, Table, Upstream};

use super::place::Place;
use super::show::document;
use super::text::{age, now_ms, shown, time};

/// What is known beside a table.
#[derive(Default)]
struct Beside {
    report: Report,
    /// Those that are leaving, by upstream.
    leaving: HashMap<String, Vec<ServerCounters>>,
    now_ms: u64,
}

/// Shows a table.
pub fn run(place: &Place, only: Option<&str>, at: Option<u64>) -> Result<String, String> {
    let now = place.read(|reader| reader.table())?;
    let (table, beside) = match at.filter(|at| *at != now.version) {
        Some(version) => {
            let (table, _) =
                table_at(&place.reader, version).map_err(|error| place.about(&error))?;
            (table, Beside::default())
        }
        None => {
            let counters = place.read(|reader| reader.counters(&now))?;
            let mut leaving: HashMap<String, Vec<_>> = HashMap::new();
            for row in counters.into_iter().filter(|row| row.leaving) {
                leaving.entry(row.upstream.clone()).or_default().push(row);
            }
            let beside = Beside {
                report: place.report()?,
                leaving,
                now_ms: now_ms(),
            };
            (now, beside)
        }
    };
    show(&table, only, &beside, place.json)
}

/// The error is an upstream that is not there.
fn show(
    table: &Table,
    only: Option<&str>,
    beside: &Beside,
    as_json: bool,
) -> Result<String, String> {
    let upstreams: Vec<&Upstream> = table
        .upstreams
        .iter()
        .filter(|upstream| only.is_none_or(|name| name == upstream.name))
        .collect();
    if let (Some(name), []) = (only, upstreams.as_slice()) {
        let version = table.version;
        return Err(format!(
            "table version {version} has no upstream \"{}\"",
            shown(name)
        ));
    }
    if as_json {
        let upstreams: Vec<Value> = upstreams.iter().map(|u| upstream_json(u, beside)).collect();
        return Ok(document(
            &json!({ "version": table.version, "upstreams": upstreams }),
        ));
    }
    let servers: usize = table
        .upstreams
        .iter()
        .map(|upstream| upstream.servers.len())
        .sum();
    let mut out = format!(
        "table version {}: upstreams {}, servers {servers}\n",
        table.version,
        table.upstreams.len()
    );
    for upstream in upstreams {
        let status = beside.report.upstream(&upstream.name);
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "\nupstream {}: servers {}, changed in version {}{}{}",
            shown(&upstream.name),
            upstream.servers.len(),
            upstream.changed,
            upstream
                .template
                .as_deref()
                .map_or(String::new(), |like| format!(
                    ", discovered, template {}",
                    shown(like)
                )),
            status.map_or(String::new(), |status| format!(
                ", {}",
                state_text(status, beside.now_ms)
            ))
        );
        for server in &upstream.servers {
            let _ = writeln!(out, "        {}", server_text(server));
        }
        for row in beside.leaving.get(&upstream.name).into_iter().flatten() {
            let _ = writeln!(
                out,
                "        leaving {} in flight {}",
                shown(&row.address.to_string()),
                row.total.in_flight
            );
        }
    }
    Ok(out)
}

/// `fresh`, `stale for 3m5s, from the region`, …
pub fn state_text(status: &UpstreamStatus, now_ms: u64) -> String {
    let ago = |since: u64| age(now_ms.saturating_sub(since));
    match status {
        UpstreamStatus {
            pinned: Some(pin), ..
        } => format!(
            "pinned for {} to version {}",
            ago(pin.since_ms),
            pin.version
        ),
        UpstreamStatus {
            held: Some(hold), ..
        } => format!(
            "an answer is held for {}: {}",
            ago(hold.since_ms),
            shown(&hold.reason)
        ),
        UpstreamStatus {
            state: State::Stale,
            ..
        } => {
            let since = match status.confirmed_ms {
                Some(since) => format!(" for {}", ago(since)),
                None => String::new(),
            };
            let from = status.from.map_or("", |from| from.name());
            format!("stale{since}, from {from}")
        }
        _ => status.state.name().to_owned(),
    }
}

/// A server as a configuration has it.
pub fn server_text(server: &Server) -> String {
    format!(
        "server {} weight={} max_fails={} fail_timeout={}{}{};",
        shown(&server.address.to_string()),
        server.weight,
        server.max_fails,
        time(server.fail_timeout_ms),
        if server.backup { " backup" } else { "" },
        if server.down { " down" } else { "" },
    )
}

/// The same as JSON.
pub fn server_json(server: &Server) -> Value {
    json!({
        "address": server.address.to_string(),
        "weight": server.weight,
        "max_fails": server.max_fails,
        "fail_timeout_ms": server.fail_timeout_ms,
        "backup": server.backup,
        "down": server.down,
    })
}

fn upstream_json(upstream: &Upstream, beside: &Beside) -> Value {
    let servers: Vec<Value> = upstream.servers.iter().map(server_json).collect();
    let leaving = beside.leaving.get(&upstream.name).into_iter().flatten();
    let leaving: Vec<Value> = leaving
        .map(|row| json!({ "address": row.address.to_string(), "in_flight": row.total.in_flight }))
        .collect();
    let mut value = json!({
        "name": upstream.name,
        "changed": upstream.changed,
        "learned": upstream.learned,
        "template": upstream.template.as_deref(),
        "servers": servers,
        "leaving": leaving,
    });
    if let Some(status) = beside.report.upstream(&upstream.name) {
        value["status"] = json!(status);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_master::syncer::recorder::report::{From, Hold, Pin};

    #[test]
    fn states_say_since_when_and_why() {
        let mut status = UpstreamStatus {
            state: State::Stale,
            confirmed_ms: Some(1_000),
            from: Some(From::State),
            ..UpstreamStatus::default()
        };
        let text = |status: &UpstreamStatus| state_text(status, 186_000);
        assert_eq!(text(&status), "stale for 3m5s, from the state file");
        status.held = Some(Hold {
            since_ms: 176_000,
            reason: "\x1b[2J".into(),
            ..Hold::default()
        });
        assert_eq!(text(&status), "an answer is held for 10s: \\u{1b}[2J");
        status.pinned = Some(Pin {
            since_ms: 200_000,
            version: 7,
        });
        assert_eq!(text(&status), "pinned for 0s to version 7");
    }
}
