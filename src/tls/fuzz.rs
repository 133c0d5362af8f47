//! Certificates that a fuzzer makes up.

use rustls::pki_types::CertificateDer;

use crate::fuzz::Target;
use crate::tls::certificate;

pub(crate) const TARGETS: &[Target] = &[Target { name: "certificate", read: read_certificate }];

/// Its name is found or not, whatever it is.
fn read_certificate(input: &[u8]) {
    let _ = certificate::common_name(&CertificateDer::from(input));
}
