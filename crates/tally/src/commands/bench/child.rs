//! A server as a child process, in a folder that goes with it.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Clock ticks a second in /proc (USER_HZ: 100 on every Linux that runs this).
const TICKS_PER_S: f64 = 100.0;
const START_TIME: Duration = Duration::from_secs(30);

pub(super) struct ServerProcess {
    child: Child,
    pub address: SocketAddr,
    pub data: PathBuf,
}

impl ServerProcess {
    pub async fn start() -> Result<Self> {
        // A free port, as far as one can know.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let data = std::env::temp_dir().join(format!("tally-bench-{}", std::process::id()));
        let child = Command::new(std::env::current_exe()?)
            .args(["serve", "--listen", &address.to_string(), "--data"])
            .arg(&data)
            .env("TALLY__LOG__LEVEL", "warn")
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start the server")?;
        let server = Self { child, address, data };
        let started = Instant::now();
        while reqwest::get(format!("{}/readyz", server.url()))
            .await
            .map_or(true, |answer| !answer.status().is_success())
        {
            if started.elapsed() > START_TIME {
                bail!("the server did not become ready within {} s", START_TIME.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// CPU time so far, of all its threads.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))
            .context("cannot read the server's CPU time")?;
        // After the name, which may hold anything, in brackets: utime and stime are the 12th and 13th fields.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
        Ok(ticks.sum::<f64>() / TICKS_PER_S)
    }

    /// The most memory that it has held.
    pub fn peak_memory_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .context("cannot read the server's memory")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.map(|kib| kib * 1_024).context("the kernel does not tell the server's memory")
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.data);
    }
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
