//! How connections to upstream servers are made.

use weir_worker::settings::{Bind, Proxy};

use crate::config::directive::{Directive, LEVELS, Set, between, once, row, take};
use crate::config::draft::Common;
use crate::config::error::Fault;
use crate::config::parser::{Call, Parser};
use crate::config::variable::{has_variables, template};

/// The table.
pub const DIRECTIVES: &[Directive] = &[
    row("proxy_bind", LEVELS, between(1, 2), Set::Call(proxy_bind)),
    row(
        "proxy_socket_keepalive",
        LEVELS,
        take(1),
        Set::Flag(|draft| &mut draft.common().proxy_socket_keepalive),
    ),
];

fn proxy_bind(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    once(&mut parser.draft.common().proxy_bind, call, || {
        let value = call.value();
        if call.values().len() == 1 && value == "off" {
            return Ok(None);
        }
        let bind = if has_variables(value) {
            Bind::Value(template(value).map_err(|message| call.fault(message))?)
        } else {
            let address = Bind::parse(value);
            Bind::Address(
                address.ok_or_else(|| call.fault(format!("invalid address \"{value}\"")))?,
            )
        };
        match call.values().get(1).map(String::as_str) {
            None => Ok(Some(bind)),
            Some("transparent") => Err(call
                .fault("transparent proxying is not supported by weir")
                .with_note("its workers keep no privilege that it would take")),
            Some(other) => Err(call.invalid_parameter(other)),
        }
    })
}

/// Fills in what these directives say of a location.
pub fn settings(proxy: &mut Proxy, common: &Common) {
    proxy.bind = common.proxy_bind.clone().flatten();
    proxy.socket_keepalive = common
        .proxy_socket_keepalive
        .unwrap_or(proxy.socket_keepalive);
}
