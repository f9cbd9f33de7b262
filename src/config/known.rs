//! What nginx has and weir has not, so that a refusal can say what dropping a line means.

/// A note on a directive that weir does not have.
pub fn note(_name: &str) -> &'static str {
    "nginx does not have it either"
}
