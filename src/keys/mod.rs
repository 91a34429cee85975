//! The keys a server accepts.

mod file;
mod jwt;
mod set;
mod store;

pub use file::{REDACTED, Record, parse_file, parse_flag};
pub use set::{Entry, KeyId, Keys};
pub use store::{KeyStore, Reload, Warning, faults_of_file};
