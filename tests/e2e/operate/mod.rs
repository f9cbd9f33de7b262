//! What an operator sees, waits for and undoes: weirctl on a running weir, the control socket, the
//! state on disk, upsync_log.

mod control;
mod hangs;
mod shows;
mod state;
mod tries;
mod undo;
mod waits;

use serde_json::Value;

use crate::support::consul::Consul;
use crate::support::process::Finished;
use crate::support::weir::{Setup, Weir, in_server};

const PROXY: &str = "location / { proxy_pass http://test; }";

/// An upstream `test` that learns from `folder` of the Consul at `address`.
fn http(address: &str, folder: &str) -> String {
    format!(
        "upsync_log logs/upsync.log; upstream test {{ server 127.0.0.1:11111; \
         upsync {address}/v1/kv/{folder} upsync_interval=200ms; }}\n{}",
        in_server(PROXY)
    )
}

fn shared(folder: &str) -> Setup {
    Setup::http(&http(&Consul::shared().address(), folder))
}

/// What a command said that has to end well.
#[track_caller]
fn told(weir: &Weir, arguments: &[&str]) -> String {
    let done = weir.weirctl(arguments);
    assert_eq!(done.code, Some(0), "{arguments:?}: {done:?}");
    assert!(done.stderr.is_empty(), "{done:?}");
    done.stdout
}

#[track_caller]
fn fails(done: &Finished, code: i32, text: &str) {
    assert_eq!(done.code, Some(code), "{done:?}");
    let said = format!("{}{}", done.stdout, done.stderr);
    assert!(said.contains(text), "{done:?}");
}

fn addresses(weir: &Weir) -> Vec<String> {
    let value = weir.weirctl_json(&["table", "test"]);
    let servers = value["upstreams"][0]["servers"].as_array().unwrap();
    let servers = servers.iter().map(|server| &server["address"]);
    servers.map(|a| a.as_str().unwrap().to_owned()).collect()
}

fn state(weir: &Weir) -> Value {
    let value = weir.weirctl_json(&["table", "test"]);
    value["upstreams"][0]["status"].clone()
}

fn version(weir: &Weir) -> u64 {
    weir.weirctl_json(&["table"])["version"].as_u64().unwrap()
}

#[track_caller]
fn wait_has(weir: &Weir, address: &str) {
    told(weir, &["wait", "--has", &format!("test/{address}")]);
}
