//! Archives that are damaged, lie or attack: each is refused in one sentence and leaves nothing.

use image::{Digest, Error, ImageStore, Limits, Options};
use proptest::prelude::*;
use serde_json::{Value, json};
use tar::EntryType;

use crate::archives::{
    CONFIG, INDEX, LAYER, Layout, MANIFEST, Tar, config, docker_save, gzip, layout, zstd,
};
use crate::{Fixture, chain, is_root};

/// Loads what must be refused, and gives the sentence.
fn refused(fixture: &Fixture, archive: &[u8]) -> String {
    let before = fixture.paths();
    let error = fixture.load(archive).expect_err("it should be refused");
    assert_eq!(fixture.paths(), before, "nothing is left behind");
    assert!(fixture.store.list().is_empty());
    chain(&error)
}

fn app() -> Vec<u8> {
    Tar::new().dir("bin/").file("bin/web", "program").build()
}

/// Loads each layer in an image and expects the sentence beside it.
fn refuse_layers(fixture: &Fixture, table: Vec<(Tar, &str)>) {
    for (number, (layer, expected)) in table.into_iter().enumerate() {
        let layer = layer.build();
        for archive in [layout("web", &[&layer]), docker_save(&["web"], &[&layer])] {
            let sentence = refused(fixture, &archive);
            assert!(sentence.contains(expected), "row {number}: {sentence}");
        }
    }
}

#[test]
fn paths_that_leave_the_layer_are_refused() {
    let deep = "a/".repeat(300) + "x";
    let table = vec![
        (Tar::new().file("../x", ""), "`../x` has `..` in its path"),
        (Tar::new().file("a/../../x", ""), "has `..` in its path"),
        (
            Tar::new().dir("a/").file("a/../x", ""),
            "has `..` in its path",
        ),
        (Tar::new().file("/x", ""), "`/x` has an absolute path"),
        (Tar::new().dir("//"), "has an absolute path"),
        (
            Tar::new().pax(&[("path", b"../../x")]).file("x", ""),
            "`../../x` has `..` in its path",
        ),
        (
            Tar::new().pax(&[("path", deep.as_bytes())]).file("x", ""),
            "lies more than 256 directories deep",
        ),
        (
            Tar::new().pax(&[("path", b"a\0b")]).file("x", ""),
            "has a NUL byte in its path",
        ),
    ];
    refuse_layers(&Fixture::new(), table);
}

#[test]
fn links_that_leave_the_layer_are_refused() {
    let fixture = Fixture::new();
    let outside = fixture.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "untouched").unwrap();
    let to = outside.to_str().unwrap();
    let below_link = "is a symbolic link and another entry lies below it";
    let not_in_layer = "`got` of the layer";
    let table = vec![
        (
            Tar::new().symlink("out", to).file("out/secret", "stolen"),
            below_link,
        ),
        (
            Tar::new().symlink("out", "../../..").file("out/x/y", ""),
            below_link,
        ),
        (
            Tar::new().symlink("self", ".").file("self/x", ""),
            below_link,
        ),
        (
            Tar::new().symlink("out", to).file("out/.wh.secret", ""),
            below_link,
        ),
        (
            Tar::new().symlink("out", to).file("out/.wh..wh..opq", ""),
            below_link,
        ),
        (Tar::new().symlink("out", to).dir("out/secret/"), below_link),
        (
            Tar::new().hardlink("got", "/etc/passwd"),
            "`got` is a hard link whose target has an absolute path",
        ),
        (
            Tar::new().hardlink("got", "../../repositories.json"),
            "is a hard link whose target has `..` in its path",
        ),
        (
            Tar::new().symlink("out", to).hardlink("got", "out/secret"),
            not_in_layer,
        ),
        (
            Tar::new().hardlink("got", "later").file("later", ""),
            not_in_layer,
        ),
        (Tar::new().hardlink("got", "./"), not_in_layer),
        (
            Tar::new().dir("d/").hardlink("got", "d"),
            "is a hard link to a directory",
        ),
    ];
    refuse_layers(&fixture, table);
    // A link that replaces a directory is not entered either, and one to the outside may stand.
    let layer = Tar::new()
        .dir("d/")
        .file("d/x", "")
        .symlink("d", to)
        .symlink("e", "d/secret");
    fixture.load(&layout("web", &[&layer.build()])).unwrap();
    assert_eq!(
        std::fs::read_to_string(outside.join("secret")).unwrap(),
        "untouched"
    );
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn entries_that_contradict_each_other_are_refused() {
    let table = vec![
        (Tar::new().file("f", "").file("f/x", ""), "is no directory"),
        (
            Tar::new().file("./", "").symlink(".", "x"),
            "is the root itself and no directory",
        ),
        (Tar::new().file(".wh.", ""), "is a whiteout without a name"),
        (
            Tar::new().file("a/.wh...", ""),
            "is a whiteout without a name",
        ),
        (Tar::new().file(".wh.a/b", ""), "lies below a whiteout"),
        (
            Tar::new().symlink("s", ""),
            "is a symbolic link without a target",
        ),
    ];
    refuse_layers(&Fixture::new(), table);
}

