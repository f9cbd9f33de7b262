//! The bodies that nginx shows for its own redirects and errors.

macro_rules! page {
    ($title:literal) => {
        page!($title, $title, "")
    };
    ($title:literal, $heading:literal, $more:literal) => {
        concat!(
            "<html>\r\n<head><title>",
            $title,
            "</title></head>\r\n<body>\r\n<center><h1>",
            $heading,
            "</h1></center>\r\n",
            $more,
        )
    };
}

/// The type of every page.
pub const CONTENT_TYPE: &[u8] = b"text/html";

macro_rules! tail {
    ($product:expr) => {
        concat!(
            "<hr><center>",
            $product,
            "</center>\r\n</body>\r\n</html>\r\n"
        )
        .as_bytes()
    };
}

/// The end of every page, with the version or without it (`server_tokens`).
pub fn tail(version: bool) -> &'static [u8] {
    if version {
        tail!(concat!("weir/", env!("CARGO_PKG_VERSION")))
    } else {
        tail!("weir")
    }
}

/// What `msie_padding` appends: below 512 bytes, some browsers show a page of their own.
pub const PADDING: &[u8] = concat!(
    "<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n",
    "<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n",
    "<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n",
    "<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n",
    "<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n",
    "<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n",
)
.as_bytes();

/// The page of a status up to its [`tail`]; empty for one that has none.
pub fn of(status: u16) -> &'static [u8] {
    let page = match status {
        301 => page!("301 Moved Permanently"),
        302 => page!("302 Found"),
        303 => page!("303 See Other"),
        307 => page!("307 Temporary Redirect"),
        308 => page!("308 Permanent Redirect"),
        400 => page!("400 Bad Request"),
        401 => page!("401 Authorization Required"),
        402 => page!("402 Payment Required"),
        403 => page!("403 Forbidden"),
        // 498 is a request that was canceled.
        404 | 498 => page!("404 Not Found"),
        405 => page!("405 Not Allowed"),
        406 => page!("406 Not Acceptable"),
        407 => page!("407 Proxy Authentication Required"),
        408 => page!("408 Request Time-out"),
        409 => page!("409 Conflict"),
        410 => page!("410 Gone"),
        411 => page!("411 Length Required"),
        412 => page!("412 Precondition Failed"),
        413 => page!("413 Request Entity Too Large"),
        414 => page!("414 Request-URI Too Large"),
        415 => page!("415 Unsupported Media Type"),
        416 => page!("416 Requested Range Not Satisfiable"),
        421 => page!("421 Misdirected Request"),
        429 => page!("429 Too Many Requests"),
        494 => page!(
            "400 Request Header Or Cookie Too Large",
            "400 Bad Request",
            "<center>Request Header Or Cookie Too Large</center>\r\n"
        ),
        495 => page!(
            "400 The SSL certificate error",
            "400 Bad Request",
            "<center>The SSL certificate error</center>\r\n"
        ),
        496 => page!(
            "400 No required SSL certificate was sent",
            "400 Bad Request",
            "<center>No required SSL certificate was sent</center>\r\n"
        ),
        497 => page!(
            "400 The plain HTTP request was sent to HTTPS port",
            "400 Bad Request",
            "<center>The plain HTTP request was sent to HTTPS port</center>\r\n"
        ),
        500 => page!("500 Internal Server Error"),
        501 => page!("501 Not Implemented"),
        502 => page!("502 Bad Gateway"),
        503 => page!("503 Service Temporarily Unavailable"),
        504 => page!("504 Gateway Time-out"),
        505 => page!("505 HTTP Version Not Supported"),
        507 => page!("507 Insufficient Storage"),
        _ => "",
    };
    page.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_looks_as_nginx_has_it() {
        let expected = format!(
            "<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n\
             <center><h1>404 Not Found</h1></center>\r\n<hr><center>{}</center>\r\n</body>\r\n</html>\r\n",
            crate::http::PRODUCT
        );
        let whole = [of(404), tail(true)].concat();
        assert_eq!(String::from_utf8_lossy(&whole), expected);
        assert!(tail(false).starts_with(b"<hr><center>weir</center>\r\n</body>"));
        assert!(of(200).is_empty() && of(204).is_empty() && of(444).is_empty());
        assert!(String::from_utf8_lossy(of(494)).ends_with("Cookie Too Large</center>\r\n"));
    }
}
