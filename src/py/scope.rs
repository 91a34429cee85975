//! What the table of scopes says of a route, for those who list routes.

use pyo3::prelude::*;

use crate::keys::Scope;
use crate::scope;

#[pyfunction]
#[pyo3(signature = (path, method, *, is_folder = false))]
pub fn scope_of(path: &str, method: &str, is_folder: bool) -> Option<&'static str> {
    let plain = scope::without_api(path);
    let found = match is_folder {
        _ if scope::is_of_the_manager(path) => Some(Scope::All),
        true => scope::of_comfyuis_files(plain, method),
        false => scope::of_comfyui(plain, method),
    };
    found.map(Scope::name)
}
