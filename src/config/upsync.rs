//! Directives of nginx's upsync module: servers from Consul or etcd.

mod address;

use std::path::PathBuf;

use weir_master::settings::{
    self, Certificates, Consistency, Discover, Guard, Kind, PrivateFile, Secret, Token, Upsync,
};
use weir_shm::TEMPLATE_NAME_MAX;

use super::directive::{
    Arity, Contexts, Directive, HTTP, Set, UPSTREAM, at_least, between, flag, once, row, take,
};
use super::draft::{DiscoverDraft, FileDraft, Http, SourceDraft, TokenDraft, UpstreamDraft};
use super::error::Fault;
use super::parser::{Call, Parser};
use super::source::Source;
use super::unit;
use super::upstream::open;

const BOTH: Contexts = HTTP.or(UPSTREAM);
const ONE: Arity = take(1);

/// The table.
pub const DIRECTIVES: &[Directive] = &[
    row("upsync", UPSTREAM, at_least(1), Set::Call(upsync)),
    row("upsync_discover", HTTP, at_least(2), Set::Call(discover)),
    row(
        "upsync_drain_timeout",
        HTTP.or(UPSTREAM),
        take(1),
        Set::Call(drain_timeout),
    ),
    row(
        "upsync_dump_path",
        UPSTREAM,
        ONE,
        Set::Text(|draft| &mut open(draft).dump),
    ),
    row("upsync_guard", BOTH, between(1, 3), Set::Call(upsync_guard)),
    row("upsync_lb", UPSTREAM, ONE, Set::Call(upsync_lb)),
    row("upsync_ssl_certificate", BOTH, ONE, Set::Call(certificate)),
    row("upsync_ssl_certificate_key", BOTH, ONE, Set::Call(key)),
    row("upsync_ssl_name", BOTH, ONE, Set::Call(name)),
    row(
        "upsync_ssl_trusted_certificate",
        BOTH,
        ONE,
        Set::Call(trusted),
    ),
    row("upsync_ssl_verify", BOTH, ONE, Set::Call(verify)),
    row("upsync_token", BOTH, ONE, Set::Call(token)),
    row("upsync_token_file", BOTH, ONE, Set::Call(token_file)),
];

/// What the level that is being read says.
fn level<'p>(parser: &'p mut Parser, call: &Call) -> &'p mut SourceDraft {
    match call.context {
        UPSTREAM => &mut open(&mut parser.draft).source,
        _ => &mut parser.draft.http().source,
    }
}

fn certificate(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let file = file(parser, call)?;
    once(&mut level(parser, call).certificate, call, || Ok(file))
}

fn key(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let file = file(parser, call)?;
    once(&mut level(parser, call).key, call, || Ok(file))
}

fn trusted(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let file = file(parser, call)?;
    once(&mut level(parser, call).trusted, call, || Ok(file))
}

fn verify(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    once(&mut level(parser, call).verify, call, || flag(call))
}

fn name(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let text = call.value();
    let is_name = !text.is_empty()
        && (text.bytes()).all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte));
    once(&mut level(parser, call).name, call, || match is_name {
        true => Ok(text.to_owned()),
        false => Err(call.blame("invalid value")),
    })
}

fn token(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let secret = secret(call.value()).ok_or_else(|| call.blame("has an invalid token"))?;
    set_token(parser, call, TokenDraft::Text(secret))
}

fn token_file(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let file = file(parser, call)?;
    set_token(parser, call, TokenDraft::File(file))
}

fn set_token(parser: &mut Parser, call: &Call, token: TokenDraft) -> Result<(), Fault> {
    let place = &mut level(parser, call).token;
    let same_kind = |known: &TokenDraft| {
        matches!(known, TokenDraft::Text(_)) == matches!(token, TokenDraft::Text(_))
    };
    if place.as_ref().is_some_and(|known| !same_kind(known)) {
        return Err(call.fault("\"upsync_token\" and \"upsync_token_file\" exclude each other"));
    }
    once(place, call, || Ok(token))
}

