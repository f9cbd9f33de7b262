//! What the tests of several commands need.

use weir_shm::{Address, CounterId, Server};

/// A server of this machine.
pub fn server(port: u16, weight: u32) -> Server {
    Server {
        address: Address::Ip(([127, 0, 0, 1], port).into()),
        weight,
        max_fails: 1,
        fail_timeout_ms: 10_000,
        down: false,
        backup: false,
        counter: CounterId::default(),
    }
}
