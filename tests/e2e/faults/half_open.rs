//! Connections that are open and dead, and long polls that wait for an index that is long in
//! coming.

use super::row::{How, Row, check};
use super::{HALF_OPEN, PARKED, VISIBLE};
use crate::support::fault::Fault;

const TIMED_OUT: &[&str] = &["timed out (110: Connection timed out) while waiting"];

#[test]
fn silence() {
    let index = |value: &str| {
        let field = ("X-Consul-Index".to_owned(), Some(value.to_owned()));
        How::Once(Fault::Fields(vec![field]))
    };
    check(&[
        // The news gets lost, and with it the connection.
        Row::new("lost_answer", How::Once(Fault::Mute))
            .within(HALF_OPEN)
            .says(TIMED_OUT),
        Row::new("mute", How::Broken(Fault::Mute))
            .within(HALF_OPEN)
            .says(TIMED_OUT),
        // As after a restart without its data that went unnoticed: Consul's index is far behind the
        // one that is waited for, and what is newer than that comes only when the wait is over.
        Row::new("parked_ahead", index("1000000000"))
            .entry("192.0.2.1:1", r#"{"down":1}"#)
            .within(PARKED)
            .says(&["index went back"]),
        // The same, seen in an answer.
        Row::new("index_behind", index("5"))
            .entry("192.0.2.1:1", r#"{"down":1}"#)
            .passes()
            .within(VISIBLE)
            .says(&["index went back"]),
    ]);
}
