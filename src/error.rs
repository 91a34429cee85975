//! Two kinds of "no": a fault of the configuration, which stops the start, and the refusal of a request.

use std::fmt;
use std::time::Duration;

/// A start-up fault: the server must not start. One line: where, what, what to do; never the key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    place: String,
    line: Option<usize>,
    message: String,
}

impl ConfigError {
    /// A fault of a whole source: a flag (`--api-key`) or a file.
    #[must_use]
    pub fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), line: None, message: message.into() }
    }

    /// A fault on one line of a file, counted from 1.
    #[must_use]
    pub fn at_line(place: impl Into<String>, line: usize, message: impl Into<String>) -> Self {
        Self { place: place.into(), line: Some(line), message: message.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.place, self.message),
            None => write!(f, "{}: {}", self.place, self.message),
        }
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
