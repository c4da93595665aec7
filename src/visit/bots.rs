//! Which user agents are bots: those that say so. HTTP libraries are not in the list, since services call each other
//! with them.

/// What bots put into their user agent, in lower case. Most have "bot" in their name.
const PATTERNS: &[&str] = &[
    "archiver",
    "bot",
    "chrome-lighthouse",
    "crawl",
    "datadogsynthetics",
    "embedly",
    "facebookexternalhit",
    "facebookcatalog",
    "feedfetcher",
    "google-inspectiontool",
    "googleother",
    "headlesschrome",
    "mediapartners-google",
    "meta-externalagent",
    "pagespeed",
    "phantomjs",
    "pingdom",
    "pinterest/0",
    "quora link preview",
    "scrapy",
    "skypeuripreview",
    "slurp",
    "spider",
    "statuscake",
    "vkshare",
    "w3c_validator",
    "whatsapp/",
    "yandeximages",
];

/// Which pairs of ASCII bytes some pattern starts with, in either case: bit `b % 64` of entry `2 * a + b / 64`. Most places of
/// a user agent start none, and cost one look each.
#[allow(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "computed when the crate is compiled, which fails if it is wrong"
)]
const STARTS: [u64; 256] = {
    let mut starts = [0; 256];
    let mut at = 0;
    while at < PATTERNS.len() {
        let [first, second, ..] = PATTERNS[at].as_bytes() else { panic!("a pattern of less than two letters") };
        let (firsts, seconds) = ([*first, first.to_ascii_uppercase()], [*second, second.to_ascii_uppercase()]);
        let mut case = 0;
        while case < 4 {
            let (first, second) = (firsts[case / 2], seconds[case % 2]);
            starts[2 * first as usize + second as usize / 64] |= 1 << (second % 64);
            case += 1;
        }
        at += 1;
    }
    starts
};

/// Whether some pattern starts with these two bytes.
fn starts(first: u8, second: u8) -> bool {
    // What is not ASCII is taken for what has the same lowest bits, and looked at for nothing.
    let entry = 2 * usize::from(first & 127) + usize::from(second >> 6 & 1);
    STARTS.get(entry).is_some_and(|seconds| seconds >> (second & 63) & 1 == 1)
}

/// A telephone maker's name that ends like a bot's.
const NOT_A_BOT: &[u8] = b"cubot";

/// Whether `user_agent` names a bot.
pub fn is_bot(user_agent: &[u8]) -> bool {
    let pairs = user_agent.windows(2).enumerate();
    let places = pairs.filter(|(_, pair)| matches!(pair, [first, second] if starts(*first, *second)));
    places.map(|(at, _)| at).any(|at| {
        let rest = user_agent.get(at..).unwrap_or_default();
        let found = PATTERNS.iter().find(|pattern| starts_with(rest, pattern.as_bytes()));
        found.is_some() && !ends_a_telephone_s_name(user_agent, at)
    })
}

fn ends_a_telephone_s_name(user_agent: &[u8], at: usize) -> bool {
    at.checked_sub(2).and_then(|start| user_agent.get(start..)).is_some_and(|text| starts_with(text, NOT_A_BOT))
}

fn starts_with(text: &[u8], pattern: &[u8]) -> bool {
    text.get(..pattern.len()).is_some_and(|start| start.eq_ignore_ascii_case(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bots_say_so_and_people_and_services_do_not() {
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
    }
}
