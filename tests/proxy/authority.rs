//! Certificates as operators make them: with openssl's own commands.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An authority, and the folder with what it has signed: `NAME.pem` and `NAME.key`.
pub(crate) struct Authority {
    folder: tempfile::TempDir,
}

impl Authority {
    /// A new one; its certificate is in `ca.pem`.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("cairn-test-").tempdir().expect("a folder");
        let this = Self { folder };
        let name = this.folder.path().file_name().unwrap_or_default().to_string_lossy();
        this.openssl(&format!(
            "req -x509 {KEY} -keyout ca.key -out ca.pem -days 2 -subj /CN={name} \
             -addext keyUsage=critical,keyCertSign,cRLSign"
        ));
        this
    }

    /// Signs a certificate for loopback, good for servers and clients; its common name is `name`.
    pub(crate) fn sign(&self, name: &str) {
        self.sign_for(name, "IP:127.0.0.1,DNS:localhost");
    }

    /// Signs one for these names, as openssl writes them.
    pub(crate) fn sign_for(&self, name: &str, names: &str) {
        self.openssl(&format!("req {KEY} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        let extensions =
            format!("subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n");
        fs::write(self.path("extensions"), extensions).expect("the folder is ours");
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
             -extfile extensions -out {name}.pem"
        ));
        let only_ours = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.path(&format!("{name}.key")), only_ours).expect("a mode");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file as a word of a command line.
    pub(crate) fn word(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn openssl(&self, words: &str) {
        let mut command = Command::new("openssl");
        command.args(words.split_whitespace()).current_dir(self.folder.path());
        let made = command.output().expect("openssl is installed by scripts/test.sh");
        assert!(made.status.success(), "{words}: {}", String::from_utf8_lossy(&made.stderr));
    }
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

/// Puts a file in the place of another in one step, as careful operators do: no reader sees a part.
pub(crate) fn replace(from: &Path, to: &Path) {
    let next = to.with_extension("next");
    fs::copy(from, &next).expect("a copy");
    fs::rename(next, to).expect("a file in its place");
}
