//! The core of comfy-auth-rs: who may talk to a ComfyUI (or any aiohttp) server.
//!
//! The crate decides; it never speaks HTTP. Facts about a request go into [`decide::decide`], an
//! [`Identity`](decide::Identity) or a [`Denial`](error::Denial) comes out. The Python package around it (`src/py/`,
//! feature `python`) reads the facts from aiohttp's request and turns a denial into a response.
//!
//! | module | what it knows |
//! | --- | --- |
//! | [`secret`] | keys and digests that never print themselves |
//! | [`keys`] | key files: parsing, looking up, reloading |
//! | [`credential`] | the places in a request where a key can stand |
//! | [`exempt`] | which routes need no key |
//! | [`origin`] | whether a browser's request comes from our own pages |
//! | [`session`] | the cookie that stands for a key |
//! | [`client`] | the client's address behind trusted proxies |
//! | [`throttle`] | addresses that guess |
//! | [`caching`] | what shared caches must not keep |
//! | [`decide`] | the numbered rules over all of these |
//! | [`guarded`] | a request to a neighbour that a proxy asks about |
//! | [`inject`] | a script tag into an HTML page |
//! | [`probe`] | devices and their memory |

pub mod caching;
pub mod client;
pub mod credential;
pub mod decide;
pub mod error;
pub mod exempt;
pub mod guarded;
pub mod inject;
pub mod keys;
pub mod origin;
pub mod probe;
pub mod secret;
pub mod session;
pub mod throttle;

#[cfg(feature = "python")]
mod py;
