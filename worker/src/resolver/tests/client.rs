use std::time::Duration;

use simple_dns::RCODE;

use super::super::client::MOST_LOOKUPS;
use super::super::{Failure, Lookup, Protocol, RESEND_MS};
use super::{Says, World, addresses, answer, found, settings, truncated};

const RESEND: Duration = Duration::from_millis(RESEND_MS);
const A: Says<'static> = Says::Address("a.test", "192.0.2.1", 10);

fn cached(lookup: Lookup) -> String {
    match lookup {
        Lookup::Found(found) => addresses(&found.addresses),
        Lookup::Failed(failure) => failure.to_string(),
        Lookup::Waiting => "waiting".to_owned(),
    }
}

#[test]
fn an_answer_is_kept_for_its_ttl_and_not_longer() {
    let mut world = World::new(settings(1));
    assert_eq!(world.resolve("a.test", &[A]), "192.0.2.1");
    for name in ["a.test", "A.Test", "a.test."] {
        assert_eq!(cached(world.look_up(name, 2)), "192.0.2.1");
    }
    world.pass(Duration::from_millis(9_999));
    assert_eq!(cached(world.look_up("a.test", 2)), "192.0.2.1");
    world.pass(Duration::from_millis(1));
    let other = Says::Address("a.test", "192.0.2.9", 0);
    assert_eq!(world.resolve("a.test", &[other]), "192.0.2.9");
    // A TTL of 0 serves who waited, and nobody after.
    assert_eq!(cached(world.look_up("a.test", 2)), "waiting");
}

#[test]
fn valid_overrides_every_ttl() {
    let mut world = World::new(crate::settings::Resolver {
        valid: Some(Duration::from_secs(3)),
        ..settings(1)
    });
    world.resolve("a.test", &[A]);
    world.pass(Duration::from_millis(2_999));
    assert_eq!(cached(world.look_up("a.test", 2)), "192.0.2.1");
    world.pass(Duration::from_millis(1));
    assert_eq!(cached(world.look_up("a.test", 2)), "waiting");
}

#[test]
fn the_least_ttl_of_an_answer_counts_and_a_negative_one_is_none() {
    let mut world = World::new(settings(1));
    let says = [
        Says::Alias("a.test", "b.test", 7),
        Says::Address("b.test", "192.0.2.1", 60),
        Says::Address("b.test", "192.0.2.2", 5),
    ];
    assert_eq!(world.resolve("a.test", &says), "192.0.2.1 192.0.2.2");
    world.pass(Duration::from_secs(4));
    assert_eq!(cached(world.look_up("a.test", 2)), "192.0.2.1 192.0.2.2");
    world.pass(Duration::from_secs(1));
    assert_eq!(cached(world.look_up("a.test", 2)), "waiting");
    world.resolve("b.test", &[Says::Address("b.test", "192.0.2.1", u32::MAX)]);
    assert_eq!(cached(world.look_up("b.test", 2)), "waiting");
}

#[test]
fn all_who_want_a_name_share_one_question() {
    let mut world = World::new(settings(1));
    for who in 1..=3 {
        assert_eq!(world.look_up("a.test", who), Lookup::Waiting);
    }
    let asked = world.asked().unwrap();
    assert!(world.asked().is_none());
    world.client.forget("A.test", 2);
    world.receive(asked.lookup, &found(&asked.messages[0], &[A]));
    let both = [1, 3].map(|who| (who, "192.0.2.1".to_owned()));
    assert_eq!(world.outcomes(), both);
    assert!(world.client.is_idle() || world.asked().is_none());
}

#[test]
fn both_families_are_asked_for_and_ipv4_comes_first() {
    let mut world = World::new(crate::settings::Resolver {
        ipv6: true,
        ..settings(1)
    });
    world.look_up("a.test", 1);
    let asked = world.asked().unwrap();
    assert_eq!(asked.messages.len(), 2);
    let six = Says::Address("a.test", "2001:db8::1", 10);
    world.receive(asked.lookup, &found(&asked.messages[1], &[six]));
    assert_eq!(world.outcomes(), []);
    world.receive(asked.lookup, &found(&asked.messages[0], &[A]));
    assert_eq!(world.outcomes()[0].1, "192.0.2.1 2001:db8::1");

    // A name with one kind is a name.
    world.look_up("b.test", 1);
    let asked = world.asked().unwrap();
    world.receive(asked.lookup, &found(&asked.messages[0], &[]));
    let six = Says::Address("b.test", "2001:db8::1", 10);
    world.receive(asked.lookup, &found(&asked.messages[1], &[six]));
    assert_eq!(world.outcomes()[0].1, "2001:db8::1");

    // As in nginx, a failure for one kind is the name's.
    world.look_up("c.test", 1);
    let asked = world.asked().unwrap();
    world.receive(
        asked.lookup,
        &answer(&asked.messages[1], RCODE::ServerFailure, &[]),
    );
    assert_eq!(world.outcomes(), []);
    let four = Says::Address("c.test", "192.0.2.1", 10);
    world.receive(asked.lookup, &found(&asked.messages[0], &[four]));
    assert_eq!(world.outcomes()[0].1, "2: Server failure");
}

