//! A request as `evaluate` reads it from a line, and its input for decisions.

use edgesplit_engine::condition::request_budget;
use edgesplit_engine::decide::DecisionInput;
use edgesplit_filter::http::headers::HeaderBlock;
use edgesplit_filter::plugin_config::{self, PluginConfig, Visitor};
use edgesplit_filter::request_context::own_cookies::sticky_buckets;
use edgesplit_filter::request_context::preview::{NotValid, Preview};
use edgesplit_filter::request_context::{self, RequestContext};
use edgesplit_formats::diagnostics::{Node, Path, Problems, Severity};
use serde_json::{Map, Value};
use std::cell::OnceCell;

/// The preview link of a request, if there is one on a path on which the filter acts.
pub(super) type Link<'a> = Option<&'a Result<Preview, NotValid>>;

/// Reads a request as the filter does, and passes it to `decide` with the input of decisions.
pub(super) fn with_input<T>(
    request: &Request<'_>,
    plugin: Option<&PluginConfig>,
    now_ms: i64,
    decide: impl FnOnce(&RequestContext<'_>, &DecisionInput<'_>, Link<'_>) -> T,
) -> T {
    let (default_visitor, default_request) = (Visitor::default(), plugin_config::Request::default());
    let visitor = plugin.map_or(&default_visitor, |plugin| &plugin.visitor);
    let config = plugin.map_or(&default_request, |plugin| &plugin.request);
    let headers = request.headers.map();
    let mut context = RequestContext::new(&headers, visitor);
    context.typed = request.attributes;
    let token = request_context::preview_token(&context, config);
    let unowned_target = request_context::target_without_owned(&context, config);
    context.retarget(unowned_target.as_deref().unwrap_or(context.target));
    let text = OnceCell::new();
    context.id = request.id.as_deref().or_else(|| request_context::id(&context, visitor, &text));

    let steps = request_budget();
    let mut input = DecisionInput::unrestricted(now_ms, &steps);
    if let Some(plugin) = plugin {
        input.path_included = request_context::is_included(&plugin.paths, context.path);
        input.consent = request_context::has_consent(&context, visitor);
        input.bot = request_context::is_bot(&context, visitor);
    }
    let token = token.filter(|_| input.path_included);
    let link = token.and_then(|token| request_context::preview(&token, &context, config, now_ms));
    input.preview = match &link {
        Some(Ok(preview)) => &preview.pairs,
        Some(Err(_)) | None => &[],
    };
    let sticky = config.sticky.as_ref().map(|cookie| sticky_buckets(&context, cookie)).unwrap_or_default();
    input.sticky = sticky.buckets();
    decide(&context, &input, link.as_ref())
}

/// A request, as read from a line.
pub(crate) struct Request<'a> {
    pub(crate) id: Option<String>,
    pub(crate) attributes: Option<&'a Value>,
    pub(crate) headers: HeaderBlock,
    /// Whether the line has a host, a path and a method.
    pub(super) has_host: bool,
    pub(crate) has_path: bool,
    pub(super) has_method: bool,
}

impl<'a> Request<'a> {
    /// Reads the request in `value`. The error lists its problems.
    pub(crate) fn read(value: &'a Value) -> Result<Request<'a>, String> {
        let mut problems = Problems::new();
        match Request::read_node(Node::root(value), &mut problems) {
            Some(request) if problems.errors() == 0 => Ok(request),
            _ => Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
        }
    }

    fn read_node(node: Node<'a>, problems: &mut Problems) -> Option<Request<'a>> {
        let object = node.object(problems)?;
        let known = ["id", "attributes", "host", "path", "method", "headers", "cookies"];
        node.unknown_fields(&known, Severity::Error, problems);
        let text = |name: &str, problems: &mut Problems| {
            let value = object.get(name).filter(|value| !value.is_null())?;
            Node { value, path: &node.path.field(name) }.string(problems).map(str::to_owned)
        };
        let id = text("id", problems);
        let [host, path, method] = ["host", "path", "method"].map(|name| text(name, problems));
        let member = |name: &str, problems: &mut Problems| {
            let value = object.get(name).filter(|value| !value.is_null())?;
            Node { value, path: &node.path.field(name) }.object(problems);
            value.as_object()
        };
        member("attributes", problems);
        let [has_host, has_path, has_method] = [host.is_some(), path.is_some(), method.is_some()];
        let mut pairs = vec![
            (":method".to_owned(), method.unwrap_or_else(|| "GET".to_owned())),
            (":path".to_owned(), path.unwrap_or_else(|| "/".to_owned())),
            (":authority".to_owned(), host.unwrap_or_default()),
        ];
        for (name, value) in members("headers", member("headers", problems), problems) {
            pairs.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        for (name, value) in members("cookies", member("cookies", problems), problems) {
            pairs.push(("cookie".to_owned(), format!("{name}={value}")));
        }
        Some(Request {
            id,
            attributes: object.get("attributes").filter(|value| value.is_object()),
            headers: HeaderBlock::from_pairs(&pairs),
            has_host,
            has_path,
            has_method,
        })
    }
}

/// The members of `object`, the member `name` of a request, as texts.
fn members<'a>(name: &str, object: Option<&'a Map<String, Value>>, problems: &mut Problems) -> Vec<(&'a str, &'a str)> {
    let root = Path::Root;
    let path = root.field(name);
    let members = object.into_iter().flatten();
    let text = members.filter_map(|(member, value)| {
        Node { value, path: &path.field(member) }.string(problems)?;
        Some((member.as_str(), value.as_str()?))
    });
    text.collect()
}
