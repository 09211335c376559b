//! Who sent a request: the visitor's address as a hash, agent, referrer and country, from the connection or from what a
//! trusted proxy says of it. The raw address goes no further than this file.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, Method, header};
use tally_model::Purpose;

use crate::geo::{GeoTable, Place, PlaceHeaders};
use crate::hash::HashKey;
use crate::network::Network;
use crate::parse::{REFERRER_BYTES_MAX, USER_AGENT_BYTES_MAX, cut};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const SEC_GPC: HeaderName = HeaderName::from_static("sec-gpc");
/// What browsers say where they fetch ahead of the person: today's header (`prefetch`, `prefetch;prerender`), its two forerunners,
/// and that of Safari's previews.
const PURPOSES: [(HeaderName, &str); 4] = [
    (HeaderName::from_static("sec-purpose"), "prefetch"),
    (HeaderName::from_static("purpose"), "prefetch"),
    (HeaderName::from_static("x-moz"), "prefetch"),
    (HeaderName::from_static("x-purpose"), "preview"),
];

/// Whose word we take about somebody else.
pub(crate) struct Proxies {
    pub networks: Vec<Network>,
    pub place_headers: Option<PlaceHeaders>,
}

/// What a request is read with.
pub(crate) struct Sources<'a> {
    pub proxies: &'a Proxies,
    pub key: &'a HashKey,
    pub geo: Option<&'a GeoTable>,
}

/// What the connection tells of the visitor. Holds nothing raw of the address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    pub ip_hash: Option<u64>,
    pub user_agent: Option<String>,
    pub referrer: Option<String>,
    pub place: Place,
    pub purpose: Option<Purpose>,
    /// Global Privacy Control, where the browser says it.
    pub gpc: Option<bool>,
    /// Whether it is a server of our own with no visitor behind it: its bodies may say whose `ip` and `user_agent` it was.
    pub speaks_for_others: bool,
    /// What the limit by address counts it under; none where many people stand behind the address.
    pub limited_as: Option<u64>,
}

impl Client {
    pub fn of(peer: IpAddr, method: &Method, headers: &HeaderMap, sources: &Sources<'_>) -> Self {
        let Sources { proxies, key, geo } = *sources;
        let peer = peer.to_canonical();
        let (visitor, known) = visitor(peer, headers, proxies);
        let speaks_for_others = known && proxies.trusts(visitor);
        let mut place = proxies.place(peer, headers);
        // Where a server of ours stands says nothing about the visitors that it speaks for.
        if let Some(geo) = geo.filter(|_| place.country.is_none() && !speaks_for_others) {
            place = geo.place(visitor);
        }
        Self {
            ip_hash: Some(key.ip(visitor)),
            user_agent: text(headers, &header::USER_AGENT, USER_AGENT_BYTES_MAX),
            referrer: text(headers, &header::REFERER, REFERRER_BYTES_MAX),
            place,
            purpose: purpose(method, headers),
            // No other value is defined (W3C Global Privacy Control).
            gpc: headers.get(SEC_GPC).filter(|value| *value == "1").map(|_| true),
            speaks_for_others,
            limited_as: (!proxies.trusts(visitor)).then(|| key.ip(network_of(visitor))),
        }
    }

    /// For whoever shows an API key to send with: a server, whose connection, place and agent are not its visitors'.
    pub fn with_key(self) -> Self {
        Self { speaks_for_others: true, ..Self::default() }
    }

    /// For a batch: if a server of ours sends it, the connection tells about that server and nothing about the visitors.
    pub fn of_batch(self) -> Self {
        if self.speaks_for_others {
            return Self { place: self.place, speaks_for_others: true, ..Self::default() };
        }
        self
    }
}

impl Proxies {
    fn trusts(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.networks.iter().any(|network| network.contains(address))
    }

    fn place(&self, peer: IpAddr, headers: &HeaderMap) -> Place {
        let place_headers = self.place_headers.as_ref().filter(|_| self.trusts(peer));
        place_headers.map(|place_headers| place_headers.place(headers)).unwrap_or_default()
    }
}

fn purpose(method: &Method, headers: &HeaderMap) -> Option<Purpose> {
    let says = |(name, token): &(HeaderName, &str)| {
        let value = headers.get(name).map(|value| value.as_bytes()).unwrap_or_default();
        value.get(..token.len()).is_some_and(|start| start.eq_ignore_ascii_case(token.as_bytes()))
    };
    if PURPOSES.iter().any(says) {
        return Some(Purpose::Prefetch);
    }
    (method == Method::HEAD).then_some(Purpose::Head)
}

/// The right-most address of `X-Forwarded-For` that is not ours: everything left of it is the sender's own claim.
/// Also whether the chain could be read so far; a hop that is no address hides who stands behind it.
fn visitor(peer: IpAddr, headers: &HeaderMap, proxies: &Proxies) -> (IpAddr, bool) {
    let mut nearest = peer;
    let values = headers.get_all(FORWARDED_FOR).iter().rev();
    for hop in values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b',')) {
        if !proxies.trusts(nearest) {
            break;
        }
        let Some(address) = std::str::from_utf8(hop).ok().and_then(address) else { return (nearest, false) };
        nearest = address;
    }
    (nearest, true)
}

/// In version 6 a single customer has 2^64 addresses (RFC 6177).
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// Some proxies write the port too, and brackets around version 6.
fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let bare = || hop.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare().or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

