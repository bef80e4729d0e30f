//! Issued certificates say what S11.01 asks for, whatever the request says.

use std::process::Command;

use proptest::prelude::*;
use rcgen::{CustomExtension, KeyPair};
use types::{ClusterId, NodeId};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use super::*;
use crate::Identity;
use crate::certificate::CSR_LEN_MAX;

const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);
const HOUR_S: i64 = 3600;

fn subject(role: NodeRole) -> Subject {
    Subject {
        cluster_id: ClusterId::from_number(11),
        role,
        node_id: NodeId::from_number(22),
    }
}

fn now_s() -> i64 {
    i64::try_from(NOW.0 / 1_000_000_000).unwrap()
}

fn der_of(chain: &str) -> Vec<u8> {
    pem::parse(chain).unwrap().into_contents()
}

/// Everything a certificate says, besides key, serial and signature.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    subject: String,
    issuer: String,
    names: Vec<String>,
    not_before: i64,
    not_after: i64,
    key_usage: String,
    extended_key_usage: Vec<&'static str>,
    is_ca: bool,
    extensions: Vec<String>,
}

fn said(der: &[u8]) -> Said {
    let (_, cert) = X509Certificate::from_der(der).unwrap();
    let usage = cert.extended_key_usage().unwrap().map(|e| e.value.clone());
    let mut extended_key_usage = Vec::new();
    if let Some(usage) = usage {
        assert!(usage.other.is_empty() && !usage.any && !usage.code_signing && !usage.ocsp_signing);
        if usage.server_auth {
            extended_key_usage.push("server");
        }
        if usage.client_auth {
            extended_key_usage.push("client");
        }
    }
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        other => format!("{other:?}"),
    };
    Said {
        subject: cert.subject().to_string(),
        issuer: cert.issuer().to_string(),
        names: cert
            .subject_alternative_name()
            .unwrap()
            .map(|san| san.value.general_names.iter().map(name).collect())
            .unwrap_or_default(),
        not_before: cert.validity().not_before.timestamp(),
        not_after: cert.validity().not_after.timestamp(),
        key_usage: cert.key_usage().unwrap().unwrap().value.to_string(),
        extended_key_usage,
        is_ca: cert.is_ca(),
        extensions: cert
            .extensions()
            .iter()
            .map(|e| match e.parsed_extension() {
                ParsedExtension::UnsupportedExtension { oid } => oid.to_string(),
                _ => e.oid.to_string(),
            })
            .collect(),
    }
}

fn expected(role: NodeRole, validity_s: i64) -> Said {
    let (ou, node) = (organizational_unit(role), NodeId::from_number(22));
    let mut names = vec![ou.to_owned(), node.to_string()];
    if role == NodeRole::Manager {
        names.push(CA_NAME.to_owned());
    }
    Said {
        subject: format!("O={}, OU={ou}, CN={node}", ClusterId::from_number(11)),
        issuer: "CN=swarm-ca".to_owned(),
        names,
        not_before: now_s() - HOUR_S,
        not_after: now_s() + validity_s,
        key_usage: "Digital Signature, Key Encipherment".to_owned(),
        extended_key_usage: vec!["server", "client"],
        is_ca: false,
        // Authority key id, names, key usage, extended key usage, subject key id, constraints.
        extensions: [
            "2.5.29.35",
            "2.5.29.17",
            "2.5.29.15",
            "2.5.29.37",
            "2.5.29.14",
            "2.5.29.19",
        ]
        .map(str::to_owned)
        .into(),
    }
}

fn issue(root: &RootCa, csr: &str, role: NodeRole) -> Result<String, Error> {
    root.issue(csr, &subject(role), NODE_VALIDITY_DEFAULT, NOW)
}

#[test]
fn a_root_lasts_twenty_years_and_may_only_sign() {
    let root = RootCa::generate(NOW).unwrap();
    let said = said(&root.bundle().certs()[0]);
    assert_eq!(
        (said.subject.as_str(), said.issuer.as_str()),
        ("CN=swarm-ca", "CN=swarm-ca")
    );
    assert_eq!(said.not_before, now_s() - HOUR_S);
    assert_eq!(said.not_after, now_s() + 630_720_000);
    assert_eq!(said.key_usage, "Key Cert Sign, CRL Sign");
    assert!(said.is_ca);
    assert!(said.names.is_empty());
}

