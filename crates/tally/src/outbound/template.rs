//! Where a campaign's conversions are told, and with what filled in.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use reqwest::Url;
use serde::Deserialize;
use tally_model::{ConversionRow, ConversionStatus, EventId};

use super::address::may_be_called;
use super::ledger::Entry;

const NAMES: [&str; 11] = [
    "event_id",
    "transaction_id",
    "txn_id",
    "click_id",
    "status",
    "amount",
    "amount_micros",
    "currency",
    "campaign_id",
    "ad_id",
    "occurred_at",
];

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboundConfig {
    pub campaigns: Vec<CampaignAddress>,
    pub allow_private: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CampaignAddress {
    pub campaign_id: String,
    pub url: String,
}

/// The address of each campaign.
pub(crate) struct Templates(HashMap<String, String>);

impl OutboundConfig {
    pub fn templates(&self) -> Result<Templates> {
        let mut templates = HashMap::new();
        for CampaignAddress { campaign_id, url } in &self.campaigns {
            let place = format!("`outbound.campaigns` of {campaign_id:?}");
            let parsed = Url::parse(url).with_context(|| format!("{place}: it is no URL; write https://.."))?;
            let host = parsed.host_str().unwrap_or_default();
            ensure!(matches!(parsed.scheme(), "http" | "https"), "{place}: write an http or https URL");
            ensure!(!host.contains(['{', '%']), "{place}: a macro may stand behind the host, not in it");
            ensure!(
                self.allow_private || may_be_called(host),
                "{place}: `{host}` is not in the public network; outbound.allow_private lets it be called"
            );
            let is_first = templates.insert(campaign_id.clone(), url.clone()).is_none();
            ensure!(is_first, "{place}: the campaign stands twice; keep one address");
        }
        Ok(Templates(templates))
    }
}

impl Templates {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What has to be told of a conversion, if anything. An address that does not ask for the status is told what is approved, and
    /// nothing that it would take for that.
    pub(super) fn owed(&self, conversion: &ConversionRow) -> Option<Entry> {
        let campaign_id = conversion.campaign_id.as_deref()?;
        let template = self.0.get(campaign_id)?;
        let is_approved = conversion.status == ConversionStatus::Approved.as_str();
        if !is_approved && !template.contains("{status}") {
            return None;
        }
        let key: EventId = conversion.event_id.parse().ok()?;
        Some(Entry::Owed { key, campaign_id: campaign_id.to_owned(), url: filled(template, conversion) })
    }
}

/// Values are percent-encoded, so that none brings a parameter or a macro of its own.
fn filled(template: &str, conversion: &ConversionRow) -> String {
    NAMES
        .into_iter()
        .fold(template.to_owned(), |url, name| url.replace(&format!("{{{name}}}"), &encoded(&value(name, conversion))))
}

fn value(name: &str, conversion: &ConversionRow) -> String {
    let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
    match name {
        "event_id" => conversion.event_id.clone(),
        "transaction_id" => conversion.transaction_id.clone(),
        "txn_id" => or_empty(&conversion.txn_id),
        "click_id" => conversion.touch_id.clone().or_else(|| conversion.click_id.clone()).unwrap_or_default(),
        "status" => conversion.status.clone(),
        "amount" => units(conversion.revenue_micros),
        "amount_micros" => conversion.revenue_micros.to_string(),
        "currency" => or_empty(&conversion.currency),
        "campaign_id" => or_empty(&conversion.campaign_id),
        "ad_id" => or_empty(&conversion.ad_id),
        "occurred_at" => conversion.occurred_at.clone(),
        _ => String::new(),
    }
}

/// Millionths as units with a point, without zeros at the end beyond cents.
fn units(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let (units, millionths) = (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
    let decimals = format!("{millionths:06}");
    let (cents, rest) = decimals.split_at(2);
    format!("{sign}{units}.{cents}{}", rest.trim_end_matches('0'))
}

/// All but the unreserved characters (RFC 3986, section 2.3).
pub(crate) fn encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversion(status: &str) -> ConversionRow {
        ConversionRow {
            event_id: "00000000-0000-8000-8000-000000000001".to_owned(),
            transaction_id: "t".to_owned(),
            txn_id: Some("7&amount=9{currency}".to_owned()),
            status: status.to_owned(),
            verdict: "counted".to_owned(),
            received_at: String::new(),
            occurred_at: "2024-05-05T05:05:05Z".to_owned(),
            revenue_micros: 12_500_000,
            currency: Some("EUR".to_owned()),
            resolution: "click_id".to_owned(),
            click_id: Some("c".to_owned()),
            touch_id: None,
            touched_at: None,
            campaign_id: Some("spring".to_owned()),
            ad_id: None,
            time_to_convert_s: None,
        }
    }

    fn templates(url: &str, allow_private: bool) -> Result<Templates> {
        let campaigns = vec![CampaignAddress { campaign_id: "spring".to_owned(), url: url.to_owned() }];
        OutboundConfig { campaigns, allow_private }.templates()
    }

    #[test]
    fn a_value_brings_no_parameter_and_no_macro_of_its_own() {
        let templates =
            templates("https://adv.example/{ad_id}?t={txn_id}&a={amount}&c={click_id}&x={nobody}", false).unwrap();
        let Some(Entry::Owed { url, .. }) = templates.owed(&conversion("approved")) else { panic!("nothing is owed") };
        assert_eq!(url, "https://adv.example/?t=7%26amount%3D9%7Bcurrency%7D&a=12.50&c=c&x={nobody}");
    }

    #[test]
    fn who_does_not_ask_for_the_status_is_told_what_is_approved() {
        let plain = templates("https://adv.example/?t={txn_id}", false).unwrap();
        assert!(plain.owed(&conversion("pending")).is_none() && plain.owed(&conversion("approved")).is_some());
        let all = templates("https://adv.example/?s={status}", false).unwrap();
        assert!(all.owed(&conversion("rejected")).is_some());
        let others = ConversionRow { campaign_id: Some("summer".to_owned()), ..conversion("approved") };
        assert!(all.owed(&others).is_none());
    }

    #[test]
    fn an_amount_is_told_to_its_last_digit() {
        for (micros, told) in
            [(12_500_000, "12.50"), (1, "0.000001"), (0, "0.00"), (-1_230_000, "-1.23"), (7, "0.000007")]
        {
            assert_eq!(units(micros), told);
        }
    }

    #[test]
    fn an_address_that_must_not_be_called_is_refused_when_the_server_starts() {
        for url in [
            "adv.example",
            "ftp://adv.example/",
            "https://{campaign_id}.example/",
            "http://127.0.0.1/",
            "http://[::1]/",
        ] {
            assert!(templates(url, false).is_err(), "{url} was taken");
        }
        assert!(templates("http://127.0.0.1:9/", true).is_ok());
    }
}