/// What a header field can hold, without a space: a token that is cut is found out.
fn secret(text: &str) -> Option<Secret> {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| Secret(text.to_owned()))
}

fn file(parser: &Parser, call: &Call) -> Result<FileDraft, Fault> {
    if call.value().is_empty() {
        return Err(call.blame("names no file"));
    }
    Ok(FileDraft {
        path: parser.source.paths().beside(call.value()),
        place: call.place(),
    })
}

fn upsync(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let upstream = open(&mut parser.draft);
    let mut https = false;
    once(&mut upstream.upsync, call, || {
        let mut upsync = Upsync {
            kind: kind(call)?,
            ..Upsync::folder("", 0, "")
        };
        https = address::read(&mut upsync, call)?;
        for parameter in &call.values()[1..] {
            set_parameter(&mut upsync, call, parameter)?;
        }
        Ok(upsync)
    })?;
    upstream.https = https;
    Ok(())
}

/// `upsync_discover ADDRESS/v1/kv/PREFIX template=NAME …`
fn discover(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let mut upsync = Upsync {
        folders: true,
        ..Upsync::folder("", 0, "")
    };
    let https = address::read(&mut upsync, call)?;
    let mut template = None;
    for parameter in &call.values()[1..] {
        match parameter.split_once('=') {
            Some(("template", name)) if name.len() > TEMPLATE_NAME_MAX => {
                return Err(call.fault(format!(
                    "the name in \"template=\" is longer than {TEMPLATE_NAME_MAX} bytes"
                )));
            }
            Some(("template", name)) if !name.is_empty() && template.is_none() => {
                template = Some(name.to_owned());
            }
            Some(("template", _)) => return Err(call.invalid_parameter(parameter)),
            Some(("upsync_type", kind)) if kind != Kind::default().name() => {
                return Err(call.fault(format!(
                    "\"{parameter}\" is not supported by \"upsync_discover\""
                )));
            }
            _ => set_parameter(&mut upsync, call, parameter)?,
        }
    }
    let Some(template) = template else {
        return Err(call.fault("\"upsync_discover\" needs a \"template=\""));
    };
    let discovers = &mut parser.draft.http().discovers;
    let same = |known: &Upsync| {
        (&known.host, &known.prefix, &known.datacenter)
            == (&upsync.host, &upsync.prefix, &upsync.datacenter)
    };
    let mut known = discovers
        .iter()
        .filter_map(|known| known.upstream.upsync.as_ref());
    if known.any(same) {
        let path = upsync.kind.path();
        return Err(call.fault(format!(
            "duplicate \"upsync_discover\" of {}{path}{}",
            upsync.host, upsync.prefix
        )));
    }
    discovers.push(DiscoverDraft {
        upstream: UpstreamDraft {
            upsync: Some(upsync),
            https,
            place: call.place(),
            ..UpstreamDraft::default()
        },
        template,
    });
    Ok(())
}

/// Each `upsync_discover`, whose sources are `upsyncs`.
pub fn discovers(
    drafts: &[DiscoverDraft],
    upsyncs: impl Iterator<Item = Option<Upsync>>,
    upstreams: &[&UpstreamDraft],
    built: &[settings::Upstream],
) -> Result<Vec<Discover>, Fault> {
    let sources = drafts.iter().zip(upsyncs);
    let sources = sources.filter_map(|(draft, upsync)| Some((draft, upsync?)));
    sources
        .map(|(draft, upsync)| {
            let template = &draft.template;
            let mut known = upstreams.iter().zip(built);
            let like = known.find(|(known, _)| known.explicit && known.name == *template);
            let (_, like) = like.ok_or_else(|| {
                let message = format!("no upstream \"{template}\" in \"upsync_discover\"");
                Fault::at(draft.upstream.place.clone(), message)
            })?;
            Ok(Discover {
                upsync,
                template: template.clone(),
                guard: like.guard,
            })
        })
        .collect()
}

