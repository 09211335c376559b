//! A Delta table that one process writes: its live files, its marks, and the way to a new version.
//!
//! Marks are Delta's application transactions. Delta takes a lower or repeated one without a word (decision 0003), so every
//! commit reloads, compares the marks with what this writer left, and only then commits.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use arrow::error::ArrowError;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties, TransactionError};
use deltalake_core::kernel::{Action, Add, Remove, StructField, StructType, Transaction};
use deltalake_core::logstore::LogStoreRef;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use futures::StreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use serde_json::Value;
use tally_model::{Mark, Standing};
use tracing::info;
use url::Url;

use crate::day_files::DayFiles;
use crate::error::{Doing, LakeError, Result};
use crate::files::put_file;
use crate::live_file::LiveFile;
use crate::new_file::NewFile;

/// delta-rs's in-memory snapshot slows down with every commit (FACTS: 18 ms to 111 ms over 500): loaded anew after this many.
const COMMITS_PER_LOAD: u32 = 50;
/// Tries when somebody commits in between; only maintenance ever does.
const CONFLICTS_MAX: u32 = 10;

/// Files of one commit that are written at once.
const WRITES_MAX: usize = 4;

/// How a table looks.
#[derive(Debug, Clone)]
pub(crate) struct TableSpec {
    pub schema: SchemaRef,
    /// What stands in its files: the same without partition columns.
    pub file_schema: SchemaRef,
    pub partition_columns: &'static [&'static str],
    pub statistics: &'static [&'static str],
}

/// The log of a table that need not be open.
pub(crate) struct Log(LogStoreRef);

impl Log {
    pub fn open(store: &Arc<dyn ObjectStore>, url: &Url) -> Result<Self> {
        Ok(Self(handle(store, url)?.log_store()))
    }

    /// When a version was committed, by the clock of whoever did, in milliseconds since the Unix epoch. None for one that is
    /// cleaned up, or that does not say.
    pub async fn committed_at_ms(&self, version: i64) -> Result<Option<i64>> {
        let number = u64::try_from(version).unwrap_or_default();
        let Some(entry) = self.0.read_commit_entry(number).await.doing("read a table's log")? else { return Ok(None) };
        let actions = read_actions(&entry, version)?;
        Ok(actions.iter().find_map(|action| action["commitInfo"]["timestamp"].as_i64()))
    }
}

pub(crate) struct Table {
    delta: DeltaTable,
    spec: TableSpec,
    /// No other table has it.
    id: Arc<str>,
    /// The table's folder in the root store, which DataFusion reads from.
    root: Path,
    version: i64,
    files: Arc<Vec<Arc<LiveFile>>>,
    days: DayFiles,
    commits_since_load: u32,
    /// Files written for a commit that is not in yet, and what it moves: tried again, it must not write them anew.
    pending: Option<(Vec<Mark>, Vec<Add>)>,
}

/// What a reader sees of a table: one version's files.
#[derive(Debug, Clone)]
pub(crate) struct TableVersion {
    /// The table's folder, by itself.
    pub store: Arc<dyn ObjectStore>,
    /// The table's folder in the root store.
    pub root: Path,
    /// No other table has it.
    pub id: Arc<str>,
    pub version: i64,
    pub schema: SchemaRef,
    pub files: Arc<Vec<Arc<LiveFile>>>,
    pub days: DayFiles,
}

impl Table {
    pub async fn open_or_create(store: &Arc<dyn ObjectStore>, url: &Url, spec: TableSpec) -> Result<Self> {
        let mut delta = handle(store, url)?;
        if delta.verify_deltatable_existence().await.doing("open a table")? {
            delta.load().await.doing("open a table")?;
        } else {
            delta = create(delta, &spec).await?;
        }
        Self::loaded(delta, url, spec)
    }

    /// The table as it was at an earlier version. For reading: a commit from there would be refused.
    pub async fn open_at(store: &Arc<dyn ObjectStore>, url: &Url, spec: TableSpec, version: i64) -> Result<Self> {
        let mut delta = handle(store, url)?;
        delta.load_version(u64::try_from(version).unwrap_or_default()).await.doing("open a table")?;
        Self::loaded(delta, url, spec)
    }