#[test]
fn failures_are_told_in_nginxs_words_and_not_kept() {
    let mut world = World::new(settings(1));
    for (code, told) in [
        (RCODE::ServerFailure, "2: Server failure"),
        (RCODE::NameError, "3: Host not found"),
        (RCODE::NotImplemented, "4: Unimplemented"),
        (RCODE::Refused, "5: Operation refused"),
        (RCODE::NoError, "3: Host not found"),
    ] {
        assert_eq!(world.look_up("a.test", 1), Lookup::Waiting);
        let asked = world.asked().unwrap();
        world.receive(asked.lookup, &answer(&asked.messages[0], code, &[]));
        assert_eq!(world.outcomes(), [(1, told.to_owned())]);
    }
    for bad in ["", ".", "a..b", &"a".repeat(64), &"a.".repeat(130)] {
        let failed = Lookup::Failed(Failure::NotFound);
        assert_eq!(world.look_up(bad, 1), failed, "{bad}");
    }
    assert!(world.asked().is_none());
    let longest = format!("{}.test", "a".repeat(63));
    assert_eq!(world.look_up(&longest, 1), Lookup::Waiting);
}

#[test]
fn silence_has_the_next_server_asked() {
    let mut world = World::new(settings(3));
    world.look_up("a.test", 1);
    let first = world.asked().unwrap();
    assert_eq!(first.server, 0);
    assert_eq!(world.client.next_ms(), Some(world.now_ms + RESEND_MS));
    world.pass(RESEND - Duration::from_millis(1));
    assert!(world.asked().is_none());
    world.pass(Duration::from_millis(1));
    let second = world.asked().unwrap();
    assert_eq!((second.server, &second.messages), (1, &first.messages));
    // The first server was only slow.
    world.receive(first.lookup, &found(&first.messages[0], &[A]));
    assert_eq!(world.outcomes()[0].1, "192.0.2.1");
    // The next name begins with the next server.
    world.look_up("b.test", 1);
    assert_eq!(world.asked().unwrap().server, 1);
    for server in [2, 0, 1] {
        world.pass(RESEND);
        assert_eq!(world.asked().unwrap().server, server);
    }
}

#[test]
fn what_nobody_waits_for_is_not_asked_again() {
    let mut world = World::new(settings(2));
    world.look_up("a.test", 1);
    world.asked().unwrap();
    world.client.forget("a.test", 1);
    assert!(!world.client.is_idle());
    world.pass(RESEND);
    assert!(world.asked().is_none());
    assert!(world.client.is_idle());
    assert_eq!(world.client.next_ms(), None);
    assert_eq!(world.outcomes(), []);
}

#[test]
fn a_server_that_cannot_be_reached_is_passed_over_at_once() {
    let mut world = World::new(settings(3));
    world.look_up("a.test", 1);
    let asked = world.asked().unwrap();
    world.client.lost(asked.lookup, 0);
    assert_eq!(world.asked().unwrap().server, 1);
    // Late news of the first.
    world.client.lost(asked.lookup, 0);
    assert!(world.asked().is_none());
    world.client.lost(asked.lookup, 1);
    assert_eq!(world.asked().unwrap().server, 2);
    // Each had its turn: the next one is by time.
    world.client.lost(asked.lookup, 2);
    assert!(world.asked().is_none());
    world.pass(RESEND);
    assert_eq!(world.asked().unwrap().server, 0);
    world.client.lost(asked.lookup, 0);
    assert_eq!(world.asked().unwrap().server, 1);
}

#[test]
fn an_answer_that_was_cut_off_is_fetched_over_a_connection() {
    let mut world = World::new(crate::settings::Resolver {
        ipv6: true,
        ..settings(2)
    });
    world.look_up("a.test", 1);
    let asked = world.asked().unwrap();
    world.receive(asked.lookup, &truncated(&asked.messages[0]));
    let again = world.asked().unwrap();
    assert_eq!((again.over, again.server), (Protocol::Tcp, 0));
    assert_eq!(again.messages, [asked.messages[0].clone()]);
    world.receive(asked.lookup, &truncated(&asked.messages[0]));
    assert!(world.asked().is_none());
    world.receive_over(asked.lookup, Protocol::Tcp, &truncated(&asked.messages[0]));
    assert!(world.faults()[0].starts_with("invalid TCP DNS response"));
    // Both are asked again as they were.
    world.pass(RESEND);
    let (udp, tcp) = (world.asked().unwrap(), world.asked().unwrap());
    assert_eq!(
        (udp.over, &udp.messages[0]),
        (Protocol::Udp, &asked.messages[1])
    );
    assert_eq!((tcp.over, tcp.server), (Protocol::Tcp, 1));
    world.receive_over(tcp.lookup, Protocol::Tcp, &found(&tcp.messages[0], &[A]));
    world.receive(udp.lookup, &found(&udp.messages[0], &[]));
    assert_eq!(world.outcomes()[0].1, "192.0.2.1");
}

