//! The configuration: `default.toml`, then a file, then the environment, then the command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use config::builder::DefaultState;
use config::{ConfigBuilder, Environment, File, FileFormat};
use jiff::civil::Time;
use serde::Deserialize;
use tally_capture::{CaptureSettings, LimitSettings};
use tally_journal::{Claim, OsFolder, Storage};
use tally_model::{AttributionWindows, Entropy, SystemEntropy};
use tally_pipeline::{DedupOptions, PipelineSettings};

use crate::outbound::OutboundConfig;

pub const DEFAULTS: &str = include_str!("default.toml");

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: ServerConfig,
    pub tls: TlsConfig,
    pub postgres: PostgresConfig,
    pub capture: CaptureSettings,
    pub limits: LimitSettings,
    pub journal: JournalConfig,
    pub pipeline: PipelineConfig,
    pub lake: LakeConfig,
    pub attribution: AttributionConfig,
    pub outbound: OutboundConfig,
    pub reports: ReportsConfig,
    pub verify: VerifyConfig,
    pub log: LogConfig,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    pub listen: SocketAddr,
    pub idle_timeout_ms: u64,
    pub auth: Auth,
    pub data: PathBuf,
}

impl ServerConfig {
    /// Whether what is not open to the public needs an API key.
    pub fn requires_keys(&self) -> bool {
        match self.auth {
            Auth::Auto => !self.listens_on_loopback(),
            Auth::On => true,
            Auth::Off => false,
        }
    }

