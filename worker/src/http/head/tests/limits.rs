//! The limits on a head: how many fields, how long, and of which names.

use super::*;

#[test]
fn the_number_of_fields_is_bounded_exactly() {
    for fields in [3, 63, 64, 65, 100, 2000] {
        let limits = Limits {
            fields,
            ..limits(1000, 100)
        };
        let status = |extra: usize, name: &str| {
            let more = format!("{name}: y\r\n").repeat(fields - 1 + extra);
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{more}\r\n");
            match RequestHead::new().parse(text.as_bytes(), &limits) {
                Parsed::Head(_) => 200,
                Parsed::Partial => 0,
                Parsed::Refused(refusal) => refusal.status,
            }
        };
        assert_eq!((status(0, "x"), status(1, "x")), (200, 494), "{fields}");
        // Those that are ignored count too.
        assert_eq!((status(0, "x_"), status(1, "x_")), (200, 494), "{fields}");
    }
}

#[test]
fn the_limits_are_exact() {
    // Lines of 21, 9 and 2 bytes.
    let text = b"GET /12345 HTTP/1.1\r\nHost: a\r\n\r\n";
    let status = |number: usize, size: usize| match parse_with(text, &limits(number, size)).1 {
        Parsed::Head(end) => {
            assert_eq!(end, text.len());
            200
        }
        Parsed::Partial => 0,
        Parsed::Refused(refusal) => refusal.status,
    };
    assert_eq!(status(1, 21), 200);
    assert_eq!(status(9, 20), 414);
    assert_eq!(status(1, 32), 200);
    assert_eq!(status(0, 32), 200);
    assert_eq!(status(0, 31), 494);
    assert_eq!(status(0, 21), 494);
}

#[test]
fn another_server_may_take_other_fields() {
    let text = b"GET /12345 HTTP/1.1\r\nHost: abcdef\r\nx_y: 1\r\nx.z: 2\r\n\r\n";
    let names = |limits: &Limits| {
        let (head, parsed) = parse_with(text, limits);
        assert_eq!(parsed, Parsed::Head(text.len()));
        let names = head.fields.iter().map(|field| field.name.of(text));
        let names: Vec<_> = names.map(String::from_utf8_lossy).collect();
        (names.join(" "), head.ignored.is_some())
    };
    let nginx = Limits::default();
    let underscores = Limits {
        underscores: true,
        ..nginx
    };
    let all = Limits {
        ignore_invalid: false,
        ..nginx
    };
    assert_eq!(names(&nginx), ("Host".into(), true));
    assert_eq!(names(&underscores), ("Host x_y".into(), true));
    assert_eq!(names(&all), ("Host x_y x.z".into(), false));

    let small = LargeBuffers {
        number: 1,
        size: 13,
    };
    let of_fields = Limits {
        field: small,
        ..limits(1, 21)
    };
    let refused = parse_with(text, &of_fields).1;
    assert!(matches!(
        refused,
        Parsed::Refused(Refusal { status: 494, .. })
    ));
    let of_line = Limits {
        line: small,
        ..limits(9, 20)
    };
    let refused = parse_with(text, &of_line).1;
    assert!(matches!(
        refused,
        Parsed::Refused(Refusal { status: 414, .. })
    ));
}