#[test]
fn the_archive_itself_may_not_leave_its_tree_either() {
    let fixture = Fixture::new();
    let table = [
        (
            Tar::new().file("../index.json", "{}"),
            "has `..` in its path",
        ),
        (Tar::new().file("/index.json", "{}"), "has an absolute path"),
        (
            Tar::new().symlink("index.json", "/etc/passwd"),
            "links to an absolute path",
        ),
        (
            Tar::new().symlink("a/index.json", "../../x"),
            "links out of the archive",
        ),
        (
            Tar::new().hardlink("index.json", "/etc/passwd"),
            "has an absolute path",
        ),
    ];
    for (archive, expected) in table {
        let sentence = refused(&fixture, &archive.build());
        assert!(sentence.contains(expected), "{sentence}");
    }
    let looped = Tar::new()
        .symlink("manifest.json", "b")
        .symlink("b", "manifest.json")
        .build();
    assert!(refused(&fixture, &looped).contains("holds no image"));
}

#[test]
fn a_truncated_archive_is_refused_wherever_it_ends() {
    let fixture = Fixture::new();
    let archive = layout("web", &[&app()]);
    for whole in [
        archive.clone(),
        gzip(&archive),
        zstd(&archive),
        docker_save(&["web"], &[&app()]),
    ] {
        // The second zero block at the end is padding: nothing is lost without it.
        let needed = if whole.len() == archive.len() || whole.len() % 512 == 0 {
            whole.len() - 512
        } else {
            whole.len()
        };
        // Anywhere within a block, and between any two.
        let within = (0..needed).step_by(97.min(needed / 20));
        let between = (512..needed).step_by(512);
        for cut in within.chain(between).chain([needed - 1]) {
            let sentence = refused(&fixture, &whole[..cut]);
            assert!(
                sentence.contains("truncated"),
                "cut at {cut} of {}: {sentence}",
                whole.len()
            );
        }
    }
}

#[test]
fn a_truncated_layer_is_refused_although_its_own_digest_is_right() {
    let fixture = Fixture::new();
    let whole = app();
    for layer in [whole.clone(), gzip(&whole), zstd(&whole)] {
        for cut in [8, 20, layer.len() / 2, layer.len() - 1] {
            let mut archive = Layout::default();
            let manifest = archive.manifest(&config(&[&whole]), &[("", layer[..cut].to_vec())]);
            archive.named("web", manifest);
            let sentence = refused(&fixture, &archive.build());
            let is_named = sentence.contains("truncated") || sentence.contains("wrong digest");
            assert!(is_named, "cut at {cut}: {sentence}");
        }
    }
}

/// A layout of one image whose manifest is changed before it is stored.
fn altered(change: impl FnOnce(&mut Value, &mut Layout)) -> Vec<u8> {
    let layer = app();
    let mut archive = Layout::default();
    let config = archive.blob(CONFIG, config(&[&layer]).to_string().into_bytes());
    let layer = archive.blob(LAYER, layer);
    let mut manifest = json!({"config": config, "layers": [layer]});
    change(&mut manifest, &mut archive);
    let manifest = archive.blob(MANIFEST, manifest.to_string().into_bytes());
    archive.named("web", manifest);
    archive.build()
}

fn hex_of(descriptor: &Value) -> String {
    descriptor["digest"].as_str().unwrap()["sha256:".len()..].to_owned()
}

