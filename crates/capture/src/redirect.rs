//! Where `/v1/click` may send a person: to hosts on the list and nowhere else, or we would lend our name to any phisher.

use url::{Host, Url};

use crate::error::Fault;

const FIELD: &str = "to";

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
    /// The destination that `to` names, if it may be gone to.
    pub fn destination(&self, to: Option<&str>) -> Result<Url, Fault> {
        const CURE: &str = "give the destination as `to=https://..`, percent-encoded";
        let to = to.ok_or_else(|| Fault::new(FIELD, "is missing", CURE))?;
        let url = Url::parse(to).map_err(|error| Fault::new(FIELD, format!("is no URL: {error}"), CURE))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Fault::new(FIELD, format!("leads to `{}:`", url.scheme()), "give an http or https URL"));
        }
        let host = url.host_str().unwrap_or_default();
        if !self.0.iter().any(|pattern| pattern.allows(host)) {
            let what = format!("leads to `{host}`, which is not on the list of allowed hosts");
            return Err(Fault::new(FIELD, what, "add the host to capture.redirect_hosts"));
        }
        Ok(url)
    }
}

/// Hands the click's id on, for the conversion to name. An id that the destination already carries stays.
pub(crate) fn with_click_id(mut destination: Url, click_id: &str) -> String {
    const CLICK_ID: &str = "click_id";
    if !destination.query_pairs().any(|(name, _)| name == CLICK_ID) {
        destination.query_pairs_mut().append_pair(CLICK_ID, click_id);
    }
    destination.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(to: &str, allowed: bool) {
        let patterns = ["Shop.example", "*.brand.example", "192.0.2.1", "bücher.example"];
        let hosts = RedirectHosts(patterns.map(|text| HostPattern::parse(text).unwrap()).into());
        assert_eq!(hosts.destination(Some(to)).is_ok(), allowed, "{to}");
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

    #[test]
    fn the_click_id_is_added_once_and_the_rest_of_the_address_stays() {
        let go = |to: &str| with_click_id(Url::parse(to).unwrap(), "7");
        assert_eq!(go("https://shop.example/a?b=c%20d#e"), "https://shop.example/a?b=c%20d&click_id=7#e");
        assert_eq!(go("https://shop.example"), "https://shop.example/?click_id=7");
        assert_eq!(go("https://shop.example/?click_id=mine"), "https://shop.example/?click_id=mine");
    }
}
