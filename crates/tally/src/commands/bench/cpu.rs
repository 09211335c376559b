//! Whose CPU time it is: the kernel tells it for each thread of a process, and our threads have names.

use std::fs;
use std::ops::Sub;

use anyhow::{Context, Result};

/// Clock ticks a second in /proc (USER_HZ: 100 on every Linux that runs this).
const TICKS_PER_S: f64 = 100.0;
const NS_PER_S: f64 = 1e9;
/// The threads that take an event from its connection to the disk; the kernel cuts names at 15 bytes.
const CAPTURE_THREADS: [&str; 3] = ["tally-door", "journal-writer", "journal-spares"];

/// Of one process, in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CpuTime {
    /// Threads that have ended included.
    pub all_s: f64,
    pub capture_s: f64,
}

impl CpuTime {
    pub fn of(process: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).context("cannot read the server's CPU time")?;
        // After the name, which may hold anything, in brackets: utime and stime are the 12th and 13th fields.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
        let threads = fs::read_dir(format!("/proc/{process}/task")).context("cannot list the server's threads")?;
        let capture_ns = threads.flatten().filter_map(|thread| {
            let name = fs::read_to_string(thread.path().join("comm")).ok()?;
            CAPTURE_THREADS.iter().find(|of_capture| name.starts_with(**of_capture))?;
            let scheduled = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            scheduled.split_whitespace().next()?.parse::<f64>().ok()
        });
        Ok(Self { all_s: ticks.sum::<f64>() / TICKS_PER_S, capture_s: capture_ns.sum::<f64>() / NS_PER_S })
    }
}

impl Sub for CpuTime {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { all_s: self.all_s - before.all_s, capture_s: self.capture_s - before.capture_s }
    }
}
