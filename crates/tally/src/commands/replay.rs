//! `tally replay`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tally_journal::{DiskJournal, DiskOptions, Journal};
use tally_lake::Lake;
use tally_model::{Comparison, Positions, SystemClock, TableComparison};
use tally_pipeline::{Pipeline, PipelineMetrics, Progress};
use tokio::sync::watch;

use super::query::grouped;
use super::{say, verify};
use crate::cli::ReplayArguments;
use crate::config::{Config, DataFolder, Overrides};
use crate::serve::adapters::LakeSink;

pub async fn run(arguments: &ReplayArguments) -> Result<ExitCode> {
    let config = Config::load(&Overrides { file: arguments.config.clone(), ..Overrides::default() })?;
    let source = Source::of(&arguments.from)?;
    let target = DataFolder::new(&arguments.to);
    ensure!(
        !Lake::exists(&target.lake()),
        "there is a lake in `{}` already; give another folder",
        arguments.to.display()
    );
    // Held to the end: no server may change what is compared.
    let journal = open_to_read(&config, &source.journal)?;
    let lake = replay(&config, journal.clone(), &target).await?;
    let proof = lake.queries().check(true, config.pipeline.dedup_ttl_s).await?;
    let compared = match &source.lake {
        Some(folder) => Some(compare(&config, folder, &journal.end(), &lake).await?),
        None => None,
    };
    let is_fine = proof.holds() && compared.as_ref().is_none_or(Comparison::is_identical);
    let result = json!({
        "records": journal.end().total(),
        "proof": {"holds": proof.holds(), "report": proof},
        "comparison": compared,
        "identical": compared.as_ref().map(Comparison::is_identical),
    });
    if arguments.json {
        say(serde_json::to_string_pretty(&result)?);
    } else {
        print(&result, compared.as_ref());
    }
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is read: a journal, and the lake that was filled from it where it is there.
struct Source {
    journal: PathBuf,
    lake: Option<PathBuf>,
}

impl Source {
    fn of(path: &Path) -> Result<Self> {
        let folder = DataFolder::new(path);
        if folder.journal().is_dir() {
            let lake = Some(folder.lake()).filter(|lake| Lake::exists(lake));
            return Ok(Self { journal: folder.journal(), lake });
        }
        let is_segment = |name: &Path| name.extension().is_some_and(|extension| extension == "segment");
        let mut files = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        if files.any(|file| is_segment(&file)) {
            return Ok(Self { journal: path.to_owned(), lake: None });
        }
        bail!("there is no journal in `{}`; give the folder that `tally serve --data` was given", path.display());
    }
}

/// A journal that takes nothing and lets nothing go: whoever reads it comes to its end.
fn open_to_read(config: &Config, folder: &Path) -> Result<Arc<DiskJournal>> {
    let options = DiskOptions {
        segment_bytes: config.journal.segment_bytes,
        retain_bytes: u64::MAX,
        ..DiskOptions::new(folder, config.journal.partitions)
    };
    let journal = DiskJournal::open(options)?;
    journal.close();
    let trimmed = journal.start().total();
    ensure!(
        trimmed == 0,
        "the journal in `{}` no longer holds its first {} records (journal.retain_bytes); a lake made of the rest would \
         count other copies of some events. Rollups can be made again from `events` with `tally rebuild`",
        folder.display(),
        grouped(i64::try_from(trimmed).unwrap_or(i64::MAX)),
    );
    Ok(journal)
}

/// The real pipeline, from the first record to the last.
async fn replay(config: &Config, journal: Arc<DiskJournal>, target: &DataFolder) -> Result<Lake> {
    let clock = Arc::new(SystemClock);
    let lake = Lake::open(&target.lake(), config.journal.partitions, clock.clone()).await?;
    let pipeline = Pipeline {
        journal,
        sink: LakeSink::new(lake.clone(), None).await?,
        clock,
        settings: config.pipeline_settings(),
        dedup: config.dedup_options(target),
        metrics: PipelineMetrics::register(&mut Registry::default()),
        progress: watch::Sender::new(Progress::default()),
        urgency: Arc::default(),
    };
    pipeline.run().await?;
    attribute(config, &lake).await?;
    Ok(lake)
}

/// What every conversion is owed to, from the first to the last.
async fn attribute(config: &Config, lake: &Lake) -> Result<()> {
    let mut attributor = lake.attributor(config.attribution.windows()).await?;
    while !attributor.round(&lake.view()).await?.is_level {}
    Ok(())
}

async fn compare(config: &Config, source: &Path, end: &Positions, replayed: &Lake) -> Result<Comparison> {
    let source = Lake::open(source, 0, Arc::new(SystemClock)).await?;
    // A server that was stopped has counted everything, and attributes what came last when it starts again.
    attribute(config, &source).await?;
    let committed = source.view().committed;
    ensure!(
        committed.covers(end),
        "the replay is done, but the lake that is there has only {} of {} records; let its server catch up and stop it \
         with SIGTERM, then replay into another folder",
        grouped(i64::try_from(committed.total()).unwrap_or(i64::MAX)),
        grouped(i64::try_from(end.total()).unwrap_or(i64::MAX)),
    );
    Ok(source.queries().compare(&replayed.queries()).await?)
}

fn print(result: &Value, compared: Option<&Comparison>) {
    say(format!("{} records replayed", grouped(result["records"].as_i64().unwrap_or_default())));
    verify::print(&result["proof"]["report"]);
    let Some(compared) = compared else {
        return say("there is no lake beside the journal to compare with");
    };
    let Comparison { events, cells, attributions } = compared;
    for (what, table) in [("events", events), ("cells", cells), ("attributions", attributions)] {
        print_table(what, table);
    }
    say(if compared.is_identical() { "identical" } else { "DIFFERENT" });
}

fn print_table(what: &str, table: &TableComparison) {
    for (side, (rows, digest)) in ["source", "replay"].iter().zip(table.rows.iter().zip(&table.digests)) {
        let rows = grouped(i64::try_from(*rows).unwrap_or(i64::MAX));
        say(format!("{what} of the {side}: {rows} rows, sha256 {digest}"));
    }
    if table.differences_total > 0 {
        say(format!("{} differences; the source is named first:", table.differences_total));
    }
    table.differences.iter().for_each(|difference| say(format!("DIFFERENCE {difference}")));
}
