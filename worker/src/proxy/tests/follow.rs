//! How a worker follows the table beside its requests.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use weir_shm::Publisher;

use super::{BEGIN_MS, World};
use crate::follow::Follower;

#[test]
fn a_damaged_table_is_tried_again_once_a_second() {
    let mut world = World::new(2);
    let writer = world.region.writer_file().unwrap();
    let mut publisher = Publisher::new(&world.region, writer).unwrap();
    let mut table = publisher.table().upstreams.clone();
    table[0].servers.pop();
    publisher.publish(table, weir_shm::Seen::NOBODY).unwrap();

    let (ring, _) = world.proxy.shared.region.latch();
    let slot = ring.slot(2) as u64 * 8;
    let path = world.folder.path().join("region");
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let set_version = |version: u64| file.write_all_at(&version.to_ne_bytes(), slot).unwrap();

    let mut follower = Follower::default();
    set_version(9);
    follower.turn(&mut world.proxy);
    assert!(!follower.wants_turn());
    assert_eq!(follower.due_ms(BEGIN_MS), Some(BEGIN_MS + 1000));
    set_version(2);
    world.pass(999);
    follower.turn(&mut world.proxy);
    assert!(!follower.wants_turn());
    assert_eq!(world.proxy.shared.plan.version, 1);
    world.pass(1);
    follower.turn(&mut world.proxy);
    while follower.wants_turn() {
        follower.turn(&mut world.proxy);
    }
    assert_eq!(world.proxy.shared.plan.version, 2);
}
