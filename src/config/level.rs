//! Servers and locations with everything inherited and every default filled in.

use std::collections::HashMap;
use std::sync::Arc;

use weir_worker::http::Expires;
use weir_worker::settings::{
    ExpiresRule, Handler, Lingering, Location, LocationKind, LocationSettings, Proxy, ProxyTarget,
    Return, ServerName, VirtualServer,
};

use super::body;
use super::draft::{Common, HandlerDraft, Level, ProxyPass};
use super::error::Fault;
use super::{proxy, resolver};

/// `types`, where none are given.
const TYPES: [(&str, &str); 3] = [
    ("html", "text/html"),
    ("gif", "image/gif"),
    ("jpg", "image/jpeg"),
];

/// What is around a level.
pub struct Outer<'a> {
    /// Directives that it may take over.
    pub common: &'a Common,
    /// Where each upstream of the draft is in the settings.
    pub order: &'a [usize],
}

/// One `server {}`.
pub fn server(level: &Level, outer: &Outer<'_>) -> Result<VirtualServer, Fault> {
    let mut common = level.common.clone();
    common.inherit(outer.common);
    let inner = Outer {
        common: &common,
        order: outer.order,
    };
    let named = level.locations.iter().filter(|location| location.named);
    let named = named.map(|level| {
        let location = location(level, &inner)?;
        Ok((location.path, location.settings))
    });
    let names = level.names.iter().map(|(_, name)| name.clone());
    let mut names: Vec<_> = names.collect();
    if names.is_empty() {
        names.push(ServerName::Exact(String::new()));
    }
    let nginx = VirtualServer::default();
    let sizes = |(number, size): (u64, u64)| (number as usize, size as usize);
    Ok(VirtualServer {
        names,
        locations: locations(&level.locations, &inner)?,
        named: named.collect::<Result<_, Fault>>()?,
        fallback: Arc::new(settings(level, &common, outer.order)?),
        client_header_timeout: common
            .client_header_timeout
            .unwrap_or(nginx.client_header_timeout),
        client_header_buffer_size: common
            .client_header_buffer_size
            .map_or(nginx.client_header_buffer_size, |size| size as usize),
        large_client_header_buffers: common
            .large_client_header_buffers
            .map_or(nginx.large_client_header_buffers, sizes),
        max_headers: common
            .max_headers
            .map_or(nginx.max_headers, |number| number as usize),
        ignore_invalid_headers: common
            .ignore_invalid_headers
            .unwrap_or(nginx.ignore_invalid_headers),
        underscores_in_headers: common
            .underscores_in_headers
            .unwrap_or(nginx.underscores_in_headers),
        merge_slashes: common.merge_slashes.unwrap_or(nginx.merge_slashes),
    })
}

/// The locations of a level that paths lead to.
fn locations(levels: &[Level], outer: &Outer<'_>) -> Result<Vec<Location>, Fault> {
    let unnamed = levels.iter().filter(|level| !level.named);
    unnamed.map(|level| location(level, outer)).collect()
}

fn location(level: &Level, outer: &Outer<'_>) -> Result<Location, Fault> {
    let mut common = level.common.clone();
    common.inherit(outer.common);
    let inner = Outer {
        common: &common,
        order: outer.order,
    };
    Ok(Location {
        kind: level.kind.unwrap_or(LocationKind::Prefix),
        path: level.path.clone().into_bytes(),
        settings: Arc::new(settings(level, &common, outer.order)?),
        inner: locations(&level.locations, &inner)?,
    })
}

