//! Answers that are large in some way.

use super::row::{How, Row, check};
use crate::support::fault::Fault;

/// The most that weir reads of a body, in bytes.
const BODY_MAX: usize = 64 << 20;
/// The most header fields that weir reads; Consul's answer has some of its own.
const FIELDS_MAX: usize = 256;

/// So many more header fields of so many bytes.
fn fields(count: usize, size: usize) -> How {
    let field = |number| (format!("X-More-{number}"), Some("x".repeat(size)));
    How::Standing(Fault::Fields((0..count).map(field).collect()))
}

#[test]
fn large_answers() {
    let body = |name, size| Row::new(name, How::Standing(Fault::Pad(size)));
    check(&[
        Row::new("headers_64", fields(64, 8192)).passes(),
        Row::new("headers_200", fields(200, 10)).passes(),
        Row::new("headers_257", fields(FIELDS_MAX + 1, 10)).says(&["invalid response head"]),
        Row::new("head_of_2_mib", fields(2, 1 << 20)).says(&["response head of more than"]),
        body("body_8_mib", 8 << 20).passes(),
        body("body_64_mib", BODY_MAX).passes(),
        body("body_more", BODY_MAX + 1).says(&["more than"]),
    ]);
}
