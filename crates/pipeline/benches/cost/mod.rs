//! What a bench costs: time on a core rather than by the clock, since the machine has other work, which is not ours to measure.
#![allow(dead_code, reason = "each bench uses some of it")]

use std::path::Path;

/// This thread's time on a core.
pub fn thread_cpu_seconds() -> f64 {
    seconds(Path::new("/proc/thread-self/schedstat")).unwrap()
}

/// This process's time on all cores.
pub fn cpu_seconds() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    threads.filter_map(|thread| seconds(&thread.path().join("schedstat"))).sum()
}

/// Of a thread that may have ended meanwhile.
fn seconds(schedstat: &Path) -> Option<f64> {
    let stat = std::fs::read_to_string(schedstat).ok()?;
    Some(stat.split(' ').next()?.parse::<f64>().ok()? / 1e9)
}

/// In the middle, or between the two that are.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}
