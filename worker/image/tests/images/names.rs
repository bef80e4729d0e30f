//! Finding, tagging and removing images by name and id.

use image::{Error, ImageId, ImportChanges, Reference};
use types::Timestamp;

use crate::archives::{Tar, layout};
use crate::{Fixture, chain};

/// Images that differ in nothing but their date.
fn import_many(fixture: &Fixture, count: u64) -> Vec<ImageId> {
    let archive = Tar::new().file("x", "").build();
    (0..count)
        .map(|n| {
            let changes = ImportChanges {
                created: Timestamp::from_secs(n),
                ..ImportChanges::default()
            };
            let import = fixture
                .store
                .import(&archive[..], None, changes, &mut |_| {});
            import.unwrap()
        })
        .collect()
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

const UNUSED: &dyn Fn(&ImageId) -> bool = &|_| false;
const USED: &dyn Fn(&ImageId) -> bool = &|_| true;

#[test]
fn ids_are_found_by_any_unique_beginning() {
    let fixture = Fixture::new();
    // More than 16, so that two begin with the same digit.
    let ids = import_many(&fixture, 17);
    let mut ambiguous = 0;
    for id in &ids {
        let hex = id.0.hex();
        assert_eq!(fixture.store.resolve(&hex).unwrap(), *id);
        assert_eq!(fixture.store.resolve(&id.to_string()).unwrap(), *id);
        assert_eq!(fixture.store.resolve(&id.short()).unwrap(), *id);
        let short = fixture.store.resolve(&format!("sha256:{}", id.short()));
        assert_eq!(short.unwrap(), *id);
        let same = ids
            .iter()
            .filter(|other| other.0.hex()[..1] == hex[..1])
            .count();
        match fixture.store.resolve(&hex[..1]) {
            Ok(found) => assert_eq!((found, same), (*id, 1)),
            Err(Error::AmbiguousPrefix { matches, .. }) => {
                assert_eq!(matches.len(), same);
                ambiguous += 1;
            }
            Err(error) => panic!("{}", chain(&error)),
        }
    }
    assert!(ambiguous >= 2);
    let shared = ids
        .iter()
        .map(|id| id.0.hex()[..1].to_owned())
        .find(|digit| fixture.store.resolve(digit).is_err())
        .unwrap();
    let error = fixture.store.remove(&shared, true, UNUSED).unwrap_err();
    assert!(error.to_string().contains("is ambiguous"), "{error}");
    assert_eq!(fixture.store.list().len(), 17);
}

#[test]
fn a_name_goes_before_the_beginning_of_an_id() {
    let fixture = Fixture::new();
    let ids = import_many(&fixture, 2);
    let digits = ids[0].0.hex()[..8].to_owned();
    fixture
        .store
        .tag(&ids[1].to_string(), reference(&digits))
        .unwrap();
    assert_eq!(fixture.store.resolve(&digits).unwrap(), ids[1]);
}

#[test]
fn what_is_not_there_is_told_from_what_is_no_name() {
    let fixture = Fixture::new();
    import_many(&fixture, 1);
    let nobody = "f".repeat(64);
    for name in ["web", "web:1", "ffffffffffff", &nobody, "registry:5000/x"] {
        let error = fixture.store.resolve(name).unwrap_err();
        assert_eq!(error.to_string(), format!("no such image: {name}"));
    }
    for name in ["", "Web", "a b", "sha256:"] {
        let error = fixture.store.resolve(name).unwrap_err();
        assert!(matches!(error, Error::InvalidName { .. }), "{error:?}");
    }
    assert_eq!(fixture.store.find(&reference("web")), None);
}

#[test]
fn removing_a_name_removes_the_image_with_the_last() {
    let fixture = Fixture::new();
    let id = import_many(&fixture, 1)[0];
    for name in ["web", "web:1", "team/web"] {
        fixture.store.tag(&id.short(), reference(name)).unwrap();
    }
    // A name among several goes even when a container uses the image.
    let removed = fixture.store.remove("web:1", false, USED).unwrap();
    assert_eq!(removed.untagged, [reference("web:1")]);
    assert!(removed.deleted.is_empty());
    let error = fixture
        .store
        .remove(&id.short(), false, UNUSED)
        .unwrap_err();
    assert!(matches!(error, Error::SeveralNames { .. }), "{error:?}");
    assert!(
        error.to_string().contains("(web:latest, team/web:latest)"),
        "{error}"
    );
    fixture.store.remove("team/web", false, UNUSED).unwrap();
    let removed = fixture.store.remove("web", false, UNUSED).unwrap();
    assert_eq!(removed.deleted, [id]);
    assert!(fixture.store.list().is_empty());
}

#[test]
fn an_image_in_use_keeps_its_layers() {
    let fixture = Fixture::new();
    let id = import_many(&fixture, 1)[0];
    fixture.store.tag(&id.short(), reference("web")).unwrap();
    for (name, force) in [
        ("web".to_owned(), false),
        (id.short(), false),
        (id.short(), true),
    ] {
        let error = fixture.store.remove(&name, force, USED).unwrap_err();
        let expected = format!("the image {name} is in use by a container");
        assert_eq!(error.to_string(), expected);
    }
    let removed = fixture.store.remove("web", true, USED).unwrap();
    assert_eq!((removed.untagged.len(), removed.deleted.len()), (1, 0));
    assert!(fixture.store.layers(&id).unwrap()[0].join("x").exists());
    let removed = fixture.store.remove(&id.short(), false, UNUSED).unwrap();
    assert_eq!(removed.deleted, [id]);
}

#[test]
fn an_image_by_id_goes_with_all_names_when_forced() {
    let fixture = Fixture::new();
    let id = import_many(&fixture, 1)[0];
    for name in ["a", "b"] {
        fixture.store.tag(&id.short(), reference(name)).unwrap();
    }
    let removed = fixture.store.remove(&id.to_string(), true, UNUSED).unwrap();
    assert_eq!((removed.untagged.len(), removed.deleted), (2, vec![id]));
    assert!(fixture.store.resolve("a").is_err());
}

#[test]
fn a_digest_means_the_contents_whatever_name_they_came_under() {
    let fixture = Fixture::new();
    let loaded = fixture.load(&layout("web:1", &[&Tar::new().file("x", "").build()]));
    let id = loaded.unwrap()[0].id;
    let digest = fixture.store.inspect("web:1").unwrap().digests[0].clone();
    let digest = digest.digest().unwrap();
    for name in ["web@", "web:1@", "web:other@", "registry:5000/mirror@"] {
        let found = fixture.store.find(&reference(&format!("{name}{digest}")));
        assert_eq!(found, Some(id), "{name}");
    }
    let other = image::Digest::of(b"other");
    // The tag beside a digest does not count.
    assert_eq!(
        fixture.store.find(&reference(&format!("web:1@{other}"))),
        None
    );
}

#[test]
fn listings_begin_with_the_latest() {
    let fixture = Fixture::new();
    import_many(&fixture, 3);
    let created: Vec<u64> = fixture.store.list().iter().map(|i| i.created.0).collect();
    assert_eq!(created, [2_000_000_000, 1_000_000_000, 0]);
}
