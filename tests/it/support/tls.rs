//! A server whose certificate only those trust who were given its authority's.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// An address of this host that no program takes for its own, and asks a proxy for.
pub(crate) const HOST: &str = "127.0.0.2";

/// What it answers to everything.
pub(crate) const ANSWER: &str = "over TLS";

/// Ends with its runtime.
#[derive(Debug)]
pub(crate) struct TlsServer {
    pub(crate) port: u16,
    /// The authority's certificate, in PEM form.
    pub(crate) authority: String,
}

impl TlsServer {
    /// One that gives [`ANSWER`].
    pub(crate) async fn start() -> Self {
        Self::serve(None).await
    }

    /// One that passes on to a server without TLS what is said to it.
    pub(crate) async fn before(server: SocketAddr) -> Self {
        Self::serve(Some(server)).await
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{HOST}:{}", self.port)
    }

    async fn serve(behind: Option<SocketAddr>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = certificates(directory.path());
        let file = |name: &str| directory.path().join(name);
        let chain = vec![CertificateDer::from_pem_file(file("leaf.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(file("leaf.key")).unwrap();
        // Whoever was faster installed one just as good.
        rustls::crypto::ring::default_provider().install_default().ok();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                match behind {
                    Some(server) => tokio::spawn(pass_on(acceptor, stream, server)),
                    None => tokio::spawn(answer(acceptor, stream)),
                };
            }
        });
        Self { port, authority }
    }
}

async fn answer(acceptor: TlsAcceptor, stream: TcpStream) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut head = [0; 4096];
    let _some = stream.read(&mut head).await?;
    let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{ANSWER}", ANSWER.len());
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

async fn pass_on(acceptor: TlsAcceptor, stream: TcpStream, server: SocketAddr) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut behind = TcpStream::connect(server).await?;
    tokio::io::copy_bidirectional(&mut stream, &mut behind).await.map(drop)
}

/// Makes an authority and a certificate of it for [`HOST`]; gives the authority's.
fn certificates(directory: &Path) -> String {
    let openssl = |arguments: &str| {
        let done = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let ec = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!("req -x509 {ec} -keyout ca.key -out ca.pem -days 2 -subj /CN=Authority"));
    openssl(&format!("req {ec} -keyout leaf.key -out leaf.csr -subj /CN=Server"));
    fs::write(directory.join("names"), format!("subjectAltName=IP:{HOST}\n")).unwrap();
    openssl("x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out leaf.pem");
    fs::read_to_string(directory.join("ca.pem")).unwrap()
}
