//! What each command prints, as text and as JSON: pure functions of what was read.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};
use weir_shm::{Counts, Report, ServerCounters, WorkerRow};

use super::text::{columns, shown};

/// `workers`; `alive` tells whether a process still exists.
pub fn workers(
    version: u64,
    rows: &[WorkerRow],
    alive: impl Fn(u32) -> bool,
    as_json: bool,
) -> String {
    if as_json {
        let workers: Vec<Value> = rows
            .iter()
            .map(|row| worker_json(row, alive(row.pid)))
            .collect();
        return document(&json!({ "table_version": version, "workers": workers }));
    }
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let gone = if alive(row.pid) { "" } else { " (gone)" };
            vec![
                row.slot.to_string(),
                row.pid.to_string(),
                format!("{}{gone}", row.state),
                row.table_version.to_string(),
                row.generation.to_string(),
                row.status.active.to_string(),
                row.status.accepted.to_string(),
                row.status.requests.to_string(),
            ]
        })
        .collect();
    let heading = [
        ">SLOT",
        ">PID",
        "STATE",
        ">TABLE",
        ">CONFIG",
        ">CONNECTIONS",
        ">ACCEPTED",
        ">REQUESTS",
    ];
    format!(
        "table version {version}: workers {}\n\n{}",
        rows.len(),
        columns(&heading, &lines)
    )
}

fn worker_json(row: &WorkerRow, alive: bool) -> Value {
    json!({
        "slot": row.slot,
        "pid": row.pid,
        "alive": alive,
        "state": row.state.to_string(),
        "table_version": row.table_version,
        "generation": row.generation,
        "heartbeat_ms": row.heartbeat_ms,
        "lapped": row.lapped,
        "lost_lines": row.lost_lines,
        "connections": row.status.active,
        "reading": row.status.reading,
        "writing": row.status.writing,
        "waiting": row.status.waiting,
        "accepted": row.status.accepted,
        "handled": row.status.handled,
        "requests": row.status.requests,
    })
}

/// `counters`.
pub fn counters(version: u64, rows: &[ServerCounters], as_json: bool) -> String {
    if as_json {
        let servers: Vec<Value> = rows.iter().map(counter_json).collect();
        return document(&json!({ "table_version": version, "servers": servers }));
    }
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let leaving = if row.leaving { " (leaving)" } else { "" };
            vec![
                shown(&row.upstream),
                format!("{}{leaving}", shown(&row.address.to_string())),
                row.total.in_flight.to_string(),
                row.total.requests.to_string(),
                row.total.failures.to_string(),
                row.total.received.to_string(),
                row.total.sent.to_string(),
            ]
        })
        .collect();
    let heading = [
        "UPSTREAM",
        "SERVER",
        ">IN FLIGHT",
        ">REQUESTS",
        ">FAILURES",
        ">RECEIVED",
        ">SENT",
    ];
    format!(
        "table version {version}: servers {}\n\n{}",
        rows.len(),
        columns(&heading, &lines)
    )
}

fn counter_json(row: &ServerCounters) -> Value {
    let workers: Vec<Value> = row
        .workers
        .iter()
        .map(|(slot, counts)| {
            let mut value = counts_json(counts);
            value["slot"] = json!(slot);
            value
        })
        .collect();
    let mut value = counts_json(&row.total);
    value["upstream"] = json!(row.upstream);
    value["address"] = json!(row.address.to_string());
    value["leaving"] = json!(row.leaving);
    value["workers"] = json!(workers);
    value
}

fn counts_json(counts: &Counts) -> Value {
    json!({
        "in_flight": counts.in_flight,
        "requests": counts.requests,
        "failures": counts.failures,
        "received": counts.received,
        "sent": counts.sent,
        "latest_failure_ms": counts.latest_failure_ms,
    })
}

/// `verify`.
pub fn report(path: &Path, report: &Report, as_json: bool) -> String {
    let (header, capacity) = (&report.header, &report.header.capacity);
    if as_json {
        return report_document(path, report);
    }
    let mut out = format!(
        "region {}\nlayout version {}, {} bytes, boot id {:016x}\n\
         capacity: servers {}, upstreams {}, workers {}, slots {}, history {} bytes\n\
         master {}, writer {}\ntable version {}\n",
        shown(&path.to_string_lossy()),
        header.layout_version,
        header.size,
        header.boot_id,
        capacity.servers,
        capacity.upstreams,
        capacity.workers,
        capacity.slots,
        capacity.history,
        header.master_pid,
        header.writer_pid,
        header.version,
    );
    for slot in &report.slots {
        let _ = writeln!(
            out,
            "slot of version {}: upstreams {}, servers {}, leaving {}, checksum good",
            slot.version, slot.upstreams, slot.servers, slot.leaving
        );
    }
    for problem in &report.problems {
        let _ = writeln!(out, "problem: {}", shown(problem));
    }
    out.push_str(if report.problems.is_empty() {
        "good\n"
    } else {
        "damaged\n"
    });
    out
}

/// `verify --json`.
fn report_document(path: &Path, report: &Report) -> String {
    let (header, capacity) = (&report.header, &report.header.capacity);
    let slots: Vec<Value> = report
        .slots
        .iter()
        .map(|slot| {
            json!({
                "version": slot.version,
                "upstreams": slot.upstreams,
                "servers": slot.servers,
                "leaving": slot.leaving,
            })
        })
        .collect();
    document(&json!({
        "region": path.to_string_lossy(),
        "layout_version": header.layout_version,
        "size": header.size,
        "capacity": {
            "servers": capacity.servers,
            "upstreams": capacity.upstreams,
            "workers": capacity.workers,
            "slots": capacity.slots,
            "history_bytes": capacity.history,
        },
        "boot_id": format!("{:016x}", header.boot_id),
        "master_pid": header.master_pid,
        "writer_pid": header.writer_pid,
        "version": header.version,
        "slots": slots,
        "problems": report.problems,
        "good": report.problems.is_empty(),
    }))
}

/// A JSON value on a line of its own.
pub fn document(value: &Value) -> String {
    format!("{value}\n")
}
