//! Device, operating system and browser, told from the user agent by family only: few values, so that rollups stay small.
//!
//! The rules look for the tokens that browsers send on purpose (RFC 9110 section 10.1.5 product tokens and their comments),
//! most telling first, since nearly every agent also claims to be an older one.

use serde::{Deserialize, Serialize};

// Rules of our own rather than the list of uap-core: see decision 0012.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Device {
    /// `desktop`, `mobile`, `tablet`, `tv`, `robot` or `other`.
    pub device: &'static str,
    pub os: &'static str,
    pub browser: &'static str,
}

const UNKNOWN: &str = "other";

/// Tokens by which robots name themselves; compared in lower case.
const ROBOT_TOKENS: [&str; 13] = [
    "googlebot",
    "bingbot",
    "crawler",
    "spider",
    "slurp",
    "headlesschrome",
    "phantomjs",
    "curl/",
    "wget/",
    "python-requests",
    "python-urllib",
    "go-http-client",
    "scrapy",
];

/// The robots that show where a link leads, in a chat, a mail or a feed; compared in lower case. WhatsApp stands apart, since its
/// name alone begins the agent.
const PREVIEW_TOKENS: [&str; 16] = [
    "facebookexternalhit",
    "facebot",
    "slackbot",
    "slack-imgproxy",
    "twitterbot",
    "telegrambot",
    "discordbot",
    "linkedinbot",
    "skypeuripreview",
    "microsoftpreview",
    "redditbot",
    "pinterestbot",
    "vkshare",
    "embedly",
    "iframely",
    "mastodon/",
];

const OS_TOKENS: [(&str, &str); 12] = [
    ("windows phone", "windows_phone"),
    ("windows", "windows"),
    ("android", "android"),
    ("iphone", "ios"),
    ("ipad", "ios"),
    ("ipod", "ios"),
    ("cros ", "chrome_os"),
    ("mac os x", "macos"),
    ("macintosh", "macos"),
    ("tizen", "tizen"),
    ("web0s", "webos"),
    ("linux", "linux"),
];

const BROWSER_TOKENS: [(&str, &str); 19] = [
    ("edg/", "edge"),
    ("edga/", "edge"),
    ("edgios/", "edge"),
    ("edge/", "edge"),
    ("opr/", "opera"),
    ("opera", "opera"),
    ("samsungbrowser/", "samsung"),
    ("ucbrowser/", "uc"),
    ("ucweb", "uc"),
    ("qqbrowser/", "qq"),
    ("yabrowser/", "yandex"),
    ("silk/", "silk"),
    ("fxios/", "firefox"),
    ("firefox/", "firefox"),
    ("crios/", "chrome"),
    ("chrome/", "chrome"),
    ("msie ", "ie"),
    ("trident/", "ie"),
    ("safari/", "safari"),
];

impl Device {
    pub const NONE: Device = Device { device: UNKNOWN, os: UNKNOWN, browser: UNKNOWN };

    pub fn of(user_agent: Option<&str>) -> Self {
        let Some(user_agent) = user_agent else { return Self::NONE };
        let agent = user_agent.to_ascii_lowercase();
        let os = first_match(&OS_TOKENS, &agent);
        let browser = match first_match(&BROWSER_TOKENS, &agent) {
            // The browser that Android had before Chrome; Safari was never there.
            "safari" if os == "android" => "android",
            browser => browser,
        };
        let device = if is_declared_robot(&agent) {
            "robot"
        } else if agent.contains("smart-tv") || agent.contains("smarttv") || os == "webos" || agent.contains("appletv")
        {
            "tv"
        } else if agent.contains("ipad") || agent.contains("tablet") || (os == "android" && !agent.contains("mobile")) {
            "tablet"
        } else if matches!(os, "ios" | "android" | "windows_phone" | "tizen") || agent.contains("mobile") {
            "mobile"
        } else if matches!(os, "windows" | "macos" | "linux" | "chrome_os") {
            "desktop"
        } else {
            UNKNOWN
        };
        Self { device, os, browser }
    }

