//! The parameters of `listen`.

use weir_master::settings::SocketOptions;

use crate::config::error::Fault;
use crate::config::parser::Call;
use crate::config::unit;

/// nginx's backlog on Linux.
const BACKLOG: i32 = 511;

/// What the parameters of a `listen` say.
pub struct Options {
    pub default: bool,
    /// Options of the socket were given.
    pub set: bool,
    pub backlog: i32,
    pub ipv6only: bool,
    pub socket: SocketOptions,
}

impl Options {
    pub const NONE: Options = Options {
        default: false,
        set: false,
        backlog: BACKLOG,
        ipv6only: true,
        socket: SocketOptions {
            rcvbuf: None,
            sndbuf: None,
            keepalive: None,
            keepidle: None,
            keepintvl: None,
            keepcnt: None,
            fastopen: None,
            deferred: false,
        },
    };
}

/// Reads them.
pub fn read(call: &Call) -> Result<Options, Fault> {
    let mut options = Options::NONE;
    for parameter in &call.values()[1..] {
        if matches!(parameter.as_str(), "default_server" | "default") {
            options.default = true;
            continue;
        }
        let done = match parameter.split_once('=') {
            Some((name, value)) => options.valued(call, name, value)?,
            None => options.plain(parameter),
        };
        if !done {
            return Err(refused(call, parameter));
        }
        options.set = true;
    }
    Ok(options)
}

impl Options {
    fn plain(&mut self, name: &str) -> bool {
        match name {
            // Each worker has a REUSEPORT socket for each address in any case.
            "bind" | "reuseport" => {}
            "deferred" => self.socket.deferred = true,
            _ => return false,
        }
        true
    }

    fn valued(&mut self, call: &Call, name: &str, value: &str) -> Result<bool, Fault> {
        let invalid = || call.fault(format!("invalid {name} \"{name}={value}\""));
        match name {
            "backlog" => {
                let backlog = unit::number(value).and_then(|number| i32::try_from(number).ok());
                self.backlog = backlog.filter(|&number| number > 0).ok_or_else(invalid)?;
            }
            "fastopen" => {
                let queue = unit::number(value).and_then(|number| i32::try_from(number).ok());
                self.socket.fastopen = Some(queue.ok_or_else(invalid)?);
            }
            "rcvbuf" => self.socket.rcvbuf = Some(buffer(value).ok_or_else(invalid)?),
            "sndbuf" => self.socket.sndbuf = Some(buffer(value).ok_or_else(invalid)?),
            "ipv6only" if value.starts_with('o') => {
                self.ipv6only = match value {
                    "on" => true,
                    "off" => false,
                    _ => return Err(call.fault(format!("invalid ipv6only flags \"{value}\""))),
                };
            }
            "so_keepalive" => self
                .keepalive(value)
                .ok_or_else(|| call.fault(format!("invalid so_keepalive value: \"{value}\"")))?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `on`, `off`, or `[IDLE]:[INTERVAL]:[COUNT]`, of which one at least is not 0.
    fn keepalive(&mut self, value: &str) -> Option<()> {
        let on = match value {
            "on" => true,
            "off" => false,
            _ => {
                let mut parts = value.splitn(3, ':');
                let mut part = || parts.next().filter(|part| !part.is_empty());
                let (idle, interval, count) = (part(), part(), part());
                self.socket.keepidle = positive(idle, seconds)?;
                self.socket.keepintvl = positive(interval, seconds)?;
                self.socket.keepcnt = positive(count, number)?;
                let socket = &self.socket;
                socket.keepidle.or(socket.keepintvl).or(socket.keepcnt)?;
                true
            }
        };
        self.socket.keepalive = Some(on);
        Some(())
    }
}

fn seconds(text: &str) -> Option<u32> {
    u32::try_from(unit::seconds(text)?.as_secs()).ok()
}

fn number(text: &str) -> Option<u32> {
    u32::try_from(unit::number(text)?).ok()
}

/// A number that may be left out, or 0 to the same effect.
fn positive(text: Option<&str>, read: impl Fn(&str) -> Option<u32>) -> Option<Option<u32>> {
    let Some(text) = text else {
        return Some(None);
    };
    Some(Some(read(text)?).filter(|&number| number > 0))
}

/// The size of a buffer, which the kernel takes as an `int`.
fn buffer(text: &str) -> Option<u32> {
    let bytes = i32::try_from(unit::size(text)?).ok()?;
    u32::try_from(bytes).ok()
}

/// nginx's parameters that weir does not have are refused by name.
fn refused(call: &Call, parameter: &str) -> Fault {
    let (name, _) = parameter.split_once('=').unwrap_or((parameter, ""));
    let module = match parameter {
        "ssl" => "ssl",
        "http2" => "v2",
        "quic" => "v3",
        "proxy_protocol" | "multipath" => return unsupported(call, name),
        _ if name == "accept_filter" || name == "setfib" => return unsupported(call, name),
        _ => return call.invalid_parameter(parameter),
    };
    call.fault(format!(
        "the \"{parameter}\" parameter requires ngx_http_{module}_module"
    ))
    .with_note("weir does not have it")
}

/// A parameter of nginx's that weir does not have.
pub fn unsupported(call: &Call, parameter: &str) -> Fault {
    call.fault(format!(
        "the \"{parameter}\" parameter is not supported by weir"
    ))
}
