//! Errors of the system in nginx's words: `(98: Address already in use)`.

use std::io;

use nix::errno::Errno;

/// `(NUMBER: TEXT)` for an error of the system, else its own words in brackets.
pub(crate) fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("({number}: {})", text(number)),
        None => format!("({error})"),
    }
}

/// The text of the C library, without the number that `std` puts after it.
fn text(number: i32) -> String {
    let full = io::Error::from_raw_os_error(number).to_string();
    match full.rfind(" (os error") {
        Some(end) => full[..end].to_owned(),
        None => full,
    }
}

/// The same for nix's errors.
pub(crate) fn describe_errno(error: Errno) -> String {
    describe(&error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nginx_words() {
        let error = io::Error::from_raw_os_error(98);
        assert_eq!(describe(&error), "(98: Address already in use)");
        assert_eq!(
            describe_errno(Errno::ENOENT),
            "(2: No such file or directory)"
        );
        assert_eq!(describe(&io::Error::other("cut short")), "(cut short)");
    }
}
