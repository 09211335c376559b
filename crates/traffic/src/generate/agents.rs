//! User agents: about two hundred that people's browsers send, and some by which robots name themselves.

use tally_model::Device;

use super::dice::Weights;

pub struct Agents {
    pub people: Vec<Agent>,
    pub robots: Vec<Agent>,
    weights: Weights,
}

pub struct Agent {
    pub text: String,
    pub device: Device,
}

/// How much of people's traffic each of these has, shared evenly among its agents.
const MOBILE: u64 = 5_400;
const DESKTOP: u64 = 3_900;
const TABLET: u64 = 600;
const TV: u64 = 100;

const ANDROID_PHONES: [&str; 12] = [
    "SM-S918B",
    "SM-S921U",
    "SM-A546B",
    "SM-A156U",
    "SM-G991B",
    "Pixel 8",
    "Pixel 7a",
    "Pixel 9 Pro",
    "2201116SG",
    "23021RAA2Y",
    "moto g power (2022)",
    "CPH2581",
];
const ANDROID_TABLETS: [&str; 4] = ["SM-X710", "SM-T870", "Lenovo TB-J606F", "SM-X200"];
const DESKTOPS: [&str; 4] = [
    "Windows NT 10.0; Win64; x64",
    "Macintosh; Intel Mac OS X 10_15_7",
    "X11; Linux x86_64",
    "X11; CrOS x86_64 14541.0.0",
];
const CHROMES: [u32; 7] = [124, 126, 128, 130, 131, 132, 133];
const FIREFOXES: [u32; 5] = [115, 128, 132, 134, 135];
const IOS: [&str; 8] = ["16_7", "17_4", "17_5_1", "17_6", "18_0", "18_1_1", "18_2", "18_3"];
const SAFARIS: [&str; 5] = ["16.6", "17.4", "17.6", "18.1", "18.3"];

