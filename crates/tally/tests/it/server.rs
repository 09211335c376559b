//! A server process in a temporary folder, and the questions that tests ask it.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

pub const BINARY: &str = env!("CARGO_BIN_EXE_tally");
const READY_TIME: Duration = Duration::from_secs(60);
const COUNT_TIME: Duration = Duration::from_secs(120);

/// How long a server that was told to stop may take: it drains and commits first.
const STOP_TIME: Duration = Duration::from_secs(90);

/// What systemd sets for a process that gets one socket. `exec` keeps the process id.
const HAND_OVER: &str = r#"export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&0 </dev/null"#;

pub struct Server {
    /// Holds the log, and the data unless that is elsewhere.
    folder: TempDir,
    port: u16,
    /// The listening socket, where the server is handed it.
    socket: Option<TcpListener>,
    process: Option<Child>,
    http: ureq::Agent,
    launch: Launch,
}

/// What a server is started with.
#[derive(Default)]
pub struct Launch {
    /// From the environment, such as `("TALLY__JOURNAL__PARTITIONS", "1")`.
    pub settings: Vec<(&'static str, String)>,
    /// The data folder, if not a temporary one.
    pub data: Option<PathBuf>,
    /// A command that runs what follows it, in a way that keeps the process id: `prlimit --nofile=64`.
    pub under: Vec<String>,
    /// Whether the listening socket is ours, and handed to the process when it starts, as systemd does.
    pub hands_over_socket: bool,
    /// Whether the log goes to a file that the test reads, instead of to the test's own output.
    pub is_logged: bool,
    /// The text of a configuration file.
    pub config: Option<String>,
    /// Whether it listens on all addresses of this machine, as a public server does. Tests still ask it through loopback.
    pub on_all_addresses: bool,
}

impl Server {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With settings from the environment, such as `("TALLY__JOURNAL__PARTITIONS", "1")`.
    pub fn with(settings: &[(&'static str, &str)]) -> Self {
        let settings = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let mut server = Self::prepare(Launch { settings, ..Launch::default() });
        server.restart();
        server
    }

    /// Everything but the process, which is started by [`Server::restart`] or [`Server::spawn`].
    pub fn prepare(mut launch: Launch) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let socket = launch.hands_over_socket.then_some(socket);
        let http = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(300)))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent("Mozilla/5.0 (X11; Linux x86_64) Firefox/127.0")
            .build()
            .into();
        // First, so that the test's own win. Of the Postgres port there is one a machine, so only tests of it open one.
        let defaults = [
            ("TALLY__PIPELINE__COMMIT_AFTER_MS", "200"),
            ("TALLY__LOG__LEVEL", "warn"),
            ("TALLY__POSTGRES__LISTEN", ""),
        ];
        launch.settings.splice(0..0, defaults.map(|(name, value)| (name, value.to_owned())));
        Self { folder: tempfile::tempdir().unwrap(), port, socket, process: None, http, launch }
    }

    /// Starts the process (again) on the same folder and port, waits until it is ready, and says how long that took.
    pub fn restart(&mut self) -> Duration {
        self.spawn();
        self.wait_until_ready()
    }

    pub fn wait_until_ready(&mut self) -> Duration {
        let started = Instant::now();
        while self.status("/readyz") != Some(200) {
            assert!(started.elapsed() < READY_TIME, "the server did not become ready: {}", self.log());
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the server ended: {ended:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        started.elapsed()
    }

    pub fn spawn(&mut self) {
        let mut command = self.command();
        if self.launch.is_logged {
            command.stderr(File::create(self.log_path()).unwrap());
        }
        // Where a socket is handed over, it arrives as standard input and is moved from there.
        let socket = self.socket.as_ref().map(|socket| OwnedFd::from(socket.try_clone().unwrap()));
        self.process = Some(command.stdin(socket.map_or_else(Stdio::null, Stdio::from)).spawn().unwrap());
    }

    pub fn command(&self) -> Command {
        let hand_over: &[&str] = if self.socket.is_some() { &["sh", "-c", HAND_OVER, "sh"] } else { &[] };
        let under = self.launch.under.iter().map(String::as_str);
        let mut words = hand_over.iter().copied().chain(under).chain([BINARY]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        let address = if self.launch.on_all_addresses { "0.0.0.0" } else { "127.0.0.1" };
        command.args(["serve", "--listen", &format!("{address}:{}", self.port), "--data"]).arg(self.data());
        if let Some(config) = &self.launch.config {
            let path = self.folder.path().join("tally.toml");
            std::fs::write(&path, config).unwrap();
            command.arg("--config").arg(path);
        }
        command.envs(self.launch.settings.iter().map(|(name, value)| (*name, value.as_str())));
        command
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("stderr")
    }

    /// What this process has logged so far; empty where that goes to the test's own output.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.try_wait().unwrap().is_none())
    }

    fn id(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// CPU time of the process, so far.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        // User and system, in hundredths of a second.
        let ticks: u64 = [11, 12].into_iter().map(|at| fields[at].parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// From now on, and until the next call.
    pub fn limit_open_files(&self, files: usize) {
        let arguments = [format!("--pid={}", self.id()), format!("--nofile={files}:")];
        assert!(Command::new("prlimit").args(arguments).status().unwrap().success());
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Another signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// SIGTERM; gives whether it ended well.
    pub fn stop(&mut self) -> bool {
        self.signal("TERM");
        self.wait_until_ended().success()
    }

    /// How a process ends that was told to, or that cannot go on.
    pub fn wait_until_ended(&mut self) -> ExitStatus {
        let mut process = self.process.take().unwrap();
        let started = Instant::now();
        loop {
            if let Some(ended) = process.try_wait().unwrap() {
                return ended;
            }
            if started.elapsed() > STOP_TIME {
                process.kill().unwrap();
                process.wait().unwrap();
                panic!("the server did not end within {} s: {}", STOP_TIME.as_secs(), self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
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
        self.get_with(path, &[])
    }

    /// The same, for a request with these headers.
    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> (u16, ureq::http::HeaderMap, String) {
        let mut request = self.http.get(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut answer = request.call().unwrap();
        let body = answer.body_mut().read_to_vec().unwrap();
        (answer.status().as_u16(), answer.headers().clone(), String::from_utf8_lossy(&body).into_owned())
    }

    pub fn delete(&self, path: &str) -> u16 {
        self.http.delete(self.url(path)).call().unwrap().status().as_u16()
    }

    pub fn post(&self, path: &str, body: impl AsRef<[u8]>, headers: &[(&str, &str)]) -> (u16, String) {
        let (status, _, body) = self.post_for_head(path, body, headers);
        (status, body)
    }

    /// The same, with the answer's headers.
    pub fn post_for_head(
        &self,
        path: &str,
        body: impl AsRef<[u8]>,
        headers: &[(&str, &str)],
    ) -> (u16, ureq::http::HeaderMap, String) {
        let mut request = self.http.post(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut answer = request.send(body.as_ref()).unwrap();
        let body = answer.body_mut().read_to_string().unwrap();
        (answer.status().as_u16(), answer.headers().clone(), body)
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

    pub fn data(&self) -> PathBuf {
        self.launch.data.clone().unwrap_or_else(|| self.folder.path().join("data"))
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

/// What happens by itself, after a while.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < COUNT_TIME, "within {} s it did not happen that {what}", COUNT_TIME.as_secs());
        std::thread::sleep(Duration::from_millis(10));
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
