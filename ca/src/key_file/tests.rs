//! Key files keep key and headers.

use super::*;
use crate::PrivateKey;

fn key_file() -> KeyFile {
    KeyFile::parse(&PrivateKey::generate().unwrap().to_pem()).unwrap()
}

#[test]
fn headers_survive_writing_and_a_new_key() {
    let mut file = key_file();
    assert_eq!(file.raft_dek().unwrap(), None);
    assert_eq!(file.kek_version().unwrap(), 0);
    let (dek, pending) = (DataKey::generate().unwrap(), DataKey::new([9; 32]));
    file.set_raft_dek(Some(&dek));
    file.set_raft_dek_pending(Some(&pending));
    file.set_kek_version(42);
    file.set_header("note", Some("kept as it is")).unwrap();

    let mut read = KeyFile::parse(&file.to_text()).unwrap();
    assert_eq!(read, file);
    let other = PrivateKey::generate().unwrap();
    read.set_key_pem(&other.to_pem()).unwrap();
    assert_eq!(read.key_pem(), other.to_pem());
    assert_eq!(read.raft_dek().unwrap(), Some(dek));
    assert_eq!(read.raft_dek_pending().unwrap(), Some(pending));
    assert_eq!(read.kek_version().unwrap(), 42);
    assert_eq!(read.header("note"), Some("kept as it is"));

    read.set_raft_dek_pending(None);
    assert_eq!(
        KeyFile::parse(&read.to_text())
            .unwrap()
            .raft_dek_pending()
            .unwrap(),
        None
    );
}

#[test]
fn the_key_reads_back_without_headers() {
    let mut file = key_file();
    file.set_raft_dek(Some(&DataKey::new([1; 32])));
    assert!(file.to_text().contains("raft-dek: AQEB"));
    assert!(!file.key_pem().contains("raft-dek"));
    PrivateKey::from_pem(&file.key_pem()).unwrap();
}

#[test]
fn what_pem_cannot_carry_is_refused() {
    let mut file = key_file();
    for (name, value) in [
        ("", "x"),
        ("a:b", "x"),
        ("a\nb", "x"),
        ("a", ""),
        ("a", "b:c"),
        ("a", "b\nc"),
        ("a", " b"),
    ] {
        assert!(
            file.set_header(name, Some(value)).is_err(),
            "{name:?}: {value:?}"
        );
    }
    assert_eq!(file, KeyFile::parse(&file.to_text()).unwrap());
}

#[test]
fn damaged_files_are_refused() {
    let text = key_file().to_text();
    let certificate = text.replace("PRIVATE KEY", "CERTIFICATE");
    for damaged in ["", "nonsense", &text[..text.len() / 2], &certificate] {
        assert!(KeyFile::parse(damaged).is_err(), "{damaged:?}");
    }
    for value in ["AQEB", "not base64!", "="] {
        let mut file = key_file();
        file.set_header(RAFT_DEK, Some(value)).unwrap();
        file.set_header(KEK_VERSION, Some(value)).unwrap();
        assert!(matches!(
            file.raft_dek(),
            Err(KeyFileError::DataKey { header: RAFT_DEK })
        ));
        assert!(matches!(
            file.kek_version(),
            Err(KeyFileError::Number {
                header: KEK_VERSION
            })
        ));
    }
}

#[test]
fn debug_shows_no_key() {
    let mut file = key_file();
    file.set_raft_dek(Some(&DataKey::new([1; 32])));
    let shown = format!("{file:?} {:?}", DataKey::new([1; 32]));
    assert!(
        !shown.contains("AQEB") && !shown.contains("1, 1"),
        "{shown}"
    );
}
