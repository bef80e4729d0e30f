//! Loading: archive forms, compressions, platforms, names, and layers that images share.

use std::os::unix::fs::PermissionsExt as _;

use image::{Digest, Error, Loaded, Progress};
use serde_json::json;

use crate::archives::{INDEX, Layout, MANIFEST, Tar, config, docker_save, gzip, layout, zstd};
use crate::{Fixture, chain};

fn base() -> Vec<u8> {
    Tar::new().dir("etc/").file("etc/base", "base").build()
}

fn app() -> Vec<u8> {
    Tar::new().dir("bin/").file("bin/web", "program").build()
}

fn names(loaded: &[Loaded]) -> Vec<Vec<String>> {
    loaded
        .iter()
        .map(|image| image.names.iter().map(ToString::to_string).collect())
        .collect()
}

/// The first file found under `path` in an image's layers, top-most first.
fn read(fixture: &Fixture, name: &str, path: &str) -> String {
    let id = fixture.store.resolve(name).unwrap();
    let layers = fixture.store.layers(&id).unwrap();
    let found = layers
        .iter()
        .find_map(|dir| std::fs::read_to_string(dir.join(path)).ok());
    found.unwrap_or_else(|| panic!("{path} is in none of {layers:?}"))
}

#[test]
fn a_layout_loads_with_layers_of_every_compression() {
    let fixture = Fixture::new();
    let top = Tar::new().file("etc/base", "changed").build();
    let (base, app) = (base(), app());
    let mut archive = Layout::default();
    let manifest = archive.manifest(
        &config(&[&base, &app, &top]),
        &[
            ("", base.clone()),
            ("+gzip", gzip(&app)),
            ("+zstd", zstd(&top)),
        ],
    );
    let digest = manifest["digest"].as_str().unwrap().to_owned();
    archive.named("docker.io/library/web:1", manifest);
    let archive = archive.build();
    for archive in [archive.clone(), gzip(&archive), zstd(&archive)] {
        let loaded = fixture.load(&archive).unwrap();
        assert_eq!(names(&loaded), [["web:1"]]);
    }
    assert_eq!(read(&fixture, "web:1", "etc/base"), "changed");
    assert_eq!(
        read(&fixture, &format!("web@{digest}"), "bin/web"),
        "program"
    );
    assert_eq!(fixture.store.list().len(), 1);

    let details = fixture.store.inspect("web:1").unwrap();
    assert_eq!(details.config.cmd, ["/bin/web"]);
    assert_eq!(details.size_bytes, 4 + 7 + 7);
    let shown = serde_json::to_value(&details).unwrap();
    assert_eq!(shown["RepoTags"], json!(["web:1"]));
    assert_eq!(shown["RepoDigests"], json!([format!("web@{digest}")]));
    assert_eq!(shown["RootFS"]["Layers"][0], json!(Digest::of(&base)));
    assert_eq!(shown["Os"], "linux");
    assert_eq!(shown["Created"], "2023-11-14T22:13:20Z");
}

#[test]
fn docker_save_archives_load_in_the_old_form_and_the_new() {
    let fixture = Fixture::new();
    let (base, app) = (base(), app());
    let old = docker_save(&["web:1", "team/web:2"], &[&base, &app, &base]);
    let first = fixture.load(&old).unwrap();
    assert_eq!(names(&first), [["web:1", "team/web:2"]]);
    assert_eq!(read(&fixture, "web:1", "bin/web"), "program");
    // The same layer above and below: overlayfs takes a directory only once.
    assert_eq!(fixture.store.layers(&first[0].id).unwrap().len(), 2);

    let mut new = Layout::default();
    new.image("", &[&base, &app]);
    let config = config(&[&base, &app]).to_string();
    let config = format!("blobs/sha256/{}", Digest::of(config.as_bytes()).hex());
    let layers = [&base, &app].map(|layer| format!("blobs/sha256/{}", Digest::of(layer).hex()));
    let saved = json!([{"Config": config, "RepoTags": ["web:3"], "Layers": layers}]);
    new.extra
        .push(("manifest.json".to_owned(), saved.to_string().into_bytes()));
    let second = fixture.load(&new.build()).unwrap();
    assert_eq!(names(&second), [["web:3"]]);
    let digests = fixture.store.inspect("web:3").unwrap().digests;
    assert_eq!(digests.len(), 1, "the layout's manifest counts as well");
}

