//! Bots, recognized by their user agent. HTTP libraries are not in the list, since services call each other with them.

/// How many patterns a configuration may have.
pub const PATTERNS_MAX: usize = 256;

/// The longest pattern.
pub const PATTERN_BYTES_MAX: usize = 128;

/// How much of a user agent is compared: real ones are shorter.
pub const USER_AGENT_BYTES_MAX: usize = 1_024;

/// The entry of a configured list that stands for the patterns here.
pub const BUILTIN: &str = "builtin";

/// Parts of the user agents of bots, in lower case. Most have "bot" in their name.
const PATTERNS: &[&str] = &[
    "anthropic-ai",
    "archiver",
    "bingpreview",
    "bot",
    "chatgpt-user",
    "chrome-lighthouse",
    "claude-user",
    "claude-web",
    "cloudflare-alwaysonline",
    "cohere-ai",
    "crawl",
    "datadogsynthetics",
    "embedly",
    "facebookcatalog",
    "facebookexternalhit",
    "feedfetcher",
    "google-inspectiontool",
    "google-read-aloud",
    "googleother",
    "gtmetrix",
    "headlesschrome",
    "mediapartners-google",
    "meta-externalagent",
    "meta-externalfetcher",
    "newrelicpinger",
    "pagespeed",
    "perplexity-user",
    "phantomjs",
    "pingdom",
    "pinterest/0",
    "quora link preview",
    "scrapy",
    "site24x7",
    "skypeuripreview",
    "slurp",
    "spider",
    "statuscake",
    "vkshare",
    "w3c_validator",
    "whatsapp/",
    "yandeximages",
];

/// Pairs of letters. The case does not matter: bit `b % 32` of entry `a % 32` stands for `a` and `b`. Other bytes count as the
/// letters with the same lowest bits.
#[derive(Debug, Clone, Copy)]
struct Pairs([u32; 32]);

impl Pairs {
    /// The pairs that begin at the bytes `places` of a pattern.
    #[allow(
        clippy::indexing_slicing,
        reason = "computed when the crate is compiled, which fails for a pattern of less than three bytes"
    )]
    const fn at(places: &[usize]) -> Pairs {
        let mut pairs = [0; 32];
        let mut number = 0;
        while number < PATTERNS.len() * places.len() {
            let (pattern, at) = (PATTERNS[number / places.len()].as_bytes(), places[number % places.len()]);
            pairs[(pattern[at] % 32) as usize] |= 1 << (pattern[at + 1] % 32);
            number += 1;
        }
        Pairs(pairs)
    }

    #[inline(always)]
    fn contains(&self, [first, second]: [u8; 2]) -> bool {
        self.0.get(usize::from(first % 32)).is_some_and(|seconds| seconds >> (second % 32) & 1 == 1)
    }
}

/// The first two bytes of all patterns.
const FIRST: Pairs = Pairs::at(&[0]);

/// The second and the third byte of all patterns.
const SECOND: Pairs = Pairs::at(&[1]);

/// Both. Every pattern has one of its pairs at an even place of a user agent, wherever it begins.
const EITHER: Pairs = Pairs::at(&[0, 1]);

/// A telephone maker's name that ends like a bot's.
const NOT_A_BOT: &[u8] = b"cubot";

/// The patterns that identify bots: those here, those of a configuration, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BotPatterns {
    builtin: bool,
    /// In lower case.
    own: Vec<String>,
}

impl Default for BotPatterns {
    fn default() -> BotPatterns {
        BotPatterns { builtin: true, own: Vec::new() }
    }
}

impl BotPatterns {
    /// These texts instead of the patterns here; [`BUILTIN`] among them means those too.
    pub fn new<'a>(texts: impl Iterator<Item = &'a str>) -> BotPatterns {
        let mut patterns = BotPatterns { builtin: false, own: Vec::new() };
        for text in texts {
            if text == BUILTIN {
                patterns.builtin = true;
            } else {
                patterns.own.push(text.to_ascii_lowercase());
            }
        }
        patterns
    }

    /// Whether `user_agent` names a bot in its first [`USER_AGENT_BYTES_MAX`] bytes.
    pub fn match_bot(&self, user_agent: &[u8]) -> bool {
        let user_agent = user_agent.get(..USER_AGENT_BYTES_MAX).unwrap_or(user_agent);
        (self.builtin && is_bot(user_agent)) || (!self.own.is_empty() && self.match_own(user_agent))
    }

    /// Searches for the configured patterns as texts: the standard library does so in linear time.
    #[inline(never)]
    fn match_own(&self, user_agent: &[u8]) -> bool {
        let user_agent = String::from_utf8_lossy(user_agent).to_ascii_lowercase();
        self.own.iter().any(|pattern| user_agent.contains(pattern))
    }
}

