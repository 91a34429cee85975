//! What a key may do: five words.

use std::fmt;

/// One word. `run` includes `view`; `all` includes everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Reads what anyone who looks may see.
    View,
    /// Queues prompts, uploads, saves.
    Run,
    /// The routes of custom nodes.
    Nodes,
    /// `/metrics`.
    Metrics,
    /// Everything.
    All,
}

impl Scope {
    /// Every scope, in the order in which they are named.
    pub const EACH: [Self; 5] = [Self::View, Self::Run, Self::Nodes, Self::Metrics, Self::All];

    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Run => "run",
            Self::Nodes => "nodes",
            Self::Metrics => "metrics",
            Self::All => "all",
        }
    }

    /// The scope that a word names, as it is written.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::EACH.into_iter().find(|scope| scope.name() == word)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of scopes: what a key may do, or what a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

impl Scopes {
    /// What any valid key may do.
    pub const NONE: Self = Self(0);

    /// Everything.
    pub const ALL: Self = Self(0b1_1111);

    /// Only this scope, as what a request needs.
    #[must_use]
    pub const fn needed(scope: Scope) -> Self {
        Self(scope.bit())
    }

    /// These scopes and all that they include, as what a key may do.
    #[must_use]
    pub fn granted(scopes: impl IntoIterator<Item = Scope>) -> Self {
        let included = |scope| match scope {
            Scope::All => Self::ALL.0,
            Scope::Run => Scope::Run.bit() | Scope::View.bit(),
            _ => Self::needed(scope).0,
        };
        Self(scopes.into_iter().fold(0, |all, scope| all | included(scope)))
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a key with these may do what needs `needed`.
    #[must_use]
    pub const fn cover(self, needed: Self) -> bool {
        needed.0 & !self.0 == 0
    }

    /// The words, without those that another word includes.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let has = move |scope: Scope| self.0 & scope.bit() != 0;
        let is_named = move |scope: &Scope| match scope {
            Scope::All => has(Scope::All),
            Scope::View => has(Scope::View) && !has(Scope::Run) && !has(Scope::All),
            _ => has(*scope) && !has(Scope::All),
        };
        Scope::EACH.into_iter().filter(is_named).map(Scope::name)
    }
}

impl fmt::Display for Scopes {
    /// The words separated by commas, as in a key file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
#[path = "../../tests/units/keys_scopes.rs"]
mod tests;
