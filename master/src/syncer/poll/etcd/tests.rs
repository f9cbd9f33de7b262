use proptest::prelude::*;

use super::*;

fn upsync(kind: Kind, prefix: &str) -> Upsync {
    Upsync {
        kind,
        ..Upsync::folder("h", 1, prefix)
    }
}

fn response(status: u16, body: &str) -> Response {
    Response {
        status,
        fields: vec![("x-etcd-index".into(), b"9".to_vec())],
        body: body.into(),
        keep: true,
    }
}

fn text(request: Vec<u8>) -> String {
    String::from_utf8(request).unwrap()
}

const RANGE: &str = r#"{"header":{"cluster_id":"3","member_id":"4","revision":"12","raft_term":"2"},
    "kvs":[{"key":"dXAvdGVzdC8xLjIuMy40OjU=","create_revision":"2","mod_revision":"7","version":"1","value":"e30="},
           {"key":"dXAvdGVzdC8xLjIuMy40OjY=","mod_revision":"8"}],"count":"2"}"#;
const KEYS: &str = r#"{"action":"get","node":{"key":"/up/test","dir":true,"modifiedIndex":4,"createdIndex":4,"nodes":[
    {"key":"/up/test/1.2.3.4:5","value":"{}","modifiedIndex":5,"createdIndex":5},
    {"key":"/up/test/more","dir":true,"nodes":[{"key":"/up/test/more/1.2.3.4:6","value":"","modifiedIndex":6}]}]}}"#;
const EVENT: &str =
    r#"{"result":{"header":{"revision":"8"},"events":[{"kv":{"key":"YQ==","mod_revision":"8"}}]}}"#;
const CREATED: &str = r#"{"result":{"header":{"revision":"7"},"created":true}}"#;
const COMPACTED: &str =
    r#"{"result":{"header":{"raft_term":"2"},"canceled":true,"compact_revision":"6"}}"#;

#[test]
fn the_third_api_is_asked_for_a_range() {
    let mut three = upsync(Kind::Etcd3, "up/test");
    let asked = text(read(&three, false, "h:1", None));
    assert!(asked.starts_with("POST /v3/kv/range HTTP/1.1\r\nHost: h:1\r\n"));
    let body = r#"{"key":"dXAvdGVzdC8=","range_end":"dXAvdGVzdDA=","serializable":false}"#;
    assert!(asked.ends_with(&format!("Content-Length: {}\r\n\r\n{body}", body.len())));
    three.consistency = Consistency::Stale;
    assert!(text(read(&three, false, "h", None)).contains("\"serializable\":true"));
    assert!(text(read(&three, true, "h", None)).contains("\"serializable\":false"));
    let watched = text(watch(&three, 7, "h", Some(&Secret("abc".into()))));
    assert!(watched.starts_with("POST /v3/watch ") && watched.contains("\"start_revision\":8"));
    assert!(watched.contains("\r\nAuthorization: abc\r\n"));
}

#[test]
fn the_second_api_is_asked_for_a_folder() {
    let mut two = upsync(Kind::Etcd, "up/test");
    let asked = text(read(&two, false, "h:1", None));
    assert!(asked.starts_with("GET /v2/keys/up/test?recursive=true HTTP/1.1\r\n"));
    assert!(asked.ends_with("\r\n\r\n") && !asked.contains("Content-Length"));
    assert!(text(read(&two, true, "h", None)).contains("?recursive=true&quorum=true "));
    two.consistency = Consistency::Consistent;
    assert!(text(read(&two, false, "h", None)).contains("&quorum=true "));
    let watched = text(watch(&two, 7, "h", None));
    assert!(watched.starts_with("GET /v2/keys/up/test?recursive=true&wait=true&waitIndex=8 "));
}

