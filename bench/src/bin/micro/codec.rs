//! The codec and the rest of what a request costs apart from the kernel.

use std::error::Error;
use std::hint::black_box;

use weir_shm::{Address, CounterId, Server};
use weir_worker::balance::{RoundRobin, Tried};
use weir_worker::http::answer::{self, Answer, Persist};
use weir_worker::http::{
    Decoder, LAST_CHUNK, Limits, Method, Parsed, RequestHead, ResponseHead, ResponseParsed,
};
use weir_worker::log::Clock;
use weir_worker::settings::{LogFormat, Part, Template, Variable};
use weir_worker::variable::Values;

use crate::Bench;

const SHORT: &[u8] = b"GET /index.html HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
const BROWSER: &[u8] = b"GET /proxy_test/images/logo.png?version=17&size=large HTTP/1.1\r\n\
    Host: www.example.com\r\nConnection: keep-alive\r\nCache-Control: max-age=0\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: http://www.example.com/proxy_test/\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    Upgrade-Insecure-Requests: 1\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.29.7\r\n\
    Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/html\r\nContent-Length: 128\r\n\
    Last-Modified: Sun, 06 Nov 1994 08:00:00 GMT\r\nConnection: keep-alive\r\n\
    ETag: \"5f5e1000-80\"\r\nAccept-Ranges: bytes\r\n\r\n";

/// Runs everything about the codec.
pub fn run(bench: &mut Bench) -> Result<(), Box<dyn Error>> {
    requests(bench)?;
    answers(bench)?;
    chunks(bench)?;
    logs(bench)?;
    picks(bench);
    Ok(())
}

fn requests(bench: &mut Bench) -> Result<(), Box<dyn Error>> {
    let limits = Limits::default();
    for (name, text) in [("short", SHORT), ("browser's", BROWSER)] {
        let mut head = RequestHead::new();
        if head.parse(text, &limits) != Parsed::Head(text.len()) {
            return Err(format!("the {name} request is not taken").into());
        }
        bench.measure(&format!("request head, {name}"), || {
            head.clear();
            head.parse(black_box(text), &limits)
        });
    }
    Ok(())
}

fn answers(bench: &mut Bench) -> Result<(), Box<dyn Error>> {
    let mut head = ResponseHead::new();
    if head.parse(ANSWER, Method::Get, 4096) != ResponseParsed::Head(ANSWER.len()) {
        return Err("the answer is not taken".into());
    }
    bench.measure("response head", || {
        head.clear();
        head.parse(black_box(ANSWER), Method::Get, 4096)
    });
    let clock = Clock::new(784_111_777_000);
    let mut out = Vec::new();
    bench.measure("response head to the client", || {
        out.clear();
        let answer = Answer {
            server: true,
            status: head.status,
            reason: Some(head.reason.of(ANSWER)),
            date: clock.http(),
            content_type: Some(b"text/html"),
            length: head.content_length,
            location: None,
            chunked: false,
            persist: Persist::KeepAlive(None),
            tokens: true,
        };
        answer.write(&mut out);
        for field in head.forwarded() {
            answer::field(&mut out, field.name.of(ANSWER), field.value.of(ANSWER));
        }
        answer::end(&mut out);
        out.len()
    });
    Ok(())
}

fn chunks(bench: &mut Bench) -> Result<(), Box<dyn Error>> {
    for size in [16, 4096] {
        let mut body = Vec::new();
        while body.len() < 64 * 1024 {
            body.extend(format!("{size:x}\r\n").bytes());
            body.extend(std::iter::repeat_n(b'x', size));
            body.extend(b"\r\n");
        }
        body.extend(LAST_CHUNK);
        let decode = |body: &[u8]| {
            let mut data = 0;
            let mut decoder = Decoder::new();
            let used = decoder.decode_all(body, |range| data += range.len());
            used.ok().filter(|_| decoder.is_end()).map(|_| data)
        };
        decode(&body).ok_or("the chunks are not taken")?;
        bench.measure(&format!("64 KB in chunks of {size}"), || {
            decode(black_box(&body))
        });
    }
    Ok(())
}

fn logs(bench: &mut Bench) -> Result<(), Box<dyn Error>> {
    let limits = Limits::default();
    let mut head = RequestHead::new();
    if head.parse(BROWSER, &limits) != Parsed::Head(BROWSER.len()) {
        return Err("the request is not taken".into());
    }
    let clock = Clock::new(784_111_777_000);
    let mut values = Values::new(&head, BROWSER, &clock);
    values.client = Some(([192, 0, 2, 7], 50_000).into());
    values.status = 200;
    values.body_bytes_sent = 128;
    let text = |text: &str| Part::Text(text.as_bytes().to_vec());
    let line = Template {
        parts: vec![
            Part::Variable(Variable::RemoteAddr),
            text(" - "),
            Part::Variable(Variable::RemoteUser),
            text(" ["),
            Part::Variable(Variable::TimeLocal),
            text("] \""),
            Part::Variable(Variable::Request),
            text("\" "),
            Part::Variable(Variable::Status),
            text(" "),
            Part::Variable(Variable::BodyBytesSent),
            text(" \""),
            Part::Variable(Variable::Http(b"referer".to_vec())),
            text("\" \""),
            Part::Variable(Variable::Http(b"user-agent".to_vec())),
            text("\""),
        ],
    };
    let combined = LogFormat {
        line,
        ..LogFormat::default()
    };
    let mut line = Vec::new();
    bench.measure("access log line, combined", || {
        line.clear();
        combined.write(&values, &mut line);
        line.len()
    });
    Ok(())
}

fn picks(bench: &mut Bench) {
    let none = Tried::new();
    for (servers, weights) in [
        (3, 1),
        (3, 3),
        (100, 10),
        (10_000, 1),
        (10_000, 10),
        (10_000, 10_000),
    ] {
        let mut balancer = RoundRobin::new(&list(servers, weights));
        bench.measure(
            &format!("pick, {servers} servers, {weights} weights"),
            || balancer.pick(1, &none),
        );
    }
    let servers = list(10_000, 10);
    bench.measure("balancer made, 10000 servers", || {
        RoundRobin::new(&servers).len()
    });
    let old = RoundRobin::new(&servers);
    bench.measure("balancer made after another, 10000 servers", || {
        RoundRobin::following(&servers, &old, Some).len()
    });
}

fn list(servers: u32, weights: u32) -> Vec<Server> {
    let server = |number| Server {
        address: Address::Ip(([127, 0, 0, 1], 80).into()),
        weight: 1 + number % weights,
        max_fails: 1,
        fail_timeout_ms: 10_000,
        down: false,
        backup: false,
        counter: CounterId::default(),
    };
    (0..servers).map(server).collect()
}
