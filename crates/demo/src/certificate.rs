//! A certificate authority that lives as long as one run.

use crate::{Failure, Outcome};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// Signs the certificate of the demo's image; clients trust it and nothing else.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: Vec<u8>,
}

impl Authority {
    /// A new authority with a key of its own.
    ///
    /// # Errors
    /// The key or certificate cannot be made.
    pub fn new() -> Outcome<Self> {
        let fail = |error| Failure::new("make a certificate authority", error);
        let mut params = CertificateParams::new(Vec::new()).map_err(fail)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Holdfast demo authority");
        let key = KeyPair::generate().map_err(fail)?;
        let certificate = params.self_signed(&key).map_err(fail)?;
        Ok(Self { der: certificate.der().to_vec(), issuer: Issuer::new(params, key) })
    }

    /// The authority's certificate, for clients.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Writes `cert.pem` and `key.pem` for `hosts` into `folder`, readable by the image's user.
    ///
    /// # Errors
    /// The certificate cannot be made or written.
    pub fn write_leaf(&self, hosts: &[&str], folder: &Path) -> Outcome {
        let fail = |error: rcgen::Error| Failure::new("make a certificate", error);
        let names: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let params = CertificateParams::new(names).map_err(fail)?;
        let key = KeyPair::generate().map_err(fail)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(fail)?;
        for (name, text) in [("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())] {
            let path = folder.join(name);
            fs::write(&path, text)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o644)))
                .map_err(|error| Failure::new(format!("write {}", path.display()), error))?;
        }
        Ok(())
    }
}
