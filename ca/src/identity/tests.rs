//! Parts of an identity have to fit, and renewal comes at its time.

use super::*;
use crate::RootCa;

const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);

fn issue(root: &RootCa, key: &PrivateKey) -> String {
    let subject = Subject {
        cluster_id: ClusterId::from_number(1),
        role: NodeRole::Manager,
        node_id: NodeId::from_number(2),
    };
    root.issue(
        &key.csr_pem().unwrap(),
        &subject,
        Duration::from_secs(9 * 3600),
        NOW,
    )
    .unwrap()
}

fn bundle(roots: &[&RootCa]) -> RootBundle {
    let pem: Vec<u8> = roots
        .iter()
        .flat_map(|root| root.bundle().pem().to_vec())
        .collect();
    RootBundle::from_pem(pem).unwrap()
}

#[test]
fn an_identity_knows_what_its_certificate_says() {
    let root = RootCa::generate(NOW).unwrap();
    let key = PrivateKey::generate().unwrap();
    let chain = issue(&root, &key);
    let identity = Identity::new(key, &chain, bundle(&[&root])).unwrap();
    assert_eq!(identity.cluster_id(), ClusterId::from_number(1));
    assert_eq!(identity.role(), NodeRole::Manager);
    assert_eq!(identity.node_id(), NodeId::from_number(2));
    assert_eq!(identity.not_before(), Timestamp(NOW.0 - 3_600_000_000_000));
    let end = NOW.plus(Duration::from_secs(9 * 3600));
    assert_eq!(identity.peer().cert_not_after, end);
    assert!(!identity.is_expired(Timestamp(end.0 - 1)));
    assert!(identity.is_expired(end));
}

#[test]
fn renewal_lies_between_half_and_four_fifths() {
    let root = RootCa::generate(NOW).unwrap();
    let key = PrivateKey::generate().unwrap();
    let chain = issue(&root, &key);
    let identity = Identity::new(key, &chain, bundle(&[&root])).unwrap();
    // Ten hours in all, from an hour ago: nine since it was issued.
    let after_issue = |random| identity.renew_at(random).since(NOW);
    assert_eq!(after_issue(0), Duration::from_secs(9 * 3600 / 2));
    assert_eq!(
        after_issue(u32::MAX),
        Duration::from_secs(9 * 3600 * 8 / 10)
    );
    assert!(
        after_issue(u32::MAX / 2)
            .abs_diff(Duration::from_secs(9 * 3600 * 65 / 100))
            .as_secs()
            < 2
    );
}

#[test]
fn foreign_parts_are_refused() {
    let (root, other_root) = (
        RootCa::generate(NOW).unwrap(),
        RootCa::generate(NOW).unwrap(),
    );
    let key = PrivateKey::generate().unwrap();
    let chain = issue(&root, &key);
    let new = |chain: &str, roots| {
        let key = PrivateKey::from_pem(&key.to_pem()).unwrap();
        Identity::new(key, chain, roots)
    };
    let error = new(&chain, bundle(&[&other_root])).unwrap_err();
    assert!(matches!(error, Error::Untrusted(_)), "{error}");
    let error = new(
        &issue(&root, &PrivateKey::generate().unwrap()),
        bundle(&[&root]),
    )
    .unwrap_err();
    assert!(matches!(error, Error::KeyMismatch { .. }), "{error}");
    let root_pem = std::str::from_utf8(root.bundle().pem()).unwrap();
    for bad in [
        "",
        "nonsense",
        &chain[..chain.len() / 2],
        root_pem,
        &chain.repeat(5),
    ] {
        new(bad, bundle(&[&root])).unwrap_err();
    }
    let both = new(&chain, bundle(&[&other_root, &root])).unwrap();
    assert_eq!(both.roots().roots(), 2);
    both.with_roots(bundle(&[&root])).unwrap();
    assert!(matches!(
        both.with_roots(bundle(&[&other_root])),
        Err(Error::Untrusted(_))
    ));
}

#[test]
fn a_bundle_holds_roots_only() {
    let root = RootCa::generate(NOW).unwrap();
    let leaf = issue(&root, &PrivateKey::generate().unwrap());
    let many = root.bundle().pem().repeat(9);
    for bad in [
        &b""[..],
        b"nonsense",
        leaf.as_bytes(),
        &many,
        &vec![b'x'; 70_000],
    ] {
        assert!(RootBundle::from_pem(bad).is_err());
    }
    let commented = [b"# our root\n", root.bundle().pem()].concat();
    let bundle = RootBundle::from_pem(commented.clone()).unwrap();
    assert_eq!(bundle.pem(), commented);
    assert_ne!(bundle.digest(), root.bundle().digest());
}
