//! Tokens that lose their rights: Consul then answers as if there were no key, and to every read.

use std::time::{Duration, Instant};

use super::checks::{few, kept, lines_of, named, seen, short};
use super::stage::{Stage, Upstream, backends};
use super::{LASTS, lines};
use crate::support::consul::ENTRY;
use crate::support::fault::{Fault, FaultProxy};
use crate::support::server::Server;
use crate::support::weir::SOON;
use crate::support::{holds_for, wait_until};

const FOLDER: &str = "upstreams/test";
/// How soon rights that are back count: the long poll under way has those that it began with, and
/// only the one after it is answered by the new ones; neither waits for long while a list is held.
const RESTORED: Duration = Duration::from_secs(5);
/// How soon a new token in the token's file counts.
const ROTATED: Duration = Duration::from_secs(1);

struct Revoked {
    server: Server,
    proxy: FaultProxy,
    accessor: String,
    secret: String,
}

/// A Consul with one upstream's folder, and a token that may read it.
fn secured() -> Revoked {
    let server = Server::secured();
    server.policy("read", "upstreams");
    let (accessor, secret) = server.token(&["read"]);
    Revoked {
        proxy: FaultProxy::start(&server.consul.address(), Fault::None),
        server,
        accessor,
        secret,
    }
}

impl Revoked {
    fn put(&self, server: &str) {
        assert!(self.server.try_put(&format!("{FOLDER}/{server}"), ENTRY));
    }

    /// What the token's holder reads: the status, and whether there is any key.
    fn read(&self) -> (u16, bool) {
        let target = format!("/v1/kv/{FOLDER}/?recurse");
        let answer = self.server.request_as(&self.secret, "GET", &target, "");
        let answer = answer.expect("Consul answers");
        (answer.status, answer.text().contains("Key"))
    }

    fn stage(&self, token: &str) -> Stage {
        let backends = backends();
        self.put(backends[0].address());
        let upstream = Upstream::kv("test", self.proxy.address(), FOLDER).with(token);
        Stage::start(&[upstream], backends)
    }

    /// A change that is not seen, and takes nothing along.
    fn hold(&self, stage: &Stage) {
        // A long poll that is under way is answered by the rights that it began with.
        let asked = self.proxy.requests().len();
        let key = format!("{FOLDER}/{}", stage.server(0));
        assert!(self.server.try_put(&key, &format!("{ENTRY} ")));
        wait_until(SOON, "it is asked again", || {
            self.proxy.requests().len() > asked
        });
        self.put(stage.server(1));
        let looks = || stage.sight.history("test");
        holds_for(LASTS, "nothing changes", || {
            seen(&looks(), stage.server(1)).is_none()
                && stage.sight.servers("test") == [stage.server(0)]
        });
    }

    fn recovered(&self, stage: Stage, began: Instant, end: Instant, (name, bound, says): Expected) {
        let run = || {
            let learnt = stage.wait("test", 1, end, bound)?;
            let later = stage.later_puts("test", |server| self.put(server))?;
            kept(&stage.sight.history("test"), began, stage.server(0))?;
            let log = stage.weir.error_log();
            let said = lines_of(&log, "test");
            named(&said, &[says.to_owned()])?;
            short(&said)?;
            few("lines", said.len(), lines(began.elapsed()))?;
            assert!(!log.contains(&self.secret), "a token is in the log");
            eprintln!("{name:<24} seen after {learnt:>9.1?}, later PUTs within {later:>8.1?}");
            Ok::<_, String>(())
        };
        run().unwrap();
        stage.finish().unwrap();
    }
}

/// A name, how soon a change is to be seen, and what the log is to say.
type Expected = (&'static str, Duration, &'static str);

#[test]
fn a_token_without_rights() {
    let revoked = secured();
    let stage = revoked.stage(&format!("upsync_token {};", revoked.secret));
    let began = Instant::now();
    revoked.server.change_token(&revoked.accessor, &[]);
    for _ in 0..2 {
        assert_eq!(revoked.read(), (404, false), "the fault is there");
    }
    revoked.hold(&stage);
    revoked.server.change_token(&revoked.accessor, &["read"]);
    assert_eq!(revoked.read(), (200, true), "the fault is over");
    revoked.recovered(
        stage,
        began,
        Instant::now(),
        ("token_without_rights", RESTORED, "held"),
    );
}

#[test]
fn a_token_that_is_gone() {
    let mut revoked = secured();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &revoked.secret).unwrap();
    let stage = revoked.stage(&format!("upsync_token_file {};", file.path().display()));
    let began = Instant::now();
    revoked.server.delete_token(&revoked.accessor);
    assert_eq!(revoked.read(), (403, false), "the fault is there");
    revoked.hold(&stage);
    let (_, secret) = revoked.server.token(&["read"]);
    revoked.secret = secret;
    std::fs::write(file.path(), &revoked.secret).unwrap();
    revoked.recovered(
        stage,
        began,
        Instant::now(),
        ("token_replaced", ROTATED, "403"),
    );
}
