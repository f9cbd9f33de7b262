//! Answers for clients that are slower than their servers, and at a given pace.

use super::{Far, World};
use crate::event::Token;
use crate::proxy::client::State;
use crate::proxy::slow::SLOW_MS;
use crate::settings::{
    AddHeader, IgnoredHeaders, LocationSettings, Part, Proxy, Template, Variable,
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// Long enough for a slot of the wheel to pass.
const SLACK_MS: u64 = 20;

/// A body that has a different byte at every place of a period that no buffer's size divides.
fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| b'a' + (at % 23) as u8).collect()
}

fn head(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")
}

fn value(text: &str) -> Option<Template> {
    Some(Template {
        parts: vec![Part::Text(text.into())],
    })
}

/// A client that takes nothing, and the server that it asked.
fn stuck(adjust: impl FnOnce(&mut LocationSettings, &mut Proxy)) -> (World, Far, Far) {
    let mut world = World::with(1, adjust);
    let client = world.accept(GET);
    client.wire.borrow_mut().room = 0;
    let server = world.server(0);
    (world, client, server)
}

/// Lets the client show that it is slow.
fn show_slow(world: &mut World) {
    world.pass(SLOW_MS + SLACK_MS);
    go_on(world);
}

/// As many turns of the loop as are wanted.
fn go_on(world: &mut World) {
    for _ in 0..1000 {
        if !world.proxy.is_busy() {
            return;
        }
        world.proxy.go_on();
    }
    panic!("it never ends");
}

fn has_file(world: &World, client: &Far) -> bool {
    let client = world.proxy.clients.get(client.key.unwrap()).unwrap();
    match &client.state {
        State::Proxying(exchange) => exchange.download.has_file(),
        _ => false,
    }
}

/// Whether the connection is idle again, and may serve another.
fn is_kept(server: &Far, world: &World) -> bool {
    let token = server.wire.borrow().token;
    let Some(Token::Peer(key)) = token else {
        return false;
    };
    let peer = world.proxy.peers.get(key);
    peer.is_some_and(|peer| peer.client.is_none())
}

