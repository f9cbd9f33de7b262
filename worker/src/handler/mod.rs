//! Answers that weir makes itself, as pure functions of what they show.

pub mod stub_status;
pub mod upstream_show;
