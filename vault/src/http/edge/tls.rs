//! TLS of a listener: certificate and key from files, TLS 1.2 and 1.3, ALPN for both HTTP versions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Why a listener cannot speak TLS. The paths are the operator's own; nothing of the files is repeated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificate file is missing or holds no certificate.
    #[error("cannot read certificates from {0}")]
    Certificate(PathBuf, #[source] rustls_pki_types::pem::Error),
    /// The key file is missing or holds no private key.
    #[error("cannot read a private key from {0}")]
    PrivateKey(PathBuf, #[source] rustls_pki_types::pem::Error),
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("certificate and private key cannot be used")]
    Unusable(#[source] rustls::Error),
}

/// Reads the files and makes the acceptor.
///
/// # Errors
/// [`Error`] names the file.
pub fn acceptor(certificate: &Path, private_key: &Path) -> Result<TlsAcceptor, Error> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| Error::Certificate(certificate.to_owned(), error))?;
    if chain.is_empty() {
        let none = rustls_pki_types::pem::Error::NoItemsFound;
        return Err(Error::Certificate(certificate.to_owned(), none));
    }
    let private_key =
        PrivateKeyDer::from_pem_file(private_key).map_err(|error| Error::PrivateKey(private_key.to_owned(), error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(Error::Unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, private_key)
        .map_err(Error::Unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
