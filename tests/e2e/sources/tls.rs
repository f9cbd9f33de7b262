//! Consul behind TLS, with certificates of its own making.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{upstream, wait_servers};
use crate::support::consul::{Consul, ENTRY};
use crate::support::process::{finish, guarded};
use crate::support::weir::Setup;
use crate::support::{free_port, tool};

/// A folder with an authority's certificate, a server's and a client's.
pub struct Authority(tempfile::TempDir);

impl Authority {
    pub fn new() -> Authority {
        let authority = Authority(tempfile::tempdir().unwrap());
        authority.consul(&["ca", "create"]);
        let ip = "-additional-ipaddress=127.0.0.1";
        authority.consul(&["cert", "create", "-server", ip]);
        authority.consul(&["cert", "create", "-client"]);
        authority
    }

    fn consul(&self, arguments: &[&str]) {
        let mut command = guarded(tool("consul"));
        command
            .arg("tls")
            .args(arguments)
            .current_dir(self.0.path());
        let finished = finish(&mut command);
        assert_eq!(finished.code, Some(0), "{finished:?}");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn trusted(&self) -> PathBuf {
        self.path("consul-agent-ca.pem")
    }
}

/// A Consul that talks to clients of its authority only, and its port for that.
fn start(authority: &Authority) -> (Consul, u16) {
    let port = free_port();
    let settings = json!({
        "ports": {"https": port}, "verify_incoming_https": true,
        "ca_file": authority.trusted(),
        "cert_file": authority.path("dc1-server-consul-0.pem"),
        "key_file": authority.path("dc1-server-consul-0-key.pem"),
    });
    let consul = Consul::start_with(free_port(), settings, None);
    consul.put("up/test/192.0.2.1:1", ENTRY);
    (consul, port)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn asking(port: u16, trusted: &Path, rest: &str) -> Setup {
    let trusted = shown(trusted);
    upstream(&format!(
        "upsync https://127.0.0.1:{port}/v1/kv/up/test upsync_interval=100ms;\n\
         upsync_ssl_trusted_certificate {trusted};\n{rest}"
    ))
}

#[test]
fn certificates_of_both_sides_are_checked() {
    let authority = Authority::new();
    let (consul, port) = start(&authority);
    let own = format!(
        "upsync_ssl_certificate {}; upsync_ssl_certificate_key {};",
        shown(&authority.path("dc1-client-consul-0.pem")),
        shown(&authority.path("dc1-client-consul-0-key.pem"))
    );
    let weir = asking(port, &authority.trusted(), &own).start();
    wait_servers(&weir, &["192.0.2.1:1"]);
    consul.put("up/test/192.0.2.1:2", ENTRY);
    wait_servers(&weir, &["192.0.2.1:1", "192.0.2.1:2"]);
    drop(weir);

    let named = format!("{own} upsync_ssl_name server.dc1.consul;");
    let weir = asking(port, &authority.trusted(), &named).start();
    wait_servers(&weir, &["192.0.2.1:1", "192.0.2.1:2"]);
    drop(weir);

    let misnamed = format!("{own} upsync_ssl_name other.example;");
    let weir = asking(port, &authority.trusted(), &misnamed).start();
    weir.wait_log("upstream SSL certificate does not match \"other.example\", see upsync_ssl_name");
    drop(weir);

    let weir = asking(port, &authority.trusted(), "").start();
    weir.wait_log("SSL connection failed (received fatal alert");
    wait_servers(&weir, &["127.0.0.1:11111"]);
    drop(weir);

    let other = Authority::new();
    let weir = asking(port, &other.trusted(), &own).start();
    weir.wait_log(&format!(
        "upstream SSL certificate verify error: its issuer is unknown to \
         upsync_ssl_trusted_certificate \"{}\" in ",
        shown(&other.trusted())
    ));
    // The right authority in the file's place, without a reload.
    std::fs::copy(authority.trusted(), other.trusted()).unwrap();
    wait_servers(&weir, &["192.0.2.1:1", "192.0.2.1:2"]);
    drop(weir);

    let weir = asking(
        port,
        &authority.trusted(),
        &format!("{own} upsync_ssl_verify off;"),
    )
    .start();
    wait_servers(&weir, &["192.0.2.1:1", "192.0.2.1:2"]);
}

#[test]
fn a_bad_file_is_named_with_its_directive() {
    let authority = Authority::new();
    let refused = |rest: &str| asking(1, &authority.trusted(), rest).run(&["-t"]).stderr;
    assert!(refused("").contains("test is successful"));
    let key = shown(&authority.path("dc1-client-consul-0-key.pem"));
    let certificate = shown(&authority.path("dc1-client-consul-0.pem"));
    let swapped = refused(&format!(
        "upsync_ssl_certificate {key}; upsync_ssl_certificate_key {certificate};"
    ));
    let expected = format!("cannot load certificate \"{key}\" in ");
    assert!(swapped.contains(&expected), "{swapped}");
    let foreign = shown(&authority.path("dc1-server-consul-0-key.pem"));
    let unfit = refused(&format!(
        "upsync_ssl_certificate {certificate}; upsync_ssl_certificate_key {foreign};"
    ));
    let expected = format!("cannot load certificate key \"{foreign}\" in ");
    assert!(unfit.contains(&expected), "{unfit}");
}
