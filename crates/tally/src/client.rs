//! Where a reading command gets its answers: from a server over HTTP, or from a data folder on this machine.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};
use tally_lake::{Lake, Queries, Sql, SqlLimits, encode_answer};
use tally_model::report::{Report, ReportRequest};
use tally_model::{Days, Format, Page, Reason, SystemClock};

use crate::cli::{KeyArguments, WhereArguments};
use crate::config::{Config, DataFolder, Overrides};
use crate::keys::Token;

pub enum Source {
    Server { http: reqwest::Client, url: String },
    Folder { queries: Box<Queries>, sql: Sql, dedup_ttl_s: u64 },
}

impl Source {
    pub async fn of(place: &WhereArguments) -> Result<Self> {
        match &place.data {
            None => Ok(Self::Server { http: http(&place.key)?, url: place.server.trim_end_matches('/').to_owned() }),
            Some(data) => Self::folder(data).await,
        }
    }

    async fn folder(data: &Path) -> Result<Self> {
        let lake = DataFolder::new(data).lake();
        if !Lake::exists(&lake) {
            bail!("there is no lake in `{}`; give the folder that `tally serve --data` was given", data.display());
        }
        let config = Config::load(&Overrides::default())?;
        let lake = Lake::open(&lake, 0, Arc::new(SystemClock)).await?;
        Ok(Self::Folder {
            queries: Box::new(lake.queries()),
            sql: lake.sql(config.reports.statement_bytes)?,
            dedup_ttl_s: config.pipeline.dedup_ttl_s,
        })
    }

    /// A report as `{"rows": [..], "meta": {..}}`.
    pub async fn report(&self, request: &ReportRequest) -> Result<Value> {
        match self {
            Source::Server { http, url } => {
                let response = http.post(format!("{url}/v1/query")).json(request).send().await;
                read(response.with_context(|| no_server(url))?, &[]).await
            }
            Source::Folder { queries, .. } => {
                let answer = queries.report(&Report::try_from(request)?).await?;
                let row = |values: Vec<Value>| -> Value {
                    Value::Object(answer.columns.iter().cloned().zip(values).collect::<Map<_, _>>())
                };
                let meta = json!({
                    "source": answer.meta.source,
                    "table_version": answer.meta.table_version,
                    "warnings": answer.meta.warnings,
                });
                Ok(json!({"rows": answer.rows.into_iter().map(row).collect::<Vec<_>>(), "meta": meta}))
            }
        }
    }

    /// The same in another format, as it comes.
    pub async fn report_as(&self, request: &ReportRequest, format: Format, out: &mut dyn Write) -> Result<()> {
        match self {
            Source::Server { http, url } => {
                let request = ReportRequest { format: Some(format.as_str().to_owned()), ..request.clone() };
                let response = http.post(format!("{url}/v1/query")).json(&request).send().await;
                copy(response.with_context(|| no_server(url))?, out).await
            }
            Source::Folder { .. } if format == Format::Json => Ok(write!(out, "{}", self.report(request).await?)?),
            Source::Folder { queries, .. } => {
                let answer = queries.report(&Report::try_from(request)?).await?;
                for piece in encode_answer(Arc::new(answer), format)? {
                    out.write_all(&piece?)?;
                }
                Ok(())
            }
        }
    }

    /// The answer to a statement in a format, as it comes.
    pub async fn sql(&self, statement: &str, format: Format, time: Duration, out: &mut dyn Write) -> Result<()> {
        match self {
            Source::Server { http, url } => {
                let question =
                    json!({"sql": statement, "format": format.as_str(), "time_limit_ms": time.as_millis() as u64});
                let response = http.post(format!("{url}/v1/sql")).json(&question).send().await;
                copy(response.with_context(|| no_server(url))?, out).await
            }
            Source::Folder { sql, .. } => {
                let rows = sql.run(statement, SqlLimits { time, rows: None }).await?;
                let mut chunks = std::pin::pin!(rows.encoded(format));
                while let Some(chunk) = chunks.next().await {
                    out.write_all(&chunk?)?;
                }
                Ok(())
            }
        }
    }

    /// The proof as `{"holds": .., "report": {..}}`.
    pub async fn verify(&self, recount: bool) -> Result<Value> {
        match self {
            Source::Server { http, url } => proof(http, url, &format!("recount={recount}")).await,
            Source::Folder { queries, dedup_ttl_s, .. } => {
                let report = queries.check(recount, *dedup_ttl_s).await?;
                Ok(json!({"holds": report.holds(), "report": report}))
            }
        }
    }

