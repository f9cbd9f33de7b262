//! How `top` looks.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Row, Table as Grid};
use weir_master::syncer::recorder::report::{SourceState, State};
use weir_shm::{ServerCounters, WorkerRow};

use super::super::find::is_alive;
use super::super::table::state_text;
use super::super::text::{age, now_ms, shown};
use super::sample::Sample;

/// Rows that workers and sources may each take, their heading included.
const SIDE_ROWS: u16 = 8;

/// What is on the screen.
#[derive(Default)]
pub struct Screen {
    sample: Sample,
    /// Why there is nothing newer.
    trouble: Option<String>,
    /// Rows of the servers that are scrolled away.
    scrolled: usize,
}

impl Screen {
    /// Shows another sample.
    pub fn show(&mut self, sample: Sample) {
        self.sample = sample;
        self.trouble = None;
    }

    /// Says why there is none.
    pub fn trouble(&mut self, message: String) {
        self.trouble = Some(message);
    }

    /// Scrolls down.
    pub fn down(&mut self, rows: usize) {
        self.scrolled = self.scrolled.saturating_add(rows);
    }

    /// Scrolls up.
    pub fn up(&mut self, rows: usize) {
        self.scrolled = self.scrolled.saturating_sub(rows);
    }
}

/// Draws everything; on a small terminal, what comes last has no room.
pub fn draw(frame: &mut Frame, screen: &mut Screen) {
    let sample = &screen.sample;
    let rows = |count: usize| u16::try_from(count + 1).unwrap_or(SIDE_ROWS).min(SIDE_ROWS);
    let parts = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(rows(sample.workers.len())),
        Constraint::Length(rows(sample.report.sources.len())),
        Constraint::Fill(1),
    ])
    .split(frame.area());
    frame.render_widget(head(screen), parts[0]);
    frame.render_widget(workers(sample), parts[1]);
    frame.render_widget(sources(sample), parts[2]);
    let all = servers(sample);
    // The last row stays on the screen.
    screen.scrolled = screen.scrolled.min(all.len().saturating_sub(1));
    let visible = all.into_iter().skip(screen.scrolled);
    frame.render_widget(server_grid(visible, parts[3]), parts[3]);
}

fn head(screen: &Screen) -> Line<'static> {
    let sample = &screen.sample;
    if let Some(trouble) = &screen.trouble {
        return Line::from(format!("weir: {trouble}")).fg(Color::Red);
    }
    let in_flight: u64 = sample.servers.iter().map(|s| s.total.in_flight).sum();
    let failures: u64 = sample.servers.iter().map(|s| s.total.failures).sum();
    let rate: f64 = sample.worker_rates.values().sum();
    let gone = if is_alive(sample.master) {
        ""
    } else {
        " (gone)"
    };
    Line::from(format!(
        "weir {}{gone}  table {}  {rate:.0} requests/s  {in_flight} in flight  {failures} failures  \
         q ends",
        sample.master, sample.table.version
    ))
    .bold()
}

fn heading(names: &[&'static str]) -> Row<'static> {
    Row::new(names.iter().map(|name| Cell::from(*name))).style(Style::new().reversed())
}

fn workers(sample: &Sample) -> Grid<'static> {
    let row = |worker: &WorkerRow| {
        let rate = sample.worker_rates.get(&worker.slot).copied();
        let behind = worker.table_version < sample.table.version;
        let row = Row::new([
            format!("{}", worker.slot),
            format!("{}", worker.pid),
            format!("{}", worker.state),
            format!("{}", worker.table_version),
            format!("{}", worker.status.active),
            format!("{:.0}", rate.unwrap_or(0.0)),
        ]);
        match (is_alive(worker.pid), behind) {
            (false, _) => row.fg(Color::Red),
            (true, true) => row.fg(Color::Yellow),
            _ => row,
        }
    };
    let widths = [6, 9, 9, 10, 12, 10].map(Constraint::Length);
    Grid::new(sample.workers.iter().map(row), widths).header(heading(&[
        "WORKER",
        "PID",
        "STATE",
        "TABLE",
        "CONNECTIONS",
        "REQUESTS/S",
    ]))
}

fn sources(sample: &Sample) -> Grid<'static> {
    let now = now_ms();
    let rows = sample.report.sources.iter().map(|source| {
        let ago = source.success_ms.map(|at| age(now.saturating_sub(at)));
        let failing = source.state == SourceState::Failing;
        let error = source.error.as_ref().filter(|_| failing);
        let row = Row::new([
            shown(&source.name()),
            source.state.name().to_owned(),
            source.index.to_string(),
            ago.unwrap_or_else(|| "never".to_owned()),
            error.map_or(String::new(), |error| shown(&error.text)),
        ]);
        if failing { row.fg(Color::Red) } else { row }
    });
    let widths = [
        Constraint::Fill(3),
        Constraint::Length(9),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Fill(2),
    ];
    Grid::new(rows, widths).header(heading(&["SOURCE", "STATE", "INDEX", "ANSWER", "ERROR"]))
}