    pub fn listens_on_loopback(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// As soon as others than this machine can connect.
    Auto,
    On,
    Off,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl TlsConfig {
    pub fn is_on(&self) -> bool {
        !self.certificate.as_os_str().is_empty()
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// An address and a port, or nothing.
    listen: String,
}

/// What nobody chose gives way to whoever is there already.
const POSTGRES_LISTEN: &str = "127.0.0.1:5433";

impl PostgresConfig {
    pub fn is_default(&self) -> bool {
        self.listen == POSTGRES_LISTEN
    }

    /// None where it is turned off.
    pub fn listen(&self) -> Result<Option<SocketAddr>> {
        if self.listen.is_empty() {
            return Ok(None);
        }
        let parsed = self.listen.parse();
        let cure = "write an address and a port, such as \"127.0.0.1:5433\", or \"\" for none";
        Ok(Some(parsed.with_context(|| format!("`postgres.listen` is {:?}; {cure}", self.listen))?))
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalConfig {
    pub partitions: u16,
    pub segment_bytes: u32,
    pub queue_bytes: usize,
    pub behind_bytes: u64,
    pub retain_bytes: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineConfig {
    pub commit_after_ms: u64,
    pub commit_events: usize,
    pub dedup_ttl_s: u64,
    pub dedup_memory_bytes: u64,
    pub double_click_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LakeConfig {
    pub compact_every_s: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributionConfig {
    pub window_days: u32,
    pub view_window_days: u32,
}

impl AttributionConfig {
    pub fn windows(&self) -> AttributionWindows {
        AttributionWindows::of_days(self.window_days, self.view_window_days)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportsConfig {
    pub cache_bytes: u64,
    pub cells_bytes: u64,
    pub statement_bytes: usize,
    pub redis_url: String,
    pub audience_people_min: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyConfig {
    pub recount_at: String,
}

impl VerifyConfig {
    /// Seconds after midnight UTC; none where it is turned off.
    pub fn recount_at_s(&self) -> Result<Option<i64>> {
        if self.recount_at.is_empty() {
            return Ok(None);
        }
        let at = Time::strptime("%H:%M", &self.recount_at);
        let at = at.with_context(|| {
            format!("`verify.recount_at` is {:?}; write \"03:00\", or \"\" for never", self.recount_at)
        })?;
        Ok(Some(i64::from(at.hour()) * 3_600 + i64::from(at.minute()) * 60))
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    pub format: LogFormat,
    pub level: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Text,
    Json,
}

/// What the command line says about the configuration.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub file: Option<PathBuf>,
    pub listen: Option<SocketAddr>,
    pub data: Option<PathBuf>,
}

impl Config {
    pub fn load(overrides: &Overrides) -> Result<Self> {
        let environment = Environment::with_prefix("TALLY").separator("__").prefix_separator("__").try_parsing(true);
        let environment = environment
            .list_separator(",")
            .with_list_parse_key("capture.redirect_hosts")
            .with_list_parse_key("capture.trusted_proxies");
        Self::merge(overrides, environment)
    }

    fn merge(overrides: &Overrides, environment: Environment) -> Result<Self> {
        let mut builder =
            ConfigBuilder::<DefaultState>::default().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        if let Some(file) = &overrides.file {
            ensure!(file.is_file(), "there is no configuration file `{}`", file.display());
            builder = builder.add_source(File::from(file.as_path()).format(FileFormat::Toml));
        }
        let merged = builder.add_source(environment).build().context("cannot read the configuration")?;
        let mut config: Config = merged.try_deserialize().context("the configuration is wrong")?;
        if let Some(listen) = overrides.listen {
            config.server.listen = listen;
        }
        if let Some(data) = &overrides.data {
            config.server.data.clone_from(data);
        }
        config.check()?;
        Ok(config)
    }

    /// What no type can say.
    fn check(&self) -> Result<()> {
        if !(1_000..=3_600_000).contains(&self.server.idle_timeout_ms) {
            bail!("`server.idle_timeout_ms` is {}; use a second to an hour", self.server.idle_timeout_ms);
        }
        if self.tls.is_on() == self.tls.key.as_os_str().is_empty() {
            bail!("`tls.certificate` and `tls.key` belong together; give both files, or neither for no TLS");
        }
        if let Some(listen) = self.postgres.listen()?
            && !listen.ip().to_canonical().is_loopback()
            && !self.tls.is_on()
        {
            bail!(
                "`postgres.listen` is {listen}, which others can reach, and there is no TLS; set `tls.certificate` and \
                 `tls.key`, or listen on 127.0.0.1"
            );
        }
        self.capture.check()?;
        let journal = &self.journal;
        if !(1..=1_024).contains(&journal.partitions) {
            bail!("`journal.partitions` is {}; use 1 to 1024", journal.partitions);
        }
        if !((8 << 20)..=(1 << 30)).contains(&journal.segment_bytes) {
            bail!("`journal.segment_bytes` is {}; use 8 MiB to 1 GiB", journal.segment_bytes);
        }
        if journal.queue_bytes < 8 << 20 {
            bail!("`journal.queue_bytes` is {}; use at least 8 MiB", journal.queue_bytes);
        }
        if journal.behind_bytes < 4 * u64::from(journal.segment_bytes) {
            bail!(
                "`journal.behind_bytes` is {}; use at least four times `journal.segment_bytes`",
                journal.behind_bytes
            );
        }
        if !(1..=5_000_000).contains(&self.pipeline.commit_events) {
            bail!("`pipeline.commit_events` is {}; use 1 to 5,000,000", self.pipeline.commit_events);
        }
        if !(10..=3_600_000).contains(&self.pipeline.commit_after_ms) {
            bail!("`pipeline.commit_after_ms` is {}; use 10 ms to an hour", self.pipeline.commit_after_ms);
        }
        if self.pipeline.dedup_ttl_s == 0 {
            bail!("`pipeline.dedup_ttl_s` is 0; an id must be remembered for at least a second");
        }
        if self.pipeline.dedup_memory_bytes < 64 << 20 {
            bail!("`pipeline.dedup_memory_bytes` is {}; use at least 64 MiB", self.pipeline.dedup_memory_bytes);
        }
        if self.pipeline.double_click_ms > 600_000 {
            bail!("`pipeline.double_click_ms` is {}; use 0 (off) to 10 minutes", self.pipeline.double_click_ms);
        }
        if self.lake.compact_every_s == 0 {
            bail!("`lake.compact_every_s` is 0; use at least 1");
        }
        for (name, days) in
            [("window_days", self.attribution.window_days), ("view_window_days", self.attribution.view_window_days)]
        {
            if !(1..=365).contains(&days) {
                bail!("`attribution.{name}` is {days}; use 1 to 365");
            }
        }
        self.outbound.templates()?;
        self.verify.recount_at_s()?;
        Ok(())
    }

    /// Whether whoever comes to the Postgres port must log in: where HTTP asks for keys, and where others can connect.
    pub fn postgres_requires_keys(&self, listen: SocketAddr) -> bool {
        match self.server.auth {
            Auth::Auto => !self.server.listens_on_loopback() || !listen.ip().to_canonical().is_loopback(),
            Auth::On => true,
            Auth::Off => false,
        }
    }

    pub fn dedup_options(&self, folder: &DataFolder) -> DedupOptions {
        DedupOptions {
            folder: Some(folder.dedup()),
            memory_bytes_max: self.pipeline.dedup_memory_bytes,
            seed: SystemEntropy.bits(),
        }
    }

    pub fn pipeline_settings(&self) -> PipelineSettings {
        PipelineSettings {
            commit_after: Duration::from_millis(self.pipeline.commit_after_ms),
            commit_events_max: self.pipeline.commit_events,
            dedup_ttl_s: self.pipeline.dedup_ttl_s,
            double_click_ms: self.pipeline.double_click_ms,
        }
    }
}

/// Where things are in the data folder.
#[derive(Debug, Clone)]
pub struct DataFolder(PathBuf);

impl DataFolder {
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    pub fn journal(&self) -> PathBuf {
        self.0.join("journal")
    }

    pub fn lake(&self) -> PathBuf {
        self.0.join("lake")
    }

    /// Keeps servers, and other commands that write, out of the folder for as long as the claim is held.
    pub fn claim(&self) -> Result<Claim> {
        ensure!(self.journal().is_dir(), "there is no data folder `{}`", self.0.display());
        Ok(OsFolder::new(self.journal()).claim()?)
    }

    pub fn dedup(&self) -> PathBuf {
        self.0.join("dedup")
    }

    pub fn exports(&self) -> PathBuf {
        self.0.join("exports")
    }

    pub fn outbound(&self) -> PathBuf {
        self.0.join("outbound")
    }

    pub fn signing_keys(&self) -> PathBuf {
        self.0.join("signing.keys")
    }

    pub fn keys(&self) -> PathBuf {
        self.0.join("keys.json")
    }

    pub fn hash_key(&self) -> PathBuf {
        self.0.join("hash.key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn load(file: &str, environment: &[(&str, &str)]) -> Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tally.toml");
        std::fs::write(&path, file).unwrap();
        let variables: HashMap<String, String> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let environment = Environment::with_prefix("TALLY").separator("__").prefix_separator("__").try_parsing(true);
        let overrides = Overrides { file: Some(path), ..Overrides::default() };
        Config::merge(&overrides, environment.source(Some(variables)))
    }

    #[test]
    fn the_environment_beats_the_file_and_the_file_beats_the_defaults() {
        let config =
            load("[journal]\npartitions = 8\nretain_bytes = 5", &[("TALLY__JOURNAL__PARTITIONS", "16")]).unwrap();
        assert_eq!((config.journal.partitions, config.journal.retain_bytes), (16, 5));
        assert_eq!(config.pipeline.dedup_ttl_s, 86_400);
    }

    #[test]
    fn the_postgres_port_is_off_where_its_address_is_empty_and_asks_for_keys_as_http_does() {
        let config = load("[postgres]\nlisten = \"\"", &[]).unwrap();
        assert_eq!(config.postgres.listen().unwrap(), None);
        let config = load("", &[]).unwrap();
        let listen = config.postgres.listen().unwrap().unwrap();
        assert!(config.postgres.is_default() && !config.postgres_requires_keys(listen));
        assert!(config.postgres_requires_keys("0.0.0.0:5433".parse().unwrap()));
        let public = load("[server]\nlisten = \"0.0.0.0:8080\"", &[]).unwrap();
        assert!(public.postgres_requires_keys(listen), "HTTP asks for keys, and Postgres does not");
    }

    #[test]
    fn a_campaign_has_its_own_hosts_under_its_name_as_it_is_written() {
        let file = "[capture]\ncampaign_redirect_hosts = [{ campaign_id = \"Spring.1\", hosts = [\"a.example\"] }]";
        let campaigns = load(file, &[]).unwrap().capture.campaign_redirect_hosts;
        assert_eq!(
            (campaigns[0].campaign_id.as_str(), campaigns[0].hosts.as_slice()),
            ("Spring.1", &["a.example".to_owned()][..])
        );
    }

    #[test]
    fn keys_are_required_as_soon_as_others_can_connect_unless_that_is_decided_otherwise() {
        let check = |listen: &str, auth: &str, required: bool| {
            let file = format!("[server]\nlisten = \"{listen}\"\nauth = \"{auth}\"");
            assert_eq!(load(&file, &[]).unwrap().server.requires_keys(), required, "{listen}, {auth}");
        };
        check("127.0.0.1:8080", "auto", false);
        check("[::1]:8080", "auto", false);
        check("0.0.0.0:8080", "auto", true);
        check("[::]:8080", "auto", true);
        check("192.0.2.1:8080", "auto", true);
        check("127.0.0.1:8080", "on", true);
        check("0.0.0.0:8080", "off", false);
    }

    #[test]
    fn a_key_that_does_not_exist_or_a_value_out_of_range_is_an_error_that_names_it() {
        for (file, environment, says) in [
            ("[journal]\npartition = 8", vec![], "partition"),
            ("[journal]\npartitions = 0", vec![], "`journal.partitions` is 0; use 1 to 1024"),
            ("", vec![("TALLY__JOURNAL__RETAIN", "1h")], "retain"),
            ("[server]\nlisten = \"localhost\"", vec![], "listen"),
            ("[server]\nidle_timeout_ms = 5", vec![], "`server.idle_timeout_ms` is 5; use a second to an hour"),
            ("[tls]\nkey = \"key.pem\"", vec![], "`tls.certificate` and `tls.key` belong together"),
            ("[server]\nauth = \"maybe\"", vec![], "maybe"),
            ("[postgres]\nlisten = \"5433\"", vec![], "`postgres.listen` is \"5433\"; write an address and a port"),
            ("[postgres]\nlisten = \"0.0.0.0:5433\"", vec![], "which others can reach, and there is no TLS"),
            ("[limits]\nip_per_s = -1", vec![], "ip_per_s"),
            ("[verify]\nrecount_at = \"25:00\"", vec![], "`verify.recount_at` is \"25:00\""),
            ("[capture]\ncampaign_redirect_hosts = [{ campaign_id = \"Spring.1\", host = [] }]", vec![], "host"),
            ("[capture]\ntrusted_proxies = [\"10.0.0.0/99\"]", vec![], "10.0.0.0/99"),
        ] {
            let error = format!("{:#}", load(file, &environment).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }
}