const ROBOTS: [&str; 14] = [
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    "Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "AdsBot-Google (+http://www.google.com/adsbot.html)",
    "curl/8.5.0",
    "Wget/1.21.4",
    "python-requests/2.32.3",
    "Go-http-client/1.1",
    "Scrapy/2.11.2 (+https://scrapy.org)",
];

const WEBKIT: &str = "AppleWebKit/537.36 (KHTML, like Gecko)";
const IOS_WEBKIT: &str = "AppleWebKit/605.1.15 (KHTML, like Gecko)";

impl Agents {
    pub fn new() -> Self {
        let groups = [(MOBILE, mobile()), (DESKTOP, desktop()), (TABLET, tablet()), (TV, tv())];
        let weights: Vec<u64> = groups
            .iter()
            .flat_map(|(share, agents)| std::iter::repeat_n(share * 1_000 / agents.len() as u64, agents.len()))
            .collect();
        let people = groups.into_iter().flat_map(|(_, agents)| agents).map(Agent::of).collect();
        let robots = ROBOTS.into_iter().map(|text| Agent::of(text.to_owned())).collect();
        Self { people, robots, weights: Weights::of(weights) }
    }

    /// The browser of a person, by that person's bits.
    pub fn of_person(&self, bits: u32) -> u8 {
        self.weights.pick_by(bits) as u8
    }
}

impl Agent {
    fn of(text: String) -> Self {
        let device = Device::of(Some(&text));
        Self { text, device }
    }
}

fn mobile() -> Vec<String> {
    let mut agents = Vec::new();
    for (model, android) in ANDROID_PHONES.iter().zip([14, 14, 14, 13, 13, 15, 14, 15, 12, 13, 12, 14]) {
        for chrome in [126, 130, 131, 132] {
            agents.push(format!(
                "Mozilla/5.0 (Linux; Android {android}; {model}) {WEBKIT} Chrome/{chrome}.0.0.0 Mobile Safari/537.36"
            ));
        }
    }
    for model in &ANDROID_PHONES[..5] {
        agents.push(format!(
            "Mozilla/5.0 (Linux; Android 14; SAMSUNG {model}) {WEBKIT} SamsungBrowser/26.0 Chrome/122.0.0.0 Mobile Safari/537.36"
        ));
    }
    for ios in IOS {
        let phone = format!("Mozilla/5.0 (iPhone; CPU iPhone OS {ios} like Mac OS X) {IOS_WEBKIT}");
        let version = ios.replace('_', ".");
        agents.push(format!("{phone} Version/{version} Mobile/15E148 Safari/604.1"));
        agents.push(format!("{phone} CriOS/131.0.6778.73 Mobile/15E148 Safari/604.1"));
        agents.push(format!("{phone} FxiOS/134.0 Mobile/15E148 Safari/605.1.15"));
    }
    for firefox in FIREFOXES {
        agents.push(format!("Mozilla/5.0 (Android 14; Mobile; rv:{firefox}.0) Gecko/{firefox}.0 Firefox/{firefox}.0"));
    }
    agents
}

fn desktop() -> Vec<String> {
    let mut agents = Vec::new();
    for platform in DESKTOPS {
        for chrome in CHROMES {
            agents.push(format!("Mozilla/5.0 ({platform}) {WEBKIT} Chrome/{chrome}.0.0.0 Safari/537.36"));
        }
    }
    for platform in &DESKTOPS[..2] {
        for chrome in CHROMES {
            agents.push(format!(
                "Mozilla/5.0 ({platform}) {WEBKIT} Chrome/{chrome}.0.0.0 Safari/537.36 Edg/{chrome}.0.0.0"
            ));
        }
        agents.push(format!("Mozilla/5.0 ({platform}) {WEBKIT} Chrome/131.0.0.0 Safari/537.36 OPR/116.0.0.0"));
    }
    for platform in &DESKTOPS[..3] {
        for firefox in FIREFOXES {
            agents.push(format!("Mozilla/5.0 ({platform}; rv:{firefox}.0) Gecko/20100101 Firefox/{firefox}.0"));
        }
    }
    for safari in SAFARIS {
        agents.push(format!("Mozilla/5.0 ({}) {IOS_WEBKIT} Version/{safari} Safari/605.1.15", DESKTOPS[1]));
    }
    agents
}

fn tablet() -> Vec<String> {
    let mut agents = Vec::new();
    for model in ANDROID_TABLETS {
        for chrome in CHROMES {
            agents
                .push(format!("Mozilla/5.0 (Linux; Android 13; {model}) {WEBKIT} Chrome/{chrome}.0.0.0 Safari/537.36"));
        }
    }
    for ios in IOS {
        let version = ios.replace('_', ".");
        agents.push(format!(
            "Mozilla/5.0 (iPad; CPU OS {ios} like Mac OS X) {IOS_WEBKIT} Version/{version} Mobile/15E148 Safari/604.1"
        ));
    }
    agents
}

fn tv() -> Vec<String> {
    vec![
        format!("Mozilla/5.0 (SMART-TV; Linux; Tizen 7.0) {WEBKIT} 94.0.4606.31/7.0 TV Safari/537.36"),
        format!("Mozilla/5.0 (Web0S; Linux/SmartTV) {WEBKIT} Chrome/108.0.5359.211 Safari/537.36 WebAppManager"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn robots_are_taken_for_robots_and_people_for_people() {
        let agents = Agents::new();
        for robot in &agents.robots {
            assert!(robot.device.is_robot(), "{} passes for a person", robot.text);
        }
        for person in &agents.people {
            assert!(
                !person.device.is_robot() && person.device.device != "other",
                "{} is taken for {:?}",
                person.text,
                person.device
            );
        }
    }

    #[test]
    fn there_are_about_two_hundred_and_an_index_fits_a_byte() {
        let people = Agents::new().people.len();
        assert!((150..256).contains(&people), "{people} agents");
    }

    #[test]
    fn an_agent_needs_no_escapes_in_json() {
        let agents = Agents::new();
        assert!(agents.people.iter().chain(&agents.robots).all(|agent| !agent.text.contains(['"', '\\'])));
    }
}
