//! `stub_status`: nginx's four lines.

use std::io::Write;

use weir_shm::Status;

/// The type of the answer.
pub const CONTENT_TYPE: &[u8] = b"text/plain";

/// Appends the body.
pub fn write(status: &Status, out: &mut Vec<u8>) {
    // Writing to a Vec does not fail.
    let _ = write!(
        out,
        "Active connections: {} \nserver accepts handled requests\n {} {} {} \n\
         Reading: {} Writing: {} Waiting: {} \n",
        status.active,
        status.accepted,
        status.handled,
        status.requests,
        status.reading,
        status.writing,
        status.waiting
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_nginx_text() {
        let status = Status {
            active: 291,
            accepted: 16_630_948,
            handled: 16_630_947,
            requests: 31_070_465,
            reading: 6,
            writing: 179,
            waiting: 106,
        };
        let mut out = Vec::new();
        write(&status, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "Active connections: 291 \nserver accepts handled requests\n \
             16630948 16630947 31070465 \nReading: 6 Writing: 179 Waiting: 106 \n"
        );
    }
}
