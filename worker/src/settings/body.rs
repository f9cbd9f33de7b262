//! How much of a body is held, where, and how fast it goes.

use std::path::PathBuf;
use std::sync::Arc;

use super::Template;

/// A page of memory, in which nginx counts its buffers.
const PAGE: usize = 4096;

/// `client_body_temp_path` or `proxy_temp_path`: a folder for temporary files, and how long the
/// names of the folders below it are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TempFolder {
    /// The folder.
    pub path: PathBuf,
    /// Digits of the names of up to three levels of folders below it.
    pub levels: Vec<usize>,
}

/// Where a request's body is kept while it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientBody {
    /// `client_body_buffer_size`: bytes that stay in memory.
    pub buffer_size: usize,
    /// `client_body_temp_path`
    pub temp: Arc<TempFolder>,
    /// `client_body_in_file_only`
    pub in_file_only: InFileOnly,
}

impl Default for ClientBody {
    fn default() -> Self {
        Self {
            buffer_size: 2 * PAGE,
            temp: Arc::new(TempFolder {
                path: PathBuf::from("client_body_temp"),
                levels: Vec::new(),
            }),
            in_file_only: InFileOnly::Off,
        }
    }
}

/// `client_body_in_file_only`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFileOnly {
    /// A file only for what does not fit in memory, and without a name.
    Off,
    /// Always a file, which goes with the request.
    Clean,
    /// Always a file, which stays.
    On,
}

/// How much of an answer is held for a client that is slower than the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffering {
    /// `proxy_request_buffering`: a request's body is read whole before a server is asked.
    pub request: bool,
    /// `proxy_buffering`
    pub response: bool,
    /// `proxy_buffer_size`: bytes of an answer's head, at most.
    pub head_size: usize,
    /// `proxy_buffers`: number and bytes of each.
    pub buffers: (usize, usize),
    /// `proxy_max_temp_file_size`: bytes; 0 is no file at all.
    pub max_temp_file_size: u64,
    /// `proxy_temp_path`
    pub temp: Arc<TempFolder>,
    /// `proxy_limit_rate`: bytes a second read from a server, a size; 0 is no limit.
    pub limit_rate: Option<Template>,
}

impl Buffering {
    /// Bytes of all `proxy_buffers` together.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.buffers.0.saturating_mul(self.buffers.1)
    }
}

impl Default for Buffering {
    fn default() -> Self {
        Self {
            request: true,
            response: true,
            head_size: PAGE,
            buffers: (8, PAGE),
            max_temp_file_size: 1 << 30,
            temp: Arc::new(TempFolder {
                path: PathBuf::from("proxy_temp"),
                levels: vec![1, 2],
            }),
            limit_rate: None,
        }
    }
}
