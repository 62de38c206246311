//! The webhook's own certificates: when which one is made anew. Pure: the time is given.
//!
//! A new authority is first only added to the bundle that the API server trusts. The serving certificate follows once
//! every API server must have learnt of it, and the old authority stays in the bundle until it ends by itself: so there
//! is no moment at which a replica serves what an API server does not trust.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls::crypto::GetRandomFailed;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use super::token::Token;

const DAY: i64 = 24 * 60 * 60;

/// Seconds that an authority is valid.
const AUTHORITY_LIFE: i64 = 365 * DAY;

/// Seconds that a serving certificate is valid.
const SERVING_LIFE: i64 = 90 * DAY;

/// Certificates begin this many seconds before they are made: clocks differ.
const BACKDATED: i64 = 60 * 60;

/// Seconds after which every API server is taken to trust an authority that was added to the bundle.
const OVERLAP: i64 = 10 * 60;

const END: &str = "-----END CERTIFICATE-----";

/// Authority and serving certificate, each in PEM, and the token of the webhook's paths, as they are kept in one Secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificates {
    /// The authorities that the API server is to trust, the newest last.
    pub ca_bundle: String,
    /// Key of the newest authority.
    pub ca_key: String,
    /// What the webhook serves.
    pub certificate: String,
    /// Key of what the webhook serves.
    pub key: String,
    /// By which the API server shows who it is; it stays as long as the Secret.
    pub token: Token,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The library refused.
    #[error("failed to make a certificate")]
    Generate(#[from] rcgen::Error),
    /// There is no randomness for the token.
    #[error("the operating system gives no randomness")]
    Random,
    /// No certificate can end then.
    #[error("no certificate can begin or end at second {second} of the Unix epoch")]
    Time {
        /// Second of the Unix epoch.
        second: i64,
    },
}

/// What has to be kept instead of `stored` at the time `now` for a webhook that is reached by `names` (DNS names and IP
/// addresses); `None` when nothing is due.
///
/// # Errors
/// When a key or a certificate cannot be made.
pub fn renew(
    stored: Option<&Certificates>,
    names: &BTreeSet<String>,
    now: Timestamp,
) -> Result<Option<Certificates>, CertificateError> {
    let now = now.as_second();
    let Some((stored, state)) = stored.and_then(|it| Some((it, State::read(it)?))) else {
        let authority = Authority::new(now)?;
        let token = Token::generate().map_err(|GetRandomFailed| CertificateError::Random)?;
        return authority
            .serve(authority.pem.clone(), token, names, now)
            .map(Some);
    };
    if state.newest.is_nearly_over(now) {
        let authority = Authority::new(now)?;
        return Ok(Some(Certificates {
            ca_bundle: format!("{}{}", state.bundle(now), authority.pem),
            ca_key: authority.key.serialize_pem(),
            ..stored.clone()
        }));
    }
    if state.serving_is_due(names, now) {
        let authority = state.authority;
        let (bundle, token) = (stored.ca_bundle.clone(), stored.token.clone());
        return authority.serve(bundle, token, names, now).map(Some);
    }
    let bundle = state.bundle(now);
    Ok((bundle != stored.ca_bundle).then(|| Certificates {
        ca_bundle: bundle,
        ..stored.clone()
    }))
}

/// Stored certificates, parsed.
struct State {
    authority: Authority,
    newest: Parsed,
    /// The authorities before it, with their PEM.
    older: Vec<(Parsed, String)>,
    /// `None` when there is none, or it does not fit its key.
    serving: Option<Parsed>,
}

impl State {
    /// `None` when no authority of the bundle belongs to the key, so that nothing can be issued.
    fn read(stored: &Certificates) -> Option<Self> {
        let key = KeyPair::from_pem(&stored.ca_key).ok()?;
        let all: Vec<(Parsed, String)> = stored
            .ca_bundle
            .split_inclusive(END)
            .filter_map(|block| Some((Parsed::read(block)?, format!("{}\n", block.trim_start()))))
            .collect();
        let is_ours = |it: &Parsed| it.public_key == key.subject_public_key_info();
        let (newest, older): (Vec<_>, Vec<_>) = all.into_iter().partition(|(parsed, _)| is_ours(parsed));
        let (newest, pem) = newest.into_iter().next()?;
        let serving_key = KeyPair::from_pem(&stored.key).ok();
        let fits = |it: &Parsed| {
            serving_key
                .as_ref()
                .is_some_and(|key| key.subject_public_key_info() == it.public_key)
        };
        Some(Self {
            authority: Authority {
                name: newest.subject.clone(),
                key,
                pem,
            },
            newest,
            older,
            serving: Parsed::read(&stored.certificate).filter(fits),
        })
    }

