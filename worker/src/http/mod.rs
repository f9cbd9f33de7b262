//! HTTP/1.1 without I/O (RFC 9110, RFC 9112): heads, framing, chunks, targets and answers as pure
//! functions of bytes. Names and values stay where they were read; a [`Span`] says where. Nothing
//! here allocates once its buffers are warm, so it serves the event loop, and just as well a
//! client or server on blocking sockets.

pub mod answer;
pub mod browser;
pub mod chunked;
pub mod cookie;
pub mod expires;
pub mod fields;
pub mod framing;
#[cfg(test)]
mod fuzz;
pub mod head;
pub mod limits;
mod lines;
pub mod method;
pub mod page;
pub mod refusal;
pub mod response;
pub mod status;
pub mod target;
pub mod trailers;

pub use answer::{Answer, Persist};
pub use chunked::{ChunkError, ChunkHead, Decoder, LAST_CHUNK, Piece};
pub use expires::Expires;
pub use fields::{Field, Fields, Known, Span};
pub use framing::Body;
pub use head::{Parsed, RequestHead};
pub use limits::{LargeBuffers, Limits};
pub use method::Method;
pub use refusal::Refusal;
pub use response::{Malformed, ResponseHead, ResponseParsed};
pub use target::Target;

/// What the `Server` field says, and the last line of error pages.
pub const PRODUCT: &str = concat!("weir/", env!("CARGO_PKG_VERSION"));
