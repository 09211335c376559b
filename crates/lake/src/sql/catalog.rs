//! The database `tally` as one session sees it: the views of the snapshot that its current statement is about.

use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::Result;

use super::views::Relation;
use crate::writer::LakeView;

/// What the current statement is about. Moved on between statements, never during one.
#[derive(Debug, Clone)]
pub(super) struct Snapshot(Arc<RwLock<LakeView>>);

impl Snapshot {
    pub fn new(view: LakeView) -> Self {
        Self(Arc::new(RwLock::new(view)))
    }

    pub fn move_to(&self, view: LakeView) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = view;
    }

    pub fn view(&self) -> LakeView {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A schema of views. Nothing can be registered in it or taken out of it.
#[derive(Debug)]
pub(super) struct Views {
    pub snapshot: Snapshot,
    pub names: fn() -> Vec<String>,
    pub find: fn(&str) -> Option<Relation>,
}

#[async_trait]
impl SchemaProvider for Views {
    fn table_names(&self) -> Vec<String> {
        (self.names)()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        (self.find)(name).map(|relation| relation.table(&self.snapshot.view())).transpose()
    }

    fn table_exist(&self, name: &str) -> bool {
        (self.find)(name).is_some()
    }
}
