//! What `try` is given: entries of a key-value store, or the instances of a service.

use std::borrow::Cow;
use std::fmt::Display;
use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use weir_master::settings::Kind;
use weir_master::syncer::decode::{Decoded, Entry, service};

use super::super::text::shown;

/// A file is no longer, in bytes.
const FILE_MAX: u64 = 64 << 20;

/// See the module.
#[derive(Debug)]
pub enum Given {
    /// In key order.
    Entries {
        entries: Vec<Entry<'static>>,
        /// They are all that their folders have.
        whole: bool,
    },
    /// All that the service has.
    Instances(Instances),
}

/// An answer of Consul about a service.
#[derive(Debug)]
pub struct Instances {
    pub service: String,
    /// From its catalog, or with its checks.
    pub kind: Kind,
    text: Vec<u8>,
}

/// What a list may hold: an entry as Consul's API or `consul kv export` has it, with a value in base64;
/// an instance as the catalog has it, or as the health endpoint has it.
#[derive(Deserialize)]
struct Listed {
    #[serde(alias = "Key")]
    key: Option<String>,
    #[serde(alias = "Value")]
    value: Option<String>,
    #[serde(rename = "ServiceName")]
    catalog: Option<String>,
    #[serde(rename = "Service")]
    health: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "Service")]
    name: String,
}

impl Given {
    /// Reads `KEY=VALUE` or a file.
    pub fn read(what: &str) -> Result<Given, String> {
        // A key has no such name, unless there is a file of it.
        if let Some((key, value)) = what.split_once('=')
            && fs::metadata(what).is_err()
        {
            return Ok(Given::Entries {
                entries: vec![entry(key.to_owned(), Some(STANDARD.encode(value)))],
                whole: false,
            });
        }
        let fail = |error: &dyn Display| format!("\"{}\": {error}", shown(what));
        let size = fs::metadata(what).map_err(|error| fail(&error))?.len();
        if size > FILE_MAX {
            return Err(fail(&format!("it has {size} bytes, more than {FILE_MAX}")));
        }
        let text = fs::read(what).map_err(|error| fail(&error))?;
        Given::parse(text).map_err(|error| fail(&error))
    }

    fn parse(text: Vec<u8>) -> Result<Given, String> {
        let list: Vec<Listed> = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        let mut services = list.iter().filter_map(Listed::service);
        if let Some((service, kind)) = services.next() {
            let (service, count) = (service.to_owned(), services.count() + 1);
            let same = |each: &Listed| each.service() == Some((&service, kind));
            if count < list.len() || !list.iter().all(same) {
                return Err("its entries are not all of one service".to_owned());
            }
            return Ok(Given::Instances(Instances {
                service,
                kind,
                text,
            }));
        }
        let entries = list.into_iter().enumerate().map(|(at, listed)| {
            let key = listed.key;
            let key = key.ok_or_else(|| format!("entry {} has neither Key nor service", at + 1))?;
            Ok(entry(key, listed.value))
        });
        let mut entries = entries.collect::<Result<Vec<_>, String>>()?;
        entries.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(Given::Entries {
            entries,
            whole: true,
        })
    }

    /// That no upstream learns from this.
    pub fn unused(&self) -> String {
        match self {
            Given::Entries { .. } => "no upstream has a folder with these keys".to_owned(),
            Given::Instances(Instances { service, kind, .. }) => format!(
                "no upstream learns from {} of service \"{}\"",
                kind.name(),
                shown(service)
            ),
        }
    }
}

impl Listed {
    fn service(&self) -> Option<(&str, Kind)> {
        match (&self.catalog, &self.health) {
            (Some(name), _) => Some((name, Kind::ConsulServices)),
            (None, Some(named)) => Some((&named.name, Kind::ConsulHealth)),
            (None, None) => None,
        }
    }
}

impl Instances {
    /// The servers that they are, by the syncer's own decoder.
    pub fn decode(&self) -> Result<Decoded, String> {
        match self.kind {
            Kind::ConsulHealth => service::health(&self.text),
            _ => service::catalog(&self.text),
        }
    }
}

fn entry(key: String, value: Option<String>) -> Entry<'static> {
    Entry {
        key: Cow::Owned(key),
        value: value.map(Cow::Owned),
        modify_index: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Given, String> {
        Given::parse(text.as_bytes().to_vec())
    }

    #[test]
    fn a_list_says_what_it_is_of() {
        let Ok(Given::Entries { entries, whole }) =
            parse(r#"[{"key": "b", "value": "eA=="}, {"Key": "a", "Value": null}]"#)
        else {
            panic!("they are entries");
        };
        assert!(whole && entries[0].key == "a" && entries[1].value.as_deref() == Some("eA=="));
        for (text, expected) in [
            (
                r#"[{"ServiceName": "web", "ServicePort": 80}]"#,
                Kind::ConsulServices,
            ),
            (
                r#"[{"Node": {}, "Service": {"Service": "web"}}]"#,
                Kind::ConsulHealth,
            ),
        ] {
            let Ok(Given::Instances(instances)) = parse(text) else {
                panic!("they are instances: {text}");
            };
            assert_eq!((&*instances.service, instances.kind), ("web", expected));
        }
    }

    #[test]
    fn what_is_neither_is_an_error() {
        for (text, error) in [
            (
                r#"[{"Key": "a"}, {}]"#,
                "entry 2 has neither Key nor service",
            ),
            (
                r#"[{"ServiceName": "a"}, {"ServiceName": "b"}]"#,
                "not all of one service",
            ),
            (
                r#"[{"ServiceName": "a"}, {"Key": "b"}]"#,
                "not all of one service",
            ),
            ("[", "EOF while parsing"),
            ("{}", "expected a sequence"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(error), "{text}: {said}");
        }
    }
}
