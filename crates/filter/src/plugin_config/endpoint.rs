//! An HTTP service that the filter calls.

use super::names;
use edgesplit_formats::diagnostics::{Node, Problems};
use edgesplit_formats::document;
use edgesplit_formats::document::{Choice, InPlace, Map, Nullable, Object, Text, Then, in_place, strict};

/// The address of a service, and the headers of each call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The cluster, by its name in Envoy's configuration.
    pub cluster: String,
    /// The value of `:authority`.
    pub authority: String,
    /// The value of `:path`, with its query if there is one.
    pub path: String,
    /// The value of `:scheme`.
    pub scheme: Scheme,
    /// More headers, their names in lower case and different from each other. Values may be secrets.
    pub headers: Vec<(String, String)>,
}

/// The scheme of calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Without TLS.
    #[default]
    Http,
    /// For clusters with TLS.
    Https,
}

impl Scheme {
    /// The value of `:scheme`.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

const SCHEME: Choice<Scheme> = Choice(|| [Scheme::Http, Scheme::Https].map(|scheme| (scheme.name(), scheme)).to_vec());

pub(super) const CLUSTER: Text = Text::new(
    "the name of an Envoy cluster: not empty, no control characters",
    "^[^\\x00-\\x1f\\x7f-\\x9f]+$",
    |text| !text.is_empty() && !text.chars().any(char::is_control),
);

const AUTHORITY: Text = Text::new("a host, with or without a port", "^[!\"$-.0->@-\\[\\]-~]+$", names::is_authority);

const PATH: Text =
    Text::new("a path that starts with / and is visible ASCII without #", "^/[!\"$-~]*$", names::is_request_path);

/// Headers that belong to the connection, or are set elsewhere.
const HEADERS_REFUSED: [&str; 8] =
    ["host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "te", "upgrade"];

const HEADERS: Map<Text> = Map {
    name: header_name,
    pattern: "",
    refused: &HEADERS_REFUSED,
    value: Text::secret("a header value: visible ASCII, spaces and tabs", "^[\\t -~]*$", names::is_header_value),
    members_max: usize::MAX,
};

document! {
    /// The members of an endpoint beside its cluster.
    pub(super) struct Address {
        /// The host of requests, with or without a port; the host in the cluster's name, if left out.
        authority: Option<String> = None => Nullable(AUTHORITY),
        /// The path of requests, with or without a query.
        path: String = "/".to_owned() => PATH,
        /// The scheme of requests: `https` for a cluster with TLS.
        scheme: Scheme = Scheme::Http => SCHEME,
        /// More headers of requests, such as authorization.
        headers: Vec<(String, String)> = Vec::new() => HEADERS,
    }
}

document! {
    /// An endpoint as it is written.
    pub(super) struct Service {
        /// The service, by the name of its cluster in Envoy's configuration.
        cluster: String => CLUSTER,
        /// The rest.
        address: Address => in_place(),
    }
}

/// An endpoint in a block of its own.
pub(super) const ENDPOINT: Then<Object<Service>, Endpoint> = Then { kind: strict(), then: Service::endpoint };

/// An endpoint whose members are among others.
pub(super) const ENDPOINT_IN_PLACE: InPlace<Service, Endpoint> = InPlace(Service::endpoint);

impl Service {
    fn endpoint(self, block: Node<'_>, problems: &mut Problems) -> Option<Endpoint> {
        self.address.endpoint(self.cluster, block, problems)
    }
}

impl Address {
    /// The members of an endpoint that mean nothing without its cluster.
    pub(super) const NAMES: [&str; 4] = ["authority", "path", "scheme", "headers"];

    /// The endpoint in the cluster of this name, whose members are in `block`.
    pub(super) fn endpoint(self, cluster: String, block: Node<'_>, problems: &mut Problems) -> Option<Endpoint> {
        let Address { authority, path, scheme, headers } = self;
        // Istio names its clusters `outbound|80||service.namespace.svc.cluster.local`: the host comes last.
        let host = || cluster.rsplit('|').next().filter(|host| names::is_authority(host)).map(str::to_owned);
        let Some(authority) = authority.or_else(host) else {
            let message = "missing; its default, the name of the cluster, is no host";
            problems.error(&block.path.field("authority"), message);
            return None;
        };
        Some(Endpoint { cluster, authority, path, scheme, headers })
    }
}

fn header_name(name: &str) -> Result<String, String> {
    let name = names::check_header_name(name)?;
    let reason = match name.as_str() {
        "host" => "the host is set with `authority`",
        "content-length" => "the length follows from the body",
        name if HEADERS_REFUSED.contains(&name) => "it belongs to the connection, which is the proxy's own",
        _ => return Ok(name),
    };
    Err(format!("the header {name} cannot be set here: {reason}"))
}
