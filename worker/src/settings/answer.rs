//! What answers of weir's own are made of.

use super::Template;
use crate::http::Expires;

/// One status of an `error_page`.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorPage {
    /// 300 to 599.
    pub status: u16,
    /// What becomes of the status.
    pub answer: ErrorAnswer,
    /// A path on this server with its arguments, `@name`, or the URL of another server.
    pub target: Template,
}

/// The status of an answer that comes from an error page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorAnswer {
    /// That of the error.
    Kept,
    /// `=CODE`
    Code(u16),
    /// `=`: that of whoever answers in the end.
    Handlers,
}

/// `expires`
#[derive(Clone, Debug, PartialEq)]
pub enum ExpiresRule {
    /// Known when the configuration was read.
    Fixed(Expires),
    /// With variables: read for each answer.
    Variable {
        /// `modified` stands before it.
        modified: bool,
        /// The last parameter.
        value: Template,
    },
}
