//! The whole path, driven in one thread by one seed: the real capture, journal and pipeline over a disk and a lake that fail, with
//! clients that send again, and crashes between any two steps. An auditor checks after every restart and at the end.
//!
//! Equal seeds give equal runs, so a seed that fails can be run again until it is understood.

mod audit;
mod bug;
mod chance;
mod client;
mod disk;
mod eager;
mod lake;
mod life;
mod plan;
mod truth;
mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};

pub use bug::Bug;

use disk::SimDisk;
use lake::SimLake;
use life::{End, Surroundings};
use truth::Truth;
pub use world::Happened;
use world::{Fate, World};

/// What a run went through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub lives: u64,
    pub steps: u64,
    pub rows: u64,
    pub duplicates: u64,
    /// Which troubles there were, and how often.
    pub happened: Happened,
    /// Of everything that happened, in order.
    pub fingerprint: u64,
}

/// Troubles end lives too, over and above the planned crashes; more than this is none of their doing.
const LIVES_MAX: u64 = 1_000;

/// What to run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setup {
    pub seed: u64,
    pub bug: Option<Bug>,
    /// Print every step with its time.
    pub trace: bool,
}

/// Runs one seed; an error is a promise that was not kept.
pub fn run(setup: Setup) -> Result<Outcome> {
    let world = Arc::new(World::new(setup));
    let around = Surroundings {
        disk: SimDisk::new(world.clone()),
        lake: Arc::new(SimLake::default()),
        truth: Arc::new(Truth::default()),
        world,
    };
    let world = &around.world;
    for life in 0..LIVES_MAX {
        let is_last = life >= world.plan.crashes;
        world.calm.store(is_last, Ordering::SeqCst);
        let fate = if is_last { Fate::Lives } else { Fate::of(&world.chance) };
        let end = in_a_runtime(around.live(fate)).with_context(|| format!("in life {}", life + 1))?;
        if let Some(finding) = world.finding() {
            return Err(finding.context(format!("in life {}", life + 1)));
        }
        match end {
            End::Done if is_last => return conclude(&around, life + 1),
            End::Done | End::Died if world.chance.permille(world.plan.troubles.power_loss) => {
                world.count("power lost");
                around.disk.after_power_loss();
            }
            End::Done | End::Died => {
                world.count("killed or ended");
                around.disk.after_kill();
            }
        }
    }
    bail!("{LIVES_MAX} lives were not enough")
}

/// A runtime of one thread whose time stands still unless everybody waits. With it goes whatever was still running.
fn in_a_runtime<T>(life: impl Future<Output = T>) -> T {
    #[allow(clippy::expect_used, reason = "a machine that cannot do this runs no simulation")]
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread");
    tokio::task::LocalSet::new().block_on(&runtime, life)
}

fn conclude(around: &Surroundings, lives: u64) -> Result<Outcome> {
    let tables = around.lake.tables();
    audit::at_the_end(&around.world.plan, &tables, &around.truth.known()).context("at the end")?;
    let (steps, fingerprint) = around.world.fingerprint();
    let duplicates = tables.rows().filter(|row| row.verdict.class() == tally_model::Class::Duplicate).count() as u64;
    let happened = around.world.happened().clone();
    Ok(Outcome { lives, steps, rows: tables.rows().count() as u64, duplicates, happened, fingerprint })
}
