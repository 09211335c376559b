//! Analyses that take each event, not sums by group: funnels and heat maps, of counted events.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, cast, ident, lit, when};
use datafusion::prelude::DataFrame;
use futures::StreamExt;
use tally_model::analysis::{Bin, Funnel, FunnelAnswer, Furthest, HeatMap, HeatMapAnswer, Segment, Step};
use tally_model::report::ReportError;
use tally_model::{Dimension, Kind};

use super::report::{dimension_column, is_counted, text, whole};
use super::{Queries, Source};
use crate::error::{LakeError, Result};
use crate::writer::LakeView;

/// Values of a segment that a funnel is told by.
const SEGMENTS_MAX: usize = 1_000;

impl Queries {
    /// Bins of clicks at places from 0 to 1 across the ad.
    pub async fn heat_map(&self, asked: &HeatMap) -> Result<HeatMapAnswer> {
        self.refuse_small(&asked.about, None).await?;
        let view = self.current();
        let clicks = is_counted().and(ident("kind").eq(lit(Kind::Click.as_str())));
        let rows = self.source_rows(&view, Source::Events, &asked.about)?.filter(clicks)?;
        let is_on_ad = on_ad("x").and(on_ad("y"));
        let bin = |axis: &str, bins: u32| -> Result<Expr> {
            let at = cast(ident(axis) * lit(bins as f32), DataType::Int64);
            let last = i64::from(bins) - 1;
            // The far edge belongs to the last bin.
            let within = when(at.clone().gt(lit(last)), lit(last)).otherwise(at)?;
            Ok(when(is_on_ad.clone(), within).end()?)
        };
        let groups = vec![bin("x", asked.columns)?.alias("column"), bin("y", asked.rows)?.alias("row")];
        let counted = rows.aggregate(groups, vec![count(lit(1_i64)).alias("clicks")])?;
        let sorted = counted.sort(vec![ident("row").sort(true, false), ident("column").sort(true, false)])?;
        let mut answer = HeatMapAnswer {
            columns: asked.columns,
            rows: asked.rows,
            table_version: view.events_version(),
            ..HeatMapAnswer::default()
        };
        for batch in sorted.collect().await? {
            let column = |name: &str| named(&batch, name);
            let (columns, rows, clicks) = (column("column")?, column("row")?, column("clicks")?);
            for at in 0..batch.num_rows() {
                let clicks = u64::try_from(whole(clicks, at)?).unwrap_or_default();
                if columns.is_null(at) || rows.is_null(at) {
                    answer.without_position += clicks;
                    continue;
                }
                let bin = |array, at| whole(array, at).map(|bin| u32::try_from(bin).unwrap_or_default());
                answer.clicks += clicks;
                answer.bins.push(Bin { column: bin(columns, at)?, row: bin(rows, at)?, clicks, share: 0.0 });
            }
        }
        for bin in &mut answer.bins {
            bin.share = bin.clicks as f64 / answer.clicks as f64;
        }
        Ok(answer)
    }

    /// How far each person came, over all and by segment.
    pub async fn funnel(&self, asked: &Funnel) -> Result<FunnelAnswer> {
        self.refuse_small(&asked.about, asked.segment).await?;
        let view = self.current();
        let mut all = self.reached(&view, asked, None).await?;
        let nobody = || vec![0; asked.steps.len()];
        let total = all.pop().map_or_else(nobody, |(_, reached)| reached);
        let segments = match asked.segment {
            None => Vec::new(),
            Some(segment) => self.reached(&view, asked, Some(segment)).await?,
        };
        let segment =
            |(value, reached): (Option<String>, Vec<u64>)| Segment { value, steps: Step::all(&asked.steps, &reached) };
        Ok(FunnelAnswer {
            steps: Step::all(&asked.steps, &total),
            segments: segments.into_iter().map(segment).collect(),
            table_version: view.events_version(),
        })
    }

