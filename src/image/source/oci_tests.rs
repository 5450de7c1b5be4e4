#![allow(clippy::unwrap_used)]

use std::fs;

use serde_json::{Value, json};

use super::*;

/// A layout with one image of one layer, as a tool would write it.
struct Made {
    directory: tempfile::TempDir,
}

impl Made {
    fn new() -> Self {
        let made = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir_all(made.directory.path().join("blobs/sha256")).unwrap();
        made
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn blob(&self, content: &[u8]) -> String {
        let hex = hex::encode(Sha256::digest(content));
        fs::write(self.path().join("blobs/sha256").join(&hex), content).unwrap();
        format!("sha256:{hex}")
    }

    fn document(&self, value: &Value) -> String {
        self.blob(&serde_json::to_vec(value).unwrap())
    }

    /// An image whose layer has this content, as an entry of an index.
    fn image(&self, layer: &str, platform: Option<&str>, tag: Option<&str>) -> Value {
        let config = self.document(&json!({ "config": { "Env": [format!("LAYER={layer}"), "odd"] } }));
        let layer = self.blob(layer.as_bytes());
        let manifest = self.document(&json!({ "config": { "digest": config }, "layers": [{ "digest": layer }] }));
        let mut entry = json!({ "digest": manifest, "mediaType": "application/vnd.oci.image.manifest.v1+json" });
        if let Some(architecture) = platform {
            entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        }
        if let Some(tag) = tag {
            entry["annotations"] = json!({ TAG: tag });
        }
        entry
    }

    fn index(&self, manifests: &[Value]) {
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        fs::write(self.path().join("index.json"), index.to_string()).unwrap();
    }

    async fn find(&self, reference: Option<&str>) -> Result<String, String> {
        let found = find(self.path(), reference, &self.path().join("unpacked")).await;
        let mut image = found.map_err(|error| error.to_string().replace(&self.path().display().to_string(), "DIR"))?;
        let mut layer = String::new();
        image.layers[0].read_to_string(&mut layer).unwrap();
        assert_eq!(image.environment, [("LAYER".to_owned(), layer.clone())]);
        Ok(layer)
    }
}

#[tokio::test]
async fn an_image_is_found_by_tag_digest_platform_or_because_it_is_the_only_one() {
    let made = Made::new();
    let (one, two) = (made.image("one", None, Some("v1")), made.image("two", None, Some("v2")));
    made.index(std::slice::from_ref(&one));
    assert_eq!(made.find(None).await.unwrap(), "one");
    made.index(&[one, two.clone()]);
    assert_eq!(made.find(Some("v2")).await.unwrap(), "two");
    assert_eq!(made.find(two["digest"].as_str()).await.unwrap(), "two");
    insta::assert_snapshot!(made.find(None).await.unwrap_err(), @"
    the image layout `DIR` has several images
      hint: `reference` takes one of `v1`, `v2`
    ");
    insta::assert_snapshot!(made.find(Some("v3")).await.unwrap_err(), @"the image layout `DIR` has no image `v3`");
    let platforms = [made.image("arm", Some("arm64"), None), made.image("here", Some("amd64"), None)];
    let inner = made.document(&json!({ "manifests": platforms }));
    made.index(&[json!({ "digest": inner, "mediaType": "application/vnd.oci.image.index.v1+json" })]);
    assert_eq!(made.find(None).await.unwrap(), "here");
}

#[tokio::test]
async fn what_is_not_what_its_digest_says_is_refused() {
    let made = Made::new();
    made.index(&[made.image("one", None, None)]);
    let layer = made.path().join("blobs/sha256").join(hex::encode(Sha256::digest("one")));
    fs::write(&layer, "two").unwrap();
    assert!(made.find(None).await.unwrap_err().ends_with("the content does not match the digest"));
    for digest in
        ["../../../etc/passwd", "sha256:../../../../etc/passwd", "sha512:00", &format!("sha256:{}", "A".repeat(64))]
    {
        made.index(&[json!({ "digest": digest })]);
        assert!(made.find(None).await.unwrap_err().contains("not by a SHA-256"), "{digest}");
    }
    made.index(&[]);
    insta::assert_snapshot!(made.find(None).await.unwrap_err(), @"the image layout `DIR` has no image");
    let itself = made.document(&json!({ "manifests": [] }));
    made.index(&[json!({ "digest": itself })]);
    insta::assert_snapshot!(made.find(None).await.unwrap_err(), @"the image layout `DIR` has no image for linux/amd64");
}

#[tokio::test]
async fn null_is_what_is_not_there() {
    let made = Made::new();
    let layer = made.blob(b"one");
    for config in [json!({ "config": null }), json!({ "config": { "Env": null } }), json!({})] {
        let config = made.document(&config);
        let layers = json!([{ "digest": layer, "annotations": null, "mediaType": null, "platform": null }]);
        let manifest = made.document(&json!({ "config": { "digest": config }, "layers": layers }));
        made.index(&[json!({ "digest": manifest })]);
        let image = find(made.path(), None, Path::new("")).await.unwrap();
        assert_eq!((image.layers.len(), image.environment.len()), (1, 0));
    }
}

/// A tar archive of a layout as it is, with links and FIFOs.
fn packed(layout: &Path) -> tempfile::NamedTempFile {
    let archive = tempfile::NamedTempFile::new().unwrap();
    let mut builder = tar::Builder::new(archive.reopen().unwrap());
    builder.follow_symlinks(false);
    builder.append_dir_all(".", layout).unwrap();
    builder.into_inner().unwrap();
    archive
}

#[tokio::test]
async fn a_layout_in_an_archive_is_the_same() {
    let made = Made::new();
    made.index(&[made.image("one", None, None)]);
    let place = tempfile::tempdir().unwrap();
    let image = find(packed(made.path()).path(), None, &place.path().join("layout")).await.unwrap();
    assert_eq!(image.layers.len(), 1);
}

/// In an archive and in a directory: what is linked to is looked for in the layout, and only files are read.
#[tokio::test]
async fn links_and_fifos_of_a_layout_lead_to_nothing_of_the_host() {
    let whole = Made::new();
    whole.index(&[whole.image("one", None, None)]);
    let layer = hex::encode(Sha256::digest("one"));
    let attack = |change: &dyn Fn(&Path)| {
        let made = Made::new();
        made.index(&[made.image("one", None, None)]);
        change(made.path());
        made
    };
    let link = |target: PathBuf, place: PathBuf| {
        if place.is_dir() {
            fs::remove_dir_all(&place).unwrap()
        } else {
            fs::remove_file(&place).unwrap()
        }
        std::os::unix::fs::symlink(target, place).unwrap();
    };
    let blob = |made: &Path| made.join("blobs/sha256").join(&layer);
    let attacks: [&dyn Fn(&Path); 5] = [
        &|made| link(whole.path().join("blobs"), made.join("blobs")),
        &|made| link(whole.path().join("index.json"), made.join("index.json")),
        &|made| link(blob(whole.path()), blob(made)),
        &|made| link("/dev/zero".into(), blob(made)),
        &|made| {
            fs::remove_file(blob(made)).unwrap();
            nix::unistd::mkfifo(&blob(made), nix::sys::stat::Mode::S_IRUSR).unwrap();
        },
    ];
    for (number, change) in attacks.iter().enumerate() {
        let made = attack(change);
        let place = tempfile::tempdir().unwrap();
        let archive = packed(made.path());
        for layout in [archive.path(), made.path()] {
            let place = place.path().join("layout");
            let found = find(layout, None, &place);
            let found = tokio::time::timeout(std::time::Duration::from_secs(60), found).await.expect("it waits");
            assert!(found.is_err(), "{number}: {found:?}");
        }
    }
    // A link inside the layout is as good as a file.
    let made = attack(&|made| {
        fs::rename(blob(made), made.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("../../elsewhere", blob(made)).unwrap();
    });
    assert_eq!(made.find(None).await.unwrap(), "one");
}

#[tokio::test]
async fn what_is_too_long_is_not_compared() {
    let made = Made::new();
    made.index(&[made.image("one", None, None)]);
    let layer = made.path().join("blobs/sha256").join(hex::encode(Sha256::digest("one")));
    File::options().write(true).open(&layer).unwrap().set_len(MAX_BYTES + 1).unwrap();
    let error = made.find(None).await.unwrap_err();
    assert!(error.ends_with("68719476737 bytes are too many"), "{error}");
}