/// It comes after the path that it decides about.
fn kind(call: &Call) -> Result<Kind, Fault> {
    let mut kind = Kind::default();
    for parameter in &call.values()[1..] {
        if let Some(name) = parameter.strip_prefix("upsync_type=") {
            let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
            kind = found.ok_or_else(|| call.invalid_parameter(parameter))?;
        }
    }
    Ok(kind)
}

fn set_parameter(upsync: &mut Upsync, call: &Call, parameter: &str) -> Result<(), Fault> {
    let invalid = || call.invalid_parameter(parameter);
    let time = |value: &str| {
        unit::millis(value)
            .filter(|time| !time.is_zero())
            .ok_or_else(invalid)
    };
    match parameter.split_once('=') {
        Some(("upsync_timeout", value)) => upsync.timeout = time(value)?,
        Some(("upsync_interval", value)) => upsync.interval = time(value)?,
        // Read before, see `kind`.
        Some(("upsync_type", _)) => {}
        Some(("strong_dependency", "on")) => upsync.strong = true,
        Some(("strong_dependency", "off")) => upsync.strong = false,
        Some(("datacenter", name)) if upsync.kind.is_consul() => {
            upsync.datacenter = Some(datacenter(name).ok_or_else(invalid)?);
        }
        Some(("consistency", value)) => {
            upsync.consistency = consistency(value).ok_or_else(invalid)?;
        }
        // Nobody's log is to show what follows.
        Some(("token", _)) => return Err(call.invalid_parameter("token=***")),
        _ => return Err(invalid()),
    }
    Ok(())
}

/// `upsync_drain_timeout TIME | off`
fn drain_timeout(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let place = match call.context {
        UPSTREAM => &mut open(&mut parser.draft).drain_timeout,
        _ => &mut parser.draft.http().drain_timeout,
    };
    once(place, call, || match call.value() {
        "off" => Ok(None),
        value => unit::millis(value)
            .map(Some)
            .ok_or_else(|| call.blame("invalid value")),
    })
}

/// The name of a datacenter, by Consul's rule for it.
fn datacenter(name: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (!name.is_empty() && name.bytes().all(plain)).then(|| name.to_owned())
}

fn consistency(value: &str) -> Option<Consistency> {
    match value {
        "default" => Some(Consistency::Default),
        "stale" => Some(Consistency::Stale),
        "consistent" => Some(Consistency::Consistent),
        _ => None,
    }
}

/// What a whole `upstream {}` says of its source.
pub fn check(upstream: &UpstreamDraft, call: &Call) -> Result<(), Fault> {
    let in_url = upstream
        .upsync
        .as_ref()
        .is_some_and(|upsync| upsync.token.is_some());
    if in_url && upstream.source.token.is_some() {
        return Err(call.fault(format!(
            "upstream \"{}\" has a token in \"upsync\" and one of its own",
            upstream.name
        )));
    }
    Ok(())
}

/// Where upstreams' servers come from.
pub struct Fed {
    /// By upstream.
    pub upsyncs: Vec<Option<Upsync>>,
    /// The files that they need, by number.
    pub private: Vec<PrivateFile>,
}

/// Each upstream's `upsync`, with what it inherits from `http {}`.
pub fn sources(upstreams: &[&UpstreamDraft], http: &Http, source: &Source) -> Result<Fed, Fault> {
    let mut private = Vec::new();
    let mut upsyncs = Vec::with_capacity(upstreams.len());
    for upstream in upstreams {
        let Some(mut upsync) = upstream.upsync.clone() else {
            upsyncs.push(None);
            continue;
        };
        let own = inherited(&upstream.source, &http.source);
        if upsync.token.is_none() {
            upsync.token = own.token.as_ref().map(|token| match token {
                TokenDraft::Text(secret) => Token::Text(secret.clone()),
                TokenDraft::File(file) => Token::File(add(&mut private, file, source)),
            });
        }
        if upstream.https {
            let certificates = certificates(upstream, &own, &mut private, source)?;
            upsync.tls = Some(certificates.into());
        }
        upsyncs.push(Some(upsync));
    }
    Ok(Fed { upsyncs, private })
}

