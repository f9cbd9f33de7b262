//! `upsync` and the directives around it: what is read, inherited and kept from view.

use std::path::Path;

use weir_master::settings::{Consistency, Endpoint, Kind, Secret, Token, Upsync};

use super::{http, refused};

fn upsync(http_text: &str, upstream_text: &str) -> Upsync {
    let built = http(&format!(
        "{http_text} upstream u {{ {upstream_text} }} server {{ listen 80; }}"
    ));
    built.settings.upstreams[0].upsync.clone().unwrap()
}

#[test]
fn each_type_has_its_path() {
    for (text, kind, prefix) in [
        ("a:1/v1/kv/x/y/", Kind::Consul, "x/y"),
        (
            "a:1/v1/catalog/service/web upsync_type=consul_services",
            Kind::ConsulServices,
            "web",
        ),
        (
            "a:1/v1/health/service/web upsync_type=consul_health",
            Kind::ConsulHealth,
            "web",
        ),
        ("a:1/v2/keys//x/y upsync_type=etcd", Kind::Etcd, "x/y"),
        ("a:1/v3/kv/x/y/ upsync_type=etcd3", Kind::Etcd3, "x/y"),
        ("a:1/v3/kv//x/y upsync_type=etcd3", Kind::Etcd3, "/x/y"),
    ] {
        let upsync = upsync("", &format!("upsync {text};"));
        assert_eq!(
            (upsync.kind, upsync.prefix.as_str()),
            (kind, prefix),
            "{text}"
        );
    }
}

#[test]
fn addresses_are_a_list_of_hosts_and_sockets() {
    let text = "upsync a:8500,[::1]:8501,unix:/run/x.sock,10.0.0.1:1/v1/kv/x,y \
                datacenter=dc-2 consistency=stale;";
    let upsync = upsync("", text);
    let hosts = "a:8500,[::1]:8501,unix:/run/x.sock,10.0.0.1:1";
    assert_eq!(upsync.host, hosts);
    assert_eq!(upsync.prefix, "x,y");
    assert_eq!(upsync.datacenter.as_deref(), Some("dc-2"));
    assert_eq!(upsync.consistency, Consistency::Stale);
    let endpoints: Vec<_> = upsync.addresses.iter().map(|a| &a.endpoint).collect();
    let tcp = |name: &str, port| Endpoint::Tcp {
        name: name.into(),
        port,
    };
    let expected = [
        tcp("a", 8500),
        tcp("::1", 8501),
        Endpoint::Unix("/run/x.sock".into()),
        tcp("10.0.0.1", 1),
    ];
    assert!(endpoints.into_iter().eq(&expected));
    let unix = self::upsync("", "upsync unix:/run/x.sock:/v1/kv/x;");
    assert_eq!(unix.to_string(), "unix:/run/x.sock:/v1/kv/x");
    let many = vec!["a:1"; 65].join(",");
    let message = refused(&format!(
        "events {{}} http {{ upstream u {{ upsync {many}/v1/kv/x; }} }}"
    ));
    assert!(message.starts_with("too many addresses"), "{message}");
}

#[test]
fn a_token_is_inherited_replaced_and_never_shown() {
    let kv = "upsync a:1/v1/kv/x";
    let text = |text: &str| Some(Token::Text(Secret(text.into())));
    let token = |outer: &str, own: &str| upsync(outer, own).token;
    assert_eq!(token("", &format!("{kv};")), None);
    let outer = "upsync_token outer-s3cret;";
    assert_eq!(token(outer, &format!("{kv};")), text("outer-s3cret"));
    let own = format!("{kv}; upsync_token own-s3cret;");
    assert_eq!(token(outer, &own), text("own-s3cret"));
    let in_url = format!("{kv}?token=url-s3cret;");
    assert_eq!(token(outer, &in_url), text("url-s3cret"));
    let file = token(outer, &format!("{kv}; upsync_token_file token;"));
    assert!(matches!(file, Some(Token::File(path)) if path.ends_with("token")));
    let built = http(&format!(
        "{outer} upstream u {{ {in_url} }} server {{ listen 80; }}"
    ));
    assert!(!format!("{built:?}").contains("s3cret"));
    let both = refused(&format!(
        "events {{}}\nhttp {{ upstream u {{\n{in_url} upsync_token b; }} }}"
    ));
    let expected = "upstream \"u\" has a token in \"upsync\" and one of its own in weir.conf:2";
    assert_eq!(both, expected);
}

#[test]
fn private_files_are_numbered_once_and_know_their_line() {
    let built = http(
        "upsync_token_file /etc/t;\nupsync_ssl_trusted_certificate /etc/ca;\n\
         upsync_ssl_certificate /etc/c;\nupsync_ssl_certificate_key /etc/k;\n\
         upsync_ssl_name consul.example;\n\
         upstream a { upsync https://a:1/v1/kv/a; }\nupstream b { upsync https://a:1/v1/kv/b; }\n\
         upstream c { upsync a:1/v1/kv/c; upsync_ssl_trusted_certificate /etc/unused; }\n\
         upstream d { upsync https://a:1/v1/kv/d; upsync_ssl_verify off; upsync_token x; }\n\
         server { listen 80; }",
    );
    let private = &built.settings.private;
    let paths: Vec<&Path> = private.iter().map(|file| file.path.as_path()).collect();
    assert_eq!(
        paths,
        ["/etc/t", "/etc/c", "/etc/k", "/etc/ca"].map(Path::new)
    );
    assert!(private[1].place.line == private[0].place.line + 2);
    let upsync = |at: usize| built.settings.upstreams[at].upsync.clone().unwrap();
    let tls = upsync(0).tls.unwrap();
    assert_eq!(upsync(1).tls, Some(tls.clone()));
    assert_eq!(tls.name.as_deref(), Some("consul.example"));
    assert!(tls.verify && upsync(2).tls.is_none() && !upsync(3).tls.unwrap().verify);
    assert_eq!(upsync(0).to_string(), "https://a:1/v1/kv/a");
}

#[test]
fn certificates_are_asked_for_where_they_are_needed() {
    let message = refused(
        "events {}\nhttp {\nupstream u { upsync https://a:1/v1/kv/a; } server { listen 80; } }",
    );
    let expected = "no upsync_ssl_trusted_certificate for upsync_ssl_verify in weir.conf:3";
    assert_eq!(message, expected);
    let message = refused(
        "events {}\nhttp {\nupsync_ssl_verify off;\nupsync_ssl_certificate /etc/c;\n\
         upstream u { upsync https://a:1/v1/kv/a; } server { listen 80; } }",
    );
    let expected =
        "no \"upsync_ssl_certificate_key\" is defined for certificate \"/etc/c\" in weir.conf:4";
    assert_eq!(message, expected);
}
