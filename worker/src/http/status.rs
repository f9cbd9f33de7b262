//! Status lines in nginx's words.

/// `404 Not Found`: code and reason as nginx writes them; `None` for a code to which nginx gives no
/// reason and writes as the number and a blank.
pub fn line(status: u16) -> Option<&'static str> {
    Some(match status {
        200 => "200 OK",
        201 => "201 Created",
        202 => "202 Accepted",
        204 => "204 No Content",
        206 => "206 Partial Content",
        301 => "301 Moved Permanently",
        302 => "302 Moved Temporarily",
        303 => "303 See Other",
        304 => "304 Not Modified",
        307 => "307 Temporary Redirect",
        308 => "308 Permanent Redirect",
        // 494 to 497 are nginx's own names for kinds of 400.
        400 | 494..=497 => "400 Bad Request",
        401 => "401 Unauthorized",
        402 => "402 Payment Required",
        403 => "403 Forbidden",
        404 => "404 Not Found",
        405 => "405 Not Allowed",
        406 => "406 Not Acceptable",
        407 => "407 Proxy Authentication Required",
        408 => "408 Request Time-out",
        409 => "409 Conflict",
        410 => "410 Gone",
        411 => "411 Length Required",
        412 => "412 Precondition Failed",
        413 => "413 Request Entity Too Large",
        414 => "414 Request-URI Too Large",
        415 => "415 Unsupported Media Type",
        416 => "416 Requested Range Not Satisfiable",
        421 => "421 Misdirected Request",
        429 => "429 Too Many Requests",
        500 => "500 Internal Server Error",
        501 => "501 Not Implemented",
        502 => "502 Bad Gateway",
        503 => "503 Service Temporarily Unavailable",
        504 => "504 Gateway Time-out",
        505 => "505 HTTP Version Not Supported",
        507 => "507 Insufficient Storage",
        _ => return None,
    })
}

/// Whether an answer of this status has a Location.
pub fn is_moved(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// Whether a request that ends with this status ends without an answer.
pub fn is_silent(status: u16) -> bool {
    matches!(status, 408 | 444 | 499)
}

/// Whether nginx closes the client's connection after this answer of its own, because what follows
/// on it cannot be trusted or is not wanted.
pub fn closes(status: u16) -> bool {
    matches!(status, 400 | 413 | 414 | 495..=497 | 500 | 501)
}
