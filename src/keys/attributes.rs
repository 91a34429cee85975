//! What a line of a key file says of its key, after the label: `scope= expires= from= user=`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::scopes::Scopes;

/// What was said of one key. Without attributes it opens everything, for good, from everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// What it may do.
    pub scopes: Scopes,
    /// From when on it is an unknown key, in seconds since 1970 (UTC).
    pub expires: Option<u64>,
    /// From where alone it may be used; empty: from everywhere.
    pub from: Vec<IpNet>,
    /// Whom it is for, as it was written.
    pub user: Option<String>,
}

impl Default for Attributes {
    fn default() -> Self {
        Self { scopes: Scopes::ALL, expires: None, from: Vec::new(), user: None }
    }
}

impl Attributes {
    /// Whether the key may be used from this address; `None`: it is not known.
    #[must_use]
    pub fn admit_from(&self, client: Option<IpAddr>) -> bool {
        let is_named = |client: IpAddr| self.from.iter().any(|net| net.contains(&client.to_canonical()));
        self.from.is_empty() || client.is_some_and(is_named)
    }
}
