//! `edgesplit preview`: the links that it prints, and wrong arguments.

use super::{NOW, edgesplit, edgesplit_with, experiments, file};
use edgesplit_filter::request_context::preview::{self, NotValid};
use serde_json::json;

const SECRET: &str = "correct horse battery staple";
const NOW_MS: i64 = 1_796_083_200_000;

#[test]
fn preview_reads_the_secret_from_every_source() {
    let secret_file = file("preview-secret", &format!("{SECRET}\n"));
    let plugin = file(
        "preview-plugin.json",
        &json!({"experiments": {"inline": {}}, "request": {"preview": {"parameter": "show", "secret": SECRET}}})
            .to_string(),
    );
    let rest = ["--expires", "2h", "--now", NOW, "checkout-button=green", "nav=mega"];
    for (options, variables) in [
        (&["--secret", SECRET][..], &[][..]),
        (&["--secret-file", &secret_file], &[]),
        (&["--plugin", &plugin], &[]),
        (&[], &[("EDGESPLIT_PREVIEW_SECRET", SECRET)]),
        // An option takes precedence over the variable.
        (&["--secret", SECRET], &[("EDGESPLIT_PREVIEW_SECRET", "another")]),
    ] {
        let printed = edgesplit_with(&[&["preview"], options, &rest].concat(), variables);
        assert_eq!((printed.code, printed.err.as_str()), (0, "valid until 2026-12-01T02:00:00Z\n"), "{options:?}");
        let token = printed.out.trim_end();
        let found = preview::check(SECRET.as_bytes(), token.as_bytes(), b"h", NOW_MS + 7_199_999).unwrap();
        assert_eq!((found.variant("checkout-button"), found.variant("nav")), (Some("green"), Some("mega")));
        let late = preview::check(SECRET.as_bytes(), token.as_bytes(), b"h", NOW_MS + 7_200_000);
        assert_eq!(late, Err(NotValid::Expired));
        assert!(!printed.err.contains(SECRET));
    }
    let printed = edgesplit(
        &[&["preview", "--plugin", &plugin, "--url", "https://shop.example/cart?a=1#top"][..], &rest].concat(),
    );
    assert!(printed.out.starts_with("https://shop.example/cart?a=1&show=1~1796090400~checkout-button.green~nav.mega~"));
    assert!(printed.out.ends_with("#top\n"), "{}", printed.out);
    let config = file("preview-experiments.json", &experiments());
    for (options, code, message) in [
        (&["--secret", "fifteen bytes..", "nav=mega"][..], 2, "fewer than 16 bytes"),
        (&["--secret", SECRET, "--config", &config, "nav=mega"], 0, "valid until"),
        (&["--secret", SECRET, "--config", &config, "nav=huge"], 1, "no variant \"huge\"; it has plain, mega"),
        (&["--secret", SECRET, "--config", &config, "nav-2=mega"], 1, "no experiment \"nav-2\""),
        (&["nav=mega"], 2, "no secret"),
        (&["--secret", "", "nav=mega"], 2, "fewer than 16 bytes"),
        (&["--secret", SECRET, "--host", "a/b", "nav=mega"], 2, "expected a host"),
        (&["--secret", SECRET], 2, "required"),
        (&["--secret", SECRET, "nav"], 2, "EXPERIMENT=VARIANT"),
        (&["--secret", SECRET, "nav=mega", "nav=plain"], 2, "twice"),
        (&["--secret", SECRET, "--plugin", &plugin, "nav=mega"], 2, "cannot be used with"),
        (&["--secret", SECRET, "--url", "shop", "nav=mega"], 2, "expected a URL"),
    ] {
        let printed = edgesplit(&[&["preview", "--expires", "2h", "--now", NOW], options].concat());
        assert_eq!(printed.code, code, "{options:?}: {}", printed.err);
        assert!(printed.err.contains(message), "{options:?}: {}", printed.err);
        assert_eq!(printed.out.is_empty(), code != 0, "{options:?}");
    }
}
