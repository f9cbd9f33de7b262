//! nginx's variables evaluated for one request.

use crate::settings::{Part, Template};

mod line;
mod lookup;
mod request_id;
mod upstream;
pub mod values;

pub use request_id::{RequestId, RequestIds};
pub use upstream::Attempt;
pub use values::{Answered, Values};

/// `$nginx_version`: the release whose language weir follows.
pub const NGINX_VERSION: &str = "1.29.7";

impl Template {
    /// The text of a template without variables.
    pub fn as_text(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [] => Some(b""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Appends the value for one request.
    pub fn write(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Variable(variable) => {
                    values.write(variable, out);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
