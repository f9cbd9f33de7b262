//! What is measured: how many servers, which proxies, which requests, and what weir is to reach.

/// A proxy, and how it is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Weir,
    /// Over three servers, whatever the others have.
    WeirThree,
    /// With its access log on.
    WeirLogged,
    Forwarder,
    Nginx,
    NginxLogged,
    Haproxy,
    /// Moving bodies by splice(2).
    HaproxySplice,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Weir => "weir",
            Kind::WeirThree => "weir (3 servers)",
            Kind::WeirLogged => "weir (log)",
            Kind::Forwarder => "forwarder",
            Kind::Nginx => "nginx",
            Kind::NginxLogged => "nginx (log)",
            Kind::Haproxy => "HAProxy",
            Kind::HaproxySplice => "HAProxy (splice)",
        }
    }
}

/// Requests of one kind, and the most of another proxy's CPU time that weir may take for them.
pub struct Workload {
    pub name: &'static str,
    pub path: &'static str,
    pub connections: u32,
    pub close: bool,
    pub goals: &'static [(Kind, f64)],
}

/// Proxies over the same number of servers, the first of them weir, measured in turn.
pub struct Fleet {
    pub servers: u16,
    pub kinds: &'static [Kind],
    pub workloads: &'static [Workload],
}

const KEEPALIVE: Workload = Workload {
    name: "128 B, keep-alive, 64 connections",
    path: "/128",
    connections: 64,
    close: false,
    goals: &[(Kind::Nginx, 0.80), (Kind::Haproxy, 0.80)],
};

pub const FLEETS: [Fleet; 5] = [
    Fleet {
        servers: 1,
        kinds: &[Kind::Weir, Kind::Forwarder, Kind::Nginx, Kind::Haproxy],
        workloads: &[
            KEEPALIVE,
            Workload {
                name: "128 B, keep-alive, 1 connection",
                connections: 1,
                goals: &[(Kind::Nginx, 0.90)],
                ..KEEPALIVE
            },
            Workload {
                name: "16 KB",
                path: "/16384",
                goals: &[(Kind::Nginx, 0.75)],
                ..KEEPALIVE
            },
            Workload {
                name: "128 B, connection per request",
                close: true,
                goals: &[(Kind::Nginx, 0.90)],
                ..KEEPALIVE
            },
        ],
    },
    Fleet {
        servers: 1,
        kinds: &[
            Kind::Weir,
            Kind::Forwarder,
            Kind::Nginx,
            Kind::Haproxy,
            Kind::HaproxySplice,
        ],
        workloads: &[Workload {
            name: "1 MB",
            path: "/1048576",
            goals: &[(Kind::Nginx, 0.60), (Kind::HaproxySplice, 1.0)],
            ..KEEPALIVE
        }],
    },
    Fleet {
        servers: 1,
        kinds: &[Kind::WeirLogged, Kind::Weir, Kind::NginxLogged, Kind::Nginx],
        workloads: &[Workload {
            name: "128 B, access log on",
            goals: &[],
            ..KEEPALIVE
        }],
    },
    Fleet {
        servers: 1000,
        kinds: &[Kind::Weir, Kind::Forwarder, Kind::Nginx, Kind::Haproxy],
        workloads: &[Workload {
            name: "128 B over 1,000 servers",
            goals: &[(Kind::Nginx, 0.50)],
            ..KEEPALIVE
        }],
    },
    Fleet {
        servers: 10_000,
        kinds: &[
            Kind::Weir,
            Kind::WeirThree,
            Kind::Forwarder,
            Kind::Nginx,
            Kind::Haproxy,
        ],
        workloads: &[Workload {
            name: "128 B over 10,000 servers",
            goals: &[(Kind::Nginx, 0.08), (Kind::WeirThree, 1.3)],
            ..KEEPALIVE
        }],
    },
];

/// Whose system calls and idle connections are counted, and what they may be for weir.
pub const COUNTED: [Kind; 4] = [Kind::Weir, Kind::Forwarder, Kind::Nginx, Kind::Haproxy];
/// System calls a request, those that wait for events apart.
pub const CALLS: [(Workload, f64); 3] = [
    (KEEPALIVE, 4.1),
    (
        Workload {
            name: "16 KB",
            path: "/16384",
            ..KEEPALIVE
        },
        4.2,
    ),
    (
        Workload {
            name: "128 B, connection per request",
            close: true,
            ..KEEPALIVE
        },
        8.3,
    ),
];
/// Bytes of memory that an idle connection may take.
pub const IDLE_BYTES: f64 = 400.0;
