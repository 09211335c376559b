//! A server process in a temporary folder, and the questions that tests ask it.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

pub const BINARY: &str = env!("CARGO_BIN_EXE_tally");
const READY_TIME: Duration = Duration::from_secs(60);
const COUNT_TIME: Duration = Duration::from_secs(120);

pub struct Server {
    pub folder: TempDir,
    port: u16,
    process: Option<Child>,
    http: ureq::Agent,
    settings: Vec<(&'static str, String)>,
}

impl Server {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With settings from the environment, such as `("TALLY__JOURNAL__PARTITIONS", "1")`.
    pub fn with(settings: &[(&'static str, &str)]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let http = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(300)))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent("Mozilla/5.0 (X11; Linux x86_64) Firefox/127.0")
            .build()
            .into();
        let mut all =
            vec![("TALLY__PIPELINE__COMMIT_AFTER_MS", "200".to_owned()), ("TALLY__LOG__LEVEL", "warn".to_owned())];
        all.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let mut server = Self { folder: tempfile::tempdir().unwrap(), port, process: None, http, settings: all };
        server.restart();
        server
    }

    /// Starts the process (again) on the same folder and port, and waits until it is ready.
    pub fn restart(&mut self) {
        self.spawn();
        let started = Instant::now();
        while self.status("/readyz") != Some(200) {
            assert!(started.elapsed() < READY_TIME, "the server did not become ready");
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the server ended: {ended:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn spawn(&mut self) {
        let mut command = self.command();
        self.process = Some(command.stdin(Stdio::null()).spawn().unwrap());
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(BINARY);
        command.args(["serve", "--listen", &format!("127.0.0.1:{}", self.port), "--data"]).arg(self.folder.path());
        command.envs(self.settings.iter().map(|(name, value)| (*name, value.as_str())));
        command
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// SIGTERM; gives whether it ended well.
    pub fn stop(&mut self) -> bool {
        let mut process = self.process.take().unwrap();
        assert!(Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap().success());
        process.wait().unwrap().success()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn status(&self, path: &str) -> Option<u16> {
        self.http.get(self.url(path)).call().ok().map(|answer| answer.status().as_u16())
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        let answer = self.head_and_body(path);
        (answer.0, answer.2)
    }

    /// Status, headers and body.
    pub fn head_and_body(&self, path: &str) -> (u16, ureq::http::HeaderMap, String) {
        let mut answer = self.http.get(self.url(path)).call().unwrap();
        let body = answer.body_mut().read_to_vec().unwrap();
        (answer.status().as_u16(), answer.headers().clone(), String::from_utf8_lossy(&body).into_owned())
    }

    pub fn post(&self, path: &str, body: impl AsRef<[u8]>, headers: &[(&str, &str)]) -> (u16, String) {
        let mut request = self.http.post(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut answer = request.send(body.as_ref()).unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    }

    /// A report's rows, over all time unless the question says else.
    pub fn ask(&self, mut question: Value) -> Vec<Value> {
        for (name, value) in [("from", "2000-01-01T00:00:00Z"), ("to", "2100-01-01T00:00:00Z")] {
            let fields = question.as_object_mut().unwrap();
            fields.entry(name).or_insert_with(|| json!(value));
        }
        let (status, body) = self.post("/v1/query", question.to_string(), &[]);
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 200, "{question}: {body}");
        body["rows"].as_array().unwrap().clone()
    }

    /// One figure over everything.
    pub fn total(&self, metric: &str) -> i64 {
        self.ask(json!({"metrics": [metric]}))[0][metric].as_i64().unwrap()
    }

    pub fn received(&self) -> u64 {
        let kinds = ["gross_impressions", "gross_clicks", "gross_conversions"];
        let rows = self.ask(json!({"metrics": kinds}));
        kinds.iter().map(|metric| rows[0][*metric].as_u64().unwrap()).sum()
    }

    /// Waits until everything acknowledged so far is in the figures: until the watermark is past this moment.
    #[allow(clippy::disallowed_methods, reason = "the watermark is compared with this machine's clock")]
    pub fn wait_until_counted(&self) {
        let started = Instant::now();
        let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        while metric(&self.get("/metrics").1, "tally_pipeline_watermark_seconds") < now_s {
            assert!(started.elapsed() < COUNT_TIME, "events were not counted in time");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Proves the figures on the running server.
    pub fn verify(&self) {
        let (status, body) = self.get("/v1/verify?recount=true");
        assert_eq!(status, 200, "{body}");
    }

    /// Another command of the binary.
    pub fn tally(&self, arguments: &[&str]) -> Output {
        Command::new(BINARY).args(arguments).output().unwrap()
    }

    pub fn data(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A metric without labels, from Prometheus text.
pub fn metric(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(f64::NAN)
}

pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub fn click(id: u128, campaign: &str) -> Value {
    let id = uuid::Uuid::from_u128(id);
    json!({"event_id": id, "kind": "click", "campaign_id": campaign, "ad_id": "a", "occurred_at": "2024-05-05T05:05:05Z", "user_agent": "test"})
}

pub fn ndjson(events: &[Value]) -> String {
    events.iter().map(|event| format!("{event}\n")).collect()
}
