//! One try: a GET that follows nothing, within a time, to a public address.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};

use super::address::{PublicOnly, may_be_called};
use super::ledger::Postback;

const CONNECT_TIME: Duration = Duration::from_secs(3);
const ANSWER_TIME: Duration = Duration::from_secs(10);

pub(super) struct Sender {
    http: Client,
    allow_private: bool,
}

pub(super) enum Sent {
    Taken,
    Failed {
        why: String,
        /// Whether another try would be answered the same.
        is_final: bool,
    },
}

impl Sender {
    pub fn new(allow_private: bool) -> Result<Self> {
        let mut http = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIME)
            .timeout(ANSWER_TIME)
            .user_agent(concat!("tally/", env!("CARGO_PKG_VERSION")));
        if !allow_private {
            http = http.dns_resolver(Arc::new(PublicOnly));
        }
        Ok(Self { http: http.build()?, allow_private })
    }

    pub async fn send(&self, postback: &Postback) -> Sent {
        let failed = |why: String, is_final| Sent::Failed { why, is_final };
        let Ok(url) = Url::parse(&postback.url) else { return failed("its address is no URL".to_owned(), true) };
        if !self.allow_private && !may_be_called(url.host_str().unwrap_or_default()) {
            return failed("its address is not in the public network".to_owned(), true);
        }
        let request = self.http.get(url).header("idempotency-key", postback.key.to_string());
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Sent::Taken,
            Ok(answer) => failed(format!("it was answered {}", answer.status()), is_final(answer.status())),
            // Without its address, which may hold an advertiser's secret.
            Err(error) => failed(chain(&error.without_url()), false),
        }
    }
}

/// A receiver that says that the request is wrong says so next time too. A redirect is not followed, and stays one.
fn is_final(status: StatusCode) -> bool {
    let may_pass = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    (status.is_client_error() && !may_pass.contains(&status)) || status.is_redirection()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        text = format!("{text}: {cause}");
        below = cause.source();
    }
    text
}