/// Whether `user_agent` names a bot, by the patterns here.
pub fn is_bot(user_agent: &[u8]) -> bool {
    let mut rest = user_agent;
    while let [first, second, others @ ..] = rest {
        if EITHER.contains([*first, *second]) && names_bot_near(user_agent, user_agent.len() - rest.len()) {
            return true;
        }
        rest = others;
    }
    false
}

/// Whether a pattern begins at `at` or one byte before.
#[inline(never)]
fn names_bot_near(user_agent: &[u8], at: usize) -> bool {
    names_bot_at(user_agent, at) || at.checked_sub(1).is_some_and(|before| names_bot_at(user_agent, before))
}

fn names_bot_at(user_agent: &[u8], at: usize) -> bool {
    let rest = user_agent.get(at..).unwrap_or_default();
    let Some(&[first, second, third]) = rest.first_chunk() else { return false };
    FIRST.contains([first, second])
        && SECOND.contains([second, third])
        && PATTERNS.iter().any(|pattern| starts_with(rest, pattern.as_bytes()))
        && !is_cubot(user_agent, at)
}

fn is_cubot(user_agent: &[u8], at: usize) -> bool {
    at.checked_sub(2).and_then(|start| user_agent.get(start..)).is_some_and(|text| starts_with(text, NOT_A_BOT))
}

fn starts_with(text: &[u8], pattern: &[u8]) -> bool {
    text.get(..pattern.len()).is_some_and(|start| start.eq_ignore_ascii_case(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bots_are_distinguished_from_people_and_services() {
        for bot in [
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            "Mozilla/5.0 (compatible; bingbot/2.0)",
            "facebookexternalhit/1.1",
            "Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/120.0",
            "Baiduspider+(+http://www.baidu.com/search/spider.htm)",
            "BOT",
        ] {
            assert!(is_bot(bot.as_bytes()), "{bot}");
        }
        for other in [
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
            "Mozilla/5.0 (Linux; Android 9; CUBOT_X18) AppleWebKit/537.36",
            "curl/8.5.0",
            "python-requests/2.32",
            "Go-http-client/2.0",
            "",
        ] {
            assert!(!is_bot(other.as_bytes()), "{other}");
        }
        assert!(!is_bot(b"\xff\xfe"));
        // At any position, with any text around it.
        for pattern in PATTERNS {
            for before in ["", "x", "xy", "Mozilla/5.0 (", "Mozilla/5.0 (x"] {
                for after in ["", "/", "/1.0)"] {
                    let name = format!("{before}{}{after}", pattern.to_ascii_uppercase());
                    assert!(is_bot(name.as_bytes()), "{name}");
                    assert!(!is_bot(&name.as_bytes()[..before.len() + 2]), "{name}");
                }
            }
        }
    }

    #[test]
    fn configured_list_replaces_or_extends_the_built_in_one() {
        let (google, probe) = (&b"Mozilla/5.0 (compatible; Googlebot/2.1)"[..], &b"Shop-Probe/1.0 (internal)"[..]);
        for (texts, of_google, of_probe) in [
            (&[][..], false, false),
            (&["SHOP-probe/"], false, true),
            (&["builtin"], true, false),
            (&["shop-probe/", "builtin"], true, true),
            (&["shop-probe/2"], false, false),
        ] {
            let patterns = BotPatterns::new(texts.iter().copied());
            assert_eq!((patterns.match_bot(google), patterns.match_bot(probe)), (of_google, of_probe), "{texts:?}");
            assert!(!patterns.match_bot(b"") && !patterns.match_bot(b"shop"));
        }
        let late = [&b"x".repeat(USER_AGENT_BYTES_MAX)[..], probe].concat();
        assert!(!BotPatterns::new(["shop-probe/"].into_iter()).match_bot(&late));
        assert!(BotPatterns::default().match_bot(google) && !BotPatterns::default().match_bot(probe));
    }

    #[test]
    fn patterns_are_sorted_and_in_lower_case() {
        assert!(PATTERNS.is_sorted() && PATTERNS.iter().all(|pattern| *pattern == pattern.to_ascii_lowercase()));
        assert!(!PATTERNS.contains(&BUILTIN));
    }
}
