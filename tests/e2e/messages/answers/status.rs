//! Status lines, line ends, interim answers and 101.

use super::super::row::{Answer, Got, bad, cut, whole};
use super::{POISON, ok};

pub fn rows() -> Vec<Answer> {
    [lines(), interim(), switching()].concat()
}

fn lines() -> Vec<Answer> {
    let mut rows = Vec::new();
    let with = |line: &str| format!("{line}\r\nContent-Length: 2\r\n\r\nok");
    for (line, status) in [
        ("HTTP/1.1 200 OK", 200),
        ("HTTP/1.1 200", 200),
        ("HTTP/1.1 200 ", 200),
        ("HTTP/1.1 200 All is well, (really)", 200),
        ("HTTP/1.1 404 Not Found", 404),
        ("HTTP/1.1 299 Strange", 299),
        ("HTTP/1.1 500 Oops", 500),
        ("HTTP/1.1 599 Last", 599),
        ("HTTP/1.0 200 OK", 200),
    ] {
        rows.push(whole(&format!("line {line:?}"), with(line), status, "ok"));
    }
    let latin: &[u8] = b"HTTP/1.1 200 sch\xf6n\r\nContent-Length: 2\r\n\r\nok";
    rows.push(whole("a reason in Latin-1", latin, 200, "ok"));
    for line in [
        "HTTP/1.1 099 Low",
        "HTTP/1.1 000 Zero",
        "HTTP/1.1 600 High",
        "HTTP/1.1 999 Higher",
        "HTTP/1.1 1000 More",
        "HTTP/1.1 20 Few",
        "HTTP/1.1 2 Fewer",
        "HTTP/1.1 2xx Some",
        "HTTP/1.1 -20 Less",
        "HTTP/1.1 +20 Plus",
        "HTTP/1.1 0x1 Hex",
        "HTTP/1.1 2000",
        "HTTP/1.1 200OK",
        "HTTP/1.1 OK",
        "HTTP/1.1 ",
        "HTTP/1.1",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        " HTTP/1.1 200 OK",
        "\r\nHTTP/1.1 200 OK",
        "\r\n\r\nHTTP/1.1 200 OK",
        "\nHTTP/1.1 200 OK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 O\x07K",
        "HTTP/1.1 200 O\rK",
        "HTTP/1.1 200 OK\r",
        "HTTP/2 200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/0.9 200 OK",
        "HTTP/1.10 200 OK",
        "HTTP/1 200 OK",
        "http/1.1 200 OK",
        "HTTPS/1.1 200 OK",
        "ICY 200 OK",
        "200 OK",
        "GET / HTTP/1.1",
        "<html>",
        "\0",
        "\u{feff}HTTP/1.1 200 OK",
    ] {
        rows.push(bad(&format!("line {line:?}"), with(line)));
    }
    rows.extend([
        bad(
            "every line ends with LF",
            ok("Content-Length: 2\r\n", "ok").replace('\r', ""),
        ),
        bad(
            "the status line ends with LF",
            "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok",
        ),
        bad(
            "a field ends with LF",
            ok("Content-Length: 2\nX: 1\r\n", "ok"),
        ),
        bad(
            "the empty line is LF",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok",
        )
        .closing(),
        bad("no answer", "").closing(),
        bad("a reset", "").resetting(),
        bad("half a status line", "HTTP/1.1 20").closing(),
        bad("half a head", "HTTP/1.1 200 OK\r\nContent-Le").closing(),
        bad("half a head and a reset", "HTTP/1.1 200 OK\r\nContent-Le").resetting(),
        bad(
            "a head without its end",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
        )
        .closing(),
        bad("no answer to a POST", "")
            .asked("POST /row HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
            .closing(),
        bad("a reset for a POST", "")
            .asked("POST /row HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
            .resetting(),
    ]);
    rows
}

fn interim() -> Vec<Answer> {
    let last = ok("Content-Length: 2\r\n", "ok");
    vec![
        whole(
            "100 first",
            format!("HTTP/1.1 100 Continue\r\n\r\n{last}"),
            200,
            "ok",
        ),
        whole(
            "103 first",
            format!("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n{last}"),
            200,
            "ok",
        ),
        whole(
            "several first",
            format!("{}{last}", "HTTP/1.1 102 Processing\r\n\r\n".repeat(20)),
            200,
            "ok",
        ),
        whole(
            "1xx never reaches HTTP/1.0",
            format!("HTTP/1.1 103 Early Hints\r\n\r\n{last}"),
            200,
            "ok",
        )
        .asked_by_old(),
        whole(
            "1xx that claims a body",
            format!("HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n{last}"),
            200,
            "ok",
        ),
        bad(
            "1xx with a body",
            format!("HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello{last}"),
        ),
        bad(
            "1xx without end",
            "HTTP/1.1 100 Continue\r\n\r\n".repeat(2000),
        ),
        bad("1xx and no more", "HTTP/1.1 100 Continue\r\n\r\n").closing(),
        bad("1xx and a reset", "HTTP/1.1 100 Continue\r\n\r\n").resetting(),
        bad("1xx and garbage", "HTTP/1.1 100 Continue\r\n\r\nhello"),
        bad(
            "1xx with a folded field",
            format!("HTTP/1.1 103 Early Hints\r\nX: 1\r\n 2\r\n\r\n{last}"),
        ),
        bad(
            "199 with two lengths",
            format!("HTTP/1.1 199 X\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{last}"),
        ),
    ]
}

fn switching() -> Vec<Answer> {
    let switch = |protocol: &str| {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        )
    };
    let ask = |fields: &str| format!("GET /row/upgrade HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    let asked = ask("Connection: upgrade\r\nUpgrade: websocket\r\n");
    let tunnel = |name: &str, fields: &str, protocol: &str| {
        cut(name, switch(protocol))
            .asked(&ask(fields))
            .echoing()
            .got(Got::Tunnel(protocol.into()))
    };
    vec![
        tunnel("101 as asked", "Connection: upgrade\r\nUpgrade: websocket\r\n", "websocket"),
        tunnel("101 in other letters", "Connection: Upgrade\r\nUpgrade: WebSocket\r\n", "websocket"),
        tunnel("101 with one of those asked for", "Connection: upgrade\r\nUpgrade: a, chat/2, b\r\n", "chat/2"),
        bad("101 with another protocol", switch("h2c")).asked(&asked).closing(),
        bad("101 with a longer name", switch("websockets")).asked(&asked).closing(),
        bad("101 with one more protocol", switch("websocket, h2c")).asked(&asked).closing(),
        bad("101 without a protocol", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n").asked(&asked).closing(),
        bad("101 over HTTP/1.0", switch("websocket").replace("HTTP/1.1", "HTTP/1.0")).asked(&asked).closing(),
        bad("101 unasked", switch("websocket")),
        bad("101 where Upgrade is not passed on", switch("websocket"))
            .asked("GET /row HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        bad("101 without Connection", switch("websocket")).asked(&ask("Upgrade: websocket\r\n")),
        bad("101 to HTTP/1.0", switch("websocket"))
            .asked("GET /row/upgrade HTTP/1.0\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        whole("an upgrade declined", ok("Content-Length: 2\r\n", "ok"), 200, "ok").asked(&asked),
        whole("an upgrade declined, and more", ok("Content-Length: 2\r\n", &format!("ok{POISON}")), 200, "ok").asked(&asked),
        whole("426", "HTTP/1.1 426 Upgrade Required\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nok", 426, "ok").asked(&asked),
    ]
}
