//! nginx and weir, each with a configuration of its own folder, ports and servers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use super::peer::Peers;
use crate::support::process::{Process, guarded, read_lossy};
use crate::support::weir::{Setup, Weir};
use crate::support::{PATIENCE, free_port, tool, wait_for};

/// Starts of nginx that may be lost to another process that took a port first.
const ATTEMPTS: usize = 5;

/// What stands around `http {}` for nginx, as `support::weir` has it for weir.
const NGINX: &str = "
daemon off;
master_process off;
error_log logs/error.log info;
pid logs/nginx.pid;
events { worker_connections 2048; }
http {
    access_log logs/access.log;
    client_body_temp_path temp/body;
    proxy_temp_path temp/proxy;
    fastcgi_temp_path temp/fastcgi;
    uwsgi_temp_path temp/uwsgi;
    scgi_temp_path temp/scgi;
";

/// The two that are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Product {
    Nginx,
    Weir,
}

impl Product {
    /// Its name and version as answers show them.
    pub fn version(self) -> &'static str {
        match self {
            Product::Nginx => "nginx/1.22.1",
            Product::Weir => concat!("weir/", env!("CARGO_PKG_VERSION")),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Product::Nginx => "nginx",
            Product::Weir => "weir",
        }
    }
}

/// One of them, running.
pub struct Proxy {
    pub product: Product,
    pub peers: Peers,
    running: Running,
    ports: BTreeMap<String, u16>,
    /// Ports of the client.
    clients: Mutex<Vec<u16>>,
    folder: PathBuf,
    /// Nobody can listen on its port while it is bound.
    _refusing: Socket,
}

enum Running {
    Nginx { process: Process, _folder: TempDir },
    Weir(Box<Weir>),
}

impl Proxy {
    /// Starts it with what is to stand in its `http {}`.
    pub fn start(product: Product, config: &str) -> Proxy {
        let peers = Peers::start();
        let (refusing, refused) = refusing();
        let mut values: BTreeMap<String, String> = peers
            .addresses()
            .map(|(name, address)| (name.to_owned(), address.to_owned()))
            .collect();
        values.insert("DEAD".into(), format!("127.0.0.1:{refused}"));
        let (running, mut ports, folder) = match product {
            Product::Nginx => nginx(config, &values),
            Product::Weir => weir(config, &values),
        };
        for (name, address) in &values {
            if let Some((_, port)) = address.rsplit_once(':').filter(|_| name != "U") {
                ports.insert(name.clone(), port.parse().unwrap());
            }
        }
        Proxy {
            product,
            peers,
            running,
            ports,
            clients: Mutex::default(),
            folder,
            _refusing: refusing,
        }
    }

    pub fn port(&self, name: &str) -> u16 {
        self.ports[name]
    }

    /// Every port that has a name.
    pub fn ports(&self) -> &BTreeMap<String, u16> {
        &self.ports
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A port of the client.
    pub fn know(&self, port: u16) {
        self.clients.lock().unwrap().push(port);
    }

    pub fn is_client(&self, port: u16) -> bool {
        self.clients.lock().unwrap().contains(&port)
    }

    /// Ends it in order, so that its logs are whole.
    pub fn stop(&mut self) {
        let process = match &mut self.running {
            Running::Nginx { process, .. } => process,
            Running::Weir(weir) => weir.process(),
        };
        process.signal(Signal::SIGQUIT);
        process.wait(PATIENCE);
    }

    /// A file below its folder.
    pub fn file(&self, name: &str) -> String {
        read_lossy(&self.folder.join(name))
    }
}

type Started = (Running, BTreeMap<String, u16>, PathBuf);

fn weir(config: &str, values: &BTreeMap<String, String>) -> Started {
    // What is no placeholder here is to be none there.
    let text = fill(config, |name| match name {
        "" => Some("@AT@".to_owned()),
        _ => None,
    });
    let mut setup = Setup::http(&text).workers(1).set("AT", "@");
    for (name, value) in values {
        setup = setup.set(name, value);
    }
    let folder = setup.dir().to_owned();
    let weir = setup.start();
    let ports = ports(config).into_iter();
    let ports = ports.map(|name| (name.clone(), weir.port(&name))).collect();
    (Running::Weir(Box::new(weir)), ports, folder)
}

fn nginx(config: &str, values: &BTreeMap<String, String>) -> Started {
    let own = tempfile::tempdir().unwrap();
    let folder = own.path().to_owned();
    for name in ["", "logs", "temp"] {
        fs::create_dir_all(folder.join(name)).unwrap();
        fs::set_permissions(folder.join(name), Permissions::from_mode(0o777)).unwrap();
    }
    for _ in 0..ATTEMPTS {
        let ports: BTreeMap<_, _> = ports(config)
            .into_iter()
            .map(|name| (name, free_port()))
            .collect();
        let text = fill(&format!("{NGINX}{config}\n}}\n"), |name| match name {
            "DIR" => Some(folder.to_string_lossy().into_owned()),
            _ => ports
                .get(name)
                .map(u16::to_string)
                .or_else(|| values.get(name).cloned()),
        });
        fs::write(folder.join("nginx.conf"), text).unwrap();
        let mut command = guarded(tool("nginx"));
        command
            .arg("-p")
            .arg(&folder)
            .arg("-e")
            .arg("logs/error.log");
        command.arg("-c").arg(folder.join("nginx.conf"));
        let mut process = Process::start(&mut command, &folder.join("output"));
        let listens = wait_for(PATIENCE, "nginx listens or ends", || {
            if process.ended().is_some() {
                return Some(false);
            }
            let mut ports = ports.values();
            let all = ports.all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok());
            all.then_some(true)
        });
        if listens {
            let running = Running::Nginx {
                process,
                _folder: own,
            };
            return (running, ports, folder);
        }
        let output = read_lossy(&folder.join("output"));
        assert!(output.contains("Address already in use"), "nginx: {output}");
    }
    panic!("no free port in {ATTEMPTS} attempts");
}

/// Replaces each `@NAME@`, unless `value` has none; the name of any other `@` is empty.
fn fill(text: &str, mut value: impl FnMut(&str) -> Option<String>) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('@') {
        filled.push_str(before);
        let is_name = |name: &&str| {
            let fits = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
            !name.is_empty() && name.bytes().all(fits)
        };
        let name = after.split_once('@').map(|(name, _)| name).filter(is_name);
        let end = name.map_or(0, |name| name.len() + 1);
        let as_is = || format!("@{}", &after[..end]);
        filled.push_str(&value(name.unwrap_or_default()).unwrap_or_else(as_is));
        rest = &after[end..];
    }
    filled + rest
}

/// The ports that a configuration names.
fn ports(config: &str) -> BTreeSet<String> {
    let mut ports = BTreeSet::new();
    fill(config, |name| {
        if name.starts_with("PORT") {
            ports.insert(name.to_owned());
        }
        None
    });
    ports
}

/// A port at which connections are refused for as long as its socket is there.
fn refusing() -> (Socket, u16) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}
