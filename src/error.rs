//! Two kinds of "no": a fault of the configuration, which stops the start, and the refusal of a request.

use std::fmt;
use std::time::Duration;

/// A start-up fault: the server must not start. One line: where, what, what to do; never the key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The setting, by its name in Python (`exempt`): only the caller knows how the operator spelled it.
    pub setting: &'static str,
    /// `FILE` or `FILE:LINE`, where the value came from a file.
    pub place: Option<String>,
    /// What is wrong, and what to do.
    pub detail: String,
}

impl ConfigError {
    /// A fault of the value itself.
    #[must_use]
    pub fn new(setting: &'static str, detail: impl Into<String>) -> Self {
        Self { setting, place: None, detail: detail.into() }
    }

    /// A fault of a key file, or of one line of it.
    #[must_use]
    pub fn in_key_file(place: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { setting: "api_key_file", place: Some(place.into()), detail: detail.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place.as_deref().unwrap_or(self.setting), self.detail)
    }
}

impl std::error::Error for ConfigError {}

/// Why a request was refused. It carries no response: [`Denial::status`] is the one place that knows status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// No credential at all.
    Missing,
    /// At least one credential, none of them valid.
    Invalid,
    /// A valid session cookie, but a request that another site may have made (rule 2).
    CrossOrigin,
    /// An anonymous WebSocket asks for the `clientId` of a live socket that was opened with a credential.
    ClientIdTaken,
    /// The address guessed too often.
    Locked {
        /// Seconds until it may try again, for `Retry-After`.
        retry_after: u64,
    },
}

impl Denial {
    /// The refusal of an address that is locked for `left`, rounded up to whole seconds.
    #[must_use]
    pub fn locked(left: Duration) -> Self {
        Self::Locked { retry_after: left.as_secs() + u64::from(left.subsec_nanos() > 0) }
    }

    /// The HTTP status code (RFC 9110, section 15.5; RFC 6585, section 4).
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Missing | Self::Invalid | Self::ClientIdTaken => 401,
            Self::CrossOrigin => 403,
            Self::Locked { .. } => 429,
        }
    }

    /// The cause as it stands in log lines and JSON bodies; filters match it, so it never changes.
    #[must_use]
    pub fn cause(self) -> &'static str {
        match self {
            Self::Missing => "missing_credential",
            Self::Invalid => "invalid_credential",
            Self::CrossOrigin => "cross_origin",
            Self::ClientIdTaken => "client_id_taken",
            Self::Locked { .. } => "locked",
        }
    }
}
