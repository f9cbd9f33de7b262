//! Large tables: what the syncer pays to publish a change, and a worker to take it over in slices.

use std::error::Error;
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use weir_shm::{Capacity, Publisher, Region, Seen, Snapshot, Upstream};
use weir_worker::follow::STEPS_A_SLICE;
use weir_worker::upstream::build::{Builder, Numbering};
use weir_worker::upstream::plan::Plan;

use crate::Bench;
use crate::region::{folder, list_from};

/// Changes that slices are timed over.
const CHANGES: u64 = 50;

/// Runs everything about large tables.
pub fn run(bench: &mut Bench) -> Result<(), Box<dyn Error>> {
    for (upstreams, servers) in [(1000, 10), (1, 20_000)] {
        table(bench, upstreams, servers)?;
    }
    Ok(())
}

fn table(bench: &mut Bench, upstreams: usize, servers: usize) -> Result<(), Box<dyn Error>> {
    let name = format!("{upstreams} x {servers}");
    let folder = folder()?;
    let region = Region::create(&folder.path().join("region"), Capacity::default())?;
    let mut publisher = Publisher::new(&region, region.writer_file()?)?;
    let mut worker = region.worker(0)?;
    let upstream = |number: usize| Upstream {
        name: format!("upstream{number}"),
        changed: 0,
        learned: true,
        template: None,
        servers: list_from((number * servers) as u32, servers),
    };
    let mut tables: Vec<Upstream> = (0..upstreams).map(upstream).collect();
    publisher.publish(tables.clone(), Seen::NOBODY)?;
    let mut round = 0;
    let mut change = |tables: &mut Vec<Upstream>| {
        round += 1;
        let servers = &mut tables[round as usize % upstreams].servers;
        let at = servers.len() / 2;
        servers[at].fail_timeout_ms = 10_000 + round;
    };
    bench.measure(&format!("publish a change of {name} servers"), || {
        change(&mut tables);
        publisher.publish(tables.clone(), Seen::now()).is_ok()
    });

    let (mut snapshot, mut numbering) = (Snapshot::default(), Numbering::default());
    let mut plan = Rc::new(Plan::default());
    let (mut reads, mut longest, mut builds) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..=CHANGES {
        change(&mut tables);
        publisher.publish(tables.clone(), Seen::now())?;
        let begun = Instant::now();
        worker.read(plan.version, &mut snapshot)?;
        let mut builder = Builder::new(&plan, &snapshot);
        reads.push(begun.elapsed());
        let (mut slowest, begun) = (Duration::ZERO, Instant::now());
        let built = loop {
            let slice = Instant::now();
            let built = builder.step(STEPS_A_SLICE, &mut snapshot, &mut numbering);
            slowest = slowest.max(slice.elapsed());
            if let Some(built) = built {
                break built;
            }
        };
        builds.push(begun.elapsed());
        longest.push(slowest);
        plan = black_box(built.plan);
    }
    for (what, mut times) in [
        ("table read", reads),
        ("longest slice of a plan", longest),
        ("plan made", builds),
    ] {
        // The first one is of everything.
        times.remove(0);
        times.sort();
        bench.report(
            &format!("{what}, {name} servers"),
            times[0],
            times[times.len() / 2],
        );
    }
    Ok(())
}
