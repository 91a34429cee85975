//! What a line of a key file says of its key, after the label: `scope= expires= from= user= prompts= queued=`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::quota::{Quota, Rate, parse_queued};
use super::scopes::{Scope, Scopes};
use crate::date::{parse_end, write_end};
use crate::error::quoted;

/// Every attribute that a line may have.
pub const NAMES: [&str; 6] = ["scope", "expires", "from", "user", "prompts", "queued"];

/// Longest name of a user.
const MAX_USER_LENGTH: usize = 64;

/// The attributes of one key. Without any it may do everything, from anywhere, and never expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// What it may do.
    pub scopes: Scopes,
    /// When it expires and becomes an unknown key, in seconds since 1970 (UTC).
    pub expires: Option<u64>,
    /// The only addresses that may use it, sorted. If empty, any may.
    pub from: Vec<IpNet>,
    /// Who it is for, as written.
    pub user: Option<String>,
    /// How much it may queue.
    pub quota: Quota,
}

impl Default for Attributes {
    fn default() -> Self {
        Self { scopes: Scopes::ALL, expires: None, from: Vec::new(), user: None, quota: Quota::default() }
    }
}

impl Attributes {
    /// Whether the key may be used from this address; `None` if it is unknown.
    #[must_use]
    pub fn admit_from(&self, client: Option<IpAddr>) -> bool {
        let is_named = |client: IpAddr| self.from.iter().any(|net| net.contains(&client.to_canonical()));
        self.from.is_empty() || client.is_some_and(is_named)
    }

    /// Whether it has expired. `now` is in seconds since 1970 (UTC).
    #[must_use]
    pub fn has_expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }

    /// The addresses and blocks of `from`, as written in a line.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.from.iter().map(short).collect()
    }

    /// Reads names and values.
    ///
    /// # Errors
    /// Every unknown name, every bad value, every name that is given twice.
    pub fn parse(words: &[(&str, &str)]) -> Result<Self, Vec<String>> {
        let (mut attributes, mut faults) = (Self::default(), Vec::new());
        for (index, (name, value)) in words.iter().enumerate() {
            let was_there = |(earlier, _): &(&str, &str)| earlier == name;
            if !NAMES.contains(name) {
                faults.push(unknown(name));
            } else if words[..index].iter().any(was_there) {
                faults.push(format!("{name}= is given twice; keep one of the two"));
            } else if let Err(fault) = attributes.read(name, value) {
                faults.push(fault);
            }
        }
        if faults.is_empty() { Ok(attributes) } else { Err(faults) }
    }

    fn read(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "scope" => self.scopes = scopes(value)?,
            "expires" => self.expires = Some(expires(value)?),
            "from" => self.from = from(value)?,
            "user" => self.user = Some(user(value)?),
            "prompts" => self.quota.prompts = Some(Rate::parse(value)?),
            _ => self.quota.queued = Some(parse_queued(value)?),
        }
        Ok(())
    }

    /// Names and values, as written in a line. `parse` reads them back.
    ///
    /// # Errors
    /// Which attribute can't be written.
    pub fn words(&self) -> Result<Vec<(&'static str, String)>, String> {
        let mut words = Vec::new();
        if self.scopes != Scopes::ALL {
            words.push(("scope", self.scopes.to_string()));
        }
        if let Some(unix) = self.expires {
            words.push(("expires", write_end(unix).ok_or("a key expires in the year 9999 at the latest")?));
        }
        if !self.from.is_empty() {
            words.push(("from", self.addresses().join(",")));
        }
        words.extend(self.user.clone().map(|user| ("user", user)));
        words.extend(self.quota.prompts.map(|rate| ("prompts", rate.to_string())));
        words.extend(self.quota.queued.map(|count| ("queued", count.to_string())));
        let borrowed: Vec<_> = words.iter().map(|(name, value)| (*name, value.as_str())).collect();
        match Self::parse(&borrowed) {
            Ok(again) if again == *self => Ok(words),
            Ok(_) => Err("such attributes cannot be written to a key file".to_owned()),
            Err(faults) => Err(faults.join("; ")),
        }
    }
}