    /// Whether the agent says of itself that it is a robot.
    pub fn is_robot(&self) -> bool {
        self.device == "robot"
    }
}

/// Whether the agent is a service that shows where a link leads. Each of them is a declared robot too.
pub fn is_link_preview(user_agent: &str) -> bool {
    is_preview(&user_agent.to_ascii_lowercase())
}

fn is_preview(agent: &str) -> bool {
    agent.starts_with("whatsapp/") || PREVIEW_TOKENS.iter().any(|token| agent.contains(token))
}

/// A robot names itself by one of the known tokens, or by a product token that ends in `bot` (`AdsBot/2.1`). The bare
/// letters within a longer word prove nothing: people's browsers carry them too.
fn is_declared_robot(agent: &str) -> bool {
    ROBOT_TOKENS.iter().any(|token| agent.contains(token))
        || is_preview(agent)
        || agent
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
            .any(|word| word.ends_with("bot") && word != "cubot")
}

fn first_match(table: &[(&str, &'static str)], agent: &str) -> &'static str {
    table.iter().find(|(token, _)| agent.contains(token)).map_or(UNKNOWN, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(user_agent: &str, device: &'static str, os: &'static str, browser: &'static str) {
        assert_eq!(Device::of(Some(user_agent)), Device { device, os, browser }, "{user_agent}");
    }

    #[test]
    fn families_are_told_apart() {
        check(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36 Edg/126.0",
            "desktop",
            "windows",
            "edge",
        );
        check(
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
            "mobile",
            "ios",
            "safari",
        );
        check(
            "Mozilla/5.0 (Linux; Android 14; SM-X710) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
            "tablet",
            "android",
            "chrome",
        );
        check(
            "Mozilla/5.0 (Linux; U; Android 2.3.3; en-au; HTC_Z710a) AppleWebKit/533.1 (KHTML, like Gecko) Version/4.0 Mobile Safari/533.1",
            "mobile",
            "android",
            "android",
        );
        check("Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 5.1; Trident/4.0)", "desktop", "windows", "ie");
        check("Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0", "desktop", "linux", "firefox");
        check("", "other", "other", "other");
    }

    #[test]
    fn what_previews_links_is_a_robot_and_what_opens_them_in_an_app_is_a_person() {
        for preview in [
            "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
            "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
            "WhatsApp/2.23.20.0 A",
            "TelegramBot (like TwitterBot)",
            "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
            "LinkedInBot/1.0 (compatible; Mozilla/5.0; +http://www.linkedin.com)",
            "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5 skype-url-preview@microsoft.com",
        ] {
            assert!(is_link_preview(preview) && Device::of(Some(preview)).is_robot(), "{preview} passed for a person");
        }
        for person in [
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 [FBAN/FBIOS;FBAV/470.0]",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/21F90 [Pinterest/iOS]",
            "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/126.0 Mobile Safari/537.36 Instagram 334.0",
        ] {
            assert!(!is_link_preview(person) && !Device::of(Some(person)).is_robot(), "{person} was taken for a robot");
        }
        assert!(!is_link_preview("Mozilla/5.0 (compatible; Googlebot/2.1)"), "a crawler shows nobody anything");
    }

    #[test]
    fn robots_are_known_by_their_own_word_and_people_are_not_taken_for_robots() {
        for robot in [
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            "curl/8.5.0",
            "AdsBot-Google (+http://www.google.com/adsbot.html)",
            "Mozilla/5.0 HeadlessChrome/126.0",
        ] {
            assert!(Device::of(Some(robot)).is_robot(), "{robot} passed for a person");
        }
        for person in [
            "Mozilla/5.0 (Linux; Android 9; CUBOT X19) Chrome/80.0 Mobile Safari/537.36",
            "Mozilla/4.0 (compatible; MSIE 8.0; EmbeddedWB 14.52 from: http://www.bsalsa.com/)",
        ] {
            assert!(!Device::of(Some(person)).is_robot(), "{person} was taken for a robot");
        }
    }
}