fn settings(level: &Level, common: &Common, order: &[usize]) -> Result<LocationSettings, Fault> {
    body::check(level, common)?;
    let nginx = LocationSettings::default();
    let (keepalive_timeout, keepalive_header) = common
        .keepalive_timeout
        .unwrap_or((nginx.keepalive_timeout, nginx.keepalive_header));
    Ok(LocationSettings {
        name: level.path.clone().into_bytes(),
        handler: handler(level, common, order),
        ret: level.ret.as_ref().map(|ret| Return {
            status: ret.status,
            text: ret.text.clone(),
        }),
        access: common.access.clone().unwrap_or_default(),
        add_headers: common.add_headers.clone().unwrap_or_default(),
        add_trailers: common.add_trailers.clone().unwrap_or_default(),
        expires: common
            .expires
            .clone()
            .filter(|rule| *rule != ExpiresRule::Fixed(Expires::Off)),
        error_pages: common.error_pages.clone().unwrap_or_default(),
        recursive_error_pages: common
            .recursive_error_pages
            .unwrap_or(nginx.recursive_error_pages),
        internal: common.internal.unwrap_or(nginx.internal),
        absolute_redirect: common.absolute_redirect.unwrap_or(nginx.absolute_redirect),
        port_in_redirect: common.port_in_redirect.unwrap_or(nginx.port_in_redirect),
        server_name_in_redirect: common
            .server_name_in_redirect
            .unwrap_or(nginx.server_name_in_redirect),
        msie_padding: common.msie_padding.unwrap_or(nginx.msie_padding),
        client_max_body_size: common
            .client_max_body_size
            .unwrap_or(nginx.client_max_body_size),
        client_body: body::client_body(common),
        client_body_timeout: common
            .client_body_timeout
            .unwrap_or(nginx.client_body_timeout),
        send_timeout: common.send_timeout.unwrap_or(nginx.send_timeout),
        keepalive_timeout,
        keepalive_header,
        keepalive_requests: common
            .keepalive_requests
            .unwrap_or(nginx.keepalive_requests),
        keepalive_time: common.keepalive_time.unwrap_or(nginx.keepalive_time),
        keepalive_min_timeout: common
            .keepalive_min_timeout
            .unwrap_or(nginx.keepalive_min_timeout),
        keepalive_disable: common.keepalive_disable.unwrap_or(nginx.keepalive_disable),
        lingering: lingering(common),
        reset_timedout_connection: common
            .reset_timedout_connection
            .unwrap_or(nginx.reset_timedout_connection),
        chunked_transfer_encoding: common
            .chunked_transfer_encoding
            .unwrap_or(nginx.chunked_transfer_encoding),
        server_tokens: common.server_tokens.unwrap_or(nginx.server_tokens),
        limit_rate: common.limit_rate.clone(),
        limit_rate_after: common.limit_rate_after.clone(),
        tcp_nodelay: common.tcp_nodelay.unwrap_or(nginx.tcp_nodelay),
        tcp_nopush: common.tcp_nopush.unwrap_or(nginx.tcp_nopush),
        sendfile: common.sendfile.unwrap_or(nginx.sendfile),
        default_type: common
            .default_type
            .clone()
            .map_or(nginx.default_type, String::into_bytes),
        types: common.types.clone().unwrap_or_else(default_types),
        access_logs: common.access_logs.clone().unwrap_or_default(),
        log_file_cache: common.log_file_cache.flatten(),
        error_logs: common.error_logs.clone().unwrap_or_default().into(),
    })
}

fn lingering(common: &Common) -> Lingering {
    let nginx = Lingering::default();
    Lingering {
        close: common.lingering_close.unwrap_or(nginx.close),
        time: common.lingering_time.unwrap_or(nginx.time),
        timeout: common.lingering_timeout.unwrap_or(nginx.timeout),
    }
}

fn default_types() -> Arc<HashMap<Vec<u8>, Vec<u8>>> {
    let types = TYPES
        .iter()
        .map(|(name, media)| (name.as_bytes().to_vec(), media.as_bytes().to_vec()));
    Arc::new(types.collect())
}

fn handler(level: &Level, common: &Common, order: &[usize]) -> Handler {
    let pass = match &level.handler {
        None => return Handler::None,
        Some(HandlerDraft::UpstreamShow) => return Handler::UpstreamShow,
        Some(HandlerDraft::StubStatus) => return Handler::StubStatus,
        Some(HandlerDraft::Proxy(pass)) => pass,
    };
    let (target, host, port, uri) = match pass {
        ProxyPass::Named(name) => (ProxyTarget::Named(name.clone()), String::new(), 0, None),
        ProxyPass::Known {
            upstream,
            host,
            port,
            uri,
            ..
        } => {
            let index = order.get(*upstream).copied().unwrap_or_default();
            (
                ProxyTarget::Upstream(index),
                host.clone(),
                *port,
                uri.clone(),
            )
        }
    };
    let nginx = Proxy::default();
    let mut proxy = Proxy {
        target,
        host: host.into_bytes(),
        port,
        uri: uri.map(String::into_bytes),
        pass_trailers: common.proxy_pass_trailers.unwrap_or(nginx.pass_trailers),
        buffering: body::buffering(common),
        connect_timeout: common
            .proxy_connect_timeout
            .unwrap_or(nginx.connect_timeout),
        read_timeout: common.proxy_read_timeout.unwrap_or(nginx.read_timeout),
        send_timeout: common.proxy_send_timeout.unwrap_or(nginx.send_timeout),
        ..nginx
    };
    proxy::request::settings(&mut proxy, common);
    proxy::response::settings(&mut proxy, common, pass, &level.path);
    proxy::connection::settings(&mut proxy, common);
    proxy::failover::settings(&mut proxy, common);
    resolver::settings(&mut proxy, common);
    Handler::Proxy(Box::new(proxy))
}
