//! A weir worker: one thread around one mio poll, HTTP/1.1 in and out, proxying and balancing.

pub mod channel;
pub mod settings;
