//! TLS by a certificate and its key, both PEM files that may be replaced while the server runs.

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::{Accept, TlsAcceptor};

/// A certificate or key that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TlsError {
    /// It cannot be read, or is not PEM.
    #[error("{}: {why}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// A sentence.
        why: String,
    },
    /// They do not fit each other, or are of a kind that is not known here.
    #[error("{} does not work with the key {}: {why}", cert.display(), key.display())]
    Pair {
        /// The certificate.
        cert: PathBuf,
        /// Its key.
        key: PathBuf,
        /// What the library says.
        why: String,
    },
}

/// How connections are secured. Clones share what they are secured with.
#[derive(Clone)]
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    config: Arc<RwLock<Arc<ServerConfig>>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("cert", &self.cert).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads a certificate, with those that it was signed by after it, and its key.
    ///
    /// # Errors
    /// When one of the files is not what it should be, or they are not of each other.
    pub fn open(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let config = Arc::new(RwLock::new(config(cert, key)?));
        Ok(Self { cert: cert.into(), key: key.into(), config })
    }

    /// Reads both files again, for connections from now on.
    ///
    /// # Errors
    /// As [`Tls::open`]; then what was read before stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = config(&self.cert, &self.key)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Greets a client.
    pub(crate) fn accept(&self, socket: TcpStream) -> Accept<TcpStream> {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner).clone();
        TlsAcceptor::from(config).accept(socket)
    }
}

fn config(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let bad = |file: &Path, why: String| TlsError::File { file: file.into(), why };
    let because = |error: pem::Error| match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "it holds none in PEM form".into(),
        other => format!("it is not PEM: {other}"),
    };
    let read = |error| bad(cert, format!("no certificate can be read: {}", because(error)));
    let chain = CertificateDer::pem_file_iter(cert).map_err(read)?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(read)?;
    if chain.is_empty() {
        return Err(bad(cert, "it holds no certificate; give a PEM file that has one".into()));
    }
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| bad(key, format!("no private key can be read: {}", because(error))))?;
    let pair = |error: rustls::Error| TlsError::Pair {
        cert: cert.into(),
        key: key.into(),
        why: error.to_string(),
    };
    // The provider is named: none is installed for the process, which others may want otherwise.
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_files_are_sentences() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let said = |cert: &Path, key: &Path| Tls::open(cert, key).unwrap_err().to_string();
        assert!(Tls::open(&cert, &key).unwrap().reload().is_ok());
        let none = Path::new("/none.pem");
        assert!(said(none, &key).starts_with("/none.pem: no certificate can be read: "));
        assert!(said(&cert, none).starts_with("/none.pem: no private key can be read: "));
        let swapped = said(&key, &cert);
        assert!(swapped.ends_with("it holds no certificate; give a PEM file that has one"));
        assert!(
            said(&cert, &cert).ends_with("it holds none in PEM form"),
            "{}",
            said(&cert, &cert)
        );
    }
}
