//! The keys a server accepts.

mod attributes;
mod file;
mod gone;
mod jwt;
mod quota;
mod revoked;
mod scopes;
mod set;
mod store;
mod words;
mod write;

pub use attributes::Attributes;
pub use file::{REDACTED, Record, parse_file, parse_flag};
pub use gone::{Gone, gone};
pub use quota::{MOST_PROMPTS, Quota, Rate, Window, prompts_in_words};
pub use revoked::{Unheeded, revocation};
pub use scopes::{Scope, Scopes};
pub use set::{Entry, KeyId, Keys};
pub use store::{FileStatus, KeyStore, Reload, Warning, faults_of_file};
pub use write::write_line;
