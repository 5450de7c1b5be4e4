//! Images and their snapshots: what is there, what is missing or out of date, and whether it can be made here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::finding::{Finding, Status};
use super::listed;
use super::subject::{Subject, Wanted};
use crate::clock;
use crate::engine::Backend;
use crate::host::process::find_program;
use crate::host::{command, disk};
use crate::image::catalog::{Catalog, Image};
use crate::image::failure::{Failure, Work};
use crate::image::recipe::Recipe;
use crate::image::{bake, keeper, packages, prove};
use crate::vm::backend::Vmm;
use crate::vm::spec::{Accelerator, Shape};

/// What makes private disks: no snapshot without it.
const DISK_TOOL: &str = "mkfs.ext4";
/// What building images takes beside it.
const BUILD_TOOLS: [&str; 4] = ["mmdebstrap", "mkfs.erofs", "dpkg-deb", "unshare"];
/// By which Debian's packages are trusted.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// How long it may take to make namespaces.
const ISOLATION_LIMIT: Duration = Duration::from_secs(5);
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

#[derive(Debug, Clone)]
struct Tools {
    missing: Vec<&'static str>,
    has_keyring: bool,
    is_root: bool,
    /// Whether a mount namespace could be made, as the builder makes one, or why not.
    isolation: Result<(), String>,
}