    /// The same for a recount of some days.
    pub async fn verify_days(&self, days: Days) -> Result<Value> {
        match self {
            Source::Server { http, url } => {
                let [from, to] = days.dates();
                proof(http, url, &format!("recount=true&from={from}&to={to}")).await
            }
            Source::Folder { queries, dedup_ttl_s, .. } => {
                let report = queries.check_days(days, *dedup_ttl_s).await?;
                Ok(json!({"holds": report.holds(), "report": report}))
            }
        }
    }

    pub async fn why(&self, event_id: &str) -> Result<Value> {
        match self {
            Source::Server { http, url } => {
                let response = http.get(format!("{url}/v1/events/{event_id}")).send().await;
                read(response.with_context(|| no_server(url))?, &[]).await
            }
            Source::Folder { queries, .. } => {
                let id = event_id.parse().with_context(|| format!("{event_id:?} is not a UUID"))?;
                let life = queries.life(id).await?;
                if life.sightings.is_empty() {
                    bail!("the lake has no event {event_id}");
                }
                Ok(serde_json::to_value(life)?)
            }
        }
    }

    /// The newest events in quarantine.
    pub async fn quarantined(&self, reason: Option<&str>, limit: usize) -> Result<Vec<Value>> {
        let listed = match self {
            Source::Server { http, url } => {
                let mut parameters = vec![("limit", limit.to_string())];
                parameters.extend(reason.map(|reason| ("reason", reason.to_owned())));
                let response = http.get(format!("{url}/v1/quarantine")).query(&parameters).send().await;
                read(response.with_context(|| no_server(url))?, &[]).await?["events"].take()
            }
            Source::Folder { queries, .. } => {
                let parse = |name| Reason::parse(name).with_context(|| format!("{name:?} is no reason"));
                let page = Page { limit, after: None };
                json!(queries.quarantined(reason.map(parse).transpose()?, page).await?.rows)
            }
        };
        Ok(listed.as_array().cloned().unwrap_or_default())
    }
}

/// Has a server do something, however long it takes.
pub async fn post(server: &str, key: &KeyArguments, path: &str, body: &Value) -> Result<Value> {
    let url = server.trim_end_matches('/');
    let response = http(key)?.post(format!("{url}{path}")).json(body).send().await;
    read(response.with_context(|| no_server(url))?, &[]).await
}

/// A proof that does not hold is an answer too.
async fn proof(http: &reqwest::Client, url: &str, parameters: &str) -> Result<Value> {
    let response = http.get(format!("{url}/v1/verify?{parameters}")).send().await;
    read(response.with_context(|| no_server(url))?, &[StatusCode::CONFLICT]).await
}

/// Shows the API key with each request, if there is one.
fn http(key: &KeyArguments) -> Result<reqwest::Client> {
    let mut headers = HeaderMap::new();
    if let Some(key) = api_key(key)? {
        let mut value = HeaderValue::try_from(format!("Bearer {key}"))?;
        // Kept out of what the library prints of a request.
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(reqwest::Client::builder().default_headers(headers).build()?)
}

/// From the file that was named, else from the environment: what stands on a command line is seen by all processes. An error
/// does not repeat what was found.
pub fn api_key(key: &KeyArguments) -> Result<Option<String>> {
    let (found, place) = match &key.key_file {
        Some(file) => {
            let text = std::fs::read_to_string(file);
            let text = text.with_context(|| format!("cannot read the API key from `{}`", file.display()))?;
            (text, format!("`{}`", file.display()))
        }
        None => match std::env::var("TALLY_KEY") {
            Ok(text) => (text, "TALLY_KEY".to_owned()),
            Err(_) => return Ok(None),
        },
    };
    let text = found.trim();
    ensure!(Token::parse(text).is_some(), "{place} holds no API key; `tally keys create` prints one, as `tally_..`");
    Ok(Some(text.to_owned()))
}

fn no_server(url: &str) -> String {
    format!("no answer from {url}; start one with `tally serve`, or read a folder with --data")
}

/// An answer's body, as it comes; a problem becomes an error in the server's words.
async fn copy(mut response: reqwest::Response, out: &mut dyn Write) -> Result<()> {
    if !response.status().is_success() {
        return read(response, &[]).await.map(|_| ());
    }
    while let Some(chunk) = response.chunk().await.context("the answer broke off; the server's log says why")? {
        out.write_all(&chunk)?;
    }
    Ok(())
}

/// The JSON of an answer; a problem becomes an error in the server's words.
async fn read(response: reqwest::Response, also_fine: &[StatusCode]) -> Result<Value> {
    let status = response.status();
    let body: Value = response.json().await.with_context(|| format!("the server answered {status} without JSON"))?;
    if status.is_success() || also_fine.contains(&status) {
        return Ok(body);
    }
    bail!("{}", body["detail"].as_str().unwrap_or("the server refused, and did not say why"))
}
