//! `edgesplit evaluate`: requests in, decisions out, a line each.

mod flags;

pub(super) use flags::decide as decide_flags;

use super::{PROBLEMS, WELL, options, read, tell};
use edgesplit_engine::assignments;
use edgesplit_engine::condition::request_budget;
use edgesplit_engine::decide::{Visit, decide};
use edgesplit_engine::reason::Reason;
use edgesplit_engine::snapshot::{Choice, Snapshot};
use edgesplit_filter::http::headers::HeaderMap;
use edgesplit_filter::plugin_config::{self, PluginConfig, Visitor};
use edgesplit_filter::visit::preview::{NotValid, Preview};
use edgesplit_filter::visit::sticky::StickyBuckets;
use edgesplit_filter::visit::{self, RequestView};
use edgesplit_formats::FormatRef;
use edgesplit_formats::diagnostics::{Node, Path, Problems, Severity};
use serde_json::{Map, Value, json};
use std::io::{BufRead, BufWriter, ErrorKind, Write};

pub(super) fn run(
    format: Option<FormatRef>,
    config: &std::path::Path,
    plugin: Option<&std::path::Path>,
    now_ms: Option<i64>,
) -> Result<u8, String> {
    let plugin = match plugin {
        None => None,
        Some(file) => match PluginConfig::parse(&read(file)?) {
            Ok(plugin) => Some(plugin),
            Err(problems) => {
                tell(file, &problems);
                return Ok(PROBLEMS);
            }
        },
    };
    let compiled = edgesplit_formats::compile_bytes(&read(config)?, &options(format, plugin.as_ref()));
    // A disabled experiment is told, but does not spoil the answers for the others.
    tell(config, &compiled.problems);
    let Some(snapshot) = compiled.snapshot else { return Ok(PROBLEMS) };
    let mut wrong = false;
    let now_ms = now_ms.unwrap_or_else(super::now_ms);
    let evaluation = Evaluation { snapshot: &snapshot, plugin: plugin.as_ref(), now_ms };

    let mut out = BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().split(b'\n') {
        let line = line.map_err(|error| format!("cannot read standard input: {error}"))?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let result = evaluation.line(&line).unwrap_or_else(|error| {
            wrong = true;
            json!({ "error": error })
        });
        match writeln!(out, "{result}").and_then(|()| out.flush()) {
            // Who has stopped reading has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            written => written.map_err(|error| format!("cannot write standard output: {error}"))?,
        }
    }
    Ok(if wrong { PROBLEMS } else { WELL })
}

/// The answer to one line.
pub(super) fn line(
    snapshot: &Snapshot,
    plugin: Option<&PluginConfig>,
    now_ms: i64,
    line: &[u8],
) -> Result<Value, String> {
    Evaluation { snapshot, plugin, now_ms }.line(line)
}

struct Evaluation<'a> {
    snapshot: &'a Snapshot,
    plugin: Option<&'a PluginConfig>,
    now_ms: i64,
}

impl Evaluation<'_> {
    fn line(&self, line: &[u8]) -> Result<Value, String> {
        let value: Value = serde_json::from_slice(line).map_err(|error| format!("not JSON: {error}"))?;
        let mut problems = Problems::new();
        let request = Request::read(Node::root(&value), &mut problems);
        match request {
            Some(request) if problems.errors() == 0 => Ok(self.decide(&request)),
            _ => Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
        }
    }

    fn decide(&self, request: &Request<'_>) -> Value {
        with_visit(request, self.plugin, self.now_ms, |view, visit, link| {
            if let Some(rules) = self.snapshot.flag_evaluator.as_deref() {
                let keeps_sticky = self.plugin.is_some_and(|plugin| plugin.request.sticky.is_some());
                return flags::decide(self.snapshot, rules, request, view, visit, link, keeps_sticky);
            }
            let (mut choices, mut decisions, steps) = (Vec::new(), Vec::new(), request_budget());
            for (position, experiment) in self.snapshot.experiments.iter().enumerate() {
                let decision = decide(self.snapshot, experiment, &view.line(), visit, view, &steps);
                let choice = decision.variant.map(|variant| Choice { experiment: position, variant });
                choices.extend(choice);
                let variant =
                    choice.and_then(|choice| self.snapshot.choice(choice)).map(|(_, variant)| variant.key.as_str());
                decisions.push((experiment.position, shown(&experiment.key, variant, decision.reason)));
            }
            for disabled in &self.snapshot.disabled {
                let shown = disabled.key.as_ref().map(|key| shown(key, None, Reason::Disabled));
                decisions.extend(shown.map(|shown| (disabled.position, shown)));
            }
            decisions.sort_by_key(|(position, _)| *position);
            let (assignments, cache_key) = texts(self.snapshot, &mut choices, link);
            json!({
                "decisions": decisions.into_iter().map(|(_, shown)| shown).collect::<Vec<_>>(),
                "assignments": assignments,
                "cache_key": cache_key,
            })
        })
    }
}