    /// The bundle without the authorities that have ended.
    fn bundle(&self, now: i64) -> String {
        let older = self.older.iter().filter(|(parsed, _)| parsed.not_after > now);
        let blocks = older.map(|(_, pem)| pem.as_str());
        blocks.chain([self.authority.pem.as_str()]).collect()
    }

    fn serving_is_due(&self, names: &BTreeSet<String>, now: i64) -> bool {
        let Some(serving) = self.serving.as_ref().filter(|it| it.not_after > now) else {
            return true;
        };
        let is_trusted = self.older.is_empty() || now - self.newest.not_before >= BACKDATED + OVERLAP;
        let is_good =
            serving.issuer == self.newest.subject && serving.names == *names && !serving.is_nearly_over(now);
        is_trusted && !is_good
    }
}

/// An authority that can issue.
struct Authority {
    /// Its common name, different for each.
    name: String,
    key: KeyPair,
    pem: String,
}

impl Authority {
    fn new(now: i64) -> Result<Self, CertificateError> {
        let key = KeyPair::generate()?;
        let name = format!("portcullis-ca-{now}");
        let mut params = authority_params(&name);
        limit(&mut params, now, AUTHORITY_LIFE)?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { name, key, pem })
    }

    /// A new serving certificate beside `ca_bundle`.
    fn serve(
        &self,
        ca_bundle: String,
        token: Token,
        names: &BTreeSet<String>,
        now: i64,
    ) -> Result<Certificates, CertificateError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
        limit(&mut params, now, SERVING_LIFE)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "portcullis-webhook");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::new(authority_params(&self.name), &self.key);
        Ok(Certificates {
            ca_bundle,
            ca_key: self.key.serialize_pem(),
            certificate: params.signed_by(&key, &issuer)?.pem(),
            key: key.serialize_pem(),
            token,
        })
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Sets when a certificate that is made now begins and ends.
fn limit(params: &mut CertificateParams, now: i64, life: i64) -> Result<(), CertificateError> {
    let at = |second| ASN1Time::from_timestamp(second).map_err(|_| CertificateError::Time { second });
    params.not_before = at(now - BACKDATED)?.to_datetime();
    params.not_after = at(now + life)?.to_datetime();
    Ok(())
}

/// What is read of a certificate.
#[derive(Clone)]
struct Parsed {
    subject: String,
    issuer: String,
    /// DNS names and IP addresses.
    names: BTreeSet<String>,
    /// SubjectPublicKeyInfo in DER.
    public_key: Vec<u8>,
    /// Second of the Unix epoch.
    not_before: i64,
    /// Second of the Unix epoch.
    not_after: i64,
}

impl Parsed {
    /// The first certificate of `pem`.
    fn read(pem: &str) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (_, parsed) = X509Certificate::from_der(&der).ok()?;
        let alternatives = parsed.subject_alternative_name().ok()?;
        let names = alternatives.iter().flat_map(|it| &it.value.general_names);
        let common_name = |name: &x509_parser::x509::X509Name<'_>| {
            let first = name.iter_common_name().next()?.as_str().ok()?;
            Some(first.to_owned())
        };
        Some(Self {
            subject: common_name(parsed.subject())?,
            issuer: common_name(parsed.issuer())?,
            names: names.filter_map(name).collect(),
            public_key: parsed.public_key().raw.to_vec(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
        })
    }

    /// Whether less than a third of its life is left.
    fn is_nearly_over(&self, now: i64) -> bool {
        self.not_after - now < (self.not_after - self.not_before) / 3
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(it) => Some((*it).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let address = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = address.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.ok().map(|it| it.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
