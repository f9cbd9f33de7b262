//! `check`: one line for a monitor.

use std::time::Duration;

use serde_json::json;
use weir_master::syncer::recorder::report::{Report, SourceState, State, UpstreamStatus};
use weir_shm::{Header, Table, Upstream, WorkerRow, monotonic_ms};

use super::Outcome;
use super::arguments::Arguments;
use super::find::is_alive;
use super::place::Place;
use super::show::document;
use super::text::{age, count, shown};

/// All is fresh.
const GOOD: u8 = 0;
/// Something is stale, or refused.
const WARNING: u8 = 1;
/// Something is held, or down.
const CRITICAL: u8 = 2;

/// A syncer whose loop has not turned for so long hangs: it does every 10 s at least.
const HANGS: Duration = Duration::from_secs(30);

/// At most so many names in the line.
const NAMES_MAX: usize = 5;

/// Everything that the verdict depends on.
struct Seen {
    table: Table,
    report: Report,
    workers: Vec<WorkerRow>,
    master: u32,
    writer: u32,
    /// For so long the syncer's loop has not turned.
    silent: Duration,
}

/// How long ago the syncer's loop turned; one that does not say is not known to hang.
fn silent(header: &Header, now_ms: u64) -> Duration {
    match header.writer_turned_ms {
        0 => Duration::ZERO,
        turned_ms => Duration::from_millis(now_ms.saturating_sub(turned_ms)),
    }
}

/// Looks at everything; what cannot be read is down.
pub fn run(arguments: &Arguments) -> Outcome {
    let verdict = match look(arguments) {
        Ok(seen) => judge(&seen, is_alive),
        Err(message) => (CRITICAL, vec![message]),
    };
    render(verdict, arguments.json)
}

fn look(arguments: &Arguments) -> Result<Seen, String> {
    let mut place = Place::open(arguments).map_err(|failure| match failure {
        super::Failure::Message(message) => message,
        super::Failure::Unread => String::new(),
    })?;
    let header = place.reader.refresh();
    let header = header.map_err(|error| place.about(&error.to_string()))?;
    Ok(Seen {
        table: place.read(|reader| reader.table())?,
        report: place.report()?,
        workers: place.read(|reader| reader.workers())?,
        master: header.master_pid,
        writer: header.writer_pid,
        silent: silent(&header, monotonic_ms()),
    })
}

/// The code, and the reasons with the worst first; for a good one, what there is.
fn judge(seen: &Seen, alive: impl Fn(u32) -> bool) -> (u8, Vec<String>) {
    let Seen {
        table,
        report,
        workers,
        master,
        writer,
        silent,
    } = seen;
    let mut down = Vec::new();
    if !alive(*master) {
        down.push("the master is gone".to_owned());
    }
    if !alive(*writer) {
        down.push("the syncer is gone".to_owned());
    }
    if !workers.iter().any(|row| alive(row.pid)) {
        down.push("no worker runs".to_owned());
    }
    let statuses = || report.upstreams.iter();
    let of = |state: State| statuses().filter(move |status| status.state == state);
    let held = statuses().filter(|status| status.held.is_some());
    down.extend(named("held", held.map(|status| status.name.as_str())));
    let upstreams = table.upstreams.iter();
    let dead = upstreams.filter(|upstream| is_dead(upstream, report.upstream(&upstream.name)));
    down.extend(named("without a server", dead.map(|u| u.name.as_str())));

    let mut bad = Vec::new();
    if alive(*writer) && *silent >= HANGS {
        let silent = age(u64::try_from(silent.as_millis()).unwrap_or(u64::MAX));
        bad.push(format!("stale: the syncer has hung for {silent}"));
    }
    bad.extend(named("stale", of(State::Stale).map(|s| s.name.as_str())));
    let waiting = of(State::Configured).filter(|status| status.is_fed);
    bad.extend(named("not answered for", waiting.map(|s| s.name.as_str())));
    let failing = report.sources.iter();
    let failing = failing.filter(|source| source.state == SourceState::Failing);
    let failing: Vec<String> = failing.map(|source| source.name()).collect();
    bad.extend(named("failing", failing.iter().map(String::as_str)));
    if report.refused_total > 0 {
        let entries = match report.refused_total {
            1 => "entry",
            _ => "entries",
        };
        bad.push(format!("refused: {} {entries}", report.refused_total));
    }
    let code = match (down.is_empty(), bad.is_empty()) {
        (false, _) => CRITICAL,
        (true, false) => WARNING,
        (true, true) => GOOD,
    };
    let mut reasons = down;
    reasons.extend(bad);
    if code == GOOD {
        reasons.push(format!(
            "table version {}, {}, {}, {}",
            table.version,
            count(table.upstreams.len(), "upstream"),
            count(report.sources.len(), "source"),
            count(workers.len(), "worker")
        ));
    }
    reasons.extend(named("pinned", of(State::Pinned).map(|s| s.name.as_str())));
    (code, reasons)
}

/// It takes no request. One that nothing feeds and that has no server by its configuration is but a
/// template.
fn is_dead(upstream: &Upstream, status: Option<&UpstreamStatus>) -> bool {
    let is_fed = upstream.learned || status.is_none_or(|status| status.is_fed);
    let is_template = upstream.servers.is_empty() && !is_fed;
    !is_template && upstream.servers.iter().all(|server| server.down)
}

