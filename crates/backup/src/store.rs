//! Where backups lie: a directory, or a bucket of an S3-compatible store.
//!
//! ```text
//! cluster                        text: whose backups these are; written first, never changed
//! objects/<name>                 parts of logs and snapshots, named by key and content
//! manifests/<id>                 one for each backup, written last
//! log/<before>-<last>-<tag>      what was archived since, by the entries it follows and ends with
//! ```

use crate::{key::KeyId, sealed};
use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig,
    aws::{AmazonS3Builder, S3ConditionalPut},
    local::LocalFileSystem,
    path::Path as Name,
};
use std::{
    fmt, fs, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};
use types::{ByteSize, Timestamp, limits};

/// The object that says whose backups these are.
const CLUSTER: &str = "cluster";
const TITLE: &str = "holdfast backup\nversion 1\n";
/// The most that object may have.
const CLUSTER_BYTES: usize = 4 << 10;

/// Why a store cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// The directory cannot be used.
    #[error("cannot use the directory {}", dir.display())]
    Directory {
        /// It.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The bucket cannot be used.
    #[error("cannot use {url}; its endpoint, region and credentials are taken from the AWS_… variables")]
    Bucket {
        /// Where it is.
        url: String,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It is neither.
    #[error("{url} is no place for backups: give a directory, or s3://BUCKET or s3://BUCKET/PREFIX")]
    Unknown {
        /// What was given.
        url: String,
    },
}

/// Why an object is not there as it should be.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// It is not there.
    #[error("{store} lacks {object}: it was removed, or this is another store")]
    Missing {
        /// Where.
        store: String,
        /// Which.
        object: String,
    },
    /// It is there and not as it was written.
    #[error("{object} in {store} is damaged at offset {offset}: {why}")]
    Damaged {
        /// Where.
        store: String,
        /// Which.
        object: String,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// Another key is needed.
    #[error("{object} in {store} is sealed with the key {wanted}, and the key given is {given}")]
    OtherKey {
        /// Where.
        store: String,
        /// Which.
        object: String,
        /// The key that opens it.
        wanted: KeyId,
        /// The key that was given.
        given: KeyId,
    },
    /// It belongs to another cluster.
    #[error(
        "{store} holds backups of the cluster {found}, not of {wanted}: use a directory or prefix for each"
    )]
    OtherCluster {
        /// Where.
        store: String,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
    /// It is there already.
    #[error("{object} is in {store} already")]
    Exists {
        /// Where.
        store: String,
        /// Which.
        object: String,
    },
    /// There are more than this program goes through.
    #[error(
        "{store} has more than {} objects: use another directory or prefix, or prune it",
        limits::BACKUP_OBJECTS
    )]
    TooMany {
        /// Where.
        store: String,
    },
    /// The store did not do what was asked.
    #[error("{store} failed at {object}")]
    Store {
        /// Where.
        store: String,
        /// Which.
        object: String,
        /// What it said.
        #[source]
        source: Box<object_store::Error>,
    },
}

/// What is known of an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub name: String,
    pub bytes: u64,
    /// When it was written, by the clock of the store.
    pub written: Timestamp,
}

/// Whether an object may replace one of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// It may.
    Over,
    /// It must be the first.
    New,
}

