//! Request methods.

/// A request's method (RFC 9110, section 9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the method of the same name")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Trace,
    Connect,
    /// Any other; its name is in the head.
    Other,
}

impl Method {
    /// By name, which is case-sensitive.
    pub fn of(name: &[u8]) -> Method {
        match name {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"OPTIONS" => Method::Options,
            b"PATCH" => Method::Patch,
            b"TRACE" => Method::Trace,
            b"CONNECT" => Method::Connect,
            _ => Method::Other,
        }
    }

    /// Whether a request that an upstream may have seen may go to the next one: nginx's
    /// `proxy_next_upstream` without `non_idempotent` holds back POST, LOCK and PATCH. weir also
    /// holds back methods that it does not know.
    pub fn is_retriable(self) -> bool {
        !matches!(
            self,
            Method::Post | Method::Patch | Method::Other | Method::Connect
        )
    }
}
