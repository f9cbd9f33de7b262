//! From the instances of a service to servers: Consul's catalog, and its health checks.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use weir_shm::{Address, Server};

use super::{Collected, Decoded, Fields, address};

/// An instance as `/v1/catalog/service/NAME` lists it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed<'a> {
    #[serde(borrow, default)]
    node: Cow<'a, str>,
    #[serde(borrow, default)]
    address: Cow<'a, str>,
    #[serde(rename = "ServiceID", borrow, default)]
    service_id: Cow<'a, str>,
    #[serde(borrow, default)]
    service_address: Cow<'a, str>,
    #[serde(default)]
    service_port: i64,
    #[serde(borrow, default)]
    service_tags: Option<Vec<Cow<'a, str>>>,
    #[serde(default)]
    modify_index: u64,
}

/// An instance as `/v1/health/service/NAME` lists it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Checked<'a> {
    #[serde(borrow)]
    node: Node<'a>,
    #[serde(borrow)]
    service: Service<'a>,
    #[serde(borrow, default)]
    checks: Option<Vec<Check<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node<'a> {
    #[serde(borrow, default)]
    node: Cow<'a, str>,
    #[serde(borrow, default)]
    address: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service<'a> {
    #[serde(rename = "ID", borrow, default)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    address: Cow<'a, str>,
    #[serde(default)]
    port: i64,
    #[serde(borrow, default)]
    tags: Option<Vec<Cow<'a, str>>>,
    #[serde(default)]
    weights: Option<Weights>,
    #[serde(default)]
    modify_index: u64,
}

/// How much of the traffic an instance is to get; DNS has another one for a check that warns.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    #[serde(default)]
    passing: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check<'a> {
    #[serde(borrow, default)]
    status: Cow<'a, str>,
}

/// What the two lists have in common.
struct Instance<'a> {
    /// `NODE/SERVICE-ID`, which is one alone in a datacenter.
    key: String,
    modify_index: u64,
    address: &'a str,
    port: i64,
    tags: &'a [Cow<'a, str>],
    weight: Option<i64>,
    /// A check of it, or of its node, does not pass.
    failing: bool,
}

/// Decodes an answer for `/v1/catalog/service/NAME`: each instance is a server.
///
/// # Errors
/// It is no list of instances.
pub fn catalog(body: &[u8]) -> Result<Decoded, String> {
    let listed: Vec<Listed> = list(body)?;
    let instances = listed.iter().map(|each| Instance {
        key: format!("{}/{}", each.node, each.service_id),
        modify_index: each.modify_index,
        address: match each.service_address.is_empty() {
            true => &each.address,
            false => &each.service_address,
        },
        port: each.service_port,
        tags: each.service_tags.as_deref().unwrap_or_default(),
        weight: None,
        failing: false,
    });
    Ok(decode(instances.collect()))
}

/// Decodes an answer for `/v1/health/service/NAME`: each instance is a server, down if a check of it
/// does not pass.
///
/// # Errors
/// It is no list of instances.
pub fn health(body: &[u8]) -> Result<Decoded, String> {
    let listed: Vec<Checked> = list(body)?;
    let instances = listed.iter().map(|each| {
        let service = &each.service;
        let checks = each.checks.as_deref().unwrap_or_default();
        Instance {
            key: format!("{}/{}", each.node.node, service.id),
            modify_index: service.modify_index,
            address: match service.address.is_empty() {
                true => &each.node.address,
                false => &service.address,
            },
            port: service.port,
            tags: service.tags.as_deref().unwrap_or_default(),
            weight: service.weights.map(|weights| weights.passing),
            failing: checks.iter().any(|check| check.status != "passing"),
        }
    });
    Ok(decode(instances.collect()))
}

fn list<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<Vec<T>, String> {
    serde_json::from_slice(body).map_err(|error| format!("answered with invalid JSON: {error}"))
}

fn decode(mut instances: Vec<Instance<'_>>) -> Decoded {
    instances.sort_by(|one, other| one.key.cmp(&other.key));
    let mut collected = Collected::with_room_for(instances.len());
    for instance in &instances {
        collected.add(&instance.key, instance.modify_index, server(instance));
    }
    collected.decoded
}

fn server(instance: &Instance<'_>) -> Result<Server, String> {
    let address = place(instance.address, instance.port)?;
    let mut fields = tagged(instance.tags);
    if fields.weight.is_none() {
        fields.weight = instance.weight.map(Value::from);
    }
    let mut server = fields.server(address)?;
    server.down |= instance.failing;
    Ok(server)
}

fn place(host: &str, port: i64) -> Result<Address, String> {
    let text = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    address(&text).map_err(|why| format!("address {} {why}", super::excerpt(&text)))
}

/// What tags say in upsync's form: `weight=5`, `max_fails=3`, `fail_timeout=10s`, `down`, `backup`.
/// Other tags are someone else's.
fn tagged(tags: &[Cow<'_, str>]) -> Fields {
    let mut fields = Fields::default();
    for tag in tags {
        let (name, value) = match tag.split_once('=') {
            Some((name, value)) => (name, Value::from(value)),
            None => (&**tag, Value::from(true)),
        };
        let is_flag = value.is_boolean();
        match (name, is_flag) {
            ("weight", false) => fields.weight = Some(value),
            ("max_fails", false) => fields.max_fails = Some(value),
            ("fail_timeout", false) => fields.fail_timeout = Some(value),
            ("down", true) => fields.down = Some(value),
            ("backup", true) => fields.backup = Some(value),
            _ => {}
        }
    }
    fields
}

#[cfg(test)]
mod tests;