#[test]
fn a_node_certificate_says_exactly_what_it_should() {
    let root = RootCa::generate(NOW).unwrap();
    let key = PrivateKey::generate().unwrap();
    let csr = key.csr_pem().unwrap();
    for role in [NodeRole::Worker, NodeRole::Manager] {
        let chain = issue(&root, &csr, role).unwrap();
        assert_eq!(said(&der_of(&chain)), expected(role, 90 * 24 * HOUR_S));
    }
    let one = der_of(&issue(&root, &csr, NodeRole::Worker).unwrap());
    let other = der_of(&issue(&root, &csr, NodeRole::Worker).unwrap());
    let serial = |der: &[u8]| {
        X509Certificate::from_der(der)
            .unwrap()
            .1
            .raw_serial()
            .to_vec()
    };
    assert_ne!(serial(&one), serial(&other));
}

#[test]
fn validity_is_what_was_asked_and_ends_with_the_root() {
    let root = RootCa::generate(NOW).unwrap();
    let csr = PrivateKey::generate().unwrap().csr_pem().unwrap();
    let end_after_s = |validity_s: u64| {
        let validity = Duration::from_secs(validity_s);
        let chain = root
            .issue(&csr, &subject(NodeRole::Worker), validity, NOW)
            .unwrap();
        said(&der_of(&chain)).not_after - now_s()
    };
    for (asked_s, given_s) in [
        (60, 60),
        (3600, 3600),
        (7200, 7200),
        (40 * 365 * 86_400, 630_720_000),
        (u64::MAX, 630_720_000),
    ] {
        assert_eq!(end_after_s(asked_s), given_s, "{asked_s}");
    }
}

#[test]
fn a_life_below_the_shortest_gives_the_default() {
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    for (asked, min, given) in [
        (Duration::ZERO, NODE_VALIDITY_MIN, hours(2160)),
        (Duration::from_secs(3599), NODE_VALIDITY_MIN, hours(2160)),
        (hours(1), NODE_VALIDITY_MIN, hours(1)),
        (
            Duration::from_secs(5),
            Duration::from_secs(5),
            Duration::from_secs(5),
        ),
    ] {
        assert_eq!(effective_validity(asked, min), given, "{asked:?} {min:?}");
    }
}

#[test]
fn wishes_in_a_request_have_no_effect() {
    let root = RootCa::generate(NOW).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut wishes = CertificateParams::new(vec![
        "swarm-manager".to_owned(),
        "swarm-ca".to_owned(),
        "*.example.com".to_owned(),
        "192.0.2.1".to_owned(),
    ])
    .unwrap();
    wishes.distinguished_name = DistinguishedName::new();
    wishes
        .distinguished_name
        .push(DnType::OrganizationName, "somebody else");
    wishes
        .distinguished_name
        .push(DnType::OrganizationalUnitName, "swarm-manager");
    wishes
        .distinguished_name
        .push(DnType::CommonName, NodeId::from_number(99).to_string());
    wishes.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    wishes.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    wishes.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::Any,
        ExtendedKeyUsagePurpose::CodeSigning,
    ];
    wishes.custom_extensions = vec![CustomExtension::from_oid_content(
        &[1, 3, 6, 1, 4, 1, 99_999, 1],
        vec![5, 0],
    )];
    let csr = wishes.serialize_request(&key).unwrap().pem().unwrap();
    let chain = issue(&root, &csr, NodeRole::Worker).unwrap();
    assert_eq!(
        said(&der_of(&chain)),
        expected(NodeRole::Worker, 90 * 24 * HOUR_S)
    );
}

#[test]
fn requests_that_are_not_sound_are_refused() {
    let root = RootCa::generate(NOW).unwrap();
    let request = |alg| {
        let key = KeyPair::generate_for(alg).unwrap();
        CertificateParams::default()
            .serialize_request(&key)
            .unwrap()
            .pem()
            .unwrap()
    };
    let good = PrivateKey::generate().unwrap().csr_pem().unwrap();
    let der = der_of(&good);
    let other = der_of(&PrivateKey::generate().unwrap().csr_pem().unwrap());
    let csr = |der: Vec<u8>| pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der));
    // Somebody else's signature under our key: the last 70 bytes are within the signature.
    let mixed = [&der[..der.len() - 70], &other[other.len() - 70..]].concat();
    let trailing = [&der[..], &[0]].concat();
    let cases = [
        (
            "P-384",
            request(&rcgen::PKCS_ECDSA_P384_SHA384),
            "not ECDSA P-256",
        ),
        ("Ed25519", request(&rcgen::PKCS_ED25519), "not ECDSA P-256"),
        ("another signature", csr(mixed), "has not signed it"),
        ("trailing bytes", csr(trailing), "bytes follow"),
        (
            "cut off",
            csr(der[..der.len() - 10].to_vec()),
            "cannot be read",
        ),
        (
            "a key",
            PrivateKey::generate().unwrap().to_pem().to_string(),
            "is a PRIVATE KEY",
        ),
        ("nothing", String::new(), "refused"),
        ("too long", "x".repeat(CSR_LEN_MAX + 1), "longer than"),
    ];
    for (what, csr, expected) in cases {
        let error = issue(&root, &csr, NodeRole::Worker).unwrap_err();
        assert!(error.to_string().contains(expected), "{what}: {error}");
    }
    issue(&root, &good, NodeRole::Worker).unwrap();
}

