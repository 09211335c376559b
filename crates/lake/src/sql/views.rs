//! The views: `events` with friendly columns, and one for each rollup, its parts summed up so that a row is a cell.
//!
//! No column holds the hash of a person. Sketches of distinct users stand in a schema of their own: `users(users_sketch)` makes a
//! figure of any of them together, and nothing else can be done with them (`check`).

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::catalog::view::ViewTable;
use datafusion::common::Result;
use datafusion::datasource::provider_as_source;
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, ident, lit};
use tally_model::report::{Base, Measure, Metric};
use tally_model::{Dimension, Grain, Kind, View};

use super::check::SKETCH;
use super::functions::{id_text, money};
use crate::query::{FileTable, users_function};
use crate::schema::{EVENTS, EVENTS_PARTITION_COLUMNS, base_column};
use crate::writer::LakeView;

pub(super) const EVENTS_NAME: &str = "events";

/// Which views there are, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    Events,
    Cells(View, Grain),
    /// The sketches of the same cells.
    Sketches(View, Grain),
}

/// Columns of `events` that are shown under another name: these are words of SQL.
const RENAMED: [(&str, &str); 2] = [("partition", "log_partition"), ("offset", "log_offset")];
/// Hashes of people are for no one to read.
pub(crate) const HIDDEN: [&str; 2] = ["user_hash", "ip_hash"];

impl Relation {
    pub fn public_names() -> Vec<String> {
        std::iter::once(EVENTS_NAME.to_owned()).chain(cells().map(|(view, grain)| name_of(view, grain))).collect()
    }

    pub fn sketch_names() -> Vec<String> {
        cells().filter(|(_, grain)| has_users(*grain)).map(|(view, grain)| name_of(view, grain)).collect()
    }

    pub fn public(name: &str) -> Option<Self> {
        if name == EVENTS_NAME {
            return Some(Self::Events);
        }
        cells().find(|(view, grain)| name_of(*view, *grain) == name).map(|(view, grain)| Self::Cells(view, grain))
    }

    pub fn sketches(name: &str) -> Option<Self> {
        let found = cells().find(|(view, grain)| has_users(*grain) && name_of(*view, *grain) == name);
        found.map(|(view, grain)| Self::Sketches(view, grain))
    }

    pub fn table(self, lake: &LakeView) -> Result<Arc<dyn TableProvider>> {
        let plan = match self {
            Relation::Events => events(lake)?,
            Relation::Cells(view, grain) => merged_cells(lake, view, grain)?,
            Relation::Sketches(view, grain) => sketches(lake, view, grain)?,
        };
        Ok(Arc::new(ViewTable::new(plan.build()?, None)))
    }
}

fn cells() -> impl Iterator<Item = (View, Grain)> {
    View::ALL.into_iter().flat_map(|view| Grain::ALL.map(|grain| (view, grain)))
}

fn name_of(view: View, grain: Grain) -> String {
    format!("{}_{}", view.as_str(), grain.as_str())
}

/// Minute cells have no sketches: they would mostly hold the users themselves.
fn has_users(grain: Grain) -> bool {
    grain != Grain::Minute
}

fn events(lake: &LakeView) -> Result<LogicalPlanBuilder> {
    let table = FileTable::new(lake.events.clone(), &EVENTS_PARTITION_COLUMNS).with_text_views();
    let shown = EVENTS.fields().iter().map(|field| field.name().as_str()).filter(|name| !HIDDEN.contains(name));
    let columns = shown.map(|name| match name {
        "event_id" => id_text().call(vec![ident(name)]).alias(name),
        "cost_micros" | "revenue_micros" => money().call(vec![ident(name)]).alias(name),
        _ => match RENAMED.iter().find(|(stored, _)| *stored == name) {
            Some((stored, shown)) => ident(*stored).alias(*shown),
            None => ident(name),
        },
    });
    LogicalPlanBuilder::scan(EVENTS_NAME, provider_as_source(Arc::new(table)), None)?.project(columns)
}

/// The rows of one view and grain. Parts of a cell are not added up yet.
fn parts(lake: &LakeView, view: View, grain: Grain) -> Result<LogicalPlanBuilder> {
    let table = FileTable::new(lake.rollups.clone(), &[]).with_text_views();
    let is_wanted = ident("grain").eq(lit(grain.as_str())).and(ident("view").eq(lit(view.as_str())));
    LogicalPlanBuilder::scan("rollups", provider_as_source(Arc::new(table)), None)?.filter(is_wanted)
}

/// What tells one cell of a view from another.
fn key(view: View) -> Vec<Expr> {
    let own = view.own_dimensions().iter().map(|dimension| dimension.as_str());
    let names = ["bucket", Dimension::CampaignId.as_str()].into_iter().chain(own).chain([Dimension::Currency.as_str()]);
    names.map(ident).collect()
}

fn merged_cells(lake: &LakeView, view: View, grain: Grain) -> Result<LogicalPlanBuilder> {
    let counts = Kind::ALL.into_iter().flat_map(|kind| Measure::ALL.map(|measure| Metric::Events(kind, measure)));
    let bases: Vec<Base> = Kind::ALL
        .into_iter()
        .flat_map(|kind| Metric::Events(kind, Measure::Gross).bases())
        .chain([Base::CostMicros, Base::RevenueMicros])
        .collect();
    let mut sums: Vec<Expr> = bases.iter().map(|base| sum_of(*base).alias(base_column(*base))).collect();
    let mut columns = key(view);
    // Gross and invalid are sums of the others; those of quotients are none, so they are the question's to compute.
    columns.extend(counts.map(|metric| {
        let parts = metric.bases().into_iter().map(|base| ident(base_column(base)));
        parts.reduce(|a, b| a + b).unwrap_or_else(|| lit(0i64)).alias(metric.as_str())
    }));
    columns.extend([Base::CostMicros, Base::RevenueMicros].map(|base| ident(base_column(base))));
    if has_users(grain) {
        sums.push(users_function().call(vec![ident("users")]).alias("users_of_cell"));
        columns.push(ident("users_of_cell").alias("users"));
    }
    parts(lake, view, grain)?.aggregate(key(view), sums)?.project(columns)
}

fn sum_of(base: Base) -> Expr {
    match base {
        Base::CostMicros | Base::RevenueMicros => sum(money().call(vec![ident(base_column(base))])),
        Base::Events(..) | Base::Users => sum(ident(base_column(base))),
    }
}

fn sketches(lake: &LakeView, view: View, grain: Grain) -> Result<LogicalPlanBuilder> {
    let columns = key(view).into_iter().chain([ident("users").alias(SKETCH)]);
    parts(lake, view, grain)?.filter(ident("users").is_not_null())?.project(columns)
}
