//! Less memory than the bounds of the configuration add up to. Then the kernel may kill the process; what must hold is that
//! this costs nothing that was acknowledged, and that a restart is right.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::server::{Launch, Server, click, eventually, ndjson};
use crate::signals::check_folder;

/// Enough to run, too little for a few of the largest batches at once.
const MEMORY_MIB: u64 = 352;
const SENDERS: u128 = 5;
const BATCH_EVENTS: u128 = 60_000;

const QUESTIONS: usize = 4;
/// A server that cannot come up within its ceiling would need more than these.
const RESTARTS_MAX: u32 = 30;

/// A control group with a ceiling of memory, gone when dropped.
struct Ceiling {
    group: PathBuf,
    /// The file that tells how often the kernel has killed for want of memory.
    events: &'static str,
}

impl Ceiling {
    /// None where control groups cannot be made; says so.
    fn of_mib(mib: u64) -> Option<Self> {
        let name = format!("tally-test-{}", std::process::id());
        let (root, limit, events) = match Path::new("/sys/fs/cgroup/memory").is_dir() {
            true => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.oom_control"),
            false => ("/sys/fs/cgroup", "memory.max", "memory.events"),
        };
        let ceiling = Self { group: Path::new(root).join(name), events };
        let made = std::fs::create_dir(&ceiling.group)
            .and_then(|()| std::fs::write(ceiling.group.join(limit), (mib << 20).to_string()));
        match made {
            Ok(()) => Some(ceiling),
            Err(error) => {
                eprintln!("SKIPPED: cannot make a control group with a ceiling of memory, which takes root: {error}");
                None
            }
        }
    }

    /// A command that joins the group and becomes what follows.
    fn under(&self) -> Vec<String> {
        let join = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.group.display());
        ["sh", "-c", &join, "sh"].map(str::to_owned).to_vec()
    }

    fn kills(&self) -> u64 {
        let text = std::fs::read_to_string(self.group.join(self.events)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for Ceiling {
    fn drop(&mut self) {
        // The kernel takes a moment to see that the last process has gone.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.group).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

fn batch(sender: u128) -> Vec<u8> {
    let events: Vec<Value> = (0..BATCH_EVENTS).map(|n| click(sender * BATCH_EVENTS + n, "c")).collect();
    zstd::encode_all(ndjson(&events).as_bytes(), 1).unwrap()
}

/// A server that may die at any request; a request that it dies of has no answer.
struct Mortal {
    server: Server,
    http: ureq::Agent,
    restarts: u32,
}

impl Mortal {
    fn post_batch(&self, body: &[u8]) -> Option<u16> {
        let request = self.http.post(self.server.url("/v1/events/batch")).header("content-encoding", "zstd");
        request.send(body).ok().map(|answer| answer.status().as_u16())
    }

    fn ask(&self, metrics: &[&str], group_by: &[&str]) -> Option<Value> {
        let times = ("2000-01-01T00:00:00Z", "2100-01-01T00:00:00Z");
        let question = json!({"metrics": metrics, "group_by": group_by, "from": times.0, "to": times.1}).to_string();
        let mut answer = self.http.post(self.server.url("/v1/query")).send(question).ok()?;
        serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()
    }

    /// Tries until it is so, and starts the server again as often as that takes, within reason.
    fn insist(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        eventually(what, || {
            if !self.server.is_running() {
                self.restarts += 1;
                assert!(self.restarts <= RESTARTS_MAX, "it dies again and again: {}", self.server.log());
                self.server.spawn();
            }
            holds(self)
        });
    }
}

#[test]
fn too_little_memory_refuses_or_kills_and_loses_nothing_that_was_acknowledged() {
    let Some(ceiling) = Ceiling::of_mib(MEMORY_MIB) else { return };
    // What is held of the log until it is committed is bounded by a setting; what senders offer at once is not so small.
    let settings = vec![("TALLY__PIPELINE__COMMIT_EVENTS", "10000".to_owned()), ("NO_COLOR", "1".to_owned())];
    let mut server = Server::prepare(Launch { settings, under: ceiling.under(), is_logged: true, ..Launch::default() });
    server.restart();
    let http = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut mortal = Mortal { server, http, restarts: 0 };
    let batches: Vec<Vec<u8>> = (0..SENDERS).map(batch).collect();

    // All at once, with questions that read every row beside them.
    let answers: Vec<Option<u16>> = std::thread::scope(|scope| {
        let mortal = &mortal;
        let sending: Vec<_> = batches.iter().map(|body| scope.spawn(move || mortal.post_batch(body))).collect();
        for _ in 0..QUESTIONS {
            scope.spawn(|| mortal.ask(&["clicks", "users"], &["campaign_id", "placement_id"]));
        }
        sending.into_iter().map(|sent| sent.join().unwrap()).collect()
    });
    assert!(answers.iter().flatten().all(|status| [202, 503].contains(status)), "{answers:?}");

    // One after the other, the rest gets in as well.
    let rest = batches.iter().zip(&answers).filter(|(_, answer)| **answer != Some(202));
    for (body, _) in rest {
        mortal.insist("a batch alone gets in", |mortal| mortal.post_batch(body) == Some(202));
    }
    let all = (SENDERS * BATCH_EVENTS) as i64;
    mortal.insist("all is counted", |mortal| {
        mortal.ask(&["clicks"], &[]).is_some_and(|answer| answer["rows"][0]["clicks"].as_i64() == Some(all))
    });
    let Mortal { mut server, restarts, .. } = mortal;
    eprintln!(
        "{MEMORY_MIB} MiB, {SENDERS} batches of {BATCH_EVENTS} events at once: {answers:?}; killed by the kernel {} times, \
         started again {restarts} times",
        ceiling.kills()
    );
    assert!(ceiling.kills() >= u64::from(restarts), "it ended for another reason as well: {}", server.log());
    // From outside of the ceiling: a recount may take more memory than that.
    server.kill();
    check_folder(&server, all as u64);
}
