//! Where `/v1/click` may send a person: where a signature says so, or to hosts on a list, and nowhere else, or we would lend our
//! name to any phisher.

use std::borrow::Cow;
use std::collections::HashMap;

use url::{Host, Url};

use crate::error::Fault;
use crate::file::WatchedFile;
use crate::parse::{self, FreshEvent};
use crate::signing::{SIGNATURE, SigningKeys};

const FIELD: &str = "to";
/// What every server can be relied on to take in a request line (RFC 9110, section 4.1).
const DESTINATION_BYTES_MAX: usize = 8_000;

type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The query of a click, taken apart: where to go, who says so, and the fields of the event.
pub(crate) struct Link<'a> {
    pairs: Vec<Pair<'a>>,
    /// How many of the pairs the signature covers, and the signature.
    signature: Option<(usize, Cow<'a, str>)>,
}

impl<'a> Link<'a> {
    pub fn of(query: &'a str) -> Self {
        let mut pairs: Vec<Pair<'a>> = parse::pairs(query).collect();
        let Some(at) = pairs.iter().position(|(name, _)| name == SIGNATURE) else {
            return Self { pairs, signature: None };
        };
        let mut free = pairs.split_off(at).into_iter();
        let signature = free.next().map(|(_, signature)| (at, signature));
        // What is signed stays as it is, whatever is said of it later.
        let is_new = |(name, _): &Pair<'a>| {
            name != FIELD && name != SIGNATURE && !pairs.iter().any(|(signed, _)| signed == name)
        };
        let free: Vec<_> = free.filter(is_new).collect();
        pairs.extend(free);
        Self { pairs, signature }
    }

    pub fn fields(&self) -> impl Iterator<Item = Pair<'a>> + '_ {
        self.pairs.iter().filter(|(name, _)| name != FIELD).cloned()
    }

    fn to(&self) -> Option<&str> {
        self.pairs.iter().find(|(name, _)| name == FIELD).map(|(_, to)| to.as_ref())
    }
}

/// Who may be sent where.
pub(crate) struct Redirects {
    pub hosts: RedirectHosts,
    /// Those of a campaign with a list of its own, instead of the common one.
    pub of_campaigns: HashMap<String, RedirectHosts>,
    pub keys: WatchedFile<SigningKeys>,
}

impl Redirects {
    /// Where a link leads, if it may. A link that is signed has to hold, also to a host that is listed: the signature covers more
    /// than the destination.
    pub fn destination(&self, link: &Link<'_>, event: &FreshEvent<'_>) -> Result<Url, Fault> {
        let url = destination(link.to())?;
        let Some((covered, signature)) = &link.signature else {
            let hosts = self.of_campaigns.get(event.campaign_id.as_ref()).unwrap_or(&self.hosts);
            return hosts.allow(&url).map(|()| url);
        };
        let keys = self.keys.held().ok_or_else(|| {
            Fault::new(SIGNATURE, "cannot be checked: there are no signing keys here", "sign it with `tally sign-link`")
        })?;
        let signed = link.pairs[..*covered].iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
        keys.verify(signature, signed, event.received_at_us.div_euclid(1_000_000))?;
        Ok(url)
    }
}

/// Whether a text may stand as `to` in a link; if not, why, as a sentence.
pub fn check_destination(to: &str) -> Result<(), String> {
    destination(Some(to)).map(|_| ()).map_err(|fault| format!("it {}; {}", fault.what, fault.cure))
}

/// A destination as a URL that a browser can go to.
fn destination(to: Option<&str>) -> Result<Url, Fault> {
    const CURE: &str = "give the destination as `to=https://..`, percent-encoded";
    let to = to.ok_or_else(|| Fault::new(FIELD, "is missing", CURE))?;
    if to.len() > DESTINATION_BYTES_MAX {
        let what = format!("has {} bytes", to.len());
        return Err(Fault::new(FIELD, what, format!("give at most {DESTINATION_BYTES_MAX}")));
    }
    let url = Url::parse(to).map_err(|error| Fault::new(FIELD, format!("is no URL: {error}"), CURE))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Fault::new(FIELD, format!("leads to `{}:`", url.scheme()), "give an http or https URL"));
    }
    Ok(url)
}

pub(crate) struct RedirectHosts(pub Vec<HostPattern>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostPattern {
    Exact(String),
    /// Every host below this one, itself not included; kept with the leading dot.
    Below(String),
}

impl HostPattern {
    /// Brought into the form that a parsed URL's host has: lower case, and Punycode where it is not ASCII.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("*.") {
            Some(parent) => match Host::parse(parent).ok()? {
                Host::Domain(domain) => Some(Self::Below(format!(".{domain}"))),
                Host::Ipv4(_) | Host::Ipv6(_) => None,
            },
            None => Some(Self::Exact(Host::parse(text).ok().filter(|_| !text.contains('*'))?.to_string())),
        }
    }

    fn allows(&self, host: &str) -> bool {
        match self {
            Self::Exact(exact) => host == exact,
            // A host with an empty label is nowhere: browsers would show an error under our name.
            Self::Below(suffix) => host
                .strip_suffix(suffix.as_str())
                .is_some_and(|labels| labels.split('.').all(|label| !label.is_empty())),
        }
    }
}

impl RedirectHosts {
    fn allow(&self, url: &Url) -> Result<(), Fault> {
        let host = url.host_str().unwrap_or_default();
        if self.0.iter().any(|pattern| pattern.allows(host)) {
            return Ok(());
        }
        let what = format!("leads to `{host}`, which is not on the list of allowed hosts");
        Err(Fault::new(FIELD, what, "sign the link (`tally sign-link`), or add the host to capture.redirect_hosts"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(to: &str, allowed: bool) {
        let patterns = ["Shop.example", "*.brand.example", "192.0.2.1", "bücher.example"];
        let hosts = RedirectHosts(patterns.map(|text| HostPattern::parse(text).unwrap()).into());
        let found = destination(Some(to)).and_then(|url| hosts.allow(&url));
        assert_eq!(found.is_ok(), allowed, "{to}");
    }

    #[test]
    fn only_listed_hosts_are_gone_to() {
        check("https://shop.example/a?b=c#d", true);
        check("HTTP://SHOP.EXAMPLE:8080/", true);
        check("https://www.brand.example", true);
        check("https://a.b.brand.example", true);
        check("https://brand.example", false);
        check("https://notbrand.example", false);
        check("https://.brand.example", false);
        check("https://.www.brand.example", false);
        check("https://a..brand.example", false);
        check("https://www.shop.example", false);
        check("http://192.0.2.1/", true);
        check("https://b%C3%BCcher.example/", true);
    }

    #[test]
    fn no_spelling_leads_elsewhere() {
        for to in [
            "https://shop.example@evil.example/",
            "https://evil.example\\@shop.example/",
            "https://evil.example#shop.example",
            "https://shop.example.evil.example/",
            "//shop.example/",
            "/shop.example",
            "javascript:alert(1)//shop.example",
            "data:text/html,shop.example",
            "ftp://shop.example/",
            "",
        ] {
            check(to, false);
        }
    }

    #[test]
    fn a_pattern_that_would_allow_everything_is_none() {
        for wrong in ["*", "*.", "", "a.*.example", "https://shop.example", "shop.example/path", "*.192.0.2.1"] {
            assert_eq!(HostPattern::parse(wrong), None, "{wrong:?} was taken for a host");
        }
    }
}