    fn loaded(delta: DeltaTable, url: &Url, spec: TableSpec) -> Result<Self> {
        let root = Path::from_url_path(url.path()).map_err(|error| LakeError::Damaged {
            what: format!("the data folder's path has no form in the store: {error}"),
        })?;
        let id = delta.snapshot().doing("open a table")?.metadata().id().into();
        let mut table = Self {
            delta,
            spec,
            id,
            root,
            version: 0,
            files: Arc::default(),
            days: DayFiles::default(),
            commits_since_load: 0,
            pending: None,
        };
        table.list_files()?;
        Ok(table)
    }

    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.delta.log_store().object_store(None)
    }

    pub fn reader_view(&self) -> TableVersion {
        TableVersion {
            store: self.store(),
            root: self.root.clone(),
            id: self.id.clone(),
            version: self.version,
            schema: self.spec.schema.clone(),
            files: self.files.clone(),
            days: self.days.clone(),
        }
    }

    pub fn version(&self) -> i64 {
        self.version
    }

    pub fn files(&self) -> &[Arc<LiveFile>] {
        &self.files
    }

    pub async fn mark(&self, name: &str) -> Result<Option<i64>> {
        let state = self.delta.snapshot().doing("read a table's marks")?;
        state.transaction_version(self.delta.log_store().as_ref(), name).await.doing("read a table's marks")
    }

    /// Writes the files of a commit and commits them. Tried again with the same marks, it goes on with what is written.
    pub async fn write_and_commit(&mut self, files: Vec<NewFile>, marks: &[Mark], now_ms: i64) -> Result<i64> {
        let mut written = match self.pending.take() {
            Some((of, written)) if of == marks => written,
            _ => Vec::new(),
        };
        let store = self.store();
        let left = files.into_iter().skip(written.len());
        let mut writes = futures::stream::iter(left.map(|file| put_file(&store, file, now_ms))).buffered(WRITES_MAX);
        let mut failed = None;
        while let Some(result) = writes.next().await {
            match result {
                Ok(add) if failed.is_none() => written.push(add),
                Ok(_) => {}
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        drop(writes);
        let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
        let done = match failed {
            None => self.commit(written.clone(), Vec::new(), marks, operation).await,
            Some(error) => Err(error),
        };
        if done.is_err() {
            self.pending = Some((marks.to_vec(), written));
        }
        done
    }

    /// Files that a commit yet to be tried again will name.
    pub fn pending_paths(&self) -> impl Iterator<Item = String> + '_ {
        self.pending.iter().flat_map(|(_, written)| written.iter().map(|add| add.path.clone()))
    }

    /// Commits new files, the removal of old ones, and the marks, all or nothing. Gives the version that holds them.
    ///
    /// Where the marks say that this very commit is in already (its answer was lost), nothing is written again.
    pub async fn commit(
        &mut self,
        add: Vec<Add>,
        remove: Vec<Remove>,
        marks: &[Mark],
        operation: DeltaOperation,
    ) -> Result<i64> {
        for _ in 0..CONFLICTS_MAX {
            self.refresh().await?;
            if self.widen().await? {
                continue;
            }
            match self.compare(marks).await? {
                Standing::AlreadyIn => return self.version_of(marks).await,
                Standing::Moved { mark, found } => {
                    let Mark { name, before, .. } = mark;
                    let what = format!("`{name}` stands at {found:?}, this process left it at {before:?}");
                    return Err(LakeError::Fenced { what });
                }
                Standing::Ready => {}
            }
            let mut actions: Vec<Action> = remove.iter().cloned().map(Action::Remove).collect();
            actions.extend(add.iter().cloned().map(Action::Add));
            let transactions = marks.iter().map(|mark| Transaction::new(&mark.name, mark.after)).collect();
            // No retries inside: a conflict must come back here, where the marks are compared again.
            let properties =
                CommitProperties::default().with_application_transactions(transactions).with_max_retries(0);
            let state = self.delta.snapshot().doing("commit to a table")?.clone();
            let commit = CommitBuilder::from(properties).with_actions(actions);
            match commit.build(Some(&state), self.delta.log_store(), operation.clone()).await {
                Ok(done) => {
                    let version = version_number(done.version());
                    self.delta.state = Some(done.snapshot());
                    self.commits_since_load += 1;
                    self.apply(version, add, &remove);
                    return Ok(version);
                }
                Err(error) if is_conflict(&error) => {}
                Err(error) => return Err(error).doing("commit to a table"),
            }
        }
        Err(LakeError::Retry { doing: "commit to a table", cause: format!("{CONFLICTS_MAX} conflicts in a row") })
    }

    /// Gives the table the columns that it lacks, where an older binary made it. Whether it did: then it is not as it was loaded.
    async fn widen(&mut self) -> Result<bool> {
        let state = self.delta.snapshot().doing("read a table's columns")?;
        let lacking = lacking_columns(&self.spec, &state.schema())?;
        if lacking.is_empty() {
            return Ok(false);
        }
        let names: Vec<_> = lacking.iter().map(|field| field.name().clone()).collect();
        match self.delta.clone().add_columns().with_fields(lacking).await {
            Ok(widened) => {
                info!(table = %self.root, ?names, "columns added");
                self.delta.state = widened.state;
                Ok(true)
            }
            Err(error) if is_conflict(&error) => Ok(true),
            Err(error) => Err(error).doing("add columns to a table"),
        }
    }

    /// The data files that a version added; none for one that only rearranged.
    pub async fn added_in(&self, version: i64) -> Result<Vec<Add>> {
        let mut added = Vec::new();
        for action in self.actions_of(version).await? {
            if let Some(add) = action.get("add") {
                let add: Add = serde_json::from_value(add.clone()).map_err(|error| damaged(version, &error))?;
                if add.data_change {
                    added.push(add);
                }
            }
        }
        Ok(added)
    }

    async fn actions_of(&self, version: i64) -> Result<Vec<Value>> {
        let number = u64::try_from(version).unwrap_or_default();
        let entry = self.delta.log_store().read_commit_entry(number).await.doing("read a table's log")?;
        let entry =
            entry.ok_or_else(|| LakeError::Damaged { what: format!("version {version} is missing from the log") })?;
        read_actions(&entry, version)
    }

    /// Takes note of what was committed meanwhile.
    pub async fn refresh(&mut self) -> Result<()> {
        if self.commits_since_load >= COMMITS_PER_LOAD {
            // Forgotten first: loading over a snapshot only adds to it. But kept, since without one nothing can be told of the
            // table until a load succeeds, and whoever asks for its marks first never gets as far as the next try.
            let earlier = self.delta.state.take();
            if let Err(error) = self.delta.load().await {
                self.delta.state = earlier;
                return Err(error).doing("load a table");
            }
            self.commits_since_load = 0;
        } else {
            self.delta.update_state().await.doing("load a table")?;
        }
        if version_number(self.delta.version().unwrap_or_default()) != self.version {
            self.list_files()?;
        }
        Ok(())
    }

    async fn compare(&self, marks: &[Mark]) -> Result<Standing> {
        let mut found = Vec::with_capacity(marks.len());
        for mark in marks {
            found.push(self.mark(&mark.name).await?);
        }
        Ok(Standing::of(marks, &found))
    }

    /// Which version moved the marks to where they are.
    async fn version_of(&self, marks: &[Mark]) -> Result<i64> {
        for version in (0..=self.version).rev() {
            let actions = self.actions_of(version).await?;
            let moves = |mark: &Mark| {
                actions
                    .iter()
                    .any(|action| action["txn"]["appId"] == *mark.name && action["txn"]["version"] == mark.after)
            };
            if marks.iter().any(moves) {
                return Ok(version);
            }
        }
        Err(LakeError::Damaged { what: "a mark stands in the table, but in no version of its log".to_owned() })
    }

    fn list_files(&mut self) -> Result<()> {
        let state = self.delta.snapshot().doing("list a table's files")?;
        #[allow(deprecated, reason = "the actions themselves are wanted: each may be taken out again later")]
        let files = state.log_data().iter().map(|file| Arc::new(self.live(file.add_action()))).collect();
        self.files = Arc::new(files);
        self.version = version_number(state.version());
        self.days = DayFiles::of(self.files.iter().map(|file| &file.add));
        Ok(())
    }

    fn apply(&mut self, version: i64, add: Vec<Add>, remove: &[Remove]) {
        self.days.note(add.iter(), remove);
        let is_removed = |file: &LiveFile| remove.iter().any(|remove| remove.path == file.add.path);
        let kept = self.files.iter().filter(|file| !is_removed(file)).cloned();
        let added = add.into_iter().map(|add| Arc::new(self.live(add)));
        self.files = Arc::new(kept.chain(added).collect());
        self.version = version;
    }

    fn live(&self, add: Add) -> LiveFile {
        LiveFile::new(add, &self.root, &self.spec)
    }
}

