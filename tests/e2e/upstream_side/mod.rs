//! What is said to upstream servers, and what becomes of their answers.

mod connection;
mod failover;
mod instead;
mod passing;
mod request;
mod response;
