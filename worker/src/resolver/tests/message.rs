use proptest::prelude::*;
use simple_dns::{QTYPE, RCODE, TYPE};

use super::super::Failure;
use super::super::message::{Found, Kind, Reply, question, read};
use super::{Says, answer, found, ip, truncated};

#[test]
fn a_question_is_nginxs_byte_for_byte() {
    let asked = question("www.example.com", Kind::A, 0x1234).unwrap();
    let expected = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\0\x01\0\x01";
    assert_eq!(asked, expected);
    let six = question("www.example.com", Kind::Aaaa, 0x1234).unwrap();
    assert_eq!(six[..asked.len() - 4], asked[..asked.len() - 4]);
    assert_eq!(&six[asked.len() - 4..], b"\0\x1c\0\x01");
    // What is no plain text for the library is a label all the same.
    let odd = question("a\\b.\u{e4}", Kind::A, 1).unwrap();
    assert!(odd.windows(8).any(|part| part == b"\x03a\\b\x02\xc3\xa4\0"));
}

#[test]
fn only_the_records_of_the_name_count() {
    let asked = question("a.test", Kind::A, 7).unwrap();
    let says = [
        Says::Address("evil.test", "203.0.113.1", 1),
        Says::Alias("A.test", "c.test", 30),
        Says::Address("c.test", "192.0.2.1", 20),
        Says::Alias("evil.test", "a.test", 1),
    ];
    let reply = read(&found(&asked, &says)).unwrap();
    let expected = Reply {
        id: 7,
        kind: Kind::A,
        name: "a.test".to_owned(),
        found: Found::Addresses {
            addresses: vec![ip("192.0.2.1")],
            ttl: 20,
        },
    };
    assert_eq!(reply, expected);
    let stray = read(&found(&asked, &says[..1])).unwrap();
    assert_eq!(stray.found, Found::Nothing);
    let alias = Found::Alias {
        name: "c.test".to_owned(),
        ttl: 30,
    };
    assert_eq!(read(&found(&asked, &says[1..2])).unwrap().found, alias);
    // A loop ends somewhere in it.
    let says = [
        Says::Alias("a.test", "b.test", 30),
        Says::Alias("b.test", "a.test", 30),
    ];
    let looped = read(&found(&asked, &says)).unwrap();
    assert!(matches!(looped.found, Found::Alias { .. } | Found::Nothing));
}

#[test]
fn codes_and_a_cut_answer() {
    let asked = question("a.test", Kind::Aaaa, 7).unwrap();
    let failed = read(&answer(&asked, RCODE::Refused, &[])).unwrap();
    assert_eq!(failed.found, Found::Failed(Failure::Refused));
    assert_eq!(read(&truncated(&asked)).unwrap().found, Found::Truncated);
    // Cut in the middle of a record, as some servers do.
    let mut cut = found(&asked, &[Says::Address("a.test", "2001:db8::1", 5)]);
    cut[2] |= 2;
    cut.truncate(cut.len() - 9);
    assert_eq!(read(&cut).unwrap().found, Found::Truncated);
    cut[2] &= !2;
    assert!(read(&cut).is_err());
    let told = |code| read(&answer(&asked, code, &[])).unwrap_err();
    assert_eq!(
        told(RCODE::FormatError),
        "DNS error (1: Format error), query id:7"
    );
    assert_eq!(
        told(RCODE::NOTAUTH),
        "DNS error (9: Unknown error), query id:7"
    );
}

proptest! {
    #[test]
    fn every_name_comes_back(name in "[a-z0-9_-]{1,63}(\\.[a-z0-9-]{1,20}){0,8}", id: u16, six: bool) {
        let kind = if six { Kind::Aaaa } else { Kind::A };
        let asked = question(&name, kind, id).unwrap();
        let packet = simple_dns::Packet::parse(&asked).unwrap();
        prop_assert_eq!(packet.questions[0].qname.to_string(), name.clone());
        let code = if six { TYPE::AAAA } else { TYPE::A };
        prop_assert_eq!(packet.questions[0].qtype, QTYPE::TYPE(code));
        let reply = read(&found(&asked, &[])).unwrap();
        prop_assert_eq!((reply.id, reply.kind, reply.name), (id, kind, name));
    }
}
