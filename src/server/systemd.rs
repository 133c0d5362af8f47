//! What a service manager is told: `sd_notify`'s protocol, a datagram of lines.
//!
//! The crates for it take a path only; containers and newer systemd hand in abstract sockets (`@name`) as well.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use tracing::debug;

/// The member serves. Where a service manager started it, that one hears so; elsewhere nothing happens.
pub(super) fn ready() {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = tell(&socket, "READY=1\n") {
        debug!(target: "etcdmain", "cannot notify {}: {error}", socket.display());
    }
}

fn tell(socket: &OsStr, text: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(manager: &UnixDatagram) -> String {
        let mut bytes = [0; 64];
        let count = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    #[test]
    fn a_manager_hears_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        tell(path.as_os_str(), "READY=1\n").unwrap();
        assert_eq!(heard(&manager), "READY=1\n");
        let name = format!("cairn-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        tell(OsStr::new(&format!("@{name}")), "READY=1\n").unwrap();
        assert_eq!(heard(&manager), "READY=1\n");
        assert!(tell(OsStr::new("@cairn-test-nobody"), "READY=1\n").is_err());
    }
}