/// A place for the backups of one cluster.
#[derive(Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    prefix: Name,
    shown: String,
    /// Set if it is a directory.
    dir: Option<PathBuf>,
    /// Bytes in a second that it may be used with.
    rate: Option<ByteSize>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.shown)
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Store {
    /// A directory, or `s3://BUCKET/PREFIX`. Region, endpoint and credentials of a bucket come from the
    /// usual variables (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT`; for
    /// an endpoint without TLS, `AWS_ALLOW_HTTP=true`).
    ///
    /// # Errors
    /// It is neither, or cannot be used. A bucket is not asked yet.
    pub fn open(place: &str) -> Result<Self, OpenStoreError> {
        match place.split_once("://") {
            None => Self::directory(place.as_ref()),
            Some(("file", path)) => Self::directory(path.as_ref()),
            Some(("s3", _)) => Self::bucket(AmazonS3Builder::from_env(), place),
            Some(_) => Err(OpenStoreError::Unknown { url: place.into() }),
        }
    }

    /// The same, where a directory must be there already: one that was mistyped, or whose disk is not
    /// mounted, is not made.
    ///
    /// # Errors
    /// As above, and if there is no such directory.
    pub fn existing(place: &str) -> Result<Self, OpenStoreError> {
        let dir = match place.split_once("://") {
            None => place,
            Some(("file", path)) => path,
            Some(_) => return Self::open(place),
        };
        let failed = |error: io::Error| OpenStoreError::Directory { dir: dir.into(), source: error.into() };
        if !fs::metadata(dir).map_err(failed)?.is_dir() {
            return Err(failed(io::ErrorKind::NotADirectory.into()));
        }
        Self::directory(dir.as_ref())
    }

    /// The same store, used with so many bytes in a second at the most, over time.
    #[must_use]
    pub fn at_most(self, rate: ByteSize) -> Self {
        Self { rate: Some(rate), ..self }
    }

    /// Waits until the time that so many bytes may take has passed.
    async fn pace(&self, bytes: usize) {
        if let Some(rate) = self.rate {
            let seconds = bytes as f64 / rate.bytes().max(1) as f64;
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        }
    }

    /// A directory, made if it is not there. Every object is durable when it counts as written.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn directory(dir: &std::path::Path) -> Result<Self, OpenStoreError> {
        let failed = |source| OpenStoreError::Directory { dir: dir.into(), source };
        fs::create_dir_all(dir).map_err(|error| failed(error.into()))?;
        let inner = LocalFileSystem::new_with_prefix(dir).map_err(|error| failed(error.into()))?;
        let inner = inner.with_fsync(true);
        Ok(Self { dir: Some(dir.into()), ..Self::on(Arc::new(inner), dir.display().to_string()) })
    }

    /// A bucket, with what the builder says besides its name.
    ///
    /// # Errors
    /// Something is missing or cannot be.
    pub fn bucket(builder: AmazonS3Builder, url: &str) -> Result<Self, OpenStoreError> {
        // Whoever was first has installed the same one.
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let failed =
            |source: object_store::Error| OpenStoreError::Bucket { url: url.into(), source: source.into() };
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: limits::BACKUP_RETRIES,
            retry_timeout: limits::BACKUP_RETRY.into(),
        };
        let (bucket, prefix) =
            match url.strip_prefix("s3://").map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
                Some((bucket, prefix)) if !bucket.is_empty() => (bucket, prefix),
                _ => return Err(OpenStoreError::Unknown { url: url.into() }),
            };
        let allow_http = builder.get_config_value(&object_store::aws::AmazonS3ConfigKey::Client(
            object_store::ClientConfigKey::AllowHttp,
        ));
        let options = ClientOptions::new()
            .with_timeout(limits::BACKUP_CALL.into())
            .with_connect_timeout(limits::CLIENT_CONNECT.into())
            .with_allow_http(allow_http.as_deref() == Some("true"));
        let inner = builder
            .with_bucket_name(bucket)
            .with_retry(retry)
            .with_client_options(options)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .build()
            .map_err(failed)?;
        let prefix = Name::parse(prefix).map_err(|error| failed(error.into()))?;
        Ok(Self { prefix, ..Self::on(Arc::new(inner), url.into()) })
    }

    /// Any store, shown as `shown`.
    pub fn on(inner: Arc<dyn ObjectStore>, shown: String) -> Self {
        Self { inner, prefix: Name::default(), shown, dir: None, rate: None }
    }

    fn at(&self, name: &str) -> Name {
        self.prefix.parts().chain(Name::from(name).parts()).collect()
    }

    fn failed(&self, object: &str) -> impl FnOnce(object_store::Error) -> ObjectError {
        let (store, object) = (self.shown.clone(), object.to_owned());
        |source| match source {
            object_store::Error::NotFound { .. } => ObjectError::Missing { store, object },
            object_store::Error::AlreadyExists { .. } => ObjectError::Exists { store, object },
            source => ObjectError::Store { store, object, source: source.into() },
        }
    }

    pub(crate) fn damaged(&self, object: &str, offset: u64, why: impl Into<String>) -> ObjectError {
        ObjectError::Damaged { store: self.shown.clone(), object: object.into(), offset, why: why.into() }
    }

    /// The whole object, if it has at most `limit` bytes.
    pub(crate) async fn get(&self, name: &str, limit: usize) -> Result<Bytes, ObjectError> {
        let found = self.inner.get(&self.at(name)).await.map_err(self.failed(name))?;
        let bytes = found.meta.size;
        if bytes > limit as u64 {
            return Err(self.damaged(
                name,
                limit as u64,
                format!("it has {bytes} bytes, more than it can have"),
            ));
        }
        let bytes = found.bytes().await.map_err(self.failed(name))?;
        self.pace(bytes.len()).await;
        Ok(bytes)
    }

    /// How large it is; `None` if it is not there.
    pub(crate) async fn size(&self, name: &str) -> Result<Option<u64>, ObjectError> {
        match self.inner.head(&self.at(name)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(name)(error)),
        }
    }

    /// Writes the whole object, or nothing.
    pub(crate) async fn put(&self, name: &str, bytes: Bytes, put: Put) -> Result<(), ObjectError> {
        let mode = if put == Put::New { PutMode::Create } else { PutMode::Overwrite };
        let (options, size) = (PutOptions::from(mode), bytes.len());
        self.inner.put_opts(&self.at(name), bytes.into(), options).await.map_err(self.failed(name))?;
        self.pace(size).await;
        Ok(())
    }

    /// Removes an object; fine if it is gone.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), ObjectError> {
        match self.inner.delete(&self.at(name)).await {
            Err(object_store::Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(self.failed(name)(error)),
        }
    }

    /// What is in a folder of the store, by name.
    pub(crate) async fn list(&self, folder: &str) -> Result<Vec<Found>, ObjectError> {
        let mut found = Vec::new();
        let mut all = self.inner.list(Some(&self.at(folder)));
        while let Some(meta) = all.try_next().await.map_err(self.failed(folder))? {
            if found.len() == limits::BACKUP_OBJECTS {
                return Err(ObjectError::TooMany { store: self.shown.clone() });
            }
            let Some(last) = meta.location.filename() else { continue };
            let written = u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(0);
            found.push(Found {
                name: format!("{folder}/{last}"),
                bytes: meta.size,
                written: Timestamp::from_ms(written),
            });
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Removes what a writer that was killed has left of objects it had not finished, if it was last
    /// written to before `until`; gives how many bytes each had. A bucket keeps no such thing.
    pub(crate) fn remove_unfinished(&self, folder: &str, until: Timestamp) -> Result<Vec<u64>, ObjectError> {
        let Some(dir) = self.dir.as_ref().map(|dir| dir.join(folder)) else { return Ok(Vec::new()) };
        let remove = || -> io::Result<Vec<u64>> {
            let mut removed = Vec::new();
            for entry in fs::read_dir(&dir)? {
                let entry = entry?;
                // So `object_store` calls a file until it is whole.
                let name = entry.file_name();
                let unfinished = name.to_str().and_then(|name| name.rsplit_once('#'));
                let meta = entry.metadata()?;
                let written = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
                if unfinished.is_some_and(|(_, end)| end.parse::<u32>().is_ok())
                    && written <= u128::from(until.as_ms())
                {
                    fs::remove_file(entry.path())?;
                    removed.push(meta.len());
                }
            }
            Ok(removed)
        };
        match remove() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => {
                let source = object_store::Error::Generic { store: "directory", source: error.into() };
                Err(self.failed(folder)(source))
            }
            removed => Ok(removed.unwrap_or_default()),
        }
    }

    /// Whose backups these are.
    ///
    /// # Errors
    /// There are none, or the store failed.
    pub async fn cluster(&self) -> Result<String, ObjectError> {
        let text = self.get(CLUSTER, CLUSTER_BYTES).await?;
        let text = std::str::from_utf8(&text).ok().and_then(|text| text.strip_prefix(TITLE));
        let cluster = text.and_then(|text| text.strip_prefix("cluster ")?.strip_suffix('\n'));
        cluster.map(str::to_owned).ok_or_else(|| {
            self.damaged(CLUSTER, 0, "it does not say whose backups these are, or a newer holdfast wrote it")
        })
    }

    /// Makes this the store of that cluster, if it is nobody's yet.
    pub(crate) async fn claim(&self, cluster: &str) -> Result<(), ObjectError> {
        let text = format!("{TITLE}cluster {cluster}\n");
        match self.put(CLUSTER, text.into(), Put::New).await {
            Err(ObjectError::Exists { .. }) => {}
            done => return done,
        }
        self.is_of(cluster).await
    }

    /// That this is the store of that cluster. One whose disk is not mounted any more is not.
    pub(crate) async fn is_of(&self, cluster: &str) -> Result<(), ObjectError> {
        let found = self.cluster().await?;
        if found == cluster {
            return Ok(());
        }
        Err(ObjectError::OtherCluster { store: self.shown.clone(), found, wanted: cluster.into() })
    }

    /// What an error of opening says about an object here.
    pub(crate) fn unopened(&self, object: &str, error: sealed::OpenError, given: KeyId) -> ObjectError {
        match error {
            sealed::OpenError::OtherKey(wanted) => {
                ObjectError::OtherKey { store: self.shown.clone(), object: object.into(), wanted, given }
            }
            sealed::OpenError::Damaged { offset, why } => self.damaged(object, offset, why),
        }
    }
}
