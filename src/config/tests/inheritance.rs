//! What inner levels take over, and what they say instead.

use std::time::Duration;

use weir_master::settings::{Guard, Host, SocketOptions};
use weir_worker::settings::{
    AccessFrom, AccessLog, Escape, Handler, InFileOnly, LogName, Part, ProxyTarget, ServerName,
    Variable,
};

use super::{at, built, http, proxy, server};
use crate::config::variable::template;

#[test]
fn values_are_taken_over_level_by_level() {
    let built = http(
        "client_max_body_size 2m; proxy_read_timeout 5s;
         server { send_timeout 7s; client_max_body_size 3m;
           location /a { proxy_pass http://127.0.0.1:1; location /a/b { client_max_body_size 0; } } }",
    );
    assert_eq!(at(&built, "/a").client_max_body_size, 3 << 20);
    assert_eq!(at(&built, "/a/b").client_max_body_size, 0);
    assert_eq!(at(&built, "/a/b").send_timeout, Duration::from_secs(7));
    assert_eq!(proxy(&built, "/a").read_timeout, Duration::from_secs(5));
    assert_eq!(proxy(&built, "/a").send_timeout, Duration::from_secs(60));
    // The handler of a location is its own.
    assert!(matches!(at(&built, "/a/b").handler, Handler::None));
}

#[test]
fn lists_are_taken_over_whole_or_not_at_all() {
    let built = http(
        "add_header A 1; add_header B 2; deny all; proxy_set_header X http;
         server {
           location /own { add_header C 3 always; allow 10.0.0.0/8; proxy_set_header Y own; proxy_pass http://127.0.0.1:1; }
           location /taken { proxy_pass http://127.0.0.1:1; } }",
    );
    let names = |path| -> Vec<_> {
        at(&built, path)
            .add_headers
            .iter()
            .map(|header| header.name.clone())
            .collect()
    };
    assert_eq!(names("/own"), [b"C"]);
    assert_eq!(names("/taken"), [b"A", b"B"]);
    assert!(at(&built, "/own").add_headers[0].always);
    assert_eq!(at(&built, "/own").access.len(), 1);
    assert_eq!(at(&built, "/taken").access[0].from, AccessFrom::All);
    let header = |path, name: &str| {
        let headers = &proxy(&built, path).set_headers;
        headers
            .iter()
            .filter(|(known, _)| known == name.as_bytes())
            .count()
    };
    assert_eq!((header("/own", "X"), header("/own", "Y")), (0, 1));
    assert_eq!((header("/taken", "X"), header("/taken", "Y")), (1, 0));
}

#[test]
fn host_and_framing_are_no_fields_as_others() {
    let built = server(
        "location /a { proxy_pass http://127.0.0.1:81; }
         location /b { proxy_pass http://127.0.0.1:81; proxy_set_header host $http_host; proxy_set_header Connection keep-alive;
            proxy_set_header Content-Length ''; proxy_set_header Transfer-Encoding x; }",
    );
    let plain = proxy(&built, "/a");
    assert_eq!(plain.host, b"127.0.0.1:81");
    assert!(plain.set_host.is_none() && plain.set_headers.is_empty() && !plain.drop_length);
    let set = proxy(&built, "/b");
    assert_eq!(set.set_host, Some(template("$http_host").unwrap()));
    assert!(set.drop_length);
    let connection = (b"Connection".to_vec(), template("keep-alive").unwrap());
    assert_eq!(set.set_headers, [connection]);
}

#[test]
fn upstreams_are_found_by_name_in_any_case_and_order() {
    let built = http(
        "server { location /a { proxy_pass http://Later; } location /b { proxy_pass http://10.0.0.1:81/x; }
                  location /c { proxy_pass http://later/y?z; } location /d { proxy_pass http://10.0.0.1:81; }
                  location /e { proxy_pass http://unix:/run/a.sock:/u; } location /f { proxy_pass http://name.example; }
                  location /g { proxy_pass http://$host/$uri; } }
         upstream later { server 10.0.0.1; } upstream second { server 10.0.0.2; keepalive 0; }",
    );
    let target = |path| match proxy(&built, path).target {
        ProxyTarget::Upstream(index) => index,
        ProxyTarget::Named(_) => panic!("{path}"),
    };
    let names: Vec<_> = built
        .worker
        .upstreams
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "later",
            "second",
            "10.0.0.1:81",
            "unix:/run/a.sock",
            "name.example:80"
        ]
    );
    let masters: Vec<_> = built
        .settings
        .upstreams
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, masters);
    let targets: Vec<_> = ["/a", "/b", "/c", "/d", "/e", "/f"]
        .into_iter()
        .map(target)
        .collect();
    assert_eq!(targets, [0, 2, 0, 2, 3, 4]);
    let keepalive: Vec<_> = built
        .worker
        .upstreams
        .iter()
        .map(|one| one.keepalive)
        .collect();
    assert_eq!(keepalive, [32, 0, 0, 0, 0]);
    assert_eq!(proxy(&built, "/a").uri, None);
    assert_eq!(proxy(&built, "/b").uri.as_deref(), Some(&b"/x"[..]));
    assert_eq!(proxy(&built, "/c").uri.as_deref(), Some(&b"/y?z"[..]));
    let named = |path: &str| (proxy(&built, path).host.clone(), proxy(&built, path).port);
    assert_eq!(named("/e"), (b"localhost".to_vec(), 0));
    assert_eq!(named("/f"), (b"name.example".to_vec(), 80));
    match &proxy(&built, "/g").target {
        ProxyTarget::Named(name) => assert_eq!(name.parts[1], Part::Variable(Variable::Host)),
        ProxyTarget::Upstream(_) => panic!(),
    }
}

#[test]
fn a_return_of_the_server_comes_before_its_locations() {
    let built = server("return 301 https://$host$request_uri; location / { return 200; }");
    assert_eq!(
        built.worker.servers[0]
            .fallback
            .ret
            .as_ref()
            .unwrap()
            .status,
        301
    );
    let built = server("location / { return http://a.example; return 404; }");
    assert_eq!(at(&built, "/").ret.as_ref().unwrap().status, 302);
}

#[test]
fn logs_are_on_unless_they_are_off() {
    let built = http(
        "log_format short '$status ' $uri;
         server { location /default {} location /off { access_log off; access_log logs/x; }
                  location /own { access_log /var/log/own.log short buffer=8k flush=1s; access_log logs/b.log; error_log logs/e.log warn; } }",
    );
    let path = |resource: usize| format!("{:?}", built.settings.resources[resource]);
    let file = |log: &AccessLog| match log.to {
        LogName::File(id) => path(id),
        LogName::Path(_) => panic!("no name with variables"),
    };
    let default = &at(&built, "/default").access_logs;
    assert_eq!(default.len(), 1);
    assert!(file(&default[0]).contains("logs/access.log"));
    assert!(at(&built, "/off").access_logs.is_empty());
    let own = &at(&built, "/own").access_logs;
    assert!(file(&own[0]).contains("/var/log/own.log"));
    assert_eq!(own[0].format.line, template("$status $uri").unwrap());
    assert_eq!(own[1].format, default[0].format);
    assert!(path(at(&built, "/own").error_logs[0].resource).contains("logs/e.log"));
    assert_eq!(at(&built, "/default").error_logs, built.settings.error_logs);
}

#[test]
fn a_file_has_one_buffer_whoever_writes_to_it() {
    let built = http(
        "log_format json escape=json '{' $status '}';
         server { location /a { access_log logs/a buffer=8k flush=1s; }
                  location /b { access_log logs/a JSON; access_log logs/b json if=$arg_log; }
                  location /c { access_log logs/a combined buffer=8k flush=1s; } }"
            .replace("logs/a buffer", "logs/a combined buffer")
            .as_str(),
    );
    let files = &built.worker.logs.files;
    assert_eq!(files.len(), built.settings.resources.len());
    let buffered: Vec<_> = files.iter().filter(|file| file.buffer.is_some()).collect();
    assert_eq!(buffered.len(), 1);
    assert!(buffered[0].path.ends_with("logs/a"));
    let buffer = buffered[0].buffer.unwrap();
    assert_eq!(
        (buffer.size, buffer.flush),
        (8192, Some(Duration::from_secs(1)))
    );
    let logs = &at(&built, "/b").access_logs;
    assert_eq!(
        logs[0].format, logs[1].format,
        "its name in any case of letters"
    );
    assert_eq!(logs[0].format.escape, Escape::Json);
    assert_eq!(logs[0].format.line, template("{$status}").unwrap());
    assert_eq!(logs[1].filter, Some(template("$arg_log").unwrap()));
}

#[test]
fn names_of_logs_may_have_variables_and_a_cache() {
    let built = http(
        "open_log_file_cache max=10 inactive=1m valid=2m min_uses=3;
         server { access_log logs/$host.log; location /a {}
                  location /b { open_log_file_cache off; }
                  location /c { open_log_file_cache max=1; } }",
    );
    let caches = &built.worker.logs.caches;
    let cache = |path: &str| at(&built, path).log_file_cache.map(|place| caches[place]);
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let outer = cache("/a").unwrap();
    assert_eq!((outer.max, outer.min_uses), (10, 3));
    assert_eq!((outer.inactive, outer.valid), (minutes(1), minutes(2)));
    assert_eq!(cache("/b"), None);
    let inner = cache("/c").unwrap();
    assert_eq!((inner.max, inner.min_uses), (1, 1));
    assert_eq!((inner.inactive.as_secs(), inner.valid), (10, minutes(1)));
    let LogName::Path(name) = &at(&built, "/a").access_logs[0].to else {
        panic!("a name with variables");
    };
    let [
        Part::Text(folder),
        Part::Variable(Variable::Host),
        Part::Text(end),
    ] = &name.parts[..]
    else {
        panic!("{name:?}");
    };
    assert!(folder.ends_with(b"logs/") && end == b".log");
}

#[test]
fn a_log_that_nobody_uses_is_not_opened() {
    let built = built("error_log stderr; events {} http { access_log off; server {} }");
    assert_eq!(built.settings.resources.len(), 1);
}

#[test]
fn listeners_gather_the_servers_of_an_address() {
    let built = http(
        "server { listen 80; listen [::]:80 ipv6only=off backlog=64; server_name a.example *.A.example; }
         server { listen 80 default_server reuseport; listen unix:/run/weir.sock; server_name .b.example www.c.*; }",
    );
    let listeners = &built.worker.listeners;
    let shown: Vec<_> = listeners
        .iter()
        .map(|one| (one.address.to_string(), one.servers.clone(), one.default))
        .collect();
    let expected = [
        ("0.0.0.0:80".to_owned(), vec![0, 1], 1),
        ("[::]:80".to_owned(), vec![0], 0),
        ("unix:/run/weir.sock".to_owned(), vec![1], 1),
    ];
    assert_eq!(shown, expected);
    let sockets: Vec<_> = built
        .settings
        .listeners
        .iter()
        .map(|one| (one.backlog, one.ipv6only))
        .collect();
    assert_eq!(sockets, [(511, true), (64, false), (511, true)]);
    let exact = ServerName::Exact("a.example".into());
    assert_eq!(
        built.worker.servers[0].names,
        [exact, ServerName::Leading("a.example".into())]
    );
    let (dotted, trailing) = (
        ServerName::Dotted("b.example".into()),
        ServerName::Trailing("www.c".into()),
    );
    assert_eq!(built.worker.servers[1].names, [dotted, trailing]);
}

#[test]
fn listening_sockets_are_tuned() {
    let built = http(
        "server { listen 80; listen 127.0.0.1:90-92 rcvbuf=8k sndbuf=1m fastopen=0 deferred so_keepalive=30m::10 bind; }
         server { listen 80 so_keepalive=off; listen 127.0.0.1:91; }",
    );
    let ranged = SocketOptions {
        rcvbuf: Some(8 << 10),
        sndbuf: Some(1 << 20),
        keepalive: Some(true),
        keepidle: Some(1800),
        keepintvl: None,
        keepcnt: Some(10),
        fastopen: Some(0),
        deferred: true,
    };
    let off = SocketOptions {
        keepalive: Some(false),
        ..SocketOptions::default()
    };
    let sockets = built.settings.listeners.iter();
    let sockets: Vec<_> = sockets
        .map(|one| (one.address.to_string(), one.options))
        .collect();
    let range = [90, 91, 92].map(|port| (format!("127.0.0.1:{port}"), ranged));
    assert_eq!(sockets[0], ("0.0.0.0:80".to_owned(), off));
    assert_eq!(sockets[1..], range);
}

#[test]
fn main_settings() {
    let built = built(
        "daemon off; master_process OFF; pid run/weir.pid; worker_processes 3; worker_rlimit_nofile 9000;
         worker_shutdown_timeout 1m30s; region /dev/shm/x.region servers=10 slots=8 history=64k; user root;
         events { use epoll; accept_mutex off; multi_accept on; worker_connections 99; } http { upsync_start_timeout 0; upsync_log logs/u.log json; }",
    );
    let settings = &built.settings;
    let log = settings.upsync_log.unwrap();
    assert!(log.json);
    assert!(format!("{:?}", settings.resources[log.resource]).contains("logs/u.log"));
    assert!(!settings.daemon && !settings.master_process && built.worker.multi_accept);
    assert_eq!(
        (settings.worker_processes, settings.worker_connections),
        (3, 99)
    );
    assert_eq!(settings.rlimit_nofile, Some(9000));
    assert_eq!(settings.shutdown_timeout, Some(Duration::from_secs(90)));
    assert_eq!(settings.start_timeout, Duration::ZERO);
    assert_eq!(settings.region.path.to_str(), Some("/dev/shm/x.region"));
    let capacity = settings.region.capacity;
    assert_eq!(
        (
            capacity.servers,
            capacity.upstreams,
            capacity.workers,
            capacity.slots,
            capacity.history
        ),
        (10, 4096, 7, 8, 64 << 10)
    );
}

#[test]
fn the_regions_name_follows_the_pid_file() {
    let region = |pid: &str| {
        let built = built(&format!("pid {pid}; events {{}}"));
        built.settings.region.path.to_string_lossy().into_owned()
    };
    assert_eq!(region("/run/weir.pid"), "/dev/shm/weir-run-weir.pid.region");
    assert!(region("weir.pid").starts_with("/dev/shm/weir-"));
}

#[test]
fn the_region_has_room_for_more_workers_than_are_asked_for() {
    for (processes, workers) in [(1, 5), (2, 6), (8, 16), (64, 80), (1024, 1024)] {
        let built = built(&format!("worker_processes {processes}; events {{}}"));
        let region = built.settings.region;
        assert_eq!(region.capacity.workers, workers, "{processes}");
        assert!(!region.servers_given);
    }
    let given = built("region /dev/shm/x servers=32768; events {}");
    assert!(given.settings.region.servers_given);
}

#[test]
fn a_server_keeps_how_it_is_written_for_when_it_is_not_found() {
    let built = built(
        "events {} http { upstream a { server x:80; server x; } server { location / {
         proxy_pass http://y:81/z; } } }",
    );
    let servers = built
        .settings
        .upstreams
        .iter()
        .flat_map(|upstream| &upstream.servers);
    let written: Vec<_> = servers
        .map(|server| match &server.host {
            Host::Name { written, .. } => written.as_str(),
            Host::Address(address) => panic!("{address}"),
        })
        .collect();
    assert_eq!(written, ["x:80", "x", "y"]);
}

#[test]
fn sizes_of_bodies_and_their_folders_are_nginxs() {
    let built = http(
        "proxy_buffers 4 16k; client_body_temp_path /body 1 2; limit_rate 10k;
         server {
           location /a { proxy_pass http://127.0.0.1:1; }
           location /b { proxy_pass http://127.0.0.1:1; proxy_buffering off; proxy_request_buffering off;
             proxy_buffer_size 8k; proxy_max_temp_file_size 0; proxy_temp_path own/ 3;
             client_body_in_file_only CLEAN; client_body_buffer_size 1m; proxy_limit_rate $arg_rate; } }",
    );
    let (a, b) = (
        &proxy(&built, "/a").buffering,
        &proxy(&built, "/b").buffering,
    );
    assert!(a.request && a.response && !b.request && !b.response);
    assert_eq!((a.head_size, a.memory()), (4096, 64 << 10));
    assert_eq!((b.head_size, b.memory()), (8192, 64 << 10));
    assert_eq!((a.max_temp_file_size, b.max_temp_file_size), (1 << 30, 0));
    assert!(a.temp.path.ends_with("proxy_temp"), "{:?}", a.temp);
    assert_eq!(a.temp.levels, [1, 2]);
    assert!(b.temp.path.ends_with("own"), "{:?}", b.temp);
    assert_eq!(b.temp.levels, [3]);
    assert_eq!((&a.limit_rate, b.limit_rate.is_some()), (&None, true));
    let (a, b) = (at(&built, "/a"), at(&built, "/b"));
    assert_eq!(
        (a.client_body.buffer_size, b.client_body.buffer_size),
        (8192, 1 << 20)
    );
    assert_eq!(a.client_body.in_file_only, InFileOnly::Off);
    assert_eq!(b.client_body.in_file_only, InFileOnly::Clean);
    assert_eq!(b.client_body.temp.path.to_str(), Some("/body"));
    assert_eq!(b.limit_rate, Some(template("10k").unwrap()));
    // Each folder once: the client's bodies', and two for those of servers.
    assert_eq!(built.settings.temp_folders.len(), 3);
    assert!(
        server("location / { return 200; }")
            .settings
            .temp_folders
            .is_empty()
    );
}

#[test]
fn the_drain_timeout_of_an_upstream_is_its_own_or_that_of_http() {
    let built = built(
        "events {} http { upsync_drain_timeout 30s;
         upstream a { server 127.0.0.1; }
         upstream b { server 127.0.0.1; upsync_drain_timeout 0; }
         upstream c { server 127.0.0.1; upsync_drain_timeout off; }
         server { location / { proxy_pass http://127.0.0.2:8000; } } }",
    );
    let timeouts: Vec<_> = built
        .worker
        .upstreams
        .iter()
        .map(|upstream| upstream.drain_timeout.map(|timeout| timeout.as_secs()))
        .collect();
    assert_eq!(timeouts, [Some(30), Some(0), None, Some(30)]);
}

#[test]
fn an_upstream_takes_the_guard_of_http_over_as_a_whole() {
    let guards = |http: &str, upstream: &str| {
        let text = format!("{http} upstream u {{ server 127.0.0.1:1; {upstream} }}");
        self::http(&text).settings.upstreams[0].guard
    };
    let guard = |share, servers| Some(Guard { share, servers });
    assert_eq!(guards("", ""), guard(50, 3));
    assert_eq!(guards("upsync_guard off;", ""), None);
    assert_eq!(
        guards("upsync_guard on share=10% servers=9;", ""),
        guard(10, 9)
    );
    let own = "upsync_guard on servers=1;";
    assert_eq!(guards("upsync_guard on share=10%;", own), guard(50, 1));
    assert_eq!(guards("upsync_guard off;", own), guard(50, 1));
    assert_eq!(guards("", "upsync_guard off;"), None);
}
