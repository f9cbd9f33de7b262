//! Values with variables.

/// A value with variables, such as `$scheme://$host/x`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// Its parts in order.
    pub parts: Vec<Part>,
}

/// A part of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// As it stands.
    Text(Vec<u8>),
    /// Evaluated for each request.
    Variable(Variable),
}

/// nginx's variables that weir knows. Names with a suffix hold it in the form in which it is
/// looked up: lower case, and `-` for `_` in names of fields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is nginx's variable of the same name")]
pub enum Variable {
    Arg(Vec<u8>),
    Cookie(Vec<u8>),
    Http(Vec<u8>),
    SentHttp(Vec<u8>),
    SentTrailer(Vec<u8>),
    UpstreamCookie(Vec<u8>),
    UpstreamHttp(Vec<u8>),
    UpstreamTrailer(Vec<u8>),
    Args,
    /// `$1` to `$9` and named groups: what a group of the pattern at work has matched.
    Capture(usize),
    BinaryRemoteAddr,
    BodyBytesSent,
    BytesSent,
    Connection,
    ConnectionRequests,
    ConnectionTime,
    ConnectionsActive,
    ConnectionsReading,
    ConnectionsWaiting,
    ConnectionsWriting,
    ContentLength,
    ContentType,
    DocumentUri,
    Host,
    Hostname,
    Https,
    IsArgs,
    IsRequestPort,
    LimitRate,
    Msec,
    NginxVersion,
    Pid,
    Pipe,
    ProxyAddXForwardedFor,
    ProxyHost,
    ProxyPort,
    QueryString,
    RemoteAddr,
    RemotePort,
    RemoteUser,
    Request,
    RequestBody,
    RequestBodyFile,
    RequestCompletion,
    RequestId,
    RequestLength,
    RequestMethod,
    RequestPort,
    RequestTime,
    RequestUri,
    Scheme,
    ServerAddr,
    ServerName,
    ServerPort,
    ServerProtocol,
    Status,
    TimeIso8601,
    TimeLocal,
    UpstreamAddr,
    UpstreamBytesReceived,
    UpstreamBytesSent,
    UpstreamConnectTime,
    UpstreamHeaderTime,
    UpstreamResponseLength,
    UpstreamResponseTime,
    UpstreamStatus,
    Uri,
}
