//! What is said to upstream servers, and what becomes of their answers.

mod failover;
mod passing;
mod request;
mod response;
