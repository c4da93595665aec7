//! The site behind the proxy.

use crate::http_url::HttpUrl;
use std::fmt;
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;
use ureq::http::Uri;

/// The certificates of this machine, in the places of common systems.
const CERTIFICATES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// The longest time for a connection that checks whether the origin is there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// An origin by its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    host: String,
    port: u16,
    is_https: bool,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default) = if self.is_https { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == default { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl Origin {
    /// Parses a URL such as `http://localhost:3000`. Without a scheme, it gets `http://`.
    pub(crate) fn parse(text: &str) -> Result<Origin, String> {
        let expected = || format!("expected a URL such as http://localhost:3000, found {text:?}");
        let url: Uri = HttpUrl::parse(text)?.as_str().parse().map_err(|_| expected())?;
        if url.path_and_query().is_some_and(|path| path.as_str() != "/") {
            return Err(format!("expected a URL without a path, found {text:?}: requests keep their own paths"));
        }
        let authority = url.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(expected)?;
        if authority.host().is_empty() {
            return Err(expected());
        }
        let is_https = url.scheme_str() == Some("https");
        let port = authority.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        Ok(Origin { host: authority.host().to_owned(), port, is_https })
    }

    /// The host as an address to connect to: without the brackets of IPv6.
    fn address(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    fn is_local(&self) -> bool {
        let is_loopback = self.address().parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        is_loopback || self.host == "localhost" || self.host.ends_with(".localhost")
    }

    /// Whether something accepts connections there.
    pub(crate) fn is_up(&self) -> bool {
        let addresses = (self.address(), self.port).to_socket_addrs();
        addresses.is_ok_and(|mut all| all.any(|one| TcpStream::connect_timeout(&one, CONNECT_TIMEOUT).is_ok()))
    }

    /// The route to it, in YAML. A site elsewhere expects its own name in the request.
    pub(super) fn route(&self) -> String {
        if self.is_local() {
            "{cluster: origin, timeout: 0s}".to_owned()
        } else {
            format!("{{cluster: origin, timeout: 0s, host_rewrite_literal: {}}}", quoted(&self.host))
        }
    }

    /// Its cluster, in YAML.
    pub(super) fn cluster(&self) -> Result<String, String> {
        let is_address = self.address().parse::<IpAddr>().is_ok();
        let kind = if is_address { "STATIC" } else { "LOGICAL_DNS" };
        let lookup = if is_address { "" } else { "    dns_lookup_family: ALL\n" };
        let tls = if self.is_https { self.tls()? } else { String::new() };
        Ok(format!(
            "  - name: origin
    type: {kind}
{lookup}    connect_timeout: 5s
    load_assignment:
      cluster_name: origin
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}
{tls}",
            quoted(self.address()),
            self.port
        ))
    }

    /// TLS to the origin, whose certificate is checked.
    fn tls(&self) -> Result<String, String> {
        let named = std::env::var("SSL_CERT_FILE").ok().filter(|file| !file.is_empty());
        let file = named.or_else(|| CERTIFICATES.into_iter().find(|file| Path::new(file).is_file()).map(str::to_owned));
        let file = file.ok_or("found no certificates to check an https origin: name a file with SSL_CERT_FILE")?;
        Ok(format!(
            "    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: {}
        auto_sni_san_validation: true
        common_tls_context:
          validation_context: {{trusted_ca: {{filename: {}}}}}
",
            quoted(&self.host),
            quoted(&file)
        ))
    }
}

/// `text` as a string of YAML.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_parsed() {
        for (text, expected) in [
            ("localhost:3000", "http://localhost:3000"),
            ("http://127.0.0.1:80/", "http://127.0.0.1"),
            ("https://shop.example", "https://shop.example"),
            ("http://[::1]:3000", "http://[::1]:3000"),
        ] {
            assert_eq!(Origin::parse(text).map(|origin| origin.to_string()), Ok(expected.to_owned()));
        }
        for text in
            ["", "ftp://a", "http://a/b", "http://", "a b", "http://a:99999", "http://a:0", "http://a:", "http://b@a"]
        {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_origins_elsewhere_get_their_own_host() {
        let route = |text: &str| Origin::parse(text).unwrap().route();
        assert!(!route("http://localhost:3000").contains("host_rewrite"));
        assert!(!route("http://[::1]:3000").contains("host_rewrite"));
        assert!(route("http://shop.example:8080").contains("host_rewrite_literal: \"shop.example\""));
    }
}