#[test]
fn what_a_folder_holds_is_read() {
    let entry = |key: &'static str, value: Option<&'static str>, modify_index| Entry {
        key: key.into(),
        value: value.map(Into::into),
        modify_index,
    };
    let ranged = response(200, RANGE);
    let expected = Folder {
        index: 12,
        entries: vec![
            entry("up/test/1.2.3.4:5", Some("e30="), 7),
            entry("up/test/1.2.3.4:6", None, 8),
        ],
    };
    assert_eq!(folder(Kind::Etcd3, &ranged).unwrap(), expected);
    let none = response(200, r#"{"header":{"revision":"3"}}"#);
    assert_eq!(folder(Kind::Etcd3, &none).unwrap().entries, []);
    let got = response(200, KEYS);
    let mut read = folder(Kind::Etcd, &got).unwrap();
    read.entries.sort_by(|one, other| one.key.cmp(&other.key));
    let expected = Folder {
        index: 9,
        entries: vec![
            entry("up/test/1.2.3.4:5", Some("e30="), 5),
            entry("up/test/more/1.2.3.4:6", Some(""), 6),
        ],
    };
    assert_eq!(read, expected);
    let absent = response(
        404,
        r#"{"errorCode":100,"message":"Key not found","index":9}"#,
    );
    let read = folder(Kind::Etcd, &absent).unwrap();
    assert_eq!((read.index, read.entries.len()), (9, 0));
}

#[test]
fn what_is_no_answer_is_a_fault() {
    for (kind, status, body) in [
        (Kind::Etcd3, 500, "{}"),
        (Kind::Etcd3, 404, "404 page not found"),
        (Kind::Etcd3, 200, ""),
        (Kind::Etcd3, 200, "{}"),
        (Kind::Etcd3, 200, r#"{"header":{}}"#),
        (Kind::Etcd3, 200, r#"{"header":{"revision":"-1"}}"#),
        (Kind::Etcd3, 200, &RANGE[..90]),
        (
            Kind::Etcd3,
            200,
            r#"{"header":{"revision":"1"},"kvs":[{"key":"!"}]}"#,
        ),
        (Kind::Etcd, 404, "404 page not found"),
        (Kind::Etcd, 500, "{}"),
        (Kind::Etcd, 200, ""),
        (Kind::Etcd, 200, "{}"),
        (Kind::Etcd, 200, &KEYS[..90]),
    ] {
        assert!(
            folder(kind, &response(status, body)).is_err(),
            "{status} {body}"
        );
    }
    let mut without = response(200, KEYS);
    without.fields.clear();
    assert!(folder(Kind::Etcd, &without).is_err());
}

#[test]
fn the_bell_rings_for_what_is_new() {
    let rings =
        |line: &str, index| Bell::new(Kind::Etcd3).hears(format!("{line}\n").as_bytes(), index);
    assert_eq!(
        [7, 8].map(|index| rings(EVENT, index)),
        [Sound::Rings, Sound::Quiet]
    );
    // At 8 the store was wiped since.
    assert_eq!(
        [7, 8].map(|index| rings(CREATED, index)),
        [Sound::Quiet, Sound::Breaks]
    );
    assert_eq!(rings("", 7), Sound::Quiet);
    for over in [COMPACTED, "garbage", r#"{"error":{"http_code":500}}"#] {
        assert_eq!(rings(over, 7), Sound::Breaks, "{over}");
    }
    let both = format!("{COMPACTED}\n{EVENT}");
    assert_eq!(rings(&both, 7), Sound::Breaks);
    let mut bell = Bell::new(Kind::Etcd3);
    let (start, end) = EVENT.as_bytes().split_at(40);
    let sounds = [start, end, b"\n"].map(|piece| bell.hears(piece, 7));
    assert_eq!(sounds, [Sound::Quiet, Sound::Quiet, Sound::Rings]);
    let two = Bell::new(Kind::Etcd);
    two.ended(&response(200, "{}")).unwrap();
    two.ended(&response(400, r#"{"errorCode":401,"index":1104}"#))
        .unwrap();
    assert!(two.ended(&response(400, r#"{"errorCode":209}"#)).is_err());
    assert!(
        Bell::new(Kind::Etcd3)
            .ended(&response(400, r#"{"errorCode":401}"#))
            .is_err()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn damage_never_panics(at in any::<usize>(), with in proptest::collection::vec(any::<u8>(), 1..6)) {
        for (kind, body) in [(Kind::Etcd3, RANGE), (Kind::Etcd, KEYS)] {
            let mut damaged = response(200, body);
            let at = at % body.len();
            let end = (at + with.len()).min(body.len());
            damaged.body[at..end].copy_from_slice(&with[..end - at]);
            let _ = folder(kind, &damaged);
        }
        let mut line = EVENT.as_bytes().to_vec();
        let at = at % line.len();
        line[at] = with[0];
        line.push(b'\n');
        let _ = Bell::new(Kind::Etcd3).hears(&line, 7);
    }

    #[test]
    fn a_bell_rings_however_its_line_is_cut(cuts in proptest::collection::vec(1usize..30, 1..20)) {
        let stream = format!("{CREATED}\n{EVENT}\n");
        let mut bell = Bell::new(Kind::Etcd3);
        let mut rest = stream.as_bytes();
        let mut rung = 0;
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            rung += usize::from(bell.hears(now, 7) == Sound::Rings);
            rest = later;
            if rest.is_empty() { break; }
        }
        prop_assert_eq!(rung, 1);
    }
}