/// Loads each archive and expects both parts in the sentence.
fn refuse_lies(table: Vec<(Vec<u8>, &str, &str)>) {
    let fixture = Fixture::new();
    for (archive, what, detail) in table {
        let sentence = refused(&fixture, &archive);
        let is_told = sentence.contains(what) && sentence.contains(detail);
        assert!(is_told, "{what}: {sentence}");
    }
}

#[test]
fn every_lie_in_a_layout_is_found() {
    let damage = |part: fn(&Value) -> &Value| {
        altered(|manifest, archive| {
            let hex = hex_of(part(manifest));
            archive.blobs.get_mut(&hex).unwrap().push(b' ');
        })
    };
    let lied_diff_id = altered(|manifest, archive| {
        let wrong = config(&[b"something else"]).to_string().into_bytes();
        manifest["config"] = archive.blob(CONFIG, wrong);
    });
    let mut lied_manifest = Layout::default();
    lied_manifest.image("web", &[&app()]);
    let hex = hex_of(&lied_manifest.index[0]);
    lied_manifest.blobs.get_mut(&hex).unwrap().push(b'\n');
    let mut wrong_size = Layout::default();
    wrong_size.image("web", &[&app()]);
    wrong_size.index[0]["size"] = json!(7);
    let layer_digest = |digest: String| {
        altered(move |manifest, _| manifest["layers"][0]["digest"] = json!(digest))
    };
    let other = Digest::of(b"other").to_string();
    let got = ", got sha256:";
    refuse_lies(vec![
        (
            damage(|m| &m["layers"][0]),
            "the layer has the wrong digest",
            got,
        ),
        (
            damage(|m| &m["config"]),
            "the configuration has the wrong digest",
            got,
        ),
        (
            lied_diff_id,
            "the uncompressed layer has the wrong digest",
            got,
        ),
        (
            lied_manifest.build(),
            "the manifest has the wrong digest",
            got,
        ),
        (wrong_size.build(), "has the wrong size", "expected 7 bytes"),
        (
            layer_digest(other),
            "refers to the layer sha256:",
            "does not contain it",
        ),
        (
            layer_digest("md5:0123".to_owned()),
            "`md5:0123` is not a digest",
            "sha256",
        ),
        (
            layer_digest("sha256:../../etc".to_owned()),
            "is not a digest",
            "sha256",
        ),
        (
            altered(|manifest, _| manifest["layers"] = json!([])),
            "is inconsistent",
            "1 layers and its manifest 0",
        ),
    ]);
}

#[test]
fn every_lie_in_a_saved_archive_is_found() {
    let mut saved = docker_save(&["web"], &[&app()]);
    let at = saved.windows(7).position(|w| w == b"program").unwrap();
    saved[at] ^= 1;
    let name = config(&[&app()]).to_string();
    let name = format!("{}.json", Digest::of(name.as_bytes()).hex());
    let manifest = json!([{"Config": name, "Layers": ["l"]}]).to_string();
    let misnamed = Tar::new()
        .file(&name, &config(&[b"x"]).to_string())
        .file("manifest.json", &manifest)
        .build();
    let got = ", got sha256:";
    refuse_lies(vec![
        (saved, "the uncompressed layer has the wrong digest", got),
        (misnamed, "the configuration has the wrong digest", got),
    ]);
}

