//! The core of comfy-auth-rs: who may talk to a ComfyUI (or any aiohttp) server.
//!
//! The crate decides; it never speaks HTTP. A [`Request`](request::Request) and a [`Question`](request::Question) go into
//! [`decide::decide`], a [`Decision`](decision::Decision) comes out. The Python package around it (`src/py/`, feature
//! `python`) reads aiohttp's request and turns a refusal into a response.
//!
//! | module | what it knows |
//! | --- | --- |
//! | [`secret`] | keys and digests that never print themselves |
//! | [`keys`] | key files: parsing, looking up, reloading |
//! | [`request`] | what may be asked of a request |
//! | [`legible`] | URLs that could forge lines in a log |
//! | [`credential`] | the places in a request where a key may be |
//! | [`session`] | the cookie that stands for a key |
//! | [`validity`] | whether a credential is valid |
//! | [`check`] | what a valid credential must still pass |
//! | [`exempt`] | which routes need no key |
//! | [`allowance`] | what a key may still queue, for its client |
//! | [`decide`] | the numbered rules |
//! | [`prompt`] | what a key may queue, and how |
//! | [`decision`] | who was admitted, or why not |
//! | [`trace`] | the steps of a decision, for the log |
//! | [`audit`] | the log of what was done |
//! | [`state`] | what is remembered from one request to the next |
//! | [`origin`] | whether a browser's request comes from our own pages |
//! | [`visit`] | how a browser came to send a request |
//! | [`link`] | what a link to a page of ours may do |
//! | [`client`] | the client's address behind trusted proxies |
//! | [`ascii`] | text that is only visible ASCII |
//! | [`frames`] | what an unauthenticated WebSocket client may send |
//! | [`profile`] | who a ComfyUI profile belongs to |
//! | [`user_file`] | which scope a ComfyUI user's file needs |
//! | [`date`] | days and moments in UTC |
//! | [`caching`] | what shared caches must not keep |
//! | [`sandbox`] | what browsers must not run |
//! | [`inject`] | a script tag into an HTML page |
//! | [`metrics`] | what is counted, and the text that Prometheus reads |
//! | [`probe`] | devices and their memory |

pub mod allowance;
pub mod ascii;
pub mod audit;
pub mod caching;
pub mod check;
pub mod client;
pub mod credential;
pub mod date;
pub mod decide;
pub mod decision;
pub mod error;
pub mod exempt;
pub mod frames;
pub mod inject;
pub mod keys;
pub mod latest;
pub mod legible;
pub mod link;
pub mod metrics;
pub mod origin;
pub mod patterns;
pub mod probe;
pub mod profile;
pub mod prompt;
pub mod request;
pub mod sandbox;
pub mod scope;
pub mod secret;
pub mod session;
pub mod state;
pub mod trace;
mod tried;
pub mod user_file;
pub mod validity;
pub mod visit;

#[cfg(feature = "python")]
mod py;
