//! Effects on a request: rewrites of its path, and the hosts that redirects lead to. The lines are the prefix that is replaced,
//! its replacement, and the request target or the redirect's authority.

use edgesplit_engine::path_rewrite::PathRewrite;
use edgesplit_formats::effect_policy;

/// Takes one input.
pub(crate) fn run(data: &[u8]) {
    let mut lines = data.splitn(3, |&byte| byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let [prefix, with] = [line(), line()].map(|text| String::from_utf8_lossy(text).into_owned());
    let last = line();

    let rewrite = PathRewrite { prefix, with };
    // A replacement that escapes is refused when the config is compiled.
    if rewrite.with.starts_with('/')
        && !rewrite.is_escaping()
        && let Some(Ok(target)) = rewrite.rewritten(last)
    {
        assert!(target.starts_with(rewrite.with.as_bytes()) && !target.starts_with(b"//"), "{target:?}");
        let path = target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
        // The client may have sent dot segments of its own, but those that the rewrite reaches into are new.
        let kept = rewrite.with.matches('/').count();
        let mut segments = path.split(|&byte| byte == b'/').skip(1).take(kept);
        assert!(segments.all(|segment| segment != b".." && segment != b"."), "{target:?}");
    }

    if let Some(host) = std::str::from_utf8(last).ok().and_then(effect_policy::host) {
        let is_odd = |c: char| c.is_ascii_uppercase() || c.is_control() || "/?#\\@ ".contains(c) || !c.is_ascii();
        assert!(!host.is_empty() && !host.contains(is_odd), "{host:?}");
    }
}