fn handle(store: &Arc<dyn ObjectStore>, url: &Url) -> Result<DeltaTable> {
    let builder = DeltaTableBuilder::from_url(url.clone()).doing("open a table")?;
    builder.with_storage_backend(store.clone(), url.clone()).build().doing("open a table")
}

async fn create(delta: DeltaTable, spec: &TableSpec) -> Result<DeltaTable> {
    let schema: StructType = spec
        .schema
        .as_ref()
        .try_into_kernel()
        .map_err(|error| LakeError::Damaged { what: format!("the schema has no form in Delta: {error}") })?;
    let configuration = HashMap::from([
        // The default, the first 32 columns, would put hashes of users into the log for good.
        ("delta.dataSkippingStatsColumns".to_owned(), Some(spec.statistics.join(","))),
        ("delta.checkpointInterval".to_owned(), Some("50".to_owned())),
    ]);
    delta
        .create()
        .with_columns(schema.fields().cloned())
        .with_partition_columns(spec.partition_columns.iter().copied())
        .with_configuration(configuration)
        .await
        .doing("create a table")
}

/// The columns of this binary that a table does not have. One that it has and this binary does not know was added by a newer
/// one, and would be lost from rows that are written anew.
fn lacking_columns(spec: &TableSpec, table: &StructType) -> Result<Vec<StructField>> {
    if let Some(unknown) = table.fields().find(|field| spec.schema.field_with_name(field.name()).is_err()) {
        let what =
            format!("it has a column `{}` of a newer binary; run that one, or restore a back-up", unknown.name());
        return Err(LakeError::Damaged { what });
    }
    let lacking = spec.schema.fields().iter().filter(|field| table.field(field.name()).is_none());
    let in_delta = |field: &Arc<Field>| match field.is_nullable() {
        true => field.as_ref().try_into_kernel().map_err(|error: ArrowError| LakeError::from(error)),
        false => Err(LakeError::Damaged { what: format!("a table has no column `{}`", field.name()) }),
    };
    lacking.map(in_delta).collect()
}

fn read_actions(entry: &[u8], version: i64) -> Result<Vec<Value>> {
    serde_json::Deserializer::from_slice(entry)
        .into_iter()
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| damaged(version, &error))
}

fn is_conflict(error: &DeltaTableError) -> bool {
    matches!(
        error,
        DeltaTableError::VersionAlreadyExists(_)
            | DeltaTableError::Transaction {
                source: TransactionError::CommitConflict(_)
                    | TransactionError::MaxCommitAttempts(_)
                    | TransactionError::VersionAlreadyExists(_)
            }
    )
}

fn version_number(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

fn damaged(version: i64, error: &serde_json::Error) -> LakeError {
    LakeError::Damaged { what: format!("version {version} of the log cannot be read: {error}") }
}
