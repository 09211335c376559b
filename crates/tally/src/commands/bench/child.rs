//! What is measured: servers as child processes, in a folder that goes with them. Their CPU time and memory are read from the
//! kernel.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::cpu::CpuTime;

const START_TIME: Duration = Duration::from_secs(120);

pub(super) struct ServerProcess {
    child: Child,
    /// Whether it has processes of its own, which it ends when it is told to.
    pub is_parent: bool,
    pub address: SocketAddr,
    pub data: PathBuf,
    /// Whether the folder was there before, and stays.
    keeps_data: bool,
}

impl ServerProcess {
    /// `tally serve`, ready.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// The same with settings by their names in the environment.
    pub async fn start_with(settings: &[(&str, String)]) -> Result<Self> {
        let server = Self::spawn("serve", |command, address, data| serve(command, address, data, settings))?;
        server.wait_until("/readyz").await
    }

    /// The same on a folder that has events already.
    pub async fn start_on(folder: &Path, settings: &[(&str, String)]) -> Result<Self> {
        let mut server = Self::spawn("serve", |command, address, _| serve(command, address, folder, settings))?;
        let _ = fs::remove_dir_all(&server.data);
        (server.data, server.keeps_data) = (folder.to_owned(), true);
        server.wait_until("/readyz").await
    }

    /// The same HTTP stack, answering 204 without work.
    pub async fn start_empty() -> Result<Self> {
        let server = Self::spawn("empty", |command, address, _| {
            command.args(["bench", "empty-server", "--listen", &address.to_string()]);
        })?;
        server.wait_until("/healthz").await
    }

    /// What `program` starts, told where to listen and where its files may go.
    fn spawn(name: &str, arguments: impl FnOnce(&mut Command, SocketAddr, &Path)) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        Self::spawn_command(name, &mut command, arguments)
    }

    pub fn spawn_command(
        name: &str,
        command: &mut Command,
        arguments: impl FnOnce(&mut Command, SocketAddr, &Path),
    ) -> Result<Self> {
        // A free port, as far as one can know.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let data = std::env::temp_dir().join(format!("tally-bench-{name}-{}", std::process::id()));
        fs::create_dir_all(&data)?;
        arguments(command, address, &data);
        let child = command.stdout(Stdio::null()).spawn().context("cannot start the server")?;
        Ok(Self { child, is_parent: false, address, data, keeps_data: false })
    }

    pub async fn wait_until(self, path: &str) -> Result<Self> {
        let started = Instant::now();
        let url = format!("{}{path}", self.url());
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        while http.get(&url).send().await.map_or(true, |answer| answer.status().as_u16() >= 400) {
            if started.elapsed() > START_TIME {
                bail!("the server did not become ready within {} s", START_TIME.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(self)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub async fn metrics(&self) -> Result<Metrics> {
        Ok(Metrics(reqwest::get(format!("{}/metrics", self.url())).await?.text().await?))
    }

    /// A metric without labels.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        self.metrics().await?.value(name)
    }

    /// CPU time so far, by thread.
    pub fn cpu_time(&self) -> Result<CpuTime> {
        let id = self.child.id();
        let mut time = CpuTime::of(id)?;
        if self.is_parent {
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
            for child in children.split_whitespace() {
                time.all_s += CpuTime::of(child.parse()?)?.all_s;
            }
        }
        Ok(time)
    }

    /// CPU time so far, of all its threads.
    pub fn cpu_seconds(&self) -> Result<f64> {
        Ok(self.cpu_time()?.all_s)
    }

    /// The most memory that it has held.
    pub fn peak_memory_bytes(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    /// The memory that it holds now.
    pub fn memory_bytes(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    fn memory(&self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .context("cannot read the server's memory")?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.map(|kib| kib * 1_024).context("the kernel does not tell the server's memory")
    }
}

/// What a server said of itself at one moment.
pub struct Metrics(String);

impl Metrics {
    fn value(&self, name: &str) -> Result<f64> {
        let value = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok());
        value.with_context(|| format!("the server has no metric `{name}`"))
    }

    /// Events that are in the figures.
    pub fn counted(&self) -> u64 {
        let counts = self.0.lines().filter(|line| line.starts_with("tally_pipeline_verdicts_total{"));
        counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    }

    /// Of its memory, what ids take.
    pub fn ids_bytes(&self) -> Result<u64> {
        Ok(self.value("tally_pipeline_dedup_memory_bytes")? as u64)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let asks = self.is_parent || self.keeps_data;
        if !asks || Command::new("kill").arg(self.child.id().to_string()).status().is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        if !self.keeps_data {
            let _ = fs::remove_dir_all(&self.data);
        }
    }
}

fn serve(command: &mut Command, address: SocketAddr, data: &Path, settings: &[(&str, String)]) {
    command
        .args(["serve", "--listen", &address.to_string(), "--data"])
        .arg(data)
        .env("TALLY__LOG__LEVEL", "error")
        .env("TALLY__POSTGRES__LISTEN", "")
        .envs(settings.iter().map(|(name, value)| (name, value)));
}

/// Bytes of all files below a folder.
pub(super) fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
