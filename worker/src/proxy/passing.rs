//! Where `proxy_pass` leads a request.

use std::rc::Rc;

use super::Network;
use super::exchange::Exchange;
use super::resolving::Unserved;
use super::session::Session;
use crate::conf::Conf;
use crate::http::target;
use crate::settings::{Bind, Handler, Level, ProxyTarget, Template};
use crate::transport::Origin;
use crate::upstream::plan::UpstreamPlan;
use crate::url::{self, Rules, Url};

/// Addresses from variables whose upstreams are kept for the next request.
const ADDRESSES_KEPT: usize = 1024;

impl<N: Network> Session<'_, N> {
    /// The upstream that `proxy_pass` means for this request, or why there is none.
    pub(super) fn find_upstream(
        &mut self,
        exchange: &mut Exchange,
    ) -> Result<Rc<UpstreamPlan>, Unserved> {
        let (Some(conf), Some(location)) = (exchange.conf.clone(), exchange.location.clone())
        else {
            return Err(Unserved::Answer(500));
        };
        let Handler::Proxy(proxy) = &location.handler else {
            return Err(Unserved::Answer(500));
        };
        match &proxy.target {
            ProxyTarget::Upstream(id) => {
                exchange.upstream_id = Some(*id);
                let upstream = conf.settings.upstreams.get(*id);
                upstream
                    .and_then(|known| self.shared.upstream(&conf, &known.name))
                    .ok_or(Unserved::Answer(502))
            }
            ProxyTarget::Named(template) => self.find_named(exchange, &conf, template),
        }
    }

    /// What a `proxy_pass` with variables gives: the name of an upstream, or an address.
    fn find_named(
        &mut self,
        exchange: &mut Exchange,
        conf: &Conf,
        template: &Template,
    ) -> Result<Rc<UpstreamPlan>, Unserved> {
        let url = self.named_url(exchange, template)?;
        exchange.named_uri.clear();
        if let Some(uri) = &url.uri {
            if uri.starts_with('?') {
                exchange.named_uri.push(b'/');
            }
            target::escape_unprintable(uri.as_bytes(), &mut exchange.named_uri);
        }
        exchange.named_host = url.host_header();
        exchange.named_port = url.port;
        exchange.upstream_id = conf.upstream_of(&url);
        let known = exchange
            .upstream_id
            .and_then(|id| conf.settings.upstreams.get(id));
        if let Some(found) = known.and_then(|known| self.shared.upstream(conf, &known.name)) {
            return Ok(found);
        }
        if let Some(found) = self.find_discovered(exchange, conf, &url) {
            return Ok(found);
        }
        self.find_server(exchange, &url)
    }

    /// The URL that a `proxy_pass` with variables makes.
    fn named_url(&mut self, exchange: &Exchange, template: &Template) -> Result<Url, Unserved> {
        const SCHEME: &[u8] = b"http://";
        let mut text = std::mem::take(&mut self.shared.line);
        text.clear();
        self.render(exchange, template, &mut text);
        let scheme = text.get(..SCHEME.len());
        let rest = scheme
            .filter(|start| start.eq_ignore_ascii_case(SCHEME) && text.len() > SCHEME.len())
            .map(|_| String::from_utf8_lossy(&text[SCHEME.len()..]).into_owned());
        let Some(rest) = rest else {
            let whole = text.escape_ascii();
            self.log_request(
                exchange,
                Level::Error,
                format_args!("invalid URL prefix in \"{whole}\""),
            );
            self.shared.line = text;
            return Err(Unserved::Answer(500));
        };
        self.shared.line = text;
        let rules = Rules {
            listen: false,
            uri: true,
            default_port: 80,
        };
        url::parse(&rest, rules).map_err(|reason| {
            let rest = rest.escape_debug();
            self.log_request(
                exchange,
                Level::Error,
                format_args!("{reason} in upstream \"{rest}\""),
            );
            Unserved::Answer(500)
        })
    }

    /// An upstream that `upsync_discover` found, which is served like its template.
    fn find_discovered(
        &mut self,
        exchange: &mut Exchange,
        conf: &Conf,
        url: &Url,
    ) -> Option<Rc<UpstreamPlan>> {
        if !url.no_port {
            return None;
        }
        let found = self.shared.upstream(conf, &url.text.to_ascii_lowercase())?;
        exchange.upstream_id = Some(conf.upstream(found.template.as_deref()?)?);
        Some(found)
    }

    /// No upstream has this name: an address is a server by itself, and a name has to be resolved.
    fn find_server(
        &mut self,
        exchange: &mut Exchange,
        url: &Url,
    ) -> Result<Rc<UpstreamPlan>, Unserved> {
        let Some(address) = url.address() else {
            return self.find_name(exchange, &url.text, url.port);
        };
        if let Some(known) = self.shared.addresses.get(&address) {
            return Ok(Rc::clone(known));
        }
        if self.shared.addresses.len() >= ADDRESSES_KEPT {
            self.shared.addresses.clear();
        }
        let servers = vec![address.clone()];
        let made = Rc::new(UpstreamPlan::outside(url.text.clone(), servers));
        self.shared.addresses.insert(address, Rc::clone(&made));
        Ok(made)
    }

    /// `proxy_bind` and `proxy_socket_keepalive`
    pub(super) fn origin(&self, exchange: &Exchange) -> Origin {
        let Some(proxy) = exchange.proxy() else {
            return Origin::default();
        };
        let local = match &proxy.bind {
            None => None,
            Some(Bind::Address(address)) => Some(*address),
            Some(Bind::Value(template)) => {
                let mut text = Vec::new();
                self.render(exchange, template, &mut text);
                let address = std::str::from_utf8(&text).ok().and_then(Bind::parse);
                if address.is_none() && !text.is_empty() {
                    let shown = text.escape_ascii();
                    self.log_request(
                        exchange,
                        Level::Error,
                        format_args!("invalid local address \"{shown}\""),
                    );
                }
                address
            }
        };
        Origin {
            local,
            keepalive: proxy.socket_keepalive,
        }
    }
}