    /// People by the steps that they reached, for each value of a segment. Events come sorted by person and time, so that no
    /// more than one person is held at once.
    async fn reached(
        &self,
        view: &LakeView,
        asked: &Funnel,
        segment: Option<Dimension>,
    ) -> Result<Vec<(Option<String>, Vec<u64>)>> {
        let mut events = self.steps_by_person(view, asked, segment)?.execute_stream().await?;
        let mut told: Vec<(Option<String>, Vec<u64>)> = Vec::new();
        let mut person: Option<(Option<String>, i64)> = None;
        let mut furthest = Furthest::new(&asked.steps, asked.window_us);
        while let Some(batch) = events.next().await {
            let batch = batch?;
            let (segments, people) =
                (named(&batch, "segment")?, named(&batch, "user_hash")?.as_primitive::<Int64Type>());
            let kinds = named(&batch, "kind")?;
            let times = named(&batch, "occurred_at")?.as_primitive::<TimestampMicrosecondType>();
            for at in 0..batch.num_rows() {
                let this = (text(segments, at), people.value(at));
                if person.as_ref() != Some(&this) {
                    let next = Furthest::new(&asked.steps, asked.window_us);
                    tell(&mut told, person.replace(this), &std::mem::replace(&mut furthest, next))?;
                }
                if let Some(kind) = text(kinds, at).as_deref().and_then(Kind::parse) {
                    furthest.see(kind, times.value(at));
                }
            }
        }
        tell(&mut told, person, &furthest)?;
        for (_, reached) in &mut told {
            reached.resize(asked.steps.len(), 0);
            // Who came far came to all steps before.
            for step in (1..reached.len()).rev() {
                reached[step - 1] += reached[step];
            }
        }
        Ok(told)
    }

    fn steps_by_person(&self, view: &LakeView, asked: &Funnel, segment: Option<Dimension>) -> Result<DataFrame> {
        let kinds = asked.steps.iter().map(|kind| lit(kind.as_str())).collect();
        let wanted = is_counted().and(ident("user_hash").is_not_null()).and(ident("kind").in_list(kinds, false));
        let segment = segment.map_or(lit(ScalarValue::Utf8(None)), dimension_column);
        // What happened at one instant happened in the order in which it can.
        let rank = when(ident("kind").eq(lit(Kind::Impression.as_str())), lit(0_i64))
            .when(ident("kind").eq(lit(Kind::Click.as_str())), lit(1_i64))
            .otherwise(lit(2_i64))?;
        let rows = self.source_rows(view, Source::Events, &asked.about)?.filter(wanted)?;
        let columns =
            vec![segment.alias("segment"), ident("user_hash"), ident("kind"), ident("occurred_at"), rank.alias("rank")];
        let order = ["segment", "user_hash", "occurred_at", "rank"].map(|column| ident(column).sort(true, true));
        Ok(rows.select(columns)?.sort(order.to_vec())?)
    }
}

fn on_ad(axis: &str) -> Expr {
    ident(axis).gt_eq(lit(0.0_f32)).and(ident(axis).lt_eq(lit(1.0_f32)))
}

/// Adds a person at the last step that they did; segments come one after the other.
fn tell(
    told: &mut Vec<(Option<String>, Vec<u64>)>,
    person: Option<(Option<String>, i64)>,
    furthest: &Furthest<'_>,
) -> Result<()> {
    let Some((segment, _)) = person else { return Ok(()) };
    if told.last().is_none_or(|(last, _)| *last != segment) {
        if told.len() == SEGMENTS_MAX {
            return Err(LakeError::Report(ReportError {
                field: "segment".to_owned(),
                what: format!("it has more than {SEGMENTS_MAX} values"),
                cure: "take a dimension with fewer, or filter".to_owned(),
            }));
        }
        told.push((segment, Vec::new()));
    }
    if let (Some((_, reached)), Some(last)) = (told.last_mut(), furthest.steps().checked_sub(1)) {
        if reached.len() <= last {
            reached.resize(last + 1, 0);
        }
        reached[last] += 1;
    }
    Ok(())
}

pub(super) fn named<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a arrow::array::ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| LakeError::Damaged { what: format!("the answer has no column {name}") })
}
