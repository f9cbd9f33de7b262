//! Logs in nginx's formats: where lines go, how error lines look, and times once a second.

mod buffer;
pub mod cache;
pub mod clock;
pub mod error;
pub mod files;
mod panic;
mod sparse;

pub use clock::Clock;
pub use error::ErrorLog;
pub use files::Files;
pub use panic::{abort_on_panic, panics_to};
pub use sparse::Sparse;