#[test]
fn an_index_gives_the_image_of_this_platform() {
    let fixture = Fixture::new();
    let (base, app) = (base(), app());
    let mut archive = Layout::default();
    let mut foreign_config = config(&[&app]);
    foreign_config["architecture"] = json!("mips");
    let mut foreign = archive.manifest(&foreign_config, &[("", app.clone())]);
    foreign["platform"] = json!({"os": "linux", "architecture": "mips"});
    let mut own = archive.manifest(&config(&[&base]), &[("", base.clone())]);
    own["platform"] = json!({
        "os": "linux", "architecture": image::Platform::current().architecture,
    });
    let mut record = archive.blob(MANIFEST, b"{}".to_vec());
    record["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    record["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    let index = json!({"schemaVersion": 2, "manifests": [foreign, own, record]});
    let index = archive.blob(INDEX, index.to_string().into_bytes());
    let index_digest = index["digest"].as_str().unwrap().to_owned();
    archive.named("web", index);
    assert_eq!(
        names(&fixture.load(&archive.build()).unwrap()),
        [["web:latest"]]
    );
    assert_eq!(read(&fixture, "web", "etc/base"), "base");
    assert!(
        fixture
            .store
            .resolve(&format!("other@{index_digest}"))
            .is_ok()
    );
}

#[test]
fn an_archive_for_other_platforms_says_for_which() {
    let fixture = Fixture::new();
    let app = app();
    let mut foreign = config(&[&app]);
    foreign["architecture"] = json!("mips");
    let mut direct = Layout::default();
    let manifest = direct.manifest(&foreign, &[("", app.clone())]);
    direct.named("web", manifest);
    let mut indexed = Layout::default();
    let mut manifest = indexed.manifest(&foreign, &[("", app.clone())]);
    manifest["platform"] = json!({"os": "linux", "architecture": "mips", "variant": "v2"});
    let index = json!({"manifests": [manifest]}).to_string();
    let index = indexed.blob(INDEX, index.into_bytes());
    indexed.named("web", index);
    for (archive, platform) in [(direct, "linux/mips"), (indexed, "linux/mips/v2")] {
        let error = fixture.load(&archive.build()).unwrap_err();
        assert!(
            matches!(error, Error::NoMatchingPlatform { .. }),
            "{error:?}"
        );
        assert!(error.to_string().ends_with(platform), "{error}");
    }
}

#[test]
fn annotations_name_images_only_when_they_are_names() {
    let app = app();
    for (annotation, expected) in [("web:7", vec!["web:7"]), ("latest", vec![])] {
        let fixture = Fixture::new();
        let mut archive = Layout::default();
        let mut manifest = archive.manifest(&config(&[&app]), &[("", app.clone())]);
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": annotation});
        archive.index.push(manifest);
        assert_eq!(names(&fixture.load(&archive.build()).unwrap()), [expected]);
    }
}

#[test]
fn a_layer_of_two_images_is_stored_once_and_kept_for_the_other() {
    let fixture = Fixture::new();
    let (base, app) = (base(), app());
    fixture.load(&layout("one", &[&base])).unwrap();
    let mut present = Vec::new();
    let two = layout("two", &[&base, &app]);
    let mut note = |progress| {
        if let Progress::Present { layer } = progress {
            present.push(layer);
        }
    };
    fixture.store.load(&two[..], &mut note).unwrap();
    assert_eq!(present, [Digest::of(&base)]);
    let layers = || {
        std::fs::read_dir(fixture.dir.path().join("store/layers"))
            .unwrap()
            .count()
    };
    assert_eq!(layers(), 2);
    fixture.store.remove("one", false, &|_| false).unwrap();
    assert_eq!(read(&fixture, "two", "etc/base"), "base");
    assert_eq!(layers(), 2);
    fixture.store.remove("two", false, &|_| false).unwrap();
    assert_eq!(layers(), 0);
    let blobs = std::fs::read_dir(fixture.dir.path().join("store/blobs")).unwrap();
    assert_eq!(blobs.count(), 0);
}

#[test]
fn a_layer_found_by_a_load_stays_until_the_load_is_done() {
    let fixture = Fixture::new();
    let (base, app) = (base(), app());
    fixture.load(&layout("one", &[&base])).unwrap();
    let remove = || fixture.store.remove("one", false, &|_| false);
    let two = layout("two", &[&base, &app]);
    let mut meanwhile = |progress| {
        if let Progress::Present { .. } = progress {
            remove().unwrap();
        }
    };
    fixture.store.load(&two[..], &mut meanwhile).unwrap();
    assert_eq!(read(&fixture, "two", "etc/base"), "base");

    // When the load fails, the layer stays with the image that has it, and goes without one.
    fixture.load(&layout("one", &[&base])).unwrap();
    fixture.store.remove("two", false, &|_| false).unwrap();
    let before = fixture.paths();
    let mut lying = Layout::default();
    let lie = config(&[&base, b"something else"]);
    let manifest = lying.manifest(&lie, &[("", base.clone()), ("", app.clone())]);
    lying.named("two", manifest);
    let lying = lying.build();
    assert!(fixture.load(&lying).is_err());
    assert_eq!(fixture.paths(), before);
    assert!(fixture.store.load(&lying[..], &mut meanwhile).is_err());
    let layers = std::fs::read_dir(fixture.dir.path().join("store/layers")).unwrap();
    assert_eq!(layers.count(), 0);
}

#[test]
fn loading_at_the_same_time_as_loading_and_removing_leaves_whole_images() {
    let fixture = Fixture::new();
    let (base, app) = (base(), app());
    let one = layout("one", &[&base]);
    let two = layout("two", &[&base, &app]);
    std::thread::scope(|scope| {
        for archive in [&one, &two] {
            for _thread in 0..2 {
                scope.spawn(|| {
                    for _round in 0..10 {
                        fixture.load(archive).unwrap();
                    }
                });
            }
        }
        scope.spawn(|| {
            for _round in 0..30 {
                match fixture.store.remove("one", false, &|_| false) {
                    Ok(_) | Err(Error::UnknownImage { .. }) => {}
                    Err(error) => panic!("{}", chain(&error)),
                }
            }
        });
    });
    fixture.load(&one).unwrap();
    assert_eq!(read(&fixture, "one", "etc/base"), "base");
    assert_eq!(read(&fixture, "two", "bin/web"), "program");
    let tmp = std::fs::read_dir(fixture.dir.path().join("store/tmp")).unwrap();
    assert_eq!(tmp.count(), 0);
}

#[test]
fn a_name_goes_to_the_image_loaded_last() {
    let fixture = Fixture::new();
    let first = fixture.load(&layout("web", &[&base()])).unwrap();
    let second = fixture.load(&layout("web", &[&app()])).unwrap();
    assert_ne!(first[0].id, second[0].id);
    assert_eq!(fixture.store.resolve("web").unwrap(), second[0].id);
    assert_eq!(
        fixture.store.list().len(),
        2,
        "the first one stays, without a name"
    );
    let mut both = Layout::default();
    both.image("x", &[&base()]);
    both.image("x", &[&app()]);
    let loaded = fixture.load(&both.build()).unwrap();
    assert_eq!(names(&loaded), [vec![], vec!["x:latest"]]);
}

#[test]
fn an_image_without_layers_has_an_empty_directory() {
    let fixture = Fixture::new();
    let loaded = fixture.load(&layout("scratch-like", &[])).unwrap();
    let layers = fixture.store.layers(&loaded[0].id).unwrap();
    assert_eq!(layers.len(), 1);
    assert_eq!(std::fs::read_dir(&layers[0]).unwrap().count(), 0);
    let mode = layers[0].metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
}

#[test]
fn other_media_types_are_refused_by_name() {
    let fixture = Fixture::new();
    let app = app();
    let encrypted = {
        let mut archive = Layout::default();
        let manifest = archive.manifest(&config(&[&app]), &[("+gzip+encrypted", app.clone())]);
        archive.named("web", manifest);
        archive.build()
    };
    let chart = {
        let mut archive = Layout::default();
        let config = archive.blob("application/vnd.cncf.helm.config.v1+json", b"{}".to_vec());
        let manifest = json!({"config": config, "layers": []}).to_string();
        let manifest = archive.blob(MANIFEST, manifest.into_bytes());
        archive.named("chart", manifest);
        archive.build()
    };
    let artifact = {
        let mut archive = Layout::default();
        let blob = archive.blob("text/plain", b"hello".to_vec());
        archive.named("text", blob);
        archive.build()
    };
    for (archive, media_type) in [
        (encrypted, "tar+gzip+encrypted"),
        (chart, "helm.config"),
        (artifact, "text/plain"),
    ] {
        let error = fixture.load(&archive).unwrap_err();
        assert!(
            matches!(error, Error::UnsupportedMediaType { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains(media_type), "{error}");
    }
}