#[test]
fn a_server_is_free_as_soon_as_its_answer_was_read() {
    for (length, sendfile) in [
        (9, false),
        (20_000, false),
        (500_000, false),
        (500_000, true),
    ] {
        let (mut world, client, server) = stuck(|location, _| location.sendfile = sendfile);
        world.send(&server, head(length).as_bytes());
        world.send(&server, &body(length));
        show_slow(&mut world);
        assert!(is_kept(&server, &world), "{length}");
        assert_eq!(has_file(&world, &client), length > 100_000);
        // Another client has the connection meanwhile.
        let other = world.accept(GET);
        assert_eq!(world.proxy.shared.net.made.len(), 1);
        world.send(&server, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert!(other.got().ends_with("ok"));
        let mut got = String::new();
        while world.state(&client) == "proxying" {
            world.room(&client, 70_001);
            got += &client.got();
        }
        assert!(
            got.ends_with(std::str::from_utf8(&body(length)).unwrap()),
            "{length}"
        );
        assert_eq!(world.state(&client), "idle");
    }
}

#[test]
fn chunks_come_out_of_a_file_as_they_went_in() {
    let (mut world, client, server) = stuck(|_, _| {});
    world.send(
        &server,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    let whole = body(300_000);
    for part in whole.chunks(10_000) {
        world.send(&server, b"2710\r\n");
        world.send(&server, part);
        world.send(&server, b"\r\n");
        show_slow(&mut world);
    }
    world.send(&server, b"0\r\n\r\n");
    assert!(is_kept(&server, &world));
    let mut got = String::new();
    while world.state(&client) == "proxying" {
        world.room(&client, 7_919);
        got += &client.got();
    }
    let (_, mut chunks) = got.split_once("\r\n\r\n").unwrap();
    let mut data = String::new();
    loop {
        let (size, rest) = chunks.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        data += &rest[..size];
        chunks = &rest[size + 2..];
        if size == 0 {
            break;
        }
    }
    assert!(data.as_bytes() == whole);
    assert_eq!(chunks, "");
}

#[test]
fn a_client_that_is_full_for_a_moment_is_not_slow() {
    let (mut world, client, server) = stuck(|_, _| {});
    world.send(&server, head(200_000).as_bytes());
    world.send(&server, &body(200_000));
    world.pass(SLOW_MS / 2);
    assert!(!has_file(&world, &client));
    assert!(server.wire.borrow().input.len() > 100_000, "it waits");
    world.room(&client, usize::MAX);
    assert!(client.got().len() > 200_000);
    assert_eq!(world.state(&client), "idle");
}

#[test]
fn what_is_beyond_the_file_waits_at_the_server() {
    let cases: [(u64, (usize, usize), usize, bool); 4] = [
        (100_000, (8, 4096), 132_768, true),
        (0, (8, 4096), 32_768, false),
        (0, (8, 16_384), 131_072, false),
        (100_000, (8, 16_384), 231_072, true),
    ];
    for (file, buffers, held, in_file) in cases {
        let (mut world, client, server) = stuck(|_, proxied| {
            proxied.buffering.max_temp_file_size = file;
            proxied.buffering.buffers = buffers;
        });
        let length = 1_000_000;
        world.send(&server, head(length).as_bytes());
        world.send(&server, &body(length));
        show_slow(&mut world);
        let left = server.wire.borrow().input.len();
        // What is held goes in and out by the buffer.
        let taken = length - left;
        assert!(taken <= held + 33_000, "{taken} of {held}");
        assert!(taken + 33_000 > held, "{taken} of {held}");
        assert_eq!(has_file(&world, &client), in_file);
        // The server is not blamed for what the client does not take.
        for _ in 0..9 {
            world.pass(30_000);
            world.room(&client, 1);
        }
        assert_eq!(world.state(&client), "proxying");
        world.room(&client, usize::MAX);
        while world.proxy.is_busy() {
            world.proxy.go_on();
        }
        assert!(
            client
                .got()
                .ends_with(std::str::from_utf8(&body(length)).unwrap())
        );
        assert!(is_kept(&server, &world));
    }
}

#[test]
fn without_buffering_the_server_waits() {
    let told = |length, told: &str| {
        format!("HTTP/1.1 200 OK\r\nX-Accel-Buffering: {told}\r\nContent-Length: {length}\r\n\r\n")
    };
    let (heeded, ignored) = (IgnoredHeaders::default(), IgnoredHeaders::BUFFERING);
    for (buffering, head, ignored, waits) in [
        (false, head(200_000), heeded, true),
        (true, told(200_000, "no"), heeded, true),
        (false, told(200_000, "Yes"), heeded, false),
        (true, told(200_000, "perhaps"), heeded, false),
        (true, told(200_000, "no"), ignored, false),
        (false, told(200_000, "yes"), ignored, true),
    ] {
        let (mut world, client, server) = stuck(|_, proxied| {
            proxied.buffering.response = buffering;
            proxied.ignored = ignored;
        });
        world.send(&server, head.as_bytes());
        world.send(&server, &body(200_000));
        show_slow(&mut world);
        assert_eq!(server.wire.borrow().input.len() > 100_000, waits, "{head}");
        assert_eq!(has_file(&world, &client), !waits);
        world.room(&client, usize::MAX);
        assert!(!client.got().contains("X-Accel-Buffering"));
    }
}

#[test]
fn what_breaks_off_is_never_the_whole() {
    let heads = [
        head(900_000),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n".to_owned(),
    ];
    for head in heads {
        let ends: [fn(&mut World, &Far); 3] = [
            |world, server| world.end(server),
            |world, server| {
                server.wire.borrow_mut().broken = Some(std::io::ErrorKind::ConnectionReset);
                world.send(server, b"");
            },
            |world, _| world.pass(61_000),
        ];
        for end in ends {
            let (mut world, client, server) =
                stuck(|location, _| location.send_timeout = std::time::Duration::from_secs(300));
            world.send(&server, head.as_bytes());
            show_slow(&mut world);
            world.send(&server, &body(300_000));
            show_slow(&mut world);
            end(&mut world, &server);
            assert!(server.wire.borrow().closed);
            assert_eq!(
                world.state(&client),
                "proxying",
                "the client gets what there is"
            );
            world.room(&client, usize::MAX);
            let got = client.got();
            assert!(got.len() > 300_000 && !got.ends_with("0\r\n\r\n"));
            assert_eq!(world.state(&client), "gone");
        }
    }
}

#[test]
fn a_client_that_never_takes_it_has_the_send_timeout() {
    let (mut world, client, server) = stuck(|_, _| {});
    world.send(&server, head(500_000).as_bytes());
    world.send(&server, &body(500_000));
    show_slow(&mut world);
    assert!(is_kept(&server, &world));
    world.pass(50_000);
    world.room(&client, 10);
    world.pass(50_000);
    assert_eq!(world.state(&client), "proxying");
    world.pass(10_000 + SLACK_MS);
    assert_eq!(world.state(&client), "gone");
}

#[test]
fn quitting_lets_a_slow_client_have_its_answer() {
    let (mut world, client, server) = stuck(|_, _| {});
    world.send(&server, head(300_000).as_bytes());
    world.send(&server, &body(300_000));
    show_slow(&mut world);
    world.proxy.quit();
    assert_eq!(world.state(&client), "proxying");
    world.room(&client, usize::MAX);
    assert!(client.got().len() > 300_000);
    assert_eq!(world.state(&client), "gone");
}

#[test]
fn a_head_is_within_proxy_buffer_size() {
    for (size, length, fits) in [
        (4096, 4096, true),
        (4096, 4097, false),
        (65_536, 65_536, true),
        (65_536, 65_537, false),
    ] {
        let mut world = World::with(1, |_, proxied| proxied.buffering.head_size = size);
        let client = world.accept(GET);
        let start = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: ";
        let filler = "x".repeat(length - start.len() - 4);
        world.send(
            &world.server(0),
            format!("{start}{filler}\r\n\r\nok").as_bytes(),
        );
        let status = if fits { 200 } else { 502 };
        assert!(
            client.got().starts_with(&format!("HTTP/1.1 {status} ")),
            "{length} of {size}"
        );
    }
}

/// What the client gets in `seconds`, a second at a time.
fn in_time(world: &mut World, client: &Far, seconds: usize) -> Vec<usize> {
    let mut total = client.got().len();
    let mut got = vec![total];
    for _ in 0..seconds {
        for _ in 0..10 {
            world.pass(100);
            world.proxy.go_on();
        }
        total += client.got().len();
        got.push(total);
    }
    got
}

#[test]
fn limit_rate_holds_for_each_answer() {
    let mut world = World::with(1, |location, _| {
        location.limit_rate = value("10k");
        location.limit_rate_after = value("5k");
    });
    let client = world.accept(GET);
    let server = world.server(0);
    world.send(&server, head(60_000).as_bytes());
    world.send(&server, &body(60_000));
    assert!(
        is_kept(&server, &world),
        "a slow client does not hold its server"
    );
    let got = in_time(&mut world, &client, 5);
    for (second, got) in got.iter().enumerate() {
        let due = 5_120 + 10_240 * (second + 1);
        let least = due.saturating_sub(10_240).min(60_000);
        assert!(
            (least..=due.max(61_000)).contains(got),
            "{second}: {got} of {due}"
        );
    }
    assert!(got[1] < 30_000 && got[5] > 60_000, "{got:?}");
    assert_eq!(world.state(&client), "idle");
}

#[test]
fn a_server_may_give_the_rate() {
    for (configured, told, limited) in [
        (None, "10000", true),
        (value("1"), "0", false),
        (None, "x", false),
    ] {
        let mut world = World::with(1, |location, _| location.limit_rate = configured);
        assert_eq!(got_at_rate(&mut world, told) < 90_000, limited, "{told}");
    }
    for (configured, told, limited) in [(None, "10000", false), (value("10k"), "0", true)] {
        let mut world = World::with(1, |location, proxied| {
            location.limit_rate = configured;
            proxied.ignored = IgnoredHeaders::LIMIT_RATE;
        });
        assert_eq!(got_at_rate(&mut world, told) < 90_000, limited, "{told}");
    }
}

/// How much a client gets at once of 90 kB with this `X-Accel-Limit-Rate`.
fn got_at_rate(world: &mut World, told: &str) -> usize {
    let client = world.accept(GET);
    let server = world.server(0);
    let head =
        format!("HTTP/1.1 200 OK\r\nX-Accel-Limit-Rate: {told}\r\nContent-Length: 90000\r\n\r\n");
    world.send(&server, head.as_bytes());
    world.send(&server, &body(90_000));
    let got = client.got();
    assert!(!got.contains("X-Accel-Limit-Rate"));
    got.len()
}

#[test]
fn what_is_not_buffered_has_no_rate() {
    let mut world = World::with(1, |location, proxied| {
        location.limit_rate = value("10k");
        proxied.buffering.response = false;
    });
    assert!(got_at_rate(&mut world, "100") > 90_000);
}

#[test]
fn proxy_limit_rate_is_how_fast_a_server_is_read() {
    let mut world = World::with(1, |_, proxied| proxied.buffering.limit_rate = value("10k"));
    let client = world.accept(GET);
    let server = world.server(0);
    world.send(&server, head(60_000).as_bytes());
    world.send(&server, &body(60_000));
    let got = in_time(&mut world, &client, 6);
    assert!(got[0] <= 11_000, "{got:?}");
    assert!(got[2] >= 20_000 && got[2] <= 32_000, "{got:?}");
    assert_eq!(world.state(&client), "idle", "{got:?}");
}

#[test]
fn answers_of_our_own_have_the_rate_too() {
    let mut world = World::with(1, |location, proxied| {
        location.limit_rate = value("100");
        location.client_max_body_size = 1;
        proxied.buffering.request = true;
    });
    let client = world.accept(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n");
    assert_eq!(client.got().len(), 100);
    let got = in_time(&mut world, &client, 9);
    assert!(got[1] <= 100 && got[9] > 200, "{got:?}");
    assert_ne!(world.state(&client), "answering");
}

#[test]
fn trailers_follow_whatever_pieces_an_answer_comes_in() {
    let added = |name: &[u8], value: Template| AddHeader {
        name: name.to_vec(),
        value,
        always: false,
        replaces: false,
    };
    let length = Template {
        parts: vec![Part::Variable(Variable::UpstreamResponseLength)],
    };
    let trailers = [
        added(b"X-A", value("a").unwrap()),
        added(b"X-Length", length),
    ];
    for (answer, body, section) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello, world",
            "hello, world",
            "X-A: a\r\nX-Length: 12\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "",
            "X-A: a\r\nX-Length: 0\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n7;x\r\n, world\r\n0\r\nX-Sum: 1\r\nX-No: 2\r\n\r\n",
            "hello, world",
            "X-Sum: 1\r\nX-A: a\r\nX-Length: 48\r\n",
        ),
    ] {
        for at in 1..=answer.len() {
            let mut world = World::with(1, |location, proxied| {
                location.add_trailers = trailers.to_vec();
                proxied.pass_trailers = true;
                proxied.hidden.names.push(b"x-no".to_vec());
            });
            let client = world.accept(GET);
            client.wire.borrow_mut().room = at;
            let server = world.server(0);
            world.send(&server, &answer.as_bytes()[..at]);
            if at < answer.len() {
                world.send(&server, &answer.as_bytes()[at..]);
            }
            let mut got = client.got();
            while world.state(&client) == "proxying" {
                world.room(&client, 13);
                got += &client.got();
            }
            assert_eq!(world.state(&client), "idle", "{at}: {got}");
            assert!(is_kept(&server, &world), "{at}");
            let (head, mut rest) = got.split_once("\r\n\r\n").unwrap();
            assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
            assert!(!head.contains("Content-Length"), "{head}");
            let mut data = String::new();
            while let Some((size, after)) = rest.split_once("\r\n") {
                let size = usize::from_str_radix(size, 16).unwrap();
                if size == 0 {
                    rest = after;
                    break;
                }
                data += &after[..size];
                rest = after[size..].strip_prefix("\r\n").unwrap();
            }
            assert_eq!(data, body, "{at}");
            assert_eq!(rest, format!("{section}\r\n"), "{at}");
        }
    }
}
