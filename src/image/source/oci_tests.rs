#![allow(clippy::unwrap_used)]

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
async fn a_layout_in_an_archive_is_the_same() {
    let made = Made::new();
    made.index(&[made.image("one", None, None)]);
    let archive = made.path().join("layout.tar");
    let mut builder = tar::Builder::new(File::create(&archive).unwrap());
    builder.append_dir_all("blobs", made.path().join("blobs")).unwrap();
    builder.append_path_with_name(made.path().join("index.json"), "./index.json").unwrap();
    builder.into_inner().unwrap();
    let image = find(&archive, None, &made.path().join("unpacked")).await.unwrap();
    assert_eq!(image.layers.len(), 1);
}
