//! A browser's cookie jar.

use cookie_store::{Cookie, CookieStore, RawCookie};
use edgesplit_testkit::client::Reply;
use url::Url;

#[derive(Debug, Default)]
pub(crate) struct Jar(CookieStore);

impl Jar {
    /// All cookies, the oldest of each domain first.
    pub(crate) fn cookies(&self) -> Vec<&Cookie<'static>> {
        self.0.iter_unexpired().collect()
    }

    /// The value of a request's `cookie` header.
    pub(crate) fn header(&self, url: &Url) -> String {
        let pairs = self.0.get_request_values(url).map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("; ")
    }

    /// The value of the cookie with this name.
    pub(crate) fn value(&self, name: &str, url: &Url) -> Option<String> {
        self.0.get_request_values(url).find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
    }

    /// Stores the cookies of a response. Returns how many it set or removed.
    pub(crate) fn store(&mut self, reply: &Reply, url: &Url) -> usize {
        let cookies = reply.header_all("set-cookie");
        let count = cookies.len();
        self.0.store_response_cookies(cookies.into_iter().map(|text| RawCookie::parse(text).unwrap()), url);
        count
    }
}
