//! Importing a root file system.

use image::{Error, ImportChanges, Reference};
use types::Timestamp;

use crate::archives::{Tar, gzip, layout, zstd};
use crate::{Fixture, chain};

fn rootfs() -> Vec<u8> {
    Tar::new()
        .dir("./")
        .dir("./bin/")
        .file("./bin/sh", "shell")
        .symlink("./sh", "bin/sh")
        .build()
}

fn import(fixture: &Fixture, archive: &[u8], name: &str) -> Result<image::ImageId, Error> {
    let name: Option<Reference> = (!name.is_empty()).then(|| name.parse().unwrap());
    let mut changes = ImportChanges {
        created: Timestamp::from_secs(1_700_000_000),
        message: "made by hand".to_owned(),
        ..ImportChanges::default()
    };
    changes.config.apply(r#"CMD ["/bin/sh", "-i"]"#).unwrap();
    changes.config.apply("USER nobody").unwrap();
    fixture.store.import(archive, name, changes, &mut |_| {})
}

#[test]
fn a_root_file_system_becomes_an_image_of_one_layer() {
    let fixture = Fixture::new();
    let first = import(&fixture, &rootfs(), "base").unwrap();
    for (archive, name) in [(gzip(&rootfs()), "base:gz"), (zstd(&rootfs()), "base:zst")] {
        // The same contents, so the same image.
        assert_eq!(import(&fixture, &archive, name).unwrap(), first);
    }
    let details = fixture.store.inspect("base").unwrap();
    let names: Vec<String> = details.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["base:gz", "base:latest", "base:zst"]);
    assert_eq!(details.config.cmd, ["/bin/sh", "-i"]);
    assert_eq!(details.config.user, "nobody");
    assert_eq!(details.created, Timestamp::from_secs(1_700_000_000));
    assert_eq!(details.os, "linux");
    let layers = fixture.store.layers(&first).unwrap();
    assert_eq!(layers.len(), 1);
    let shell = std::fs::read_to_string(layers[0].join("sh")).unwrap();
    assert_eq!(shell, "shell");
    assert_eq!(fixture.store.config(&first).unwrap(), details.config);
}

#[test]
fn an_import_may_have_no_name() {
    let fixture = Fixture::new();
    let id = import(&fixture, &rootfs(), "").unwrap();
    assert_eq!(fixture.store.resolve(&id.short()).unwrap(), id);
    let other = import(&fixture, &Tar::new().file("x", "").build(), "").unwrap();
    assert_ne!(id, other);
}

#[test]
fn what_is_no_whole_root_file_system_is_refused() {
    let fixture = Fixture::new();
    let before = fixture.paths();
    let whole = rootfs();
    let table = [
        (Vec::new(), "truncated"),
        (vec![b'x'; 4096], "not a tar archive"),
        (Tar::new().build(), "the archive is empty"),
        (Tar::new().file("../x", "").build(), "has `..` in its path"),
        // No digest tells what is missing here, but the end of the archive is.
        (whole[..512].to_vec(), "truncated"),
        (whole[..1024].to_vec(), "truncated"),
        (whole[..1024 + 700].to_vec(), "truncated"),
        (whole[..whole.len() - 1024].to_vec(), "truncated"),
        (gzip(&whole)[..60].to_vec(), "truncated"),
    ];
    for (archive, expected) in table {
        let error = import(&fixture, &archive, "base").unwrap_err();
        assert!(
            chain(&error).contains(expected),
            "{expected}: {}",
            chain(&error)
        );
        assert_eq!(fixture.paths(), before);
    }
    let digest = image::Digest::of(b"");
    let error = import(&fixture, &whole, &format!("base@{digest}")).unwrap_err();
    assert!(matches!(error, Error::DigestInName { .. }), "{error:?}");
}

#[test]
fn an_imported_layer_is_shared_with_a_loaded_one() {
    let fixture = Fixture::new();
    import(&fixture, &rootfs(), "base").unwrap();
    fixture.load(&layout("web", &[&rootfs()])).unwrap();
    let layers = std::fs::read_dir(fixture.dir.path().join("store/layers")).unwrap();
    assert_eq!(layers.count(), 1);
}
