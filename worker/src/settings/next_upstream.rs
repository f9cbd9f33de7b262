//! `proxy_next_upstream`

/// Failures of a server after which another one is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextUpstream(pub u16);

impl NextUpstream {
    /// None: `off`.
    pub const OFF: Self = Self(0);
    /// `error`
    pub const ERROR: Self = Self(1 << 0);
    /// `timeout`
    pub const TIMEOUT: Self = Self(1 << 1);
    /// `invalid_header`
    pub const INVALID_HEADER: Self = Self(1 << 2);
    /// `non_idempotent`: POST, LOCK and PATCH, too.
    pub const NON_IDEMPOTENT: Self = Self(1 << 3);
    /// `http_500`
    pub const HTTP_500: Self = Self(1 << 4);
    /// `http_502`
    pub const HTTP_502: Self = Self(1 << 5);
    /// `http_503`
    pub const HTTP_503: Self = Self(1 << 6);
    /// `http_504`
    pub const HTTP_504: Self = Self(1 << 7);
    /// `http_403`
    pub const HTTP_403: Self = Self(1 << 8);
    /// `http_404`
    pub const HTTP_404: Self = Self(1 << 9);
    /// `http_429`
    pub const HTTP_429: Self = Self(1 << 10);
    /// nginx's default.
    pub const DEFAULT: Self = Self::ERROR.and(Self::TIMEOUT);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The failure that a server's answer with this status can count as.
    #[must_use]
    pub const fn of_status(status: u16) -> Option<Self> {
        Some(match status {
            500 => Self::HTTP_500,
            502 => Self::HTTP_502,
            503 => Self::HTTP_503,
            504 => Self::HTTP_504,
            403 => Self::HTTP_403,
            404 => Self::HTTP_404,
            429 => Self::HTTP_429,
            _ => return None,
        })
    }
}
