//! Nothing that a request goes through in the codec, the balancer and the log line allocates once
//! its buffers are warm.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use allocation_counter::measure;
use weir_shm::{Address, CounterId, Server};
use weir_worker::balance::{RoundRobin, Tried};
use weir_worker::http::answer::{self, Answer, Persist};
use weir_worker::http::{
    Decoder, Limits, Method, Parsed, RequestHead, ResponseHead, ResponseParsed, target,
};
use weir_worker::log::Clock;
use weir_worker::settings::{LogFormat, Part, Template, Variable};
use weir_worker::variable::Values;

const REQUEST: &[u8] = b"GET /a//b%20c?x=1 HTTP/1.1\r\nHost: Example.com\r\n\
    User-Agent: \"x\"\r\nCookie: a=b; c=d\r\nAuthorization: Basic bWU6c2VjcmV0\r\n\
    Connection: close, x-mine\r\nX-Mine: 1\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: text/html\r\n\
    Transfer-Encoding: chunked\r\nX-Back: end\r\n\r\n";
const BODY: &[u8] = b"5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\n\r\n";

/// What a worker keeps from request to request.
struct Warm {
    request: RequestHead,
    response: ResponseHead,
    clock: Clock,
    balancer: RoundRobin,
    tried: Tried,
    format: LogFormat,
    out: Vec<u8>,
    line: Vec<u8>,
}

impl Warm {
    fn new() -> Warm {
        let server = |weight| Server {
            address: Address::Ip(([127, 0, 0, 1], 80).into()),
            weight,
            max_fails: 1,
            fail_timeout_ms: 10,
            down: false,
            backup: false,
            counter: CounterId::default(),
        };
        let names = [
            Variable::Host,
            Variable::RemoteUser,
            Variable::Request,
            Variable::TimeLocal,
        ]
        .into_iter()
        .chain([b"a".to_vec()].map(Variable::Cookie))
        .chain([b"user-agent".to_vec()].map(Variable::Http));
        Warm {
            request: RequestHead::new(),
            response: ResponseHead::new(),
            clock: Clock::new(784_111_777_000),
            balancer: RoundRobin::new(&[server(5), server(1), server(1)]),
            tried: Tried::new(),
            format: LogFormat {
                line: Template {
                    parts: names.map(Part::Variable).collect(),
                },
                ..LogFormat::default()
            },
            out: Vec::new(),
            line: Vec::new(),
        }
    }

    /// One proxied request, in two pieces, whose first server fails.
    fn serve(&mut self, now: u64) {
        let limits = Limits::default();
        self.request.clear();
        self.response.clear();
        self.tried.clear();
        self.out.clear();
        self.line.clear();
        assert_eq!(self.request.parse(&REQUEST[..20], &limits), Parsed::Partial);
        assert_eq!(
            self.request.parse(REQUEST, &limits),
            Parsed::Head(REQUEST.len())
        );
        target::upstream_uri(&self.request.target, REQUEST, Some(b"/r"), 1, &mut self.out);
        for ok in [false, true] {
            let peer = self.balancer.pick(now, &self.tried).unwrap();
            self.tried.insert(peer);
            if ok {
                self.balancer.succeeded(peer);
            } else {
                self.balancer.failed(peer, now);
            }
        }
        let parsed = self.response.parse(ANSWER, Method::Get, 4096);
        assert_eq!(parsed, ResponseParsed::Head(ANSWER.len()));
        let answer = Answer {
            server: true,
            status: self.response.status,
            reason: Some(self.response.reason.of(ANSWER)),
            date: self.clock.http(),
            content_type: Some(b"text/html"),
            length: None,
            location: None,
            chunked: true,
            persist: Persist::KeepAlive(None),
            tokens: true,
        };
        answer.write(&mut self.out);
        for field in self.response.forwarded() {
            answer::field(&mut self.out, field.name.of(ANSWER), field.value.of(ANSWER));
        }
        answer::end(&mut self.out);
        let out = &mut self.out;
        let used = Decoder::new().decode_all(BODY, |range| out.extend_from_slice(&BODY[range]));
        assert_eq!(used, Ok(BODY.len()));
        let values = Values::new(&self.request, REQUEST, &self.clock);
        self.format.write(&values, &mut self.line);
    }
}

#[test]
fn a_request_allocates_nothing_once_warm() {
    let mut warm = Warm::new();
    let cold = measure(|| warm.serve(1));
    assert!(cold.count_total > 0, "the counter counts: {cold:?}");
    for now in 2..100 {
        warm.serve(now * 20);
    }
    let hot = measure(|| {
        for now in 100..1_000 {
            warm.serve(now * 20);
        }
    });
    assert_eq!(hot.count_total, 0, "{hot:?}");
}