fn unknown(name: &str) -> String {
    let lower = name.to_lowercase();
    match NAMES.iter().find(|known| **known == lower) {
        Some(known) => format!("{} is written in lower case: {known}=", quoted(name)),
        None => format!(
            "unknown attribute {}; use scope=, expires=, from=, user=, prompts= or queued=, or put the label in double \
             quotes if the word belongs there: KEY \"LABEL\" scope=view",
            quoted(name),
        ),
    }
}

fn scopes(value: &str) -> Result<Scopes, String> {
    let mut scopes: Vec<Scope> = Vec::new();
    for word in value.split(',') {
        let scope = match (Scope::parse(word), Scope::parse(&word.to_lowercase())) {
            (Some(scope), _) => scope,
            (None, Some(scope)) => {
                return Err(format!("{} is written in lower case: scope={}", quoted(word), scope.name()));
            }
            _ if word.is_empty() => {
                return Err("scope= is empty or has an extra comma; write scope=view,run without spaces".into());
            }
            _ => return Err(format!("unknown scope {}; use view, run, nodes, metrics or all", quoted(word))),
        };
        if scopes.contains(&scope) {
            return Err(format!("scope= names {} twice; keep one of the two", scope.name()));
        }
        scopes.push(scope);
    }
    Ok(Scopes::granted(scopes))
}

fn expires(value: &str) -> Result<u64, String> {
    parse_end(value).ok_or_else(|| {
        format!(
            "expires= takes a date (2027-01-31: until that day ends) or a time (2027-01-31T12:00:00Z), both \
             in UTC, not {}",
            quoted(value),
        )
    })
}

fn from(value: &str) -> Result<Vec<IpNet>, String> {
    let mut blocks: Vec<IpNet> = Vec::new();
    for word in value.split(',') {
        if word.is_empty() {
            return Err("from= is empty or has an extra comma; write from=10.0.0.0/8,192.168.1.5 without \
                        spaces"
                .to_owned());
        }
        let block = block(word)?;
        if blocks.contains(&block) {
            return Err(format!("from= names {} twice; keep one of the two", short(&block)));
        }
        blocks.push(block);
    }
    blocks.sort_unstable();
    Ok(blocks)
}

fn block(word: &str) -> Result<IpNet, String> {
    let parsed = word.parse().or_else(|_| word.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
        format!("from= takes addresses and CIDR blocks such as 10.0.0.0/8 or fd00::/8, not {}", quoted(word))
    })?;
    if parsed.trunc() != parsed {
        let (network, address) = (canonical(parsed.trunc()), canonical(IpNet::from(parsed.addr())));
        return Err(format!(
            "from= has a block that doesn't begin with its first address; write {} for the block, or {} for the one \
             address",
            short(&network),
            short(&address),
        ));
    }
    Ok(canonical(parsed))
}

/// An IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) as the IPv4 address that clients have.
fn canonical(block: IpNet) -> IpNet {
    match block.addr().to_canonical() {
        IpAddr::V4(address) if block.prefix_len() >= 96 => {
            IpNet::new(address.into(), block.prefix_len() - 96).unwrap_or(block)
        }
        _ => block,
    }
}

/// A block of one address, written as that address.
fn short(block: &IpNet) -> String {
    if block.prefix_len() == block.max_prefix_len() { block.addr().to_string() } else { block.to_string() }
}

fn user(value: &str) -> Result<String, String> {
    let is_good = value.len() <= MAX_USER_LENGTH
        && value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !is_good {
        return Err(format!(
            "user= takes at most {MAX_USER_LENGTH} of A-Za-z0-9._- and begins with a letter or digit, unlike {}",
            quoted(value),
        ));
    }
    if value.eq_ignore_ascii_case("default") {
        return Err("user=default is ComfyUI's own user; choose another name".to_owned());
    }
    Ok(value.to_owned())
}

#[cfg(test)]
#[path = "../../tests/units/keys_attributes.rs"]
mod tests;
