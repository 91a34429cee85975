//! Who a ComfyUI profile belongs to, for Python.

use std::collections::HashSet;

use pyo3::prelude::*;

use crate::keys::{Scope, Scopes};
use crate::profile;

#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "PyO3 extracts by value")]
pub fn profile_of_user(profiles: Vec<(String, String)>, user: &str) -> Option<String> {
    let pairs = profiles.iter().map(|(id, name)| (id.as_str(), name.as_str()));
    profile::of_user(pairs, user).map(str::to_owned)
}

#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "PyO3 extracts by value")]
pub fn profile_may_be_asked_for(name: Option<&str>, users: HashSet<String>, scope: Vec<String>) -> bool {
    let scopes = Scopes::granted(scope.iter().filter_map(|word| Scope::parse(word)));
    profile::may_be_asked_for(name, |name| users.contains(name), scopes)
}
