//! Which user agents are bots: those that say so. HTTP libraries are not in the list, since services call each other
//! with them.

/// What bots put into their user agent, in lower case, with what must not stand in front of it.
const PATTERNS: &[&str] = &[
    "adsbot",
    "applebot",
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
    "gptbot",
    "headlesschrome",
    "ia_archiver",
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
    "uptimerobot",
    "vkshare",
    "w3c_validator",
    "whatsapp/",
    "yandeximages",
];

/// A telephone maker's name that ends like a bot's.
const NOT_A_BOT: &[u8] = b"cubot";

/// Whether `user_agent` names a bot.
pub fn is_bot(user_agent: &[u8]) -> bool {
    (0..user_agent.len()).any(|at| {
        let Some(rest) = user_agent.get(at..) else { return false };
        let Some(first) = rest.first().map(u8::to_ascii_lowercase) else { return false };
        PATTERNS.iter().any(|pattern| {
            pattern.as_bytes().first() == Some(&first)
                && starts_with(rest, pattern.as_bytes())
                && !(*pattern == "bot"
                    && at
                        .checked_sub(2)
                        .and_then(|at| user_agent.get(at..))
                        .is_some_and(|text| starts_with(text, NOT_A_BOT)))
        })
    })
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