/// A row for each upstream and, below it, for each of its servers.
fn servers(sample: &Sample) -> Vec<Row<'static>> {
    let now = now_ms();
    let mut rows = Vec::new();
    let mut before = None;
    let mut listed: Vec<&ServerCounters> = sample.servers.iter().collect();
    // Those that leave stand with their upstream.
    let place = |name: &str| sample.table.upstreams.iter().position(|u| u.name == name);
    let places: std::collections::HashMap<&str, Option<usize>> = listed
        .iter()
        .map(|server| (server.upstream.as_str(), place(&server.upstream)))
        .collect();
    listed.sort_by_key(|server| {
        let place = places.get(server.upstream.as_str()).copied().flatten();
        (place.is_none(), place)
    });
    for server in listed {
        if before != Some(&server.upstream) {
            before = Some(&server.upstream);
            let status = sample.report.upstream(&server.upstream);
            let state = status.map_or(String::new(), |status| state_text(status, now));
            let row = Row::new([shown(&server.upstream), String::new(), state]).bold();
            rows.push(match status.map(|status| status.state) {
                Some(State::Held) => row.fg(Color::Red),
                Some(State::Stale) => row.fg(Color::Yellow),
                Some(State::Pinned) => row.fg(Color::Cyan),
                _ => row,
            });
        }
        let rate = sample.rates.get(&server.id).copied().unwrap_or(0.0);
        let row = Row::new([
            format!("  {}", shown(&server.address.to_string())),
            format!("{rate:.0}"),
            if server.leaving { "leaving" } else { "" }.to_owned(),
            server.total.in_flight.to_string(),
            server.total.requests.to_string(),
            server.total.failures.to_string(),
        ]);
        rows.push(if server.leaving {
            row.fg(Color::Yellow)
        } else {
            row
        });
    }
    rows
}

fn server_grid(rows: impl Iterator<Item = Row<'static>>, area: Rect) -> Grid<'static> {
    let widths = [
        Constraint::Fill(2),
        Constraint::Length(10),
        Constraint::Fill(2),
        Constraint::Length(9),
        Constraint::Length(10),
        Constraint::Length(8),
    ];
    let rows = rows.take(usize::from(area.height));
    Grid::new(rows, widths).header(heading(&[
        "UPSTREAM / SERVER",
        "REQUESTS/S",
        "STATE",
        "IN FLIGHT",
        "REQUESTS",
        "FAILURES",
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use weir_master::syncer::recorder::report::{Report, SourceStatus, UpstreamStatus};
    use weir_shm::{Address, CounterId, Counts, Server, Status, Table, Upstream, WorkerState};

    fn sample() -> Sample {
        let id = |index| CounterId {
            index,
            incarnation: 1,
        };
        let address = |port| Address::Ip(([127, 0, 0, 1], port).into());
        let counters = |port, index, leaving| ServerCounters {
            upstream: "te\x1bst".into(),
            address: address(port),
            id: id(index),
            leaving,
            total: Counts {
                in_flight: 3,
                requests: 40,
                failures: 2,
                ..Counts::default()
            },
            workers: Vec::new(),
        };
        let server = Server {
            address: address(8001),
            weight: 1,
            max_fails: 1,
            fail_timeout_ms: 10_000,
            down: false,
            backup: false,
            counter: id(0),
        };
        let worker = WorkerRow {
            slot: 0,
            pid: std::process::id(),
            state: WorkerState::Parked,
            generation: 1,
            table_version: 8,
            heartbeat_ms: 0,
            status: Status::default(),
            lapped: 0,
            lost_lines: 0,
        };
        Sample {
            master: std::process::id(),
            table: Table {
                version: 9,
                upstreams: vec![Upstream {
                    name: "te\x1bst".into(),
                    changed: 9,
                    learned: true,
                    template: None,
                    servers: vec![server],
                }],
                ..Table::default()
            },
            report: Report {
                sources: vec![SourceStatus {
                    kind: "consul".into(),
                    address: "127.0.0.1:8500".into(),
                    ..SourceStatus::default()
                }],
                upstreams: vec![UpstreamStatus {
                    name: "te\x1bst".into(),
                    state: State::Fresh,
                    ..UpstreamStatus::default()
                }],
                ..Report::default()
            },
            workers: vec![worker],
            servers: vec![counters(8001, 0, false), counters(8002, 1, true)],
            rates: [(id(0), 12.0)].into(),
            worker_rates: [(0, 34.0)].into(),
        }
    }

    fn drawn(screen: &mut Screen, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, screen)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y: u16| {
            let cells = (0..width).map(|x| buffer[(x, y)].symbol());
            cells.collect::<String>().trim_end().to_owned()
        };
        (0..height).map(line).collect()
    }

    #[test]
    fn everything_is_on_the_screen() {
        let mut screen = Screen::default();
        screen.show(sample());
        let lines = drawn(&mut screen, 100, 20);
        assert!(lines[0].contains("table 9  34 requests/s  6 in flight  4 failures"));
        assert!(
            lines[2].contains("parked") && lines[2].contains('8'),
            "{lines:#?}"
        );
        assert!(lines[4].contains("consul 127.0.0.1:8500"), "{lines:#?}");
        assert!(lines[6].starts_with("te\\u{1b}st") && lines[6].contains("fresh"));
        assert!(lines[7].contains("127.0.0.1:8001") && lines[7].contains("12"));
        assert!(lines[8].contains("127.0.0.1:8002") && lines[8].contains("leaving"));
    }

    #[test]
    fn it_fits_any_terminal_and_scrolls() {
        let mut screen = Screen::default();
        screen.show(sample());
        for (width, height) in [(1, 1), (5, 3), (20, 6), (300, 100), (80, 1)] {
            drawn(&mut screen, width, height);
        }
        screen.down(2);
        let lines = drawn(&mut screen, 100, 20);
        assert!(lines[6].contains("127.0.0.1:8002"), "{lines:#?}");
        screen.down(1000);
        drawn(&mut screen, 100, 20);
        screen.up(1);
        assert!(drawn(&mut screen, 100, 20)[6].contains("127.0.0.1:8001"));
        screen.trouble("it is gone".into());
        assert!(drawn(&mut screen, 100, 20)[0].contains("it is gone"));
    }
}