#[test]
fn aliases_are_followed_by_further_questions_but_not_for_ever() {
    let mut world = World::new(settings(1));
    world.look_up("a.test", 1);
    let first = world.asked().unwrap();
    let alias = Says::Alias("a.test", "B.test", 9);
    world.receive(first.lookup, &found(&first.messages[0], &[alias]));
    let second = world.asked().unwrap();
    assert_ne!(first.messages, second.messages);
    // What was asked before is past.
    world.receive(first.lookup, &found(&first.messages[0], &[A]));
    assert_eq!(world.faults(), ["unexpected DNS response for a.test"]);
    let b = Says::Address("b.test", "192.0.2.2", 60);
    world.receive(second.lookup, &found(&second.messages[0], &[b]));
    assert_eq!(world.outcomes(), [(1, "192.0.2.2".to_owned())]);
    world.pass(Duration::from_secs(8));
    assert_eq!(cached(world.look_up("a.test", 1)), "192.0.2.2");
    world.pass(Duration::from_secs(1));
    assert_eq!(cached(world.look_up("a.test", 1)), "waiting");

    let mut questions = 0;
    while let Some(asked) = world.asked() {
        questions += 1;
        let says = match questions % 2 {
            1 => Says::Alias("a.test", "b.test", 9),
            _ => Says::Alias("b.test", "a.test", 9),
        };
        world.receive(asked.lookup, &found(&asked.messages[0], &[says]));
    }
    assert_eq!(questions, 51);
    assert_eq!(world.outcomes(), [(1, "3: Host not found".to_owned())]);
}

#[test]
fn answers_that_are_not_the_questions_are_told_and_not_taken() {
    let mut world = World::new(settings(1));
    world.look_up("a.test", 1);
    let asked = world.asked().unwrap();
    let right = found(&asked.messages[0], &[A]);
    let mut wrong = right.clone();
    wrong[1] ^= 1;
    world.receive(asked.lookup, &wrong);
    let id = u16::from_be_bytes([wrong[0], wrong[1]]);
    let told = format!(
        "wrong ident {id} in DNS response for a.test, expect {}",
        id ^ 1
    );
    assert_eq!(world.faults(), [told]);
    let mut other = right.clone();
    other[13] = b'z';
    world.receive(asked.lookup, &other);
    assert_eq!(world.faults(), ["unexpected DNS response for z.test"]);
    world.receive(asked.lookup, &right[..20]);
    world.receive(asked.lookup, &asked.messages[0]);
    world.receive(asked.lookup, b"");
    assert_eq!(world.faults().len(), 3);
    assert_eq!(world.outcomes(), []);
    world.receive(asked.lookup, &right);
    assert_eq!(world.outcomes()[0].1, "192.0.2.1");
    // Again, and late: nobody asks any more.
    world.receive(asked.lookup, &right);
    assert!(world.faults().is_empty() && world.outcomes().is_empty());
}

#[test]
fn names_and_questions_are_bounded() {
    let mut world = World::new(settings(1));
    for number in 0..MOST_LOOKUPS {
        let name = format!("n{number}.test");
        assert_eq!(world.look_up(&name, 1), Lookup::Waiting);
    }
    let refused = Lookup::Failed(Failure::Server);
    assert_eq!(world.look_up("more.test", 1), refused);
    assert_eq!(world.faults().len(), 1);
    assert_eq!(world.look_up("n7.test", 2), Lookup::Waiting);
    while let Some(asked) = world.asked() {
        world.receive(
            asked.lookup,
            &answer(&asked.messages[0], RCODE::NameError, &[]),
        );
    }
    assert_eq!(world.outcomes().len(), MOST_LOOKUPS + 1);
    assert!(world.client.is_idle());

    // The cache: the one that was not used the longest goes.
    for number in 0..5000 {
        let name = format!("n{number}.test");
        world.resolve(&name, &[Says::Address(&name, "192.0.2.1", 86_400)]);
        assert_eq!(cached(world.look_up("n0.test", 9)), "192.0.2.1");
        world.now_ms += 1;
    }
    assert_eq!(cached(world.look_up("n0.test", 9)), "192.0.2.1");
    assert_eq!(cached(world.look_up("n4999.test", 9)), "192.0.2.1");
    assert_eq!(cached(world.look_up("n1.test", 9)), "waiting");
}
