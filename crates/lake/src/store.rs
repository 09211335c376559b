//! The object store below the tables. On a local folder it syncs what it writes: `object_store` does not (see decision 0003),
//! and a commit that survives a power cut while its data does not is a broken table.

use std::fmt;
use std::fs::File;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// The local file system from `/` on, with every write on disk before it returns.
#[derive(Debug)]
pub(crate) struct SyncedStore {
    files: LocalFileSystem,
}

impl SyncedStore {
    pub fn new() -> Arc<dyn ObjectStore> {
        Arc::new(Self { files: LocalFileSystem::new() })
    }

    /// Syncs a file that was just written, and the folders that name it for the first time.
    async fn sync(&self, location: &Path, new_folders: Vec<PathBuf>) -> Result<()> {
        let file = self.files.path_to_filesystem(location)?;
        let synced = tokio::task::spawn_blocking(move || {
            File::open(&file)?.sync_all()?;
            file.parent().into_iter().map(FsPath::to_path_buf).chain(new_folders).try_for_each(|folder| File::open(folder)?.sync_all())
        });
        synced.await.map_err(generic)?.map_err(generic)
    }

    /// The folders whose entries change when `location` is written: the parents of those that do not exist yet.
    fn folders_to_make(&self, location: &Path) -> Result<Vec<PathBuf>> {
        let file = self.files.path_to_filesystem(location)?;
        let missing = file.ancestors().skip(1).take_while(|folder| !folder.exists());
        Ok(missing.filter_map(|folder| folder.parent().map(FsPath::to_path_buf)).collect())
    }
}

fn generic(source: impl std::error::Error + Send + Sync + 'static) -> object_store::Error {
    object_store::Error::Generic { store: "SyncedStore", source: Box::new(source) }
}

impl fmt::Display for SyncedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SyncedStore")
    }
}

#[async_trait]
impl ObjectStore for SyncedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let new_folders = self.folders_to_make(location)?;
        let result = self.files.put_opts(location, payload, opts).await?;
        self.sync(location, new_folders).await?;
        Ok(result)
    }

    /// Checkpoints take this way. They repeat what synced commits say, so that a lost one costs time only.
    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.files.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let new_folders = self.folders_to_make(to)?;
        self.files.copy_opts(from, to, options).await?;
        self.sync(to, new_folders).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let new_folders = self.folders_to_make(to)?;
        self.files.rename_opts(from, to, options).await?;
        self.sync(to, new_folders).await
    }
}
