//! What a layer looks like once unpacked.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;

use tar::EntryType;

use crate::archives::{Tar, layout};
use crate::{Fixture, chain, is_root};

/// Loads an image of this one layer and gives the layer's directory.
fn unpack(fixture: &Fixture, layer: &[u8]) -> PathBuf {
    let loaded = fixture
        .load(&layout("web", &[layer]))
        .unwrap_or_else(|e| panic!("{}", chain(&e)));
    fixture.store.layers(&loaded[0].id).unwrap().remove(0)
}

#[test]
fn modes_times_and_links_are_those_of_the_archive() {
    let fixture = Fixture::new();
    let deep = "d".repeat(60);
    let long = format!("{deep}/{deep}/file");
    let layer = Tar::new()
        .with("./", EntryType::Directory, b"", |h| h.set_mode(0o711))
        .with("locked/", EntryType::Directory, b"", |h| {
            h.set_mode(0o1555);
            h.set_mtime(5);
        })
        .with("locked/program", EntryType::Regular, b"#!", |h| {
            h.set_mode(0o6755);
            h.set_mtime(7);
        })
        .hardlink("program", "locked/program")
        .symlink("absolute", "/etc/passwd")
        .symlink("outside", "../../../../x")
        .hardlink("absolute-too", "absolute")
        .with("pipe", EntryType::Fifo, b"", |_| {})
        .pax(&[("path", long.as_bytes()), ("mtime", b"12.25")])
        .file("short", "long name")
        .build();
    let dir = unpack(&fixture, &layer);
    let at = |path: &str| std::fs::symlink_metadata(dir.join(path)).unwrap();
    assert_eq!(at(".").mode() & 0o7777, 0o711);
    assert_eq!(at("locked").mode() & 0o7777, 0o1555);
    assert_eq!(at("locked").mtime(), 5);
    assert_eq!(at("locked/program").mode() & 0o7777, 0o6755);
    assert_eq!(at("locked/program").mtime(), 7);
    assert_eq!(at("locked/program").ino(), at("program").ino());
    assert_eq!(at("absolute").ino(), at("absolute-too").ino());
    assert_eq!(at("absolute").mtime(), 1_000_000_000);
    let target = std::fs::read_link(dir.join("outside")).unwrap();
    assert_eq!(target, PathBuf::from("../../../../x"));
    assert!(at("pipe").file_type().is_fifo());
    assert_eq!(
        (at(&long).mtime(), at(&long).mtime_nsec()),
        (12, 250_000_000)
    );
    assert_eq!(
        at(&deep).mode() & 0o7777,
        0o755,
        "a directory the archive does not list"
    );
}

#[test]
fn owners_devices_and_capabilities_are_those_of_the_archive() {
    if !is_root("owners_devices_and_capabilities_are_those_of_the_archive") {
        return;
    }
    let fixture = Fixture::new();
    // cap_net_raw=ep, with a byte 0x0a in it that must not end the record.
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\x0a\0\0\0";
    let layer = Tar::new()
        .pax(&[
            ("SCHILY.xattr.security.capability", &capability[..]),
            ("SCHILY.xattr.user.note", b"kept"),
            ("SCHILY.xattr.security.selinux", b"another machine's"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("uid", b"3000001"),
        ])
        .with("ping", EntryType::Regular, b"", |h| h.set_mode(0o4755))
        .with("zero", EntryType::Char, b"", |h| {
            h.set_mode(0o666);
            h.set_device_major(1).unwrap();
            h.set_device_minor(5).unwrap();
        })
        .with("link", EntryType::Symlink, b"", |h| {
            h.as_old_mut().linkname[..1].copy_from_slice(b"x");
            h.set_uid(42);
            h.set_gid(43);
        })
        .with("home/", EntryType::Directory, b"", |h| h.set_uid(1000))
        .build();
    let dir = unpack(&fixture, &layer);
    let at = |path: &str| std::fs::symlink_metadata(dir.join(path)).unwrap();
    assert_eq!(at("ping").uid(), 3_000_001);
    assert_eq!(at("ping").mode() & 0o7777, 0o4755);
    assert_eq!((at("link").uid(), at("link").gid()), (42, 43));
    assert_eq!(at("home").uid(), 1000);
    assert!(at("zero").file_type().is_char_device());
    assert_eq!(at("zero").rdev(), rustix::fs::makedev(1, 5));
    assert_eq!(at("zero").mode() & 0o777, 0o666);
    let xattr = |name: &str| {
        let mut value = [0; 64];
        rustix::fs::lgetxattr(dir.join("ping"), name, &mut value[..])
            .map(|length| value[..length].to_vec())
    };
    assert_eq!(xattr("security.capability").as_deref(), Ok(&capability[..]));
    assert_eq!(xattr("user.note").as_deref(), Ok(&b"kept"[..]));
    assert!(xattr("security.selinux").is_err());
    assert!(xattr("trusted.overlay.redirect").is_err());
}

#[test]
fn of_entries_with_the_same_path_the_last_one_wins() {
    let fixture = Fixture::new();
    let layer = Tar::new()
        .file("file", "first")
        .file("file", "second")
        .dir("tree/")
        .dir("tree/sub/")
        .file("tree/sub/old", "old")
        .file("tree", "now a file")
        .file("grown", "was a file")
        .dir("grown/")
        .file("grown/new", "new")
        .dir("kept/")
        .file("kept/inside", "stays")
        .with("kept/", EntryType::Directory, b"", |h| h.set_mode(0o700))
        .symlink("link", "kept")
        .file("link", "not through it")
        .file("linked", "data")
        .hardlink("linked", "linked")
        .hardlink("./linked", "./linked")
        .build();
    let dir = unpack(&fixture, &layer);
    let read = |path: &str| std::fs::read_to_string(dir.join(path)).unwrap();
    assert_eq!(read("file"), "second");
    assert_eq!(read("tree"), "now a file");
    assert_eq!(read("grown/new"), "new");
    assert_eq!(read("kept/inside"), "stays");
    assert_eq!(dir.join("kept").metadata().unwrap().mode() & 0o777, 0o700);
    assert_eq!(read("link"), "not through it");
    assert!(!dir.join("link").symlink_metadata().unwrap().is_symlink());
    assert_eq!(read("linked"), "data");
}
