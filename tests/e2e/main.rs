//! End-to-end tests: the built binaries against real clients, servers, Consul, nginx and HAProxy.
//! One binary with a module a subject, so that it is linked once.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod activation;
mod answers;
mod article;
mod buffering;
mod byte_faults;
mod chaos;
mod client_side;
mod command_line;
mod container;
mod containment;
mod crash;
mod demo;
mod demo_endpoint;
mod differential;
mod discover;
mod docs;
mod downloads;
mod dump;
mod error_log;
mod faults;
mod guard;
mod harness;
mod http_basic;
mod http_limits;
mod limits;
mod listening;
mod logs;
mod manager;
mod messages;
mod operate;
mod package;
mod privileges;
mod processes;
mod region;
mod reload;
mod replace;
mod resolver;
mod room;
mod routes;
mod scale;
mod signals;
mod skew;
mod sources;
mod syncer;
mod syscalls;
mod timeouts;
mod upgrade;
mod upstream;
mod upstream_side;
mod variables;