/// What became of a preview link's token; `None`: there is none, or the filter does not act here.
pub(super) type Link<'a> = Option<&'a Result<Preview, NotValid>>;

/// Reads a request as the filter would, and hands on what decisions need of it.
pub(super) fn with_visit<T>(
    request: &Request<'_>,
    plugin: Option<&PluginConfig>,
    now_ms: i64,
    decide: impl FnOnce(&RequestView<'_>, &Visit<'_>, Link<'_>) -> T,
) -> T {
    let (default_visitor, default_rules) = (Visitor::default(), plugin_config::Request::default());
    let visitor = plugin.map_or(&default_visitor, |plugin| &plugin.visitor);
    let rules = plugin.map_or(&default_rules, |plugin| &plugin.request);
    let mut view = RequestView::new(&request.headers, visitor);
    view.typed = request.attributes;
    let token = visit::preview_token(&view, rules);
    let unowned_target = visit::target_without_owned(&view, rules);
    view.retarget(unowned_target.as_deref().unwrap_or(view.target));
    let sent = visit::id(&view, visitor);
    view.id = request.id.as_deref().map(str::as_bytes).or(sent.as_deref());

    let mut visit = match plugin {
        Some(plugin) => visit::visit(&view, visitor, visit::is_included(&plugin.paths, view.path), now_ms),
        None => Visit::unrestricted(now_ms),
    };
    let link = token.filter(|_| visit.path_included).and_then(|token| visit::preview(&token, rules, now_ms));
    visit.preview = match &link {
        Some(Ok(preview)) => &preview.pairs,
        Some(Err(_)) | None => &[],
    };
    let sticky = visit::sticky_value(&view, rules).map(StickyBuckets::parse).unwrap_or_default();
    visit.sticky = sticky.buckets();
    decide(&view, &visit, link.as_ref())
}

/// The assignments and the cache key of these choices. The filter puts a random number behind the mark of a preview.
pub(super) fn texts(snapshot: &Snapshot, choices: &mut [Choice], link: Link<'_>) -> (String, String) {
    let (assignments, mut cache_key) = assignments::texts(snapshot, choices);
    if let Some(Ok(_)) = link {
        assignments::mark_preview(&mut cache_key, None);
    }
    (assignments, cache_key)
}

/// A decision as it is printed. In the native format an experiment has no key beside its own, and a variant no value.
fn shown(key: &str, variant: Option<&str>, reason: Reason) -> Value {
    json!({
        "key": key,
        "experiment": null,
        "variant": variant,
        "value": null,
        "reason": reason.name(),
        "in_experiment": variant.is_some(),
    })
}

/// A request as it stands on a line.
pub(super) struct Request<'a> {
    pub(super) id: Option<String>,
    pub(super) attributes: Option<&'a Value>,
    pub(super) headers: HeaderMap,
    /// Whether the line says which host, path and method it is.
    pub(super) has_host: bool,
    pub(super) has_path: bool,
    pub(super) has_method: bool,
}

impl<'a> Request<'a> {
    pub(super) fn read(node: Node<'a>, problems: &mut Problems) -> Option<Request<'a>> {
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
            headers: HeaderMap::from_pairs(&pairs),
            has_host,
            has_path,
            has_method,
        })
    }
}

/// The members of `object`, which is the member `name` of a request, as texts.
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
