//! What an operator decides about capture. Limits are not among it: they are constants beside the code that keeps them.

use std::collections::HashMap;

use axum::http::HeaderName;
use serde::Deserialize;

use crate::client::Proxies;
use crate::geo::PlaceHeaders;
use crate::network::Network;
use crate::redirect::{HostPattern, RedirectHosts};

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaptureSettings {
    /// Hosts that `/v1/click` may redirect to: `shop.example.com`, or `*.example.com` for every host below. Empty: none.
    pub redirect_hosts: Vec<String>,
    /// Campaigns whose clicks may be redirected to these hosts only, instead of those above.
    pub campaign_redirect_hosts: Vec<CampaignHosts>,
    /// Addresses or CIDR blocks of our own proxies and servers; loopback always is one. A proxy must set
    /// `X-Forwarded-For`: without it, what it passes on is taken for its own word.
    pub trusted_proxies: Vec<String>,
    /// The CDN in front, which names the visitor's place in its headers: `cloudflare`, `cloudfront`, `fastly`, `akamai`. Empty: none.
    pub cdn: String,
    /// Instead of that, the header in which a trusted proxy names the visitor's country. Empty: none does.
    pub country_header: String,
    /// A file in MaxMind's format that tells where an address is, for visitors of whom no proxy says it. Empty: none.
    pub geo_file: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CampaignHosts {
    pub campaign_id: String,
    pub hosts: Vec<String>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingsError {
    #[error("a list of hosts to redirect to has `{0}`, which is no host; write `shop.example.com` or `*.example.com`")]
    RedirectHost(String),
    #[error("`capture.campaign_redirect_hosts` names campaign `{0}` twice; put all of its hosts into one list")]
    CampaignTwice(String),
    #[error(
        "`capture.trusted_proxies` has `{0}`, which is no network; write an address or a block such as `10.0.0.0/8`"
    )]
    TrustedProxy(String),
    #[error("`capture.country_header` is `{0}`, which is no header name; write one such as `cf-ipcountry`, or nothing")]
    CountryHeader(String),
    #[error("`capture.cdn` is `{0}`; write `cloudflare`, `cloudfront`, `fastly` or `akamai`, or nothing")]
    Cdn(String),
    #[error("both `capture.cdn` and `capture.country_header` are set; keep the one that is in front of the server")]
    TwoPlaces,
    #[error("there is no geography file `{0}`; put it there, or leave `capture.geo_file` empty")]
    GeoFile(String),
}

impl CaptureSettings {
    /// What is wrong with these settings, without building anything from them.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.proxies()?;
        self.redirect_hosts()?;
        self.campaign_redirect_hosts()?;
        Ok(())
    }

    pub(crate) fn proxies(&self) -> Result<Proxies, SettingsError> {
        let network = |text: &String| Network::parse(text).ok_or_else(|| SettingsError::TrustedProxy(text.clone()));
        let networks = self.trusted_proxies.iter().map(network).collect::<Result<_, _>>()?;
        Ok(Proxies { networks, place_headers: self.place_headers()? })
    }

    fn place_headers(&self) -> Result<Option<PlaceHeaders>, SettingsError> {
        match (self.cdn.as_str(), self.country_header.as_str()) {
            ("", "") => Ok(None),
            ("", name) => {
                let wrong = |_| SettingsError::CountryHeader(name.to_owned());
                Ok(Some(PlaceHeaders::Country(HeaderName::from_bytes(name.as_bytes()).map_err(wrong)?)))
            }
            (cdn, "") => PlaceHeaders::of_cdn(cdn).map(Some).ok_or_else(|| SettingsError::Cdn(cdn.to_owned())),
            _ => Err(SettingsError::TwoPlaces),
        }
    }

    pub(crate) fn redirect_hosts(&self) -> Result<RedirectHosts, SettingsError> {
        hosts(&self.redirect_hosts)
    }

    pub(crate) fn campaign_redirect_hosts(&self) -> Result<HashMap<String, RedirectHosts>, SettingsError> {
        let mut of_campaigns = HashMap::new();
        for CampaignHosts { campaign_id, hosts: list } in &self.campaign_redirect_hosts {
            if of_campaigns.insert(campaign_id.clone(), hosts(list)?).is_some() {
                return Err(SettingsError::CampaignTwice(campaign_id.clone()));
            }
        }
        Ok(of_campaigns)
    }
}

fn hosts(list: &[String]) -> Result<RedirectHosts, SettingsError> {
    let pattern = |text: &String| HostPattern::parse(text).ok_or_else(|| SettingsError::RedirectHost(text.clone()));
    Ok(RedirectHosts(list.iter().map(pattern).collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_setting_is_named_with_its_cure() {
        let hosts = CaptureSettings { redirect_hosts: vec!["https://shop.example".into()], ..Default::default() };
        assert_eq!(hosts.check(), Err(SettingsError::RedirectHost("https://shop.example".into())));
        let spring = |host: &str| CampaignHosts { campaign_id: "spring".into(), hosts: vec![host.into()] };
        let twice = vec![spring("a.example"), spring("b.example")];
        let twice = CaptureSettings { campaign_redirect_hosts: twice, ..Default::default() };
        assert_eq!(twice.check(), Err(SettingsError::CampaignTwice("spring".into())));
        let wrong = CaptureSettings { campaign_redirect_hosts: vec![spring("*")], ..Default::default() };
        assert_eq!(wrong.check(), Err(SettingsError::RedirectHost("*".into())));
        let proxies = CaptureSettings { trusted_proxies: vec!["10.0.0.0/40".into()], ..Default::default() };
        assert!(proxies.check().unwrap_err().to_string().contains("10.0.0.0/8"));
        let header = CaptureSettings { country_header: "cf country".into(), ..Default::default() };
        assert_eq!(header.check(), Err(SettingsError::CountryHeader("cf country".into())));
        let cdn = |cdn: &str, country_header: &str| {
            let (cdn, country_header) = (cdn.to_owned(), country_header.to_owned());
            CaptureSettings { cdn, country_header, ..Default::default() }.check()
        };
        assert_eq!(cdn("cloudflair", ""), Err(SettingsError::Cdn("cloudflair".into())));
        assert_eq!(cdn("cloudflare", "x-country"), Err(SettingsError::TwoPlaces));
        assert_eq!((cdn("akamai", ""), cdn("", "x-country")), (Ok(()), Ok(())));
        assert_eq!(CaptureSettings::default().check(), Ok(()));
    }

    #[test]
    fn an_unknown_setting_is_an_error() {
        let read = serde_json::from_str::<CaptureSettings>;
        assert!(read(r#"{"redirect_host": []}"#).unwrap_err().to_string().contains("redirect_host"));
        assert_eq!(read("{}").unwrap(), CaptureSettings::default());
    }
}