#[test]
fn a_root_reads_back_and_signs_for_the_same_cluster() {
    let root = RootCa::generate(NOW).unwrap();
    let text = std::str::from_utf8(root.bundle().pem()).unwrap();
    let again = RootCa::from_pem(text, &root.key_pem()).unwrap();
    assert_eq!(again.bundle().digest(), root.bundle().digest());
    let key = PrivateKey::generate().unwrap();
    let chain = issue(&again, &key.csr_pem().unwrap(), NodeRole::Manager).unwrap();
    Identity::new(key, &chain, root.bundle().clone()).unwrap();

    let other = RootCa::generate(NOW).unwrap();
    let error = RootCa::from_pem(text, &other.key_pem()).unwrap_err();
    assert!(matches!(error, Error::KeyMismatch { .. }), "{error}");
    let two = format!(
        "{text}{}",
        std::str::from_utf8(other.bundle().pem()).unwrap()
    );
    let error = RootCa::from_pem(&two, &root.key_pem()).unwrap_err();
    assert!(error.to_string().contains("there are 2 of them"), "{error}");
    let leaf_key = PrivateKey::generate().unwrap();
    let leaf = issue(&root, &leaf_key.csr_pem().unwrap(), NodeRole::Manager).unwrap();
    let error = RootCa::from_pem(&leaf, &leaf_key.to_pem()).unwrap_err();
    assert!(
        error.to_string().contains("not a certificate authority"),
        "{error}"
    );
}

#[test]
fn debug_shows_no_key() {
    let root = RootCa::generate(NOW).unwrap();
    let key = root.key_pem();
    let secret = key.lines().nth(1).unwrap();
    let shown = format!("{root:?} {:?}", root.issuer.key());
    assert!(!shown.contains(secret), "{shown}");
}

#[test]
fn openssl_agrees() {
    let Ok(version) = Command::new("openssl").arg("version").output() else {
        eprintln!("skipped: openssl is not installed");
        return;
    };
    assert!(version.status.success());
    let dir = tempfile::tempdir().unwrap();
    let (root_file, leaf_file) = (dir.path().join("root.pem"), dir.path().join("leaf.pem"));
    let now = Timestamp::now();
    let root = RootCa::generate(now).unwrap();
    std::fs::write(&root_file, root.bundle().pem()).unwrap();
    let other_file = dir.path().join("other.pem");
    std::fs::write(&other_file, RootCa::generate(now).unwrap().bundle().pem()).unwrap();
    let verify = |roots: &std::path::Path, purpose: &str| {
        let output = Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"])
            .args([roots, &leaf_file])
            .output()
            .unwrap();
        let words = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&words).into_owned(),
        )
    };
    for role in [NodeRole::Worker, NodeRole::Manager] {
        let csr = PrivateKey::generate().unwrap().csr_pem().unwrap();
        let chain = root
            .issue(&csr, &subject(role), NODE_VALIDITY_DEFAULT, now)
            .unwrap();
        std::fs::write(&leaf_file, chain).unwrap();
        for purpose in ["sslserver", "sslclient"] {
            let (is_good, words) = verify(&root_file, purpose);
            assert!(is_good, "{role} {purpose}: {words}");
        }
        let (is_good, words) = verify(&other_file, "sslclient");
        assert!(!is_good, "{words}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_damaged_request_never_names_another_key(at in 0..1000_usize, bit in 0..8_u8) {
        let root = RootCa::generate(NOW).unwrap();
        let key = PrivateKey::generate().unwrap();
        let mut der = der_of(&key.csr_pem().unwrap());
        let at = at % der.len();
        der[at] ^= 1 << bit;
        let csr = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der));
        if let Ok(chain) = issue(&root, &csr, NodeRole::Worker) {
            prop_assert!(Identity::new(key, &chain, root.bundle().clone()).is_ok());
        }
    }
}