/// `stale: a, b and 3 more`
fn named<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let names: Vec<String> = names.map(shown).collect();
    let (first, rest) = names.split_at(names.len().min(NAMES_MAX));
    let more = match rest.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!names.is_empty()).then(|| format!("{what}: {}{more}", first.join(", ")))
}

fn render((code, reasons): (u8, Vec<String>), as_json: bool) -> Outcome {
    let word = match code {
        GOOD => "OK",
        WARNING => "WARNING",
        _ => "CRITICAL",
    };
    let text = match as_json {
        true => document(&json!({ "state": word, "code": code, "reasons": reasons })),
        false => {
            format!("{word} {}\n", reasons.join("; "))
                .replace("\n", " ")
                .trim_end()
                .to_owned()
                + "\n"
        }
    };
    Outcome::with(text, code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_master::syncer::recorder::report::{Hold, SourceStatus, UpstreamStatus};
    use weir_shm::{Address, CounterId, Server, Status, WorkerState};

    fn seen() -> Seen {
        let server = Server {
            address: Address::Ip(([127, 0, 0, 1], 80).into()),
            weight: 1,
            max_fails: 1,
            fail_timeout_ms: 10_000,
            down: false,
            backup: false,
            counter: CounterId::default(),
        };
        let upstream = |name: &str| Upstream {
            name: name.into(),
            changed: 1,
            learned: true,
            template: None,
            servers: vec![server.clone()],
        };
        let status = |name: &str| UpstreamStatus {
            name: name.into(),
            state: State::Fresh,
            is_fed: true,
            ..UpstreamStatus::default()
        };
        let worker = WorkerRow {
            slot: 0,
            pid: 3,
            state: WorkerState::Parked,
            generation: 1,
            table_version: 9,
            heartbeat_ms: 0,
            status: Status::default(),
            lapped: 0,
            lost_lines: 0,
        };
        Seen {
            table: Table {
                version: 9,
                upstreams: vec![upstream("a"), upstream("b")],
                ..Table::default()
            },
            report: Report {
                sources: vec![SourceStatus::default()],
                upstreams: vec![status("a"), status("b")],
                ..Report::default()
            },
            workers: vec![worker],
            master: 1,
            writer: 2,
            silent: Duration::ZERO,
        }
    }

    fn told(seen: &Seen, dead: u32) -> (u8, String) {
        let outcome = render(judge(seen, |pid| pid != dead), false);
        (outcome.code, outcome.text)
    }

    #[test]
    fn each_trouble_has_its_code() {
        let good = "OK table version 9, 2 upstreams, 1 source, 1 worker\n";
        assert_eq!(told(&seen(), 0), (GOOD, good.to_owned()));
        for (dead, text) in [
            (1, "CRITICAL the master is gone\n"),
            (2, "CRITICAL the syncer is gone\n"),
            (3, "CRITICAL no worker runs\n"),
        ] {
            assert_eq!(told(&seen(), dead), (CRITICAL, text.to_owned()));
        }
        let mut stale = seen();
        stale.report.upstreams[0].state = State::Stale;
        assert_eq!(told(&stale, 0), (WARNING, "WARNING stale: a\n".to_owned()));
        let mut hung = seen();
        hung.silent = HANGS;
        let expected = "WARNING stale: the syncer has hung for 30s\n".to_owned();
        assert_eq!(told(&hung, 0), (WARNING, expected));
        assert_eq!(told(&hung, 2).0, CRITICAL);
        hung.silent -= Duration::from_millis(1);
        assert_eq!(told(&hung, 0).0, GOOD);
        let mut waiting = seen();
        waiting.report.upstreams[1].state = State::Configured;
        let expected = (WARNING, "WARNING not answered for: b\n".to_owned());
        assert_eq!(told(&waiting, 0), expected);
        waiting.report.upstreams[1].is_fed = false;
        assert_eq!(told(&waiting, 0).0, GOOD);
        let mut refused = seen();
        refused.report.refused_total = 2;
        let expected = (WARNING, "WARNING refused: 2 entries\n".to_owned());
        assert_eq!(told(&refused, 0), expected);
        let mut failing = seen();
        failing.report.sources[0].state = SourceState::Failing;
        assert_eq!(told(&failing, 0).0, WARNING);
        let mut held = seen();
        held.report.upstreams[0].held = Some(Hold::default());
        held.report.upstreams[1].state = State::Stale;
        let expected = (CRITICAL, "CRITICAL held: a; stale: b\n".to_owned());
        assert_eq!(told(&held, 0), expected);
        let mut dead = seen();
        dead.table.upstreams[1].servers[0].down = true;
        let expected = (CRITICAL, "CRITICAL without a server: b\n".to_owned());
        assert_eq!(told(&dead, 0), expected);
        dead.table.upstreams[1].servers.clear();
        assert_eq!(told(&dead, 0), expected);
        dead.table.upstreams[1].learned = false;
        assert_eq!(told(&dead, 0), expected);
        dead.report.upstreams[1].is_fed = false;
        assert_eq!(told(&dead, 0).0, GOOD);
        let mut pinned = seen();
        pinned.report.upstreams[0].state = State::Pinned;
        let (code, text) = told(&pinned, 0);
        assert!(code == GOOD && text.ends_with("; pinned: a\n"), "{text}");
    }

    #[test]
    fn many_names_are_cut() {
        let names: Vec<String> = (0..8).map(|n| format!("u{n}")).collect();
        let text = named("stale", names.iter().map(String::as_str));
        assert_eq!(text.unwrap(), "stale: u0, u1, u2, u3, u4 and 3 more");
    }
}