fn inherited(own: &SourceDraft, outer: &SourceDraft) -> SourceDraft {
    SourceDraft {
        token: own.token.clone().or_else(|| outer.token.clone()),
        trusted: own.trusted.clone().or_else(|| outer.trusted.clone()),
        certificate: own
            .certificate
            .clone()
            .or_else(|| outer.certificate.clone()),
        key: own.key.clone().or_else(|| outer.key.clone()),
        verify: own.verify.or(outer.verify),
        name: own.name.clone().or_else(|| outer.name.clone()),
    }
}

fn certificates(
    upstream: &UpstreamDraft,
    own: &SourceDraft,
    private: &mut Vec<PrivateFile>,
    source: &Source,
) -> Result<Certificates, Fault> {
    let verify = own.verify.unwrap_or(true);
    if verify && own.trusted.is_none() {
        let message = "no upsync_ssl_trusted_certificate for upsync_ssl_verify";
        return Err(Fault::at(upstream.place.clone(), message));
    }
    let pair = match (&own.certificate, &own.key) {
        (Some(certificate), None) => {
            return Err(Fault::at(
                certificate.place.clone(),
                format!(
                    "no \"upsync_ssl_certificate_key\" is defined for certificate \"{}\"",
                    certificate.path
                ),
            ));
        }
        (Some(certificate), Some(key)) => {
            Some((add(private, certificate, source), add(private, key, source)))
        }
        (None, _) => None,
    };
    let trusted = own.trusted.as_ref();
    Ok(Certificates {
        trusted: trusted.map(|file| add(private, file, source)),
        own: pair,
        verify,
        name: own.name.clone(),
    })
}

/// Each file is opened once, by its first directive.
fn add(private: &mut Vec<PrivateFile>, file: &FileDraft, source: &Source) -> PathBuf {
    let path = PathBuf::from(source.absolute(&file.path));
    if private.iter().all(|known| known.path != path) {
        private.push(PrivateFile {
            path: path.clone(),
            place: file.place.clone(),
        });
    }
    path
}

fn upsync_lb(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    once(&mut open(&mut parser.draft).lb, call, || {
        match call.value() {
            value @ ("round_robin" | "roundrobin") => Ok(value.to_owned()),
            value @ ("ip_hash" | "least_conn" | "hash_modula" | "hash_ketama") => Err(call.fault(
                format!("upsync_lb \"{value}\" is not supported by weir, use round_robin"),
            )),
            value => Err(call.fault(format!(
                "invalid value \"{value}\" in \"upsync_lb\" directive"
            ))),
        }
    })
}

/// `upsync_guard on|off [share=PERCENT%] [servers=NUMBER]`
fn upsync_guard(parser: &mut Parser, call: &Call) -> Result<(), Fault> {
    let place = match call.context {
        UPSTREAM => &mut open(&mut parser.draft).guard,
        _ => &mut parser.draft.http().guard,
    };
    once(place, call, || {
        let on = flag(call)?;
        let mut guard = Guard::default();
        for parameter in &call.values()[1..] {
            let invalid = || call.invalid_parameter(parameter);
            match parameter.split_once('=') {
                Some(("share", value)) => {
                    let percent = value.strip_suffix('%').and_then(unit::number);
                    let percent = percent.and_then(|percent| u8::try_from(percent).ok());
                    guard.share = percent
                        .filter(|percent| *percent <= 100)
                        .ok_or_else(invalid)?;
                }
                Some(("servers", value)) => {
                    let number = unit::number(value).filter(|number| *number > 0);
                    guard.servers = number
                        .and_then(|number| usize::try_from(number).ok())
                        .ok_or_else(invalid)?;
                }
                _ => return Err(invalid()),
            }
        }
        Ok(on.then_some(guard))
    })
}
