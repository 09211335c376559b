//! TLS from two PEM files. What is wrong with them stops the start; what goes wrong with them later is said, and the
//! certificate that was good stays in use. New files are taken up by themselves, for connections that begin after that.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tally_model::{Clock, SystemClock};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tracing::{error, info, warn};
use x509_certificate::X509Certificate;

use super::super::looking::Looking;
use super::metrics::DoorMetrics;
use crate::config::TlsConfig;

/// How often the files are looked at. A certificate is renewed weeks before it ends.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// From when on somebody is told that a certificate ends, and how often.
const WARN_BEFORE_S: i64 = 14 * 86_400;
const WARN_EVERY_S: i64 = 86_400;

/// What is spoken behind TLS, as it is called in the handshake.
pub(crate) const HTTP: &[&[u8]] = &[b"h2", b"http/1.1"];
pub(crate) const POSTGRES: &[&[u8]] = &[b"postgresql"];

pub(crate) struct Tls {
    files: TlsConfig,
    protocols: &'static [&'static [u8]],
    loaded: Mutex<Loaded>,
    metrics: DoorMetrics,
}

struct Loaded {
    /// What the files held when they were last looked at, good or not; or why they could not be read.
    seen: Result<Pem, String>,
    config: Arc<ServerConfig>,
    /// When the certificate ends, in seconds since the Unix epoch.
    expires_s: i64,
    /// When somebody was last told that it does.
    warned_s: i64,
}

#[derive(PartialEq, Eq)]
struct Pem {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Tls {
    /// None where no certificate is configured.
    pub fn open(
        files: &TlsConfig,
        protocols: &'static [&'static [u8]],
        metrics: &DoorMetrics,
    ) -> Result<Option<Arc<Self>>> {
        if !files.is_on() {
            return Ok(None);
        }
        let pem = Pem::read(files)?;
        let (config, expires_s) = server_config(files, protocols, &pem)?;
        let loaded = Mutex::new(Loaded { config, expires_s, warned_s: 0, seen: Ok(pem) });
        let tls = Self { files: files.clone(), protocols, loaded, metrics: metrics.clone() };
        tls.watch_expiry(&mut tls.loaded.lock().unwrap_or_else(PoisonError::into_inner), now_s());
        Ok(Some(Arc::new(tls)))
    }

    /// For one handshake, with the certificate of this moment.
    pub fn acceptor(&self) -> TlsAcceptor {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&loaded.config))
    }

    /// Takes up files that change, until it is time to go.
    pub async fn watch(self: Arc<Self>, mut closing: watch::Receiver<bool>) {
        let mut looking = Looking::every(LOOK_EVERY);
        loop {
            tokio::select! {
                () = looking.next() => {}
                _ = closing.wait_for(|closing| *closing) => return,
            }
            let tls = Arc::clone(&self);
            // The files may lie on a share that hangs.
            let _ = tokio::task::spawn_blocking(move || tls.look()).await;
        }
    }

    fn look(&self) {
        let read = Pem::read(&self.files).map_err(|error| format!("{error:#}"));
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if read == loaded.seen {
            return self.watch_expiry(&mut loaded, now_s());
        }
        let taken = match &read {
            Ok(pem) => server_config(&self.files, self.protocols, pem).map_err(|error| format!("{error:#}")),
            Err(why) => Err(why.clone()),
        };
        loaded.seen = read;
        match taken {
            Ok((config, expires_s)) => {
                (loaded.config, loaded.expires_s, loaded.warned_s) = (config, expires_s, 0);
                self.metrics.tls_reloads.inc();
                info!(certificate = %self.files.certificate.display(), "a new certificate is in use");
            }
            Err(error) => {
                self.metrics.tls_reload_failures.inc();
                error!(error, "the new certificate cannot be used; the old one stays in use");
            }
        }
        self.watch_expiry(&mut loaded, now_s());
    }
}

impl Tls {
    /// Tells when the certificate ends, and once a day that it soon does, or did. No reason not to start: there are clients that
    /// do not look, and what they send is not to be lost.
    fn watch_expiry(&self, loaded: &mut Loaded, now_s: i64) {
        self.metrics.tls_expires_s.set(loaded.expires_s);
        let left_s = loaded.expires_s - now_s;
        if left_s > WARN_BEFORE_S || now_s - loaded.warned_s < WARN_EVERY_S {
            return;
        }
        loaded.warned_s = now_s;
        let (certificate, left_days) = (self.files.certificate.display(), left_s.div_euclid(WARN_EVERY_S));
        if left_s <= 0 {
            error!(%certificate, "the certificate has expired, and most clients refuse it; put a new one in its place");
        } else {
            warn!(%certificate, left_days, "the certificate expires soon; put a new one in its place");
        }
    }
}

fn now_s() -> i64 {
    SystemClock.now_us().div_euclid(1_000_000)
}

impl Pem {
    fn read(files: &TlsConfig) -> Result<Self> {
        let read = |path: &Path, setting: &str| {
            std::fs::read(path).with_context(|| format!("cannot read `{}`, which `{setting}` names", path.display()))
        };
        Ok(Self { certificate: read(&files.certificate, "tls.certificate")?, key: read(&files.key, "tls.key")? })
    }
}

/// And when its certificate ends.
fn server_config(files: &TlsConfig, protocols: &[&[u8]], pem: &Pem) -> Result<(Arc<ServerConfig>, i64)> {
    let (certificate, key) = (files.certificate.display(), files.key.display());
    let chain = CertificateDer::pem_slice_iter(&pem.certificate).collect::<Result<Vec<_>, _>>();
    let chain =
        chain.with_context(|| format!("`{certificate}` is no PEM file; write the chain, our certificate first"))?;
    ensure!(!chain.is_empty(), "`{certificate}` holds no certificate; write the chain as PEM, our certificate first");
    let ours = X509Certificate::from_der(&chain[0])
        .map_err(|_| anyhow!("the first certificate in `{certificate}` is no X.509 certificate"))?;
    let expires_s = ours.validity_not_after().timestamp();
    let key_der = PrivateKeyDer::from_pem_slice(&pem.key);
    let key_der = key_der.with_context(|| format!("`{key}` holds no private key; write it as PEM, not encrypted"))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key_der)
        .with_context(|| format!("the certificate in `{certificate}` and the key in `{key}` do not make a pair"))?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok((Arc::new(config), expires_s))
}
