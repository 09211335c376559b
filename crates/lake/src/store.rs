//! The object store below the tables. On a local folder it syncs what it writes: `object_store` does not (see decision 0003),
//! and a commit that survives a power cut while its data does not is a broken table.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use uuid::Uuid;

/// Stands in the name of a file that is still being written.
pub(crate) const STAGED: &str = ".staged-";

/// The local file system from `/` on, with every write on disk before it returns.
#[derive(Debug)]
pub(crate) struct SyncedStore {
    files: LocalFileSystem,
}

impl SyncedStore {
    pub fn open() -> Arc<dyn ObjectStore> {
        Arc::new(Self { files: LocalFileSystem::new() })
    }

    /// Runs file system work where it may block.
    async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done.map_err(generic),
            Err(error) => Err(generic(error)),
        }
    }
}

/// Writes beside the final name, syncs, and only then gives the name: whoever sees a file sees all of it, also after a
/// power cut. `Create` gives it by a hard link, which fails where the name is taken.
fn put(path: &FsPath, payload: &PutPayload, mode: &PutMode) -> io::Result<()> {
    let folder = path.parent().unwrap_or(FsPath::new("/"));
    make_folder(folder)?;
    let staged = staged_name(path);
    let written = write_synced(&staged, payload).and_then(|()| match mode {
        PutMode::Create => std::fs::hard_link(&staged, path).and_then(|()| std::fs::remove_file(&staged)),
        _ => std::fs::rename(&staged, path),
    });
    if written.is_err() {
        // What is left behind is swept later.
        let _ = std::fs::remove_file(&staged);
    }
    written?;
    File::open(folder)?.sync_all()
}

fn write_synced(path: &FsPath, payload: &PutPayload) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    for part in payload {
        file.write_all(part)?;
    }
    file.sync_all()
}

#[allow(clippy::disallowed_methods, reason = "names of unfinished files must be unique, and decide nothing")]
fn staged_name(path: &FsPath) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!("{STAGED}{}", Uuid::new_v4().simple()));
    PathBuf::from(name)
}

/// Makes what is missing of a folder's path, each with its entry synced.
fn make_folder(folder: &FsPath) -> io::Result<()> {
    let missing: Vec<&FsPath> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    std::fs::create_dir_all(folder)?;
    missing.into_iter().filter_map(FsPath::parent).try_for_each(|parent| File::open(parent)?.sync_all())
}

fn sync_named(path: &FsPath) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
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
        if matches!(opts.mode, PutMode::Update(_)) {
            return self.files.put_opts(location, payload, opts).await;
        }
        let path = self.files.path_to_filesystem(location)?;
        let named = location.to_string();
        let work = move || match put(&path, &payload, &opts.mode) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Err(error)),
            done => done.map(Ok),
        };
        match Self::blocking(work).await? {
            Ok(()) => Ok(PutResult { e_tag: None, version: None }),
            Err(taken) => Err(object_store::Error::AlreadyExists { path: named, source: Box::new(taken) }),
        }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.files.put_multipart_opts(location, opts).await?;
        Ok(Box::new(SyncedUpload { upload, path: self.files.path_to_filesystem(location)? }))
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
        self.files.copy_opts(from, to, options).await?;
        let path = self.files.path_to_filesystem(to)?;
        Self::blocking(move || sync_named(&path)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.files.rename_opts(from, to, options).await?;
        let path = self.files.path_to_filesystem(to)?;
        Self::blocking(move || sync_named(&path)).await
    }
}

/// Large checkpoints are written in parts.
#[derive(Debug)]
struct SyncedUpload {
    upload: Box<dyn MultipartUpload>,
    path: PathBuf,
}

#[async_trait]
impl MultipartUpload for SyncedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let result = self.upload.complete().await?;
        let path = self.path.clone();
        SyncedStore::blocking(move || sync_named(&path)).await?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;

    #[tokio::test]
    async fn a_name_is_given_once_and_nothing_unfinished_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = SyncedStore::open();
        let at = Path::from_absolute_path(folder.path().join("new/deep/file")).unwrap();
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        store.put_opts(&at, "one".into(), create.clone()).await.unwrap();
        let again = store.put_opts(&at, "two".into(), create).await;
        assert!(matches!(again, Err(object_store::Error::AlreadyExists { .. })), "{again:?}");
        assert_eq!(store.get(&at).await.unwrap().bytes().await.unwrap(), "one");
        store.put(&at, "three".into()).await.unwrap();
        assert_eq!(store.get(&at).await.unwrap().bytes().await.unwrap(), "three");
        let left = std::fs::read_dir(folder.path().join("new/deep")).unwrap().count();
        assert_eq!(left, 1);
    }
}
