//! What to do with a link to the page, as Python sees it.

use pyo3::prelude::*;

use super::middleware::SessionCookie;
use super::request::Request;
use crate::check::Context;
use crate::link;

#[pyclass(frozen, get_all, module = "comfy_auth_rs._core")]
pub struct Link {
    cookie: Option<Py<SessionCookie>>,
    offer: Option<Py<LoginOffer>>,
}

#[pyclass(frozen, module = "comfy_auth_rs._core")]
pub struct LoginOffer {
    #[pyo3(get)]
    label: Option<String>,
    #[pyo3(get)]
    by_itself: bool,
    key: zeroize::Zeroizing<String>,
}

#[pymethods]
impl LoginOffer {
    fn expose_secret(&self) -> &str {
        &self.key
    }
}

impl Link {
    /// `None` if the page is shown.
    pub fn follow(
        py: Python<'_>,
        context: &Context<'_, '_, Request<'_, '_>>,
        link: link::Link<'_>,
    ) -> PyResult<Option<Self>> {
        Ok(match link {
            link::Link::Page => None,
            link::Link::GoOn => Some(Self { cookie: None, offer: None }),
            link::Link::LogIn(grant) => {
                let cookie = SessionCookie::issue(&grant, context.request, context.now, false);
                Some(Self { cookie: Some(Py::new(py, cookie)?), offer: None })
            }
            link::Link::Ask { grant, by_itself } => {
                let label = grant.key.label().map(str::to_owned);
                let key = link::key_in(context, grant.key).unwrap_or_default();
                Some(Self { cookie: None, offer: Some(Py::new(py, LoginOffer { label, by_itself, key })?) })
            }
        })
    }
}