#[test]
fn other_files_are_told_from_images() {
    let fixture = Fixture::new();
    let file = |path: &str, text: &str| Tar::new().file(path, text).build();
    let nested = {
        let mut archive = Layout::default();
        let mut index = archive.manifest(&config(&[]), &[]);
        for _level in 0..6 {
            let document = json!({"manifests": [index]}).to_string();
            index = archive.blob(INDEX, document.into_bytes());
        }
        archive.named("web", index);
        archive.build()
    };
    let table = [
        (Vec::new(), "truncated"),
        (b"hello".to_vec(), "truncated"),
        (vec![b'x'; 4096], "not a tar archive"),
        (b"\xfd7zXZ\0 and so on".to_vec(), "compressed with xz"),
        (Tar::new().build(), "holds no image"),
        (app(), "image import"),
        (
            file("index.json", "{"),
            "index.json is not the JSON document",
        ),
        (
            file("index.json", "[1]"),
            "index.json is not the JSON document",
        ),
        (
            file("manifest.json", "{}"),
            "manifest.json is not the JSON document",
        ),
        (file("manifest.json", "[]"), "lists no image"),
        (file("index.json", r#"{"manifests":[]}"#), "lists no image"),
        (
            file("manifest.json", r#"[{"Config":"c.json","Layers":[]}]"#),
            "refers to the configuration c.json but does not contain it",
        ),
        (
            docker_save(&["Not A Name"], &[&app()]),
            "`Not A Name` is not an image name",
        ),
        (nested, "nests indexes"),
        (gzip(&gzip(&layout("web", &[&app()]))), "not a tar archive"),
    ];
    for (archive, expected) in table {
        let sentence = refused(&fixture, &archive);
        assert!(sentence.contains(expected), "{expected}: {sentence}");
    }
}

#[test]
fn archives_beyond_the_limits_are_refused() {
    let limits = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        limits
    };
    let zeroes = Tar::new().file("zeroes", &"\0".repeat(1_000_000)).build();
    let small: Vec<Vec<u8>> = (0..5)
        .map(|n| Tar::new().file(&n.to_string(), "").build())
        .collect();
    let small: Vec<&[u8]> = small.iter().map(Vec::as_slice).collect();
    let mut bomb = Layout::default();
    let manifest = bomb.manifest(&config(&[&zeroes]), &[("+gzip", gzip(&zeroes))]);
    bomb.named("web", manifest);
    let bomb = bomb.build();
    let table = [
        (
            limits(|l| l.archive_bytes_max = 5_000),
            bomb.clone(),
            "the archive is too large: more than 5000 bytes",
        ),
        (
            limits(|l| l.layer_bytes_max = 10_000),
            bomb.clone(),
            "is too large: more than 10000 bytes",
        ),
        (
            limits(|l| l.entries_max = 5),
            bomb.clone(),
            "the archive is too large: more than 5 entries",
        ),
        (
            limits(|l| l.layers_max = 4),
            layout("web", &small),
            "more than 4 layers",
        ),
        (
            limits(|l| l.document_bytes_max = 100),
            bomb,
            "index.json is too large",
        ),
    ];
    for (limits, archive, expected) in table {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            limits,
            ..Options::default()
        };
        let store = ImageStore::open(dir.path(), options).unwrap();
        let error = store.load(&archive[..], &mut |_| {}).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_reader_that_fails_is_named_and_leaves_nothing() {
    struct Failing<'a>(&'a [u8]);
    impl std::io::Read for Failing<'_> {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            match std::io::Read::read(&mut self.0, buf)? {
                0 => Err(std::io::Error::other("the client went away")),
                n => Ok(n),
            }
        }
    }
    let fixture = Fixture::new();
    let before = fixture.paths();
    let archive = layout("web", &[&app()]);
    let error = fixture
        .store
        .load(Failing(&archive[..2000]), &mut |_| {})
        .unwrap_err();
    assert_eq!(
        chain(&error),
        "could not read the archive: the client went away"
    );
    assert_eq!(fixture.paths(), before);
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    if !is_root("a_full_disk_is_named_and_leaves_nothing") {
        return;
    }
    use std::os::fd::AsRawFd as _;
    // A file system of 2 MiB, attached nowhere and gone with its descriptor.
    let fs = rustix::mount::fsopen("tmpfs", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    rustix::mount::fsconfig_set_string(&fs, "size", "2m").unwrap();
    rustix::mount::fsconfig_create(&fs).unwrap();
    let root = rustix::mount::fsmount(
        &fs,
        rustix::mount::FsMountFlags::FSMOUNT_CLOEXEC,
        rustix::mount::MountAttrFlags::empty(),
    )
    .unwrap();
    let dir = format!("/proc/self/fd/{}/store", root.as_raw_fd());
    let store = ImageStore::open(dir.as_ref(), Options::default()).unwrap();
    store
        .load(&layout("small", &[&app()])[..], &mut |_| {})
        .unwrap();
    let free = || rustix::fs::fstatvfs(&root).unwrap().f_bfree;
    let before = free();
    // One does not fit as an archive, the other only when it is unpacked.
    for bytes in [3_000_000, 1_200_000] {
        let layer = Tar::new().file("large", &"x".repeat(bytes)).build();
        let error = store
            .load(&layout("large", &[&layer])[..], &mut |_| {})
            .unwrap_err();
        assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
        assert!(
            error.to_string().starts_with("no space left for images"),
            "{error}"
        );
        assert_eq!(free(), before, "nothing is left behind");
    }
    assert!(store.resolve("small").is_ok());
    store
        .load(&layout("more", &[&app()])[..], &mut |_| {})
        .unwrap();
}

