//! Why an endpoint may not have understood: it speaks TLS and was asked without, or the other way round.
//!
//! Owns: the hint. Never knows: what was asked.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::ctl::failure::CtlError;
use crate::ctl::print::note;

/// For one endpoint; the command has failed already, and its user waits.
const PROBE_MAX: Duration = Duration::from_millis(500);
/// Endpoints that are looked at.
const PROBES_MAX: usize = 3;

/// The head of a handshake record, and the beginning of a handshake that cannot be: who speaks TLS answers with an alert.
const NO_HANDSHAKE: [u8; 6] = [22, 3, 1, 0, 1, 0];
/// The first byte of an alert.
const ALERT: u8 = 21;

/// Says it where a command has failed for that reason.
pub(super) async fn hint(endpoints: &[String], error: &CtlError) {
    let unheard = match error {
        CtlError::Cluster(_) | CtlError::One(_) => !error.is_no_connection(),
        // An answer that is no JSON, perhaps of a server that expects TLS.
        CtlError::Plain(_) => true,
        CtlError::Key(_) | CtlError::Deadline => false,
    };
    if !unheard {
        return;
    }
    for endpoint in endpoints.iter().take(PROBES_MAX) {
        let Some((scheme, address)) = endpoint.split_once("://") else { continue };
        let address = address.split('/').next().unwrap_or_default();
        let speaks = tokio::time::timeout(PROBE_MAX, speaks_tls(address)).await;
        match (scheme, speaks) {
            ("http", Ok(Some(true))) => {
                note(&format!("{endpoint} speaks TLS: try https://{address}"));
            }
            ("https", Ok(Some(false))) => {
                note(&format!("{endpoint} does not speak TLS: try http://{address}"));
            }
            _ => {}
        }
    }
}

/// `None` when no server listens there.
async fn speaks_tls(address: &str) -> Option<bool> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(&NO_HANDSHAKE).await.ok()?;
    // Without TLS it waits for the end of a line.
    stream.write_all(b"\r\n\r\n").await.ok()?;
    let mut first = [0];
    let read = stream.read(&mut first).await;
    Some(read.is_ok_and(|read| read == 1) && first[0] == ALERT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn server(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 64]).await;
            stream.write_all(answer).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn an_alert_tells_who_speaks_tls() {
        assert_eq!(speaks_tls(&server(&[21, 3, 1, 0, 2, 2, 50]).await).await, Some(true));
        assert_eq!(
            speaks_tls(&server(b"HTTP/1.1 400 Bad Request\r\n\r\n").await).await,
            Some(false)
        );
        assert_eq!(speaks_tls(&server(b"").await).await, Some(false));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        assert_eq!(speaks_tls(&address).await, None);
    }
}
