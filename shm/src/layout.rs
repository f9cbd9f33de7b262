//! Where everything lies in the region: sizes and offsets, all in u64 words.

/// How many entries a region has room for; fixed when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Servers of all upstreams together.
    pub servers: u32,
    /// Upstreams.
    pub upstreams: u32,
    /// Workers at one time, retiring ones included.
    pub workers: u32,
    /// Slots of the ring of tables, at least 4.
    pub slots: u32,
}
