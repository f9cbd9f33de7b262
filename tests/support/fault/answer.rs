//! What becomes of one answer: pure.

use std::time::Duration;

use super::framing::{reframed, without};
use super::{Ending, Fault, Upto};

/// How an answer is sent.
pub struct Plan {
    pub bytes: Vec<u8>,
    /// Bytes a piece and the pause after each; none: all at once.
    pub pieces: Option<(usize, Duration)>,
    pub then: Then,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Keep,
    End(Ending),
    EndLate(Duration),
    /// Open, and silent for ever.
    Hang,
}

/// The answer with this head and body under a fault.
pub fn plan(head: &[u8], body: &[u8], fault: &Fault) -> Plan {
    let whole = |body: &[u8]| [&reframed(head, body), body].concat();
    let (bytes, then) = match fault {
        Fault::None | Fault::ResetOnReuse | Fault::Trickle(..) => (whole(body), Then::Keep),
        Fault::ResetAfterAnswer => (whole(body), Then::End(Ending::Reset)),
        Fault::EndLate(delay) => (whole(body), Then::EndLate(*delay)),
        Fault::Cut(upto, ending) => (cut(whole(body), body, *upto), Then::End(*ending)),
        Fault::ResetAtOnce => (Vec::new(), Then::End(Ending::Reset)),
        Fault::Mute => (Vec::new(), Then::Hang),
        // For a connection that was there before.
        Fault::Greeting(_) => (Vec::new(), Then::End(Ending::Reset)),
        Fault::Answer(text) => (text.as_bytes().to_vec(), Then::Keep),
        Fault::Body(text) => (whole(text.as_bytes()), Then::Keep),
        Fault::Chop(missing) => {
            let left = body.len().saturating_sub(*missing);
            (whole(&body[..left]), Then::Keep)
        }
        Fault::Pad(length) => {
            let mut body = body.to_vec();
            body.resize((*length).max(body.len()), b' ');
            (whole(&body), Then::Keep)
        }
        Fault::Replace(from, to) => {
            let body = String::from_utf8_lossy(body).replace(from, to);
            (whole(body.as_bytes()), Then::Keep)
        }
        Fault::Fields(fields) => (with_fields(head, body, fields), Then::Keep),
    };
    let pieces = match fault {
        Fault::Trickle(size, pause) => Some((*size, *pause)),
        _ => None,
    };
    Plan {
        bytes,
        pieces,
        then,
    }
}

/// A piece of an answer that has no end under a fault; what a fault does to whole answers passes it.
pub fn piece_plan(piece: Vec<u8>, fault: &Fault) -> Plan {
    let (bytes, then) = match fault {
        Fault::Cut(upto, ending) => {
            let body = piece.clone();
            (cut(piece, &body, *upto), Then::End(*ending))
        }
        Fault::ResetAfterAnswer => (piece, Then::End(Ending::Reset)),
        Fault::Mute => (Vec::new(), Then::Hang),
        _ => (piece, Then::Keep),
    };
    Plan {
        bytes,
        pieces: None,
        then,
    }
}

fn cut(mut whole: Vec<u8>, body: &[u8], upto: Upto) -> Vec<u8> {
    let head = whole.len() - body.len();
    let length = match upto {
        Upto::Nothing => 0,
        Upto::Head => head / 2,
        Upto::Body => head + body.len() / 2,
        Upto::Missing(missing) => whole.len().saturating_sub(missing),
    };
    whole.truncate(length);
    whole
}

fn with_fields(head: &[u8], body: &[u8], fields: &[(String, Option<String>)]) -> Vec<u8> {
    let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
    let mut head = without(head, &names);
    for (name, value) in fields {
        if let Some(value) = value {
            head += &format!("{name}: {value}\r\n");
        }
    }
    [&reframed(head.as_bytes(), body), body].concat()
}
