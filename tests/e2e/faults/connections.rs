//! Connections that break.

use std::time::Duration;

use super::row::{How, Row, check};
use crate::support::fault::Ending::{Fin, Reset};
use crate::support::fault::{Fault, Upto};

const RESET: &[&str] = &["(104: Connection reset by peer)", "(32: Broken pipe)"];
const CLOSED: &[&str] = &["prematurely closed connection"];

#[test]
fn connections_that_break() {
    let cut = |name, upto, ending| {
        let row = Row::new(name, How::Standing(Fault::Cut(upto, ending)));
        row.says(if ending == Fin { CLOSED } else { RESET })
    };
    let passing = |name, fault| Row::new(name, How::Standing(fault)).passes();
    let ms = Duration::from_millis;
    check(&[
        Row::new("refuse", How::Refused).says(&["connect() failed (111: Connection refused)"]),
        Row::new("reset_on_accept", How::Broken(Fault::ResetAtOnce)).says(RESET),
        cut("reset_before_a_byte", Upto::Nothing, Reset),
        cut("reset_in_the_head", Upto::Head, Reset),
        cut("reset_in_the_body", Upto::Body, Reset),
        cut("reset_before_the_last_byte", Upto::Missing(1), Reset),
        cut("end_without_a_byte", Upto::Nothing, Fin),
        cut("end_in_the_head", Upto::Head, Fin),
        cut("end_in_the_body", Upto::Body, Fin),
        cut("end_before_the_last_byte", Upto::Missing(1), Fin),
        passing("reset_after_the_answer", Fault::ResetAfterAnswer),
        passing("reset_on_reuse", Fault::ResetOnReuse),
        passing("end_after_the_answer", Fault::EndLate(Duration::ZERO)),
        passing("end_late", Fault::EndLate(ms(50))),
        passing("trickle", Fault::Trickle(16, ms(1))),
        // An answer would take longer than the fault lasts.
        Row::new("slow_trickle", How::Standing(Fault::Trickle(1, ms(100)))),
    ]);
}
