//! An address that a source may be asked at.

use super::super::client::{Client, Fault};
use super::super::connection::Tls;
use super::super::tls;
use super::super::vault::Vault;
use crate::settings::Upsync;

/// An address.
#[derive(Debug)]
pub struct Line {
    pub client: Client,
    /// How TLS is spoken with it, by the files of this [`Vault::version`].
    pub tls: Option<(u64, Tls)>,
}

impl Line {
    /// Follows files that have changed; while they do not fit one another, those before stay in use.
    pub fn renew(&mut self, upsync: &Upsync, vault: &Vault) -> Result<(), Fault> {
        let Some(certificates) = &upsync.tls else {
            return Ok(());
        };
        let version = vault.version(certificates);
        let known = self.tls.as_ref().map(|(known, _)| *known);
        if known == Some(version) {
            return Ok(());
        }
        match (
            tls::client(certificates, self.client.address(), vault),
            &mut self.tls,
        ) {
            (Ok(tls), place) => *place = Some((version, tls)),
            (Err(_), Some((known, _))) => *known = version,
            (Err(why), None) => return Err(Fault::Tls(why)),
        }
        Ok(())
    }
}
