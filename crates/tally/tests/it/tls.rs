//! TLS: what is spoken, what is taken up, what is refused.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use super::server::{Launch, Server, eventually, metric};

/// Files as an operator has them, and a server that is given them.
struct Secured {
    folder: TempDir,
    server: Server,
}

fn pair() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

impl Secured {
    fn new(pair: &CertifiedKey<KeyPair>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name| folder.path().join(name).display().to_string();
        let settings = vec![
            ("TALLY__TLS__CERTIFICATE", file("certificate.pem")),
            ("TALLY__TLS__KEY", file("key.pem")),
            ("TALLY__LOG__LEVEL", "info".to_owned()),
            ("NO_COLOR", "1".to_owned()),
        ];
        let server = Server::prepare(Launch { settings, is_logged: true, ..Launch::default() });
        let secured = Self { folder, server };
        secured.install(pair);
        secured
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn install(&self, pair: &CertifiedKey<KeyPair>) {
        std::fs::write(self.path("certificate.pem"), pair.cert.pem()).unwrap();
        std::fs::write(self.path("key.pem"), pair.signing_key.serialize_pem()).unwrap();
    }

    /// The answer to a GET, if the server shows this certificate.
    fn get(&self, path: &str, pair: &CertifiedKey<KeyPair>) -> std::io::Result<String> {
        let tcp = TcpStream::connect(self.server.address())?;
        tcp.set_read_timeout(Some(Duration::from_secs(20)))?;
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(client(pair, b"http/1.1"), name).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(session, tcp);
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn metric(&self, name: &str, pair: &CertifiedKey<KeyPair>) -> f64 {
        metric(&self.get("/metrics", pair).unwrap(), name)
    }
}

fn client(pair: &CertifiedKey<KeyPair>, protocol: &[u8]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Arc::new(config)
}

fn started(pair: &CertifiedKey<KeyPair>) -> Secured {
    let mut secured = Secured::new(pair);
    secured.server.spawn();
    eventually("it is ready", || {
        assert!(secured.server.is_running(), "{}", secured.server.log());
        secured.get("/readyz", pair).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    secured
}

#[tokio::test]
async fn the_peer_chooses_between_http_1_and_2() {
    let pair = pair();
    let secured = started(&pair);
    let tcp = tokio::net::TcpStream::connect(secured.server.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = tokio_rustls::TlsConnector::from(client(&pair, b"h2")).connect(name, tcp).await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(tls);
    let (mut http, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get("https://localhost/healthz").body(String::new()).unwrap();
    let answer = http.send_request(request).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, hyper::Version::HTTP_2));
    connection.abort();
    assert!(secured.get("/healthz", &pair).unwrap().starts_with("HTTP/1.1 200"));
}

#[test]
fn a_new_certificate_is_taken_up_and_a_bad_one_changes_nothing() {
    let (old, new) = (pair(), pair());
    let secured = started(&old);
    assert!(secured.get("/healthz", &new).is_err());

    secured.install(&new);
    // At once, without waiting for the next look.
    secured.server.signal("HUP");
    eventually("the new certificate is shown", || secured.get("/healthz", &new).is_ok());
    assert!(secured.get("/healthz", &old).is_err());
    assert_eq!(secured.metric("tally_server_tls_reloads_total", &new), 1.0);

    let expires = secured.metric("tally_server_tls_certificate_expires_timestamp_seconds", &new);
    assert!(expires > 1_700_000_000.0, "{expires}");

    // The key of another certificate.
    std::fs::write(secured.path("key.pem"), old.signing_key.serialize_pem()).unwrap();
    eventually("the mistake is noticed", || secured.metric("tally_server_tls_reload_failures_total", &new) > 0.0);
    let log = secured.server.log();
    assert!(log.contains("the old one stays in use") && log.contains("do not make a pair"), "{log}");
}

#[test]
fn a_certificate_that_has_ended_is_used_and_said_to_have_ended() {
    let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    (parameters.not_before, parameters.not_after) =
        (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2001, 2, 1));
    let signing_key = KeyPair::generate().unwrap();
    let ended = CertifiedKey { cert: parameters.self_signed(&signing_key).unwrap(), signing_key };
    let mut secured = Secured::new(&ended);
    secured.server.spawn();
    eventually("it is said", || secured.server.log().contains("the certificate has expired"));
    assert!(secured.server.is_running(), "what clients that do not look send is not lost");
}

#[test]
fn who_speaks_no_tls_gets_no_answer_and_is_counted() {
    let pair = pair();
    let secured = started(&pair);
    let mut plain = TcpStream::connect(secured.server.address()).unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: t\r\n\r\n").unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!said.windows(4).any(|window| window == b"HTTP"), "{said:?}");
    assert_eq!(secured.metric("tally_server_tls_handshakes_failed_total", &pair), 1.0);
}

#[test]
fn a_bad_certificate_stops_the_start_and_says_which_file() {
    let right = pair();
    let (certificate, key) = (right.cert.pem(), right.signing_key.serialize_pem());
    for (certificate, key, says) in [
        (None, Some(&key), "certificate.pem`, which `tls.certificate` names"),
        (Some(&String::new()), Some(&key), "certificate.pem` holds no certificate"),
        (Some(&certificate), Some(&certificate), "key.pem` holds no private key"),
        (Some(&certificate), Some(&pair().signing_key.serialize_pem()), "do not make a pair"),
    ] {
        let mut secured = Secured::new(&right);
        for (name, text) in [("certificate.pem", certificate), ("key.pem", key)] {
            match text {
                Some(text) => std::fs::write(secured.path(name), text).unwrap(),
                None => std::fs::remove_file(secured.path(name)).unwrap(),
            }
        }
        secured.server.spawn();
        assert!(!secured.server.wait_until_ended().success());
        assert!(secured.server.log().contains(says), "{says}: {}", secured.server.log());
    }
}
