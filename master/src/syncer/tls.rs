//! TLS to a source: from files to what rustls takes, and its errors in words that name them.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::connection::Tls;
use super::vault::{Private, Vault};
use crate::settings::{Certificates, Endpoint, SourceAddress};

/// What was made of certificates, once for all who ask with them.
#[derive(Default)]
pub struct Configs(Mutex<HashMap<Arc<Certificates>, Made>>);

/// Of files of this [`Vault::version`].
type Made = (u64, Result<Arc<ClientConfig>, String>);

impl fmt::Debug for Configs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Configs")
    }
}

/// How TLS is spoken with `address`, by the files as they are now.
///
/// # Errors
/// A file is missing or holds something else; it and its directive are named.
pub fn client(
    certificates: &Arc<Certificates>,
    address: &SourceAddress,
    vault: &Vault,
) -> Result<Tls, String> {
    let name = match (&certificates.name, &address.endpoint) {
        (Some(name), _) => name.as_str(),
        (None, Endpoint::Tcp { name, .. }) => name,
        (None, Endpoint::Unix(_)) => "localhost",
    };
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| format!("\"{name}\" is no name that a certificate can have"))?;
    let trusted = match certificates
        .trusted
        .as_ref()
        .and_then(|path| vault.get(path))
    {
        Some(file) => format!("upsync_ssl_trusted_certificate {}", file.named()),
        None => String::new(),
    };
    Ok(Tls {
        config: config(certificates, vault)?,
        name,
        trusted: trusted.into(),
    })
}

/// What does not depend on the address. It is made anew only when one of the files has changed.
///
/// # Errors
/// As [`client`].
pub fn config(
    certificates: &Arc<Certificates>,
    vault: &Vault,
) -> Result<Arc<ClientConfig>, String> {
    let configs = vault.configs.0.lock();
    let mut configs = configs.unwrap_or_else(PoisonError::into_inner);
    let version = vault.version(certificates);
    if let Some((known, config)) = configs.get(certificates)
        && *known == version
    {
        return config.clone();
    }
    let config = make(certificates, vault).map(Arc::new);
    // Those of a configuration that is gone.
    configs.retain(|certificates, _| Arc::strong_count(certificates) > 1);
    configs.insert(Arc::clone(certificates), (version, config.clone()));
    config
}

fn make(certificates: &Certificates, vault: &Vault) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be had: {error}"))?;
    let builder = match certificates
        .trusted
        .as_ref()
        .filter(|_| certificates.verify)
    {
        Some(path) => builder.with_root_certificates(roots(&file(vault, path)?)?),
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider))),
    };
    let Some((certificate, key)) = &certificates.own else {
        return Ok(builder.with_no_client_auth());
    };
    let (certificate, key) = (file(vault, certificate)?, file(vault, key)?);
    let chain = chain(&certificate)?;
    let secret = PrivateKeyDer::from_pem_slice(&key.content)
        .map_err(|error| failed("certificate key", &key, &error))?;
    let config = builder.with_client_auth_cert(chain, secret);
    config.map_err(|error| failed("certificate key", &key, &error))
}

fn file(vault: &Vault, path: &Path) -> Result<Private, String> {
    let missing = || format!("\"{}\" was not opened", path.display());
    vault.get(path).ok_or_else(missing)
}

fn roots(file: &Private) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(file)? {
        roots
            .add(certificate)
            .map_err(|error| failed("certificate", file, &error))?;
    }
    Ok(roots)
}

fn chain(file: &Private) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_slice_iter(&file.content)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| failed("certificate", file, &error))?;
    match chain.is_empty() {
        true => Err(failed("certificate", file, &"there is none in it")),
        false => Ok(chain),
    }
}

/// nginx's `cannot load certificate`.
fn failed(what: &str, file: &Private, why: &dyn Display) -> String {
    format!("cannot load {what} {}: {why}", file.named())
}

/// An error of a connection in words that say what to do about it.
pub fn told(error: &Error, how: &Tls) -> String {
    let start = "upstream SSL certificate";
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            let trusted = &how.trusted;
            format!("{start} verify error: its issuer is unknown to {trusted}")
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            let name = how.name.to_str();
            format!("{start} does not match \"{name}\", see upsync_ssl_name")
        }
        Error::InvalidCertificate(error) => format!("{start} verify error: {error}"),
        error => format!("SSL connection failed ({error})"),
    }
}

/// `upsync_ssl_verify off`: takes whatever certificate is shown, if it is the one that was signed with.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Place, PrivateFile};

    #[test]
    fn certificates_are_read_anew_only_when_one_of_their_files_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::default();
        let put = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            let private = PrivateFile {
                path: path.clone(),
                place: Place::default(),
            };
            let opened = std::fs::File::open(&path).unwrap();
            vault.put(&private, &opened).unwrap();
            path
        };
        let of = |trusted: &Path| {
            let certificates = Certificates {
                trusted: Some(trusted.to_owned()),
                ..Certificates::default()
            };
            Arc::new(certificates)
        };
        let (one, other) = (of(&put("one", "1")), of(&put("other", "1")));
        let first = config(&one, &vault).unwrap();
        put("token", "a");
        put("other", "2");
        put("one", "1");
        assert!(Arc::ptr_eq(&first, &config(&one, &vault).unwrap()));
        assert!(!Arc::ptr_eq(&first, &config(&other, &vault).unwrap()));
        let alike = Arc::new(Certificates::clone(&one));
        assert!(Arc::ptr_eq(&first, &config(&alike, &vault).unwrap()));
        put("one", "2");
        let second = config(&one, &vault).unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&second, &config(&alike, &vault).unwrap()));

        // What does not fit is said each time.
        let checked = Arc::new(Certificates {
            verify: true,
            ..Certificates::clone(&one)
        });
        for _ in 0..2 {
            let why = config(&checked, &vault).unwrap_err();
            assert!(why.contains("there is none in it"), "{why}");
        }
        assert_eq!(vault.configs.0.lock().unwrap().len(), 3);
        drop((alike, checked));
        put("one", "3");
        config(&one, &vault).unwrap();
        assert_eq!(vault.configs.0.lock().unwrap().len(), 2, "the last is gone");
    }
}
