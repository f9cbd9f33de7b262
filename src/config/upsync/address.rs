//! `[https://]ADDRESS[,ADDRESS…]/PATH[?token=TOKEN]`: where a source is, and what is asked of it.

use weir_master::settings::{Endpoint, Kind, SourceAddress, Token, Upsync};

use super::super::error::Fault;
use super::super::parser::Call;
use super::super::url::{self, Rules, Url, UrlHost};
use super::secret;

/// Addresses of one source at most.
const MOST: usize = 64;

/// Reads the first parameter into `upsync`, whose kind is known; whether it begins with `https://`.
pub fn read(upsync: &mut Upsync, call: &Call) -> Result<bool, Fault> {
    let whole = call.value();
    let (text, query) = match whole.split_once('?') {
        Some((text, query)) => (text, Some(query)),
        None => (whole, None),
    };
    let what = match upsync.kind {
        Kind::ConsulServices | Kind::ConsulHealth => "NAME",
        _ => "PREFIX",
    };
    let form = |reason: &str| {
        // What follows the question mark may be a secret.
        let hidden = if query.is_some() { "?***" } else { "" };
        let path = upsync.kind.path();
        call.fault(format!(
            "{reason} in {} \"{text}{hidden}\", it must be HOST:PORT{path}{what}",
            call.name()
        ))
    };
    let (https, rest) = match text.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None if text.contains("://") => return Err(form("unexpected scheme")),
        None => (false, text),
    };
    let (addresses, uri) = addresses(rest).map_err(form)?;
    let prefix = prefix(upsync.kind, &uri).map_err(form)?;
    let token = query.map(token).transpose().map_err(form)?;
    upsync.host = addresses
        .iter()
        .map(|address| address.written.as_str())
        .collect::<Vec<_>>()
        .join(",");
    upsync.addresses = addresses;
    upsync.prefix = prefix;
    upsync.token = token.map(Token::Text);
    Ok(https)
}

/// The addresses, and the URI behind the last of them.
fn addresses(mut text: &str) -> Result<(Vec<SourceAddress>, String), &'static str> {
    let mut found = Vec::new();
    loop {
        if found.len() == MOST {
            return Err("too many addresses");
        }
        // Keys may have commas: the first piece that carries a URI is the last address.
        let end = text.find(',').filter(|&end| !has_uri(&text[..end]));
        let rules = Rules {
            listen: false,
            uri: end.is_none(),
            default_port: 0,
        };
        let url = url::parse(&text[..end.unwrap_or(text.len())], rules)?;
        found.push(address(&url)?);
        match end {
            Some(end) => text = &text[end + 1..],
            None => return Ok((found, url.uri.unwrap_or_default())),
        }
    }
}

fn has_uri(piece: &str) -> bool {
    match piece.strip_prefix("unix:") {
        Some(path) => path.contains(':'),
        None => piece.contains('/'),
    }
}

fn address(url: &Url) -> Result<SourceAddress, &'static str> {
    if url.no_port {
        return Err("no port");
    }
    let (written, endpoint) = match &url.host {
        UrlHost::Unix(path) => (format!("unix:{path}"), Endpoint::Unix(path.into())),
        UrlHost::Ip(ip) => {
            let name = ip.to_string();
            let port = url.port;
            (format!("{}:{port}", url.text), Endpoint::Tcp { name, port })
        }
        UrlHost::Name(name) => {
            let (name, port) = (name.clone(), url.port);
            (format!("{}:{port}", url.text), Endpoint::Tcp { name, port })
        }
    };
    Ok(SourceAddress { written, endpoint })
}

/// What follows the path of the kind.
fn prefix(kind: Kind, uri: &str) -> Result<String, &'static str> {
    let text = uri.strip_prefix(kind.path()).ok_or("invalid path")?;
    // To etcd's third API a key is bytes: `/a` and `a` are two.
    let text = match kind {
        Kind::Etcd3 => text.trim_end_matches('/'),
        _ => text.trim_matches('/'),
    };
    let is_service = !kind.has_folders();
    if text.is_empty() {
        return Err(if is_service {
            "no name of a service"
        } else {
            "no key prefix"
        });
    }
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte);
    if !text.bytes().all(plain) {
        return Err("invalid character in the key prefix");
    }
    if is_service && text.contains('/') {
        return Err("invalid name of a service");
    }
    Ok(text.to_owned())
}

fn token(query: &str) -> Result<weir_master::settings::Secret, &'static str> {
    let text = query.strip_prefix("token=");
    text.filter(|text| !text.contains('&'))
        .and_then(secret)
        .ok_or("unexpected query")
}
