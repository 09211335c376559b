//! Counting days again: the lake gives the events and takes the cells, the pipeline's own rules count in between.

use tally_lake::{Lake, LakeError};
use tally_model::{Days, RebuildReport};
use tally_pipeline::RollupBuilder;

pub async fn rebuild(lake: &Lake, days: Days) -> Result<RebuildReport, LakeError> {
    let mut rebuild = lake.rebuild(days).await?;
    for day in rebuild.days() {
        let mut rollups = RollupBuilder::default();
        rebuild.facts(day, &mut |fact| rollups.add(fact)).await?;
        rebuild.count(day, rollups.finish()).await?;
    }
    rebuild.commit().await
}
