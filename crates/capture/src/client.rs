//! Who sent a request: the visitor's address as a hash, agent, referrer and country, from the connection or from what a
//! trusted proxy says of it. The raw address goes no further than this file.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, header};
use tally_model::Country;

use crate::hash::HashKey;
use crate::network::Network;
use crate::parse::{REFERRER_BYTES_MAX, USER_AGENT_BYTES_MAX, cut};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whose word we take about somebody else.
pub(crate) struct Proxies {
    pub networks: Vec<Network>,
    pub country_header: Option<HeaderName>,
}

/// What the connection tells of the visitor. Holds nothing raw of the address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    pub ip_hash: Option<u64>,
    pub user_agent: Option<String>,
    pub referrer: Option<String>,
    pub country: Option<Country>,
    /// Whether it is a server of our own with no visitor behind it: its bodies may say whose `ip` and `user_agent` it was.
    pub speaks_for_others: bool,
    /// What the limit by address counts it under; none where many people stand behind the address.
    pub limited_as: Option<u64>,
}

impl Client {
    pub fn of(peer: IpAddr, headers: &HeaderMap, proxies: &Proxies, key: &HashKey) -> Self {
        let peer = peer.to_canonical();
        let (visitor, known) = visitor(peer, headers, proxies);
        Self {
            ip_hash: Some(key.ip(visitor)),
            user_agent: text(headers, &header::USER_AGENT, USER_AGENT_BYTES_MAX),
            referrer: text(headers, &header::REFERER, REFERRER_BYTES_MAX),
            country: proxies.country(peer, headers),
            speaks_for_others: known && proxies.trusts(visitor),
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
            return Self { country: self.country, speaks_for_others: true, ..Self::default() };
        }
        self
    }
}

impl Proxies {
    fn trusts(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.networks.iter().any(|network| network.contains(address))
    }

    /// `XX` (unknown) and `T1` (Tor) are what proxies say where they cannot tell.
    fn country(&self, peer: IpAddr, headers: &HeaderMap) -> Option<Country> {
        let header = self.country_header.as_ref().filter(|_| self.trusts(peer))?;
        let country = Country::parse(headers.get(header)?.to_str().ok()?)?;
        (country.as_str() != "XX").then_some(country)
    }
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

    fn proxies() -> Proxies {
        let networks = vec![Network::parse("10.0.0.0/8").unwrap()];
        Proxies { networks, country_header: Some(HeaderName::from_static("cf-ipcountry")) }
    }

    fn check(peer: &str, forwarded_for: &[&str], expected: &str, speaks_for_others: bool) {
        let mut headers = HeaderMap::new();
        for value in forwarded_for {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        let key = HashKey::from_bytes([7; 32]);
        let client = Client::of(peer.parse().unwrap(), &headers, &proxies(), &key);
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
            Client::of(peer.parse().unwrap(), &headers, &proxies(), &HashKey::from_bytes([7; 32])).limited_as
        };
        assert!(limited_as("203.0.113.9", None).is_some());
        assert_eq!(limited_as("10.0.0.1", Some("203.0.113.9")), limited_as("203.0.113.9", None));
        assert_eq!(limited_as("2001:db8::1", None), limited_as("2001:db8::ffff:1", None));
        assert_ne!(limited_as("2001:db8::1", None), limited_as("2001:db8:0:1::1", None));
        for (ours, forwarded_for) in [("127.0.0.1", None), ("10.0.0.1", None), ("10.0.0.1", Some("unknown"))] {
            assert_eq!(limited_as(ours, forwarded_for), None, "{ours} with {forwarded_for:?}");
        }
        let client =
            Client::of("203.0.113.9".parse().unwrap(), &HeaderMap::new(), &proxies(), &HashKey::from_bytes([7; 32]));
        let client = client.with_key();
        assert!(client.limited_as.is_none() && client.speaks_for_others);
    }

    #[test]
    fn the_country_header_counts_from_a_trusted_proxy_only() {
        let country = |peer: &str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("cf-ipcountry", value.parse().unwrap());
            proxies().country(peer.parse().unwrap(), &headers)
        };
        assert_eq!(country("10.0.0.1", "de"), Country::parse("DE"));
        assert_eq!(country("203.0.113.9", "de"), None);
        assert_eq!((country("10.0.0.1", "XX"), country("10.0.0.1", "T1")), (None, None));
    }
}
