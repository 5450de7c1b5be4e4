#![allow(clippy::unwrap_used)]

use super::*;

/// A directory of recipes, each a name and the text of its `image.toml`.
fn recipes(written: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in written {
        let place = directory.path().join(name);
        fs::create_dir(&place).unwrap();
        fs::write(place.join("image.toml"), text).unwrap();
        fs::write(place.join("script.sh"), format!("echo {name}")).unwrap();
    }
    directory
}

fn find(name: &str, written: &[(&str, &str)]) -> Result<Recipe, String> {
    let directory = recipes(written);
    let shown = directory.path().display().to_string();
    Recipe::find(name, &[directory.path().to_owned()]).map_err(|error| error.to_string().replace(&shown, "DIR"))
}

#[test]
fn built_in_recipes_are_complete_and_their_digest_follows_their_content() {
    for name in built_in::names() {
        let recipe = Recipe::find(name, &[]).unwrap();
        assert!(!recipe.description.is_empty() && recipe.user.uid != 0, "{name}");
        assert_eq!(recipe.digest(), Recipe::find(name, &[]).unwrap().digest());
        let mut changed = recipe.clone();
        changed.environment.insert("MORE".into(), "1".into());
        assert_ne!(recipe.digest(), changed.digest());
    }
}

#[test]
fn a_missing_image_names_the_nearest() {
    insta::assert_snapshot!(Recipe::find("bse", &[]).unwrap_err(), @r"
    there is no image `bse`
      hint: did you mean `base`?
    ");
    assert!(Recipe::find("../../etc", &[]).is_err());
}

#[test]
fn what_extends_another_adds_to_it() {
    let above = "extends = 'lower'\n[distribution]\nsuite = 'trixie'\npackages = ['b', 'c']\n[setup]\nscript = 'script.sh'\n\
                 [environment]\nB = '2'\n[kernel]\nmodules = ['bridge']";
    let below = "description = 'Lower'\n[distribution]\nsuite = 'bookworm'\nmirror = 'http://m'\npackages = ['b', 'a']\n\
                 [setup]\nscript = 'script.sh'\n[user]\nname = 'ci'\nuid = 7\ngid = 7\n[environment]\nA = '1'\nB = '1'";
    let recipe = find("upper", &[("upper", above), ("lower", below)]).unwrap();
    assert_eq!((recipe.name.as_str(), recipe.description.as_str(), recipe.user.uid), ("upper", "Lower", 7));
    let Source::Packages(packages) = &recipe.source else { panic!("{:?}", recipe.source) };
    assert_eq!((packages.suite.as_str(), packages.mirror.as_deref()), ("trixie", Some("http://m")));
    assert_eq!(packages.packages, ["a", "b", "c"]);
    assert_eq!(
        recipe.setup.iter().map(|script| script.text.as_str()).collect::<Vec<_>>(),
        ["echo lower", "echo upper"]
    );
    assert_eq!(recipe.environment, BTreeMap::from([("A".into(), "1".into()), ("B".into(), "2".into())]));
    assert_eq!(recipe.kernel.modules, ["bridge"]);
    // An archive of one's own has the kernel too, which does not follow the release.
    let kernel = KernelSource::Archive { suite: KERNEL_SUITE.into(), mirror: Some("http://m".into()) };
    assert_eq!(recipe.kernel.source, kernel);
}

#[test]
fn files_are_found_beside_the_recipe_and_a_change_of_them_shows() {
    let text = "[source]\nrootfs = 'root.tar'\n[user]\nname = 'root'\nuid = 0\ngid = 0";
    let directory = recipes(&[("own", text)]);
    let search = [directory.path().to_owned()];
    let archive = directory.path().join("own/root.tar");
    assert!(Recipe::find("own", &search).is_err(), "the file is missing");
    fs::write(&archive, "one").unwrap();
    let before = Recipe::find("own", &search).unwrap();
    let Source::Rootfs(file) = &before.source else { panic!("{:?}", before.source) };
    assert_eq!(file.path, archive);
    fs::write(&archive, "longer").unwrap();
    assert_ne!(Recipe::find("own", &search).unwrap().digest(), before.digest());
}

#[test]
fn files_of_the_network_are_named_by_their_content() {
    let user = "[user]\nname = 'ci'\nuid = 7\ngid = 7\n[distribution]\nsuite = 'x'\n";
    let (one, two) = ("1".repeat(64), "2".repeat(64));
    let setup = |files: &str| format!("[setup]\nscript = 'script.sh'\nfiles = [{files}]\n");
    let below =
        format!("{user}{}", setup(&format!("{{ url = 'https://example.org/a/one.tar.xz?x', sha256 = '{one}' }}")));
    let above = format!(
        "extends = 'lower'\n{}",
        setup(&format!("{{ url = 'http://example.org/', sha256 = '{two}', name = 'two' }}"))
    );
    let recipe = find("upper", &[("upper", &above), ("lower", &below)]).unwrap();
    let names: Vec<_> = recipe.files.iter().map(|file| (file.name.as_str(), &file.sha256)).collect();
    assert_eq!(names, [("one.tar.xz", &one), ("two", &two)]);
    let told = |file: &str| find("own", &[("own", &format!("{user}{}", setup(file)))]).unwrap_err();
    let file = |url: &str, sha256: &str| format!("{{ url = '{url}', sha256 = '{sha256}' }}");
    insta::assert_snapshot!(told(&file("nowhere", &one)), @"the recipe `DIR/own/image.toml` is wrong: `setup.files`: `nowhere` is no address: relative URL without a base");
    insta::assert_snapshot!(told(&file("file:///etc/shadow", &one)), @"the recipe `DIR/own/image.toml` is wrong: `setup.files`: `file:///etc/shadow` must begin with `https://` or `http://`, and have no password");
    assert!(told(&file("https://me:secret@example.org/a", &one)).contains("have no password"));
    insta::assert_snapshot!(told(&file("https://example.org/a", "ABC")), @"the recipe `DIR/own/image.toml` is wrong: `setup.files`: `ABC` is no SHA-256: 64 digits and letters from `a` to `f`");
    insta::assert_snapshot!(told(&file("https://example.org/", &one)), @"the recipe `DIR/own/image.toml` is wrong: `setup.files`: `` cannot be the name of a file; give it a `name` of letters, digits and `._+-`");
    let twice = [file("https://example.org/a", &one), file("https://example.org/b/a", &two)].join(",");
    insta::assert_snapshot!(told(&twice), @"the recipe `DIR/own/image.toml` is wrong: two of `setup.files` are named `a`");
}

#[test]
fn what_is_wrong_is_said_with_its_file() {
    let user = "[user]\nname = 'ci'\nuid = 7\ngid = 7\n";
    let told = |text: &str| find("own", &[("own", &format!("{user}{text}"))]).unwrap_err();
    insta::assert_snapshot!(told(""), @"the recipe `DIR/own/image.toml` is wrong: it has neither `[distribution]` nor `[source]` nor `extends`");
    insta::assert_snapshot!(told("[distribution]\npackages = []"), @"the recipe `DIR/own/image.toml` is wrong: `distribution.suite` is missing");
    insta::assert_snapshot!(told("[source]\nreference = 'x'"), @"the recipe `DIR/own/image.toml` is wrong: `[source]` takes either `rootfs`, or `oci_layout` and perhaps `reference`");
    insta::assert_snapshot!(told("[setup]\nscript = '../x'"), @"the recipe `DIR/own/image.toml` is wrong: `setup.script` must name a file beside it, not `../x`");
    insta::assert_snapshot!(told("[distribution]\nsuite = 'x'\n[kernel]\npackage = 'x'\nsuite = 'x'"), @"the recipe `DIR/own/image.toml` is wrong: `[kernel]` takes either `package`, or `suite` and `mirror`");
    assert!(told("[distribution]\nsuite = '--x'").contains("`distribution.suite`: `--x` is no name"));
    assert!(told("[distribution]\nsuite = 'x'\nmirror = '-'").contains("`distribution.mirror`: `-` is no address"));
    assert!(told("[distribution]\nsuite = 'x'\npackages = ['-o']").contains("`-o` is no name of a package"));
    assert!(told("[distribution]\nsuite = 'x'\n[kernel]\nsuite = '-'").contains("`kernel.suite`: `-` is no name"));
    assert!(told("[distribution]\nsuite = 'x'\n[kernel]\nmirror = '-'").contains("`kernel.mirror`: `-` is no address"));
    let circle = find("own", &[("own", "extends = 'other'"), ("other", "extends = 'own'")]).unwrap_err();
    insta::assert_snapshot!(circle, @r#"the recipe `DIR/other/image.toml` is wrong: `extends = "own"` goes round in a circle, or too deep"#);
    let nobody = find("own", &[("own", "[distribution]\nsuite = 'x'")]).unwrap_err();
    insta::assert_snapshot!(nobody, @"the recipe `DIR/own/image.toml` is wrong: `[user]` is missing: the account that runs jobs");
}