/// An image that a profile names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ImageFacts {
    name: String,
    state: ImageState,
    /// What could not be made of it since.
    failures: Vec<Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ImageState {
    Current(Built),
    /// Its recipe has changed since.
    Stale(Built),
    Missing,
    /// It is there, and something of it is not.
    Damaged,
    /// There is no recipe from which it could be built, or a wrong one.
    NoRecipe(String),
    Unreadable(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Built {
    days: i64,
    kernel: String,
    mib: u64,
}

/// A profile's snapshot.
#[derive(Debug, Clone)]
struct BakeFacts {
    wanted: Wanted,
    /// Accelerators for which there is a snapshot; or why nobody knows.
    baked: Result<Vec<Accelerator>, String>,
    /// What a snapshot lacks that would count else.
    damage: Option<String>,
    /// Those that would be used; of two it is not known yet which.
    needed: Vec<Accelerator>,
}

pub(super) async fn examine(subject: Arc<Subject>) -> Vec<Finding> {
    let catalog = Catalog::new(subject.images_dir.clone());
    let mut names: Vec<&str> = subject.profiles.iter().map(|wanted| wanted.image.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let images: Vec<ImageFacts> = names
        .into_iter()
        .map(|name| ImageFacts {
            name: name.to_owned(),
            state: image_state(&catalog, &subject, name),
            failures: catalog.failures(name),
        })
        .collect();
    let mut findings = vec![tools(&observe_tools().await, &images)];
    let options = subject.image_options();
    findings.extend(images.iter().map(|facts| image(facts, options.as_deref())));
    for wanted in &subject.profiles {
        findings.push(snapshot(&observe_bake(&catalog, &subject, wanted).await, options.as_deref()));
    }
    findings
}

async fn observe_tools() -> Tools {
    let all = BUILD_TOOLS.into_iter().chain([DISK_TOOL]);
    let mut isolation: Vec<&str> = packages::ISOLATION.to_vec();
    isolation.push("true");
    let tried = command::run("unshare", &isolation, ISOLATION_LIMIT, |_| {}).await;
    Tools {
        missing: all.filter(|tool| find_program(tool).is_none()).collect(),
        has_keyring: Path::new(KEYRING).is_file(),
        is_root: nix::unistd::geteuid().is_root(),
        isolation: tried.map(drop).map_err(|error| error.said().map_or_else(|| error.to_string(), str::to_owned)),
    }
}

fn image_state(catalog: &Catalog, subject: &Subject, name: &str) -> ImageState {
    let recipe = Recipe::find(name, &subject.recipes);
    match (catalog.current(name), recipe) {
        (_, Err(error)) => ImageState::NoRecipe(error.to_string()),
        (Err(error), _) => ImageState::Unreadable(error.to_string()),
        (Ok(Some(image)), Ok(recipe)) if image.info.recipe == recipe.digest() => ImageState::Current(built(&image)),
        (Ok(Some(image)), Ok(_)) => ImageState::Stale(built(&image)),
        (Ok(None), Ok(_)) if catalog.directory(name).join("current").is_symlink() => ImageState::Damaged,
        (Ok(None), Ok(_)) => ImageState::Missing,
    }
}

fn built(image: &Image) -> Built {
    let size = |path: &Path| disk::allocated_bytes(path).unwrap_or(0);
    let bytes = size(&image.file("root.erofs")) + image.layer().map_or(0, |layer| size(&layer));
    Built {
        days: (clock::now_ms() - image.info.built_at).max(0) / DAY_MS,
        kernel: image.info.kernel.clone(),
        mib: bytes >> 20,
    }
}

async fn observe_bake(catalog: &Catalog, subject: &Subject, wanted: &Wanted) -> BakeFacts {
    let found = match catalog.current(&wanted.image) {
        Ok(Some(image)) => snapshots(&image, &subject.vmm(), wanted.shape).await,
        Ok(None) => Err("the image is not built".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let (baked, damage) = match found {
        Ok((baked, damage)) => (Ok(baked), damage),
        Err(why) => (Err(why), None),
    };
    BakeFacts { wanted: wanted.clone(), baked, damage, needed: needed(subject).await }
}

/// The accelerators for which there is a snapshot with all of its files, and what another one lacks.
async fn snapshots(image: &Image, vmm: &Vmm, shape: Shape) -> Result<(Vec<Accelerator>, Option<String>), String> {
    let (mut found, mut damage) = (Vec::new(), None);
    for accelerator in [Accelerator::Kvm, Accelerator::Tcg] {
        let key = bake::key(image, vmm, accelerator, shape).await;
        let key = key.map_err(|_| format!("`{}` does not answer", vmm.program()))?;
        let Some(bake) = image.bake(&key).map_err(|error| error.to_string())? else { continue };
        match bake.is_there() {
            Ok(()) => found.push(accelerator),
            Err(lost) => damage = Some(lost.to_string()),
        }
    }
    Ok((found, damage))
}

async fn needed(subject: &Subject) -> Vec<Accelerator> {
    match subject.backend {
        Backend::QemuKvm | Backend::Firecracker => vec![Accelerator::Kvm],
        Backend::QemuTcg => vec![Accelerator::Tcg],
        Backend::Auto => match prove::recall(&subject.state_dir, &subject.qemu).await {
            Some(proof) => vec![proof.accelerator],
            None => vec![Accelerator::Kvm, Accelerator::Tcg],
        },
    }
}

fn tools(tools: &Tools, images: &[ImageFacts]) -> Finding {
    const ID: &str = "images.tools";
    // Without an image to start from, what cannot be built keeps jobs from running.
    let must_build =
        images.iter().any(|image| !matches!(image.state, ImageState::Current(_) | ImageState::NoRecipe(_)));
    let failed = |title: String| if must_build { Finding::problem(ID, title) } else { Finding::warning(ID, title) };
    let finding = if tools.missing.contains(&DISK_TOOL) {
        Finding::problem(ID, format!("{} missing", are(&tools.missing)))
            .detail(format!("`{DISK_TOOL}` makes the private disks of VMs"))
            .hint(packages(&tools.missing))
    } else if !tools.missing.is_empty() {
        failed(format!("{} missing: images cannot be built", are(&tools.missing))).hint(packages(&tools.missing))
    } else if !tools.has_keyring {
        failed(format!("`{KEYRING}` is missing: images cannot be built"))
            .detail("Debian's packages are trusted by it")
            .hint("install the package `debian-archive-keyring`")
    } else if !tools.is_root {
        failed("images cannot be built: that takes root".to_owned()).hint("run it with sudo")
    } else if let Err(why) = &tools.isolation {
        failed("images cannot be built: no mount namespace can be made".to_owned())
            .detail(why.as_str())
            .hint("in a container: give it `CAP_SYS_ADMIN`, and a system call filter that allows `unshare` and `mount`")
    } else {
        Finding::ok(ID, "everything that builds images is there")
    };
    finding.data("missing", tools.missing.clone())
}

fn are(tools: &[&str]) -> String {
    format!("{} {}", listed(tools.iter().copied()), if tools.len() == 1 { "is" } else { "are" })
}

fn packages(tools: &[&str]) -> String {
    let mut packages: Vec<&str> = tools.iter().map(|tool| command::package_of(tool)).collect();
    packages.dedup();
    format!("on Debian and Ubuntu `apt-get install {}`", packages.join(" "))
}

/// How to have it done before somebody waits for it; `options` are those of `dayfly image`, if it reaches these images.
fn now(command: &str, options: Option<&str>) -> String {
    match options {
        Some(options) => format!("`dayfly image {command}{options}` does it now"),
        None => "start the service: it begins with this".to_owned(),
    }
}

/// What is there, and what could not be made: then the last good one is used, if there is one.
fn image(facts: &ImageFacts, options: Option<&str>) -> Finding {
    let finding = there(facts, options);
    let Some(failure) = facts.failures.first() else { return finding };
    let what = match failure.work {
        Work::Build => "it could not be built",
        Work::Bake(_) => "a snapshot of it could not be made",
    };
    let (when, first) = (keeper::date(failure.at), failure.error.lines().next().unwrap_or_default());
    let detail = format!(
        "{what} at {when}: {first}\nwhat was made before is used, if there is something; it is tried again after a pause"
    );
    let hint = now(&format!("build {}", facts.name), options);
    let finding =
        if finding.status < Status::Warning { Finding { status: Status::Warning, ..finding } } else { finding };
    finding.detail(detail).hint(hint).data("failures", facts.failures.len())
}

fn there(facts: &ImageFacts, options: Option<&str>) -> Finding {
    let ImageFacts { name, state, .. } = facts;
    let id = format!("images.{name}");
    let build = now(&format!("build {name}"), options);
    let (finding, built, word) = match state {
        ImageState::Current(built) => {
            (Finding::ok(id, format!("image `{name}`: {}", described(built))), Some(built), "current")
        }
        ImageState::Stale(built) => (
            Finding::warning(id, format!("image `{name}`: its recipe has changed since it was built"))
                .detail("the service, and the next command that uses it, build it again first")
                .hint(build),
            Some(built),
            "stale",
        ),
        ImageState::Missing => (
            Finding::warning(id, format!("image `{name}`: not built yet"))
                .detail("the service, and the next command that uses it, build it first, which takes minutes")
                .hint(build),
            None,
            "missing",
        ),
        ImageState::Damaged => (
            Finding::warning(id, format!("image `{name}`: some of its files are missing or damaged"))
                .detail("it is built again before it is used")
                .hint(build),
            None,
            "damaged",
        ),
        ImageState::NoRecipe(why) => {
            (Finding::problem(id, format!("image `{name}`: it cannot be built")).explained_by(why), None, "unknown")
        }
        ImageState::Unreadable(why) => {
            (Finding::problem(id, format!("image `{name}`: it cannot be read")).explained_by(why), None, "unreadable")
        }
    };
    finding
        .data("state", word)
        .data("kernel", built.map(|built| built.kernel.as_str()))
        .data("mib", built.map(|built| built.mib))
        .data("days", built.map(|built| built.days))
}

fn described(built: &Built) -> String {
    let age = match built.days {
        0 => "today".to_owned(),
        1 => "yesterday".to_owned(),
        days => format!("{days} days ago"),
    };
    format!("built {age}, kernel {}, {} MiB", built.kernel, built.mib)
}

fn snapshot(facts: &BakeFacts, options: Option<&str>) -> Finding {
    let BakeFacts { wanted, baked, damage, needed } = facts;
    let Shape { vcpus, memory_mib, disk_mib, card } = wanted.shape;
    let (id, subject) = match &wanted.profile {
        Some(name) => (format!("profiles.{name}"), format!("profile `{name}`")),
        None => ("profiles.default".to_owned(), "`dayfly exec`".to_owned()),
    };
    let usable: Vec<Accelerator> = baked.iter().flatten().copied().filter(|baked| needed.contains(baked)).collect();
    let with_card = if card { ", network card" } else { "" };
    let shape = format!("{vcpus} vCPU, {memory_mib} MiB memory, {disk_mib} MiB disk{with_card}");
    let finding = match (baked, usable.first()) {
        (Err(why), _) => Finding::skipped(id, format!("{subject}: no snapshot to look for: {why}")),
        (Ok(_), Some(accelerator)) => Finding::ok(id, format!("{subject}: baked for {accelerator}, {shape}")),
        // Nobody has asked for this one yet.
        (Ok(_), None) if wanted.profile.is_none() => {
            Finding::skipped(id, format!("{subject}: no snapshot yet; the first command makes one ({shape})"))
        }
        (Ok(_), None) => Finding::warning(id, format!("{subject}: {}", lacking(&shape, damage.as_deref())))
            .detail("the service, and the next command that needs it, make one first, which takes seconds to a minute")
            .hint(now(
                &format!("bake {} --vcpus {vcpus} --memory {memory_mib}MiB --disk {disk_mib}MiB", wanted.image),
                options,
            )),
    };
    let baked: Vec<String> = baked.iter().flatten().map(Accelerator::to_string).collect();
    finding.data("image", wanted.image.as_str()).data("baked_for", baked)
}

fn lacking(shape: &str, damage: Option<&str>) -> String {
    match damage {
        Some(damage) => format!("the snapshot for {shape} is damaged: {damage}"),
        None => format!("no snapshot for {shape}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::sketch;
    use super::*;

    fn named(state: ImageState) -> ImageFacts {
        ImageFacts { name: "base".into(), state, failures: Vec::new() }
    }

    fn complete() -> Tools {
        Tools { missing: Vec::new(), has_keyring: true, is_root: true, isolation: Ok(()) }
    }

    fn fresh() -> Built {
        Built { days: 3, kernel: "6.1.0".into(), mib: 300 }
    }

    #[test]
    fn what_is_missing_is_worse_while_there_is_no_image() {
        let without = |missing: &[&'static str]| Tools { missing: missing.to_vec(), ..complete() };
        let (built, missing) = ([named(ImageState::Current(fresh()))], [named(ImageState::Missing)]);
        insta::assert_snapshot!(sketch(&[
            tools(&complete(), &missing),
            tools(&without(&["mmdebstrap", "mkfs.erofs"]), &built),
            tools(&without(&["mmdebstrap"]), &missing),
            tools(&without(&["mkfs.ext4"]), &built),
            tools(&Tools { has_keyring: false, ..complete() }, &missing),
            tools(&Tools { is_root: false, ..complete() }, &built),
            tools(&Tools { isolation: Err("unshare failed: Operation not permitted".into()), ..complete() }, &missing),
        ]), @"
        ok images.tools: everything that builds images is there
        warning images.tools: `mmdebstrap`, `mkfs.erofs` are missing: images cannot be built
            -> on Debian and Ubuntu `apt-get install mmdebstrap erofs-utils`
        problem images.tools: `mmdebstrap` is missing: images cannot be built
            -> on Debian and Ubuntu `apt-get install mmdebstrap`
        problem images.tools: `mkfs.ext4` is missing
            `mkfs.ext4` makes the private disks of VMs
            -> on Debian and Ubuntu `apt-get install e2fsprogs`
        problem images.tools: `/usr/share/keyrings/debian-archive-keyring.gpg` is missing: images cannot be built
            Debian's packages are trusted by it
            -> install the package `debian-archive-keyring`
        warning images.tools: images cannot be built: that takes root
            -> run it with sudo
        problem images.tools: images cannot be built: no mount namespace can be made
            unshare failed: Operation not permitted
            -> in a container: give it `CAP_SYS_ADMIN`, and a system call filter that allows `unshare` and `mount`
        ");
    }

    #[test]
    fn every_state_of_an_image_has_its_words() {
        let states = [
            ImageState::Current(fresh()),
            ImageState::Stale(fresh()),
            ImageState::Missing,
            ImageState::Damaged,
            ImageState::NoRecipe("there is no image `base`\n  hint: there are recipes for: other".into()),
            ImageState::Unreadable("Permission denied".into()),
        ];
        insta::assert_snapshot!(sketch(&states.map(|state| image(&named(state), Some(" --state-dir /s")))), @"
        ok images.base: image `base`: built 3 days ago, kernel 6.1.0, 300 MiB
        warning images.base: image `base`: its recipe has changed since it was built
            the service, and the next command that uses it, build it again first
            -> `dayfly image build base --state-dir /s` does it now
        warning images.base: image `base`: not built yet
            the service, and the next command that uses it, build it first, which takes minutes
            -> `dayfly image build base --state-dir /s` does it now
        warning images.base: image `base`: some of its files are missing or damaged
            it is built again before it is used
            -> `dayfly image build base --state-dir /s` does it now
        problem images.base: image `base`: it cannot be built
            there is no image `base`
            -> there are recipes for: other
        problem images.base: image `base`: it cannot be read
            Permission denied
        ");
    }

    #[test]
    fn a_failure_is_told_though_the_last_good_one_is_used() {
        let work = Work::Build;
        let error = "the set-up script failed (exit code 1):\nlast words".to_owned();
        let failure = Failure { work, recipe: String::new(), error, at: 0, tries: 2 };
        let facts = ImageFacts { failures: vec![failure], ..named(ImageState::Current(fresh())) };
        insta::assert_snapshot!(sketch(&[image(&facts, None)]), @"
        warning images.base: image `base`: built 3 days ago, kernel 6.1.0, 300 MiB
            it could not be built at 1970-01-01 00:00 UTC: the set-up script failed (exit code 1):
            what was made before is used, if there is something; it is tried again after a pause
            -> start the service: it begins with this
        ");
    }

    #[test]
    fn a_snapshot_counts_if_it_is_for_what_would_be_used() {
        let facts = |profile: Option<&str>, baked: Result<&[Accelerator], &str>, needed: &[Accelerator]| BakeFacts {
            wanted: Wanted { profile: profile.map(str::to_owned), ..Wanted::default() },
            baked: baked.map(<[_]>::to_vec).map_err(str::to_owned),
            damage: None,
            needed: needed.to_vec(),
        };
        let (kvm, tcg) = (Accelerator::Kvm, Accelerator::Tcg);
        insta::assert_snapshot!(sketch(&[
            snapshot(&facts(Some("linux"), Ok(&[tcg]), &[kvm, tcg]), None),
            snapshot(&facts(Some("linux"), Ok(&[tcg]), &[kvm]), None),
            snapshot(&facts(Some("linux"), Ok(&[]), &[kvm]), Some("")),
            snapshot(&BakeFacts { damage: Some("`memory` is gone".into()), ..facts(Some("linux"), Ok(&[]), &[kvm]) }, None),
            snapshot(&facts(None, Ok(&[tcg]), &[kvm]), None),
            snapshot(&facts(Some("linux"), Err("the image is not built"), &[tcg]), None),
        ]), @"
        ok profiles.linux: profile `linux`: baked for tcg, 1 vCPU, 512 MiB memory, 4096 MiB disk
        warning profiles.linux: profile `linux`: no snapshot for 1 vCPU, 512 MiB memory, 4096 MiB disk
            the service, and the next command that needs it, make one first, which takes seconds to a minute
            -> start the service: it begins with this
        warning profiles.linux: profile `linux`: no snapshot for 1 vCPU, 512 MiB memory, 4096 MiB disk
            the service, and the next command that needs it, make one first, which takes seconds to a minute
            -> `dayfly image bake base --vcpus 1 --memory 512MiB --disk 4096MiB` does it now
        warning profiles.linux: profile `linux`: the snapshot for 1 vCPU, 512 MiB memory, 4096 MiB disk is damaged: `memory` is gone
            the service, and the next command that needs it, make one first, which takes seconds to a minute
            -> start the service: it begins with this
        skipped profiles.default: `dayfly exec`: no snapshot yet; the first command makes one (1 vCPU, 512 MiB memory, 4096 MiB disk)
        skipped profiles.linux: profile `linux`: no snapshot to look for: the image is not built
        ");
    }
}
