//! Orders with more descriptors than one packet carries.

use std::io;
use std::os::fd::BorrowedFd;

use weir_worker::channel::{Channel, DESCRIPTORS_A_PACKET, Order, Role};

/// Sends what `order` makes of `passed`, in as many packets as it takes and one at least; `order`
/// is told what is beside each packet and whether more packets follow.
///
/// # Errors
/// As [`Channel::send`]; earlier packets may have gone out.
pub(crate) fn send(
    channel: &Channel,
    passed: &[(Role, BorrowedFd)],
    order: impl Fn(Vec<Role>, bool) -> Order,
) -> io::Result<()> {
    let mut rest = passed;
    loop {
        let (packet, later) = rest.split_at(rest.len().min(DESCRIPTORS_A_PACKET));
        let roles = packet.iter().map(|(role, _)| role.clone()).collect();
        let descriptors: Vec<BorrowedFd> = packet.iter().map(|(_, fd)| *fd).collect();
        channel.send(&order(roles, !later.is_empty()), &descriptors)?;
        if later.is_empty() {
            return Ok(());
        }
        rest = later;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn packets(count: usize) -> Vec<(usize, bool)> {
        let (ours, theirs) = Channel::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let passed: Vec<_> = (0..count)
            .map(|id| (Role::Resource(id), file.as_fd()))
            .collect();
        send(&ours, &passed, |descriptors, more| Order::Reopen {
            generation: 1,
            descriptors,
            more,
        })
        .unwrap();
        drop(ours);
        let mut seen = Vec::new();
        let mut next = 0;
        while let Some((order, handed)) = theirs.recv::<Order>().unwrap() {
            let Order::Reopen {
                descriptors, more, ..
            } = order
            else {
                panic!("{order:?}")
            };
            assert_eq!(descriptors.len(), handed.len());
            for role in descriptors {
                assert_eq!(role, Role::Resource(next));
                next += 1;
            }
            seen.push((handed.len(), more));
        }
        assert_eq!(next, count);
        seen
    }

    #[test]
    fn as_many_packets_as_it_takes() {
        let full = DESCRIPTORS_A_PACKET;
        assert_eq!(packets(0), [(0, false)]);
        assert_eq!(packets(full), [(full, false)]);
        assert_eq!(packets(full + 1), [(full, true), (1, false)]);
    }
}
