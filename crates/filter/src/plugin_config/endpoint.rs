//! An HTTP service that the filter calls.

use super::block::{self, Block};
use super::names;
use edgesplit_formats::diagnostics::{Node, Path, Problems};

/// Where a call goes, and what it carries each time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The cluster, by its name in Envoy's configuration.
    pub cluster: String,
    /// The value of `:authority`.
    pub authority: String,
    /// The value of `:path`, with its query if there is one.
    pub path: String,
    /// More headers, their names in lower case and different from each other. Values may be secrets.
    pub headers: Vec<(String, String)>,
}

/// The members of an endpoint that mean nothing without its cluster.
pub(super) const DEPENDENT: [&str; 3] = ["authority", "path", "headers"];

/// The endpoint whose members stand in `block` beside others. `cluster` must be among them.
pub(super) fn read(block: &Block<'_>, problems: &mut Problems) -> Option<Endpoint> {
    let cluster = block.required("cluster", "the name of an Envoy cluster", problems, |node, problems| {
        names::text(node, "the name of an Envoy cluster: not empty, no control characters", problems, |text| {
            !text.is_empty() && !text.chars().any(char::is_control)
        })
    });
    let authority = if block.has("authority") {
        block.required("authority", "", problems, |node, problems| {
            names::text(node, "a host, with or without a port", problems, names::is_authority)
        })
    } else {
        // Istio names its clusters `outbound|80||service.namespace.svc.cluster.local`: the host stands last.
        let host = cluster.as_deref().and_then(|cluster| cluster.rsplit('|').next()).map(str::to_owned);
        let fallback = host.filter(|host| names::is_authority(host));
        if fallback.is_none() && cluster.is_some() {
            let message = "missing; the name of the cluster, which is its default, is no host";
            problems.error(&block.path().field("authority"), message);
        }
        fallback
    };
    let path = block.or("path", "/".to_owned(), problems, |node, problems| {
        let expected = "a path that starts with / and is visible ASCII without #";
        names::text(node, expected, problems, names::is_request_path)
    });
    let headers = block.or("headers", Vec::new(), problems, read_headers);
    Some(Endpoint { cluster: cluster?, authority: authority?, path: path?, headers: headers? })
}

fn read_headers(node: Node<'_>, problems: &mut Problems) -> Option<Vec<(String, String)>> {
    let mut seen = Vec::new();
    block::map(node, problems, |name, node, problems| {
        let name = read_header_name(name, node.path, problems);
        if let Some(name) = &name {
            if seen.contains(name) {
                problems.error(node.path, format!("the header {name} is given twice: case means nothing in its name"));
            }
            seen.push(name.clone());
        }
        // Not shown when it is bad: it may be a secret.
        let Some(value) = node.value.as_str() else {
            problems.error(node.path, "expected a string");
            return None;
        };
        if let Err(message) = names::check_header_value(value) {
            problems.error(node.path, message);
            return None;
        }
        Some((name?, value.to_owned()))
    })
}

fn read_header_name(name: &str, path: &Path<'_>, problems: &mut Problems) -> Option<String> {
    let name = match names::check_header_name(name) {
        Ok(name) => name,
        Err(message) => {
            problems.error(path, message);
            return None;
        }
    };
    let reason = match name.as_str() {
        "host" => "the host is set with `authority`",
        "content-length" => "the length is that of the body sent",
        "transfer-encoding" | "connection" | "keep-alive" | "proxy-connection" | "te" | "upgrade" => {
            "it belongs to the connection, which is the proxy's own"
        }
        _ => return Some(name),
    };
    problems.error(path, format!("the header {name} cannot be set here: {reason}"));
    None
}
