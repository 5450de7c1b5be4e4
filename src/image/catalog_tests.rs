#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::super::gc;
use super::super::staging::Staging;
use super::*;

async fn publish(catalog: &Catalog, digest: &str) -> PathBuf {
    let staging = Staging::begin(&catalog.directory("base")).unwrap();
    let info = ImageInfo {
        name: "base".into(),
        digest: digest.into(),
        description: String::new(),
        recipe: String::new(),
        source: "Debian".into(),
        kernel: "1".into(),
        user: serde_json::from_str(r#"{"name": "ci", "uid": 1000, "gid": 1000}"#).unwrap(),
        environment: Vec::new(),
        packages: Vec::new(),
        fetched: Vec::new(),
        bake: Vec::new(),
        built_at: 0,
        built_by: String::new(),
        agent: String::new(),
        files: Checksums::new(),
    };
    for file in NEEDED {
        fs::write(staging.path().join(file), "").unwrap();
    }
    write_json(&staging.path().join("image.json"), &info).unwrap();
    let place = catalog.directory("base").join(digest);
    staging.publish(&place).await.unwrap();
    catalog.set_current("base", digest).unwrap();
    place
}

fn visible(catalog: &Catalog) -> Vec<String> {
    names_in(&catalog.directory("base")).unwrap().into_iter().filter(|name| name != "current").collect()
}

#[tokio::test]
async fn a_dangling_or_damaged_image_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = Catalog::new(directory.path().to_owned());
    let place = publish(&catalog, "one").await;
    assert_eq!(catalog.current("base").unwrap().unwrap().info.digest, "one");
    fs::remove_file(place.join("root.erofs")).unwrap();
    assert!(catalog.current("base").unwrap().is_none(), "a file is missing");
    fs::write(place.join("image.json"), "{").unwrap();
    assert!(catalog.current("base").unwrap().is_none(), "its description is damaged");
    fs::remove_dir_all(&place).unwrap();
    assert!(catalog.current("base").unwrap().is_none(), "it is not there");
    publish(&catalog, "one").await;
    assert!(catalog.current("base").unwrap().is_some());
}

#[tokio::test]
async fn what_takes_the_place_of_an_image_leaves_nothing_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = Catalog::new(directory.path().to_owned());
    let place = publish(&catalog, "one").await;
    fs::write(place.join("old"), "").unwrap();
    publish(&catalog, "one").await;
    assert!(!place.join("old").exists());
    let hidden = fs::read_dir(catalog.directory("base")).unwrap().flatten();
    assert_eq!(hidden.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).count(), 0);
}

#[tokio::test]
async fn what_ended_half_way_goes_unless_somebody_is_at_it() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = Catalog::new(directory.path().to_owned());
    catalog.remove_unfinished().unwrap();
    let place = publish(&catalog, "one").await;
    let left = [catalog.directory("base").join(".building-a"), place.join(BAKES).join(".replaced-b")];
    left.iter().for_each(|left| fs::create_dir_all(left.join("root")).unwrap());
    let lock = catalog.lock("base").unwrap();
    catalog.remove_unfinished().unwrap();
    assert!(left.iter().all(|left| left.exists()));
    drop(lock);
    catalog.remove_unfinished().unwrap();
    assert!(!left.iter().any(|left| left.exists()));
    assert!(catalog.current("base").unwrap().is_some());
}

#[test]
fn one_image_that_cannot_be_tidied_up_keeps_no_other_from_it() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = Catalog::new(directory.path().to_owned());
    let left = ["a", "c"].map(|name| catalog.directory(name).join(".building-x"));
    left.iter().for_each(|left| fs::create_dir_all(left).unwrap());
    // No directory, which is what is removed.
    fs::create_dir(catalog.directory("b")).unwrap();
    fs::write(catalog.directory("b").join(".building-x"), "").unwrap();
    let error = catalog.remove_unfinished().unwrap_err().to_string();
    assert!(error.contains("/b`"), "{error}");
    assert!(!left.iter().any(|left| left.exists()), "{left:?}");
}

#[tokio::test]
async fn only_what_is_superseded_and_old_goes() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = Catalog::new(directory.path().to_owned());
    let age = |digest: &str| {
        let place = fs::File::open(catalog.directory("base").join(digest)).unwrap();
        place.set_modified(SystemTime::now() - Duration::from_secs(48 * 60 * 60)).unwrap();
    };
    for digest in ["old", "young", "current-and-old"] {
        publish(&catalog, digest).await;
    }
    age("old");
    age("current-and-old");
    gc::remove_superseded(&catalog, "base").unwrap();
    assert_eq!(visible(&catalog), ["current-and-old", "young"]);
}

#[tokio::test]
async fn an_image_is_removed_when_its_builder_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = Catalog::new(directory.path().to_owned());
    publish(&catalog, "one").await;
    let lock = catalog.lock("base").unwrap();
    let removing = std::thread::spawn({
        let catalog = catalog.clone();
        move || catalog.remove("base")
    });
    assert_eq!(visible(&catalog), ["one"], "it waits for the builder");
    drop(lock);
    removing.join().unwrap().unwrap();
    assert!(visible(&catalog).is_empty());
    assert!(catalog.current("base").unwrap().is_none());
    assert!(matches!(catalog.remove("base"), Err(ImageError::Unknown { .. })));
}