/// Flips one bit after the other through a whole archive.
#[test]
fn a_flipped_bit_is_refused_or_harmless() {
    let fixture = Fixture::new();
    let layer = app();
    let archive = layout("web", &[&layer]);
    for at in (0..archive.len()).step_by(41) {
        let mut archive = archive.clone();
        archive[at] ^= 1 << (at % 8);
        // Headers of the outer archive have fields that mean nothing here; what is loaded all
        // the same has the right contents, because its digests say so.
        if let Ok(loaded) = fixture.load(&archive) {
            for image in loaded {
                let dir = fixture.store.layers(&image.id).unwrap().remove(0);
                assert_eq!(
                    std::fs::read_to_string(dir.join("bin/web")).unwrap(),
                    "program"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096), kind in 0..4) {
        let fixture = Fixture::new();
        let archive = match kind {
            0 => bytes,
            1 => gzip(&bytes),
            2 => [&[0x28, 0xb5, 0x2f, 0xfd][..], &bytes].concat(),
            _ => layout("web", &[&bytes]),
        };
        prop_assert!(fixture.load(&archive).is_err());
    }

    #[test]
    fn damaged_layers_never_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        kind in 0..3,
    ) {
        let whole = Tar::new()
            .pax(&[("mtime", b"1.5"), ("SCHILY.xattr.user.a", b"b")])
            .dir("bin/")
            .file("bin/web", "program")
            .hardlink("bin/link", "bin/web")
            .build();
        let mut layer = match kind { 0 => whole, 1 => gzip(&whole), _ => zstd(&whole) };
        for (at, byte) in damage {
            let at = at.index(layer.len());
            layer[at] = byte;
        }
        // Digests are made to fit, so that nothing but the unpacking can refuse it.
        let mut archive = Layout::default();
        let mut plain = Vec::new();
        let config = match std::io::Read::read_to_end(&mut decoder(&layer, kind), &mut plain) {
            Ok(_) => config(&[&plain]),
            Err(_) => config(&[&layer]),
        };
        let manifest = archive.manifest(&config, &[("", layer)]);
        archive.named("web", manifest);
        let fixture = Fixture::new();
        let before = fixture.paths();
        if fixture.load(&archive.build()).is_err() {
            prop_assert_eq!(fixture.paths(), before);
        }
    }
}

fn decoder(layer: &[u8], kind: i32) -> Box<dyn std::io::Read + '_> {
    match kind {
        0 => Box::new(layer),
        1 => Box::new(flate2::read::GzDecoder::new(layer)),
        _ => match ruzstd::decoding::StreamingDecoder::new(layer) {
            Ok(decoder) => Box::new(decoder),
            Err(_) => Box::new(layer),
        },
    }
}

#[test]
fn entries_no_archive_of_an_image_has_are_refused() {
    let fixture = Fixture::new();
    let kind = |kind: u8| {
        Tar::new()
            .with("x", EntryType::new(kind), b"", |_| {})
            .build()
    };
    for (layer, expected) in [
        (kind(b'S'), "sparse"),
        (kind(b'V'), "unsupported type `V`"),
        (
            Tar::new()
                .pax(&[("GNU.sparse.major", b"1")])
                .file("x", "")
                .build(),
            "sparse",
        ),
        (
            Tar::new()
                .pax(&[("uid", b"4294967295")])
                .file("x", "")
                .build(),
            "uid 4294967295",
        ),
        (
            Tar::new()
                .pax(&[("size", b"18446744073709551615")])
                .file("x", "")
                .build(),
            "truncated",
        ),
    ] {
        let sentence = refused(&fixture, &layout("web", &[&layer]));
        assert!(sentence.contains(expected), "{expected}: {sentence}");
    }
}