fn text(headers: &HeaderMap, name: &HeaderName, bytes_max: usize) -> Option<String> {
    let value = headers.get(name).filter(|value| !value.is_empty())?;
    Some(cut(&String::from_utf8_lossy(value.as_bytes()), bytes_max).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_model::Country;

    fn proxies() -> Proxies {
        let networks = vec![Network::parse("10.0.0.0/8").unwrap()];
        Proxies { networks, place_headers: Some(PlaceHeaders::Cloudflare) }
    }

    fn client(peer: &str, headers: &HeaderMap) -> Client {
        let (proxies, key) = (proxies(), HashKey::from_bytes([7; 32]));
        Client::of(peer.parse().unwrap(), &Method::GET, headers, &Sources { proxies: &proxies, key: &key, geo: None })
    }

    fn check(peer: &str, forwarded_for: &[&str], expected: &str, speaks_for_others: bool) {
        let mut headers = HeaderMap::new();
        for value in forwarded_for {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        let client = client(peer, &headers);
        let key = HashKey::from_bytes([7; 32]);
        assert_eq!(client.ip_hash, Some(key.ip(expected.parse().unwrap())), "{peer} with {forwarded_for:?}");
        assert_eq!(client.speaks_for_others, speaks_for_others, "{peer} with {forwarded_for:?}");
    }

    #[test]
    fn the_visitor_is_the_right_most_address_that_is_not_ours() {
        check("203.0.113.9", &[], "203.0.113.9", false);
        check("10.0.0.1", &["198.51.100.4"], "198.51.100.4", false);
        check("10.0.0.1", &["1.1.1.1, 198.51.100.4, 10.0.0.2"], "198.51.100.4", false);
        check("10.0.0.1", &["1.1.1.1, 198.51.100.4", "10.0.0.2"], "198.51.100.4", false);
        check("127.0.0.1", &["198.51.100.4:4711"], "198.51.100.4", false);
        check("::ffff:10.0.0.1", &["[2001:db8::1]:443"], "2001:db8::1", false);
    }

    #[test]
    fn what_is_fetched_ahead_or_looked_up_says_so() {
        let check = |method: Method, name: &'static str, value: &'static str, expected| {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())]);
            assert_eq!(purpose(&method, &headers), expected, "{method} {name}: {value}");
        };
        check(Method::GET, "sec-purpose", "prefetch", Some(Purpose::Prefetch));
        check(Method::GET, "sec-purpose", "prefetch;prerender", Some(Purpose::Prefetch));
        check(Method::GET, "purpose", "Prefetch", Some(Purpose::Prefetch));
        check(Method::GET, "x-moz", "prefetch", Some(Purpose::Prefetch));
        check(Method::GET, "x-purpose", "preview", Some(Purpose::Prefetch));
        check(Method::HEAD, "purpose", "prefetch", Some(Purpose::Prefetch));
        check(Method::HEAD, "accept", "*/*", Some(Purpose::Head));
        check(Method::GET, "purpose", "navigation", None);
        check(Method::GET, "accept", "prefetch", None);
    }

    #[test]
    fn nobody_becomes_ours_by_saying_so() {
        check("203.0.113.9", &["127.0.0.1"], "203.0.113.9", false);
        check("10.0.0.1", &["127.0.0.1, 198.51.100.4"], "198.51.100.4", false);
        check("10.0.0.1", &["unknown"], "10.0.0.1", false);
    }

    #[test]
    fn our_own_servers_speak_for_others() {
        check("127.0.0.1", &[], "127.0.0.1", true);
        check("10.0.0.1", &[], "10.0.0.1", true);
        check("10.0.0.1", &["10.0.0.2"], "10.0.0.2", true);
    }

    #[test]
    fn only_strangers_are_limited_by_address_and_in_version_6_by_network() {
        let limited_as = |peer: &str, forwarded_for: Option<&str>| {
            let forwarded_for = forwarded_for.map(|value| (FORWARDED_FOR, value.parse().unwrap()));
            let headers = forwarded_for.into_iter().collect();
            client(peer, &headers).limited_as
        };
        assert!(limited_as("203.0.113.9", None).is_some());
        assert_eq!(limited_as("10.0.0.1", Some("203.0.113.9")), limited_as("203.0.113.9", None));
        assert_eq!(limited_as("2001:db8::1", None), limited_as("2001:db8::ffff:1", None));
        assert_ne!(limited_as("2001:db8::1", None), limited_as("2001:db8:0:1::1", None));
        for (ours, forwarded_for) in [("127.0.0.1", None), ("10.0.0.1", None), ("10.0.0.1", Some("unknown"))] {
            assert_eq!(limited_as(ours, forwarded_for), None, "{ours} with {forwarded_for:?}");
        }
        let client = client("203.0.113.9", &HeaderMap::new()).with_key();
        assert!(client.limited_as.is_none() && client.speaks_for_others);
    }

    #[test]
    fn the_place_counts_from_a_trusted_proxy_only() {
        let country = |peer: &str| {
            let headers = HeaderMap::from_iter([(HeaderName::from_static("cf-ipcountry"), "de".parse().unwrap())]);
            proxies().place(peer.parse().unwrap(), &headers).country
        };
        assert_eq!(country("10.0.0.1"), Country::parse("DE"));
        assert_eq!(country("203.0.113.9"), None);
    }
}
