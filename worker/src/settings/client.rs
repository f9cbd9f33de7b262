//! How a client's connection is kept and ended.

use std::time::Duration;

/// `lingering_close`, `lingering_time` and `lingering_timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lingering {
    /// Whether a connection is closed only after what the client still sends was read.
    pub close: LingeringClose,
    /// For how long at most it is read and dropped.
    pub time: Duration,
    /// For how long at most nothing may come.
    pub timeout: Duration,
}

impl Default for Lingering {
    fn default() -> Self {
        Self {
            close: LingeringClose::On,
            time: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
        }
    }
}

/// `lingering_close`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LingeringClose {
    /// The connection is closed at once.
    Off,
    /// It lingers when the client may still send something.
    On,
    /// It lingers whatever the client sends.
    Always,
}

/// `keepalive_disable`: browsers whose connections are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepaliveDisable {
    /// Old versions of MSIE, after a POST.
    pub msie6: bool,
    /// Safari on macOS.
    pub safari: bool,
}

impl Default for KeepaliveDisable {
    fn default() -> Self {
        Self {
            msie6: true,
            safari: false,
        }
    }
}
