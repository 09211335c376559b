//! Counting days again: the lake gives the events and takes the cells, the pipeline's own rules count in between.

use tally_lake::{Lake, LakeError};
use tally_model::{Days, Fact, RebuildReport};
use tally_pipeline::RollupBuilder;

/// Facts that are counted at once: bounds the memory of a long day.
const FACTS_MAX: usize = 1_000_000;

pub async fn rebuild(lake: &Lake, days: Days) -> Result<RebuildReport, LakeError> {
    let mut rebuild = lake.rebuild(days).await?;
    for day in rebuild.days() {
        let (mut rollups, mut parts) = (RollupBuilder::default(), Vec::new());
        let count = &mut |fact: &Fact<'_>| {
            rollups.add(fact);
            if rollups.facts() >= FACTS_MAX {
                parts.push(std::mem::take(&mut rollups).finish());
            }
        };
        rebuild.facts(day, count).await?;
        parts.push(rollups.finish());
        rebuild.count(day, &parts).await?;
    }
    rebuild.commit().await
}
