//! Faults of a configuration, worded as nginx words them.

use std::fmt;

use weir_master::settings::Place;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    message: String,
    location: Location,
    note: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Location {
    Nowhere,
    CommandLine,
    At(Place),
}

impl Fault {
    /// A fault of the configuration as a whole.
    pub fn whole(message: impl Into<String>) -> Fault {
        Fault {
            message: message.into(),
            location: Location::Nowhere,
            note: None,
        }
    }

    /// A fault at a line of a file.
    pub fn at(place: Place, message: impl Into<String>) -> Fault {
        Fault {
            message: message.into(),
            location: Location::At(place),
            note: None,
        }
    }

    /// A fault in the directives of `-g`.
    pub fn in_command_line(message: impl Into<String>) -> Fault {
        Fault {
            message: message.into(),
            location: Location::CommandLine,
            note: None,
        }
    }

    /// Adds what an operator should know beside nginx's wording.
    pub fn with_note(self, note: &'static str) -> Fault {
        Fault {
            note: Some(note),
            ..self
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(&self.message))?;
        match &self.location {
            Location::Nowhere => {}
            Location::CommandLine => write!(f, " in command line")?,
            Location::At(place) => write!(f, " in {}:{}", Escaped(&place.file), place.line)?,
        }
        match self.note {
            Some(note) => write!(f, " ({note})"),
            None => Ok(()),
        }
    }
}

/// Shows control characters as `\xNN`: what a file holds must not steer a terminal or split a line.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if character.is_control() {
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    write!(f, "\\x{byte:02X}")?;
                }
            } else {
                write!(f, "{character}")?;
            }
        }
        Ok(())
    }
}

/// `(2: No such file or directory)`, as nginx shows an error of the system.
pub fn errno(error: &std::io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(code) => {
            let text = text
                .strip_suffix(&format!(" (os error {code})"))
                .unwrap_or(&text);
            format!("({code}: {text})")
        }
        None => format!("({text})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_place_and_the_note() {
        let place = Place {
            file: "/etc/weir.conf".into(),
            line: 7,
        };
        let fault = Fault::at(place, "unknown directive \"gzip\"").with_note("of nginx");
        assert_eq!(
            fault.to_string(),
            "unknown directive \"gzip\" in /etc/weir.conf:7 (of nginx)"
        );
        assert_eq!(Fault::whole("no").to_string(), "no");
        assert_eq!(
            Fault::in_command_line("no").to_string(),
            "no in command line"
        );
    }

    #[test]
    fn escapes_control_characters_only() {
        let fault = Fault::whole("a\u{1b}[31m\n\u{9b}ä\"\\");
        assert_eq!(fault.to_string(), "a\\x1B[31m\\x0A\\xC2\\x9Bä\"\\");
    }

    #[test]
    fn errno_is_worded_as_in_nginx() {
        let error = std::io::Error::from_raw_os_error(2);
        assert_eq!(errno(&error), "(2: No such file or directory)");
    }
}
