//! Images, snapshots and what became of them, for people and as JSON.

use std::collections::HashSet;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{Look, Style};
use crate::clock;
use crate::host::disk::{self, Size};
use crate::host::users;
use crate::image::ImageError;
use crate::image::catalog::{Bake, Catalog, Image};
use crate::image::failure::{Failure, Work};
use crate::image::gc::Removal;
use crate::image::keeper::date;
use crate::image::recipe::{Recipe, RemoteFile};
use crate::vm::spec::Shape;

/// Every image with its snapshots, and what could not be made.
pub(super) fn list(catalog: &Catalog, json: bool) -> Result<String, ImageError> {
    let images = catalog.list()?;
    if json {
        let described = images.iter().map(|image| describe(catalog, image)).collect::<Result<Vec<_>, _>>()?;
        return Ok(pretty(&described));
    }
    let failures: Vec<String> = catalog.names()?.iter().flat_map(|name| failures(catalog, name)).collect();
    if images.is_empty() && failures.is_empty() {
        return Ok("no images yet; `dayfly image build base` makes one".to_owned());
    }
    let mut table = Table::new(["NAME", "DIGEST OR KEY", "STATE", "SIZE", "MADE", "DESCRIPTION"], &[5]);
    let mut total = 0;
    for image in &images {
        let info = &image.info;
        let size = image_size(image).allocated;
        total += size;
        let state = match state(catalog, image) {
            "current" => Cell::styled("current", Style::GREEN),
            state => state.into(),
        };
        let (name, digest) = (info.name.as_str().into(), info.digest.as_str().into());
        table.row([
            name,
            digest,
            state,
            mib(size).into(),
            date(info.built_at).into(),
            info.description.as_str().into(),
        ]);
        for bake in image.list_bakes()? {
            let size = bake_bytes(&bake);
            total += size;
            let what = format!("{}, {}", shape(bake.info.shape), bake.info.accelerator);
            let key = bake.info.key.as_str().into();
            table.row([
                "└ snapshot".into(),
                key,
                "".into(),
                mib(size).into(),
                date(bake.info.baked_at).into(),
                what.into(),
            ]);
        }
    }
    let lines = [table.render(Look::of_stdout()), format!("{} in all", mib(total))];
    Ok(lines.into_iter().chain(failures).collect::<Vec<_>>().join("\n"))
}

/// What one image was made of.
pub(super) fn show(catalog: &Catalog, recipes: &[PathBuf], name: &str, json: bool) -> Result<String, ImageError> {
    let current = catalog.current(name)?;
    let Some(image) = current else {
        let hint = match catalog.failures(name).as_slice() {
            [] if Recipe::find(name, recipes).is_ok() => format!("`dayfly image build {name}` makes it"),
            [] => "`dayfly image list` shows what there is".to_owned(),
            [failure, ..] => told(name, failure),
        };
        return Err(ImageError::Unknown { name: name.to_owned(), hint });
    };
    if json {
        return Ok(pretty(&describe(catalog, &image)?));
    }
    let info = &image.info;
    let open = users::open_below(&image.directory);
    let vms: HashSet<u32> = open.into_iter().map(|(process, _)| process).collect();
    let mut lines = vec![
        format!("image        {} {}", info.name, info.digest),
        format!("description  {}", info.description),
        format!("made of      {}, {} packages, kernel {}", info.source, info.packages.len(), info.kernel),
        format!("recipe       {}", info.recipe),
        format!("built        {} by Dayfly {}, agent {:.12}", date(info.built_at), info.built_by, info.agent),
        format!("user         {} ({}:{})", info.user.name, info.user.uid, info.user.gid),
        format!("size         {}", mib(image_size(&image).allocated)),
        format!(
            "used by      {}",
            if vms.len() == 1 { "1 process".to_owned() } else { format!("{} processes", vms.len()) }
        ),
    ];
    lines.extend(info.environment.iter().map(|(name, value)| format!("environment  {name}={value}")));
    for bake in image.list_bakes()? {
        let (size, info) = (mib(bake_bytes(&bake)), &bake.info);
        lines.push(format!("snapshot     {} {}, {}, {size}", info.key, shape(info.shape), info.accelerator));
        lines.push(format!("             {}, {}", date(info.baked_at), info.monitor));
    }
    lines.extend(failures(catalog, name));
    lines.extend(info.fetched.iter().flat_map(|RemoteFile { name, url, sha256 }| {
        [format!("file         {name} of {url}"), format!("             SHA-256 {sha256}")]
    }));
    lines.extend(info.packages.iter().map(|package| format!("package      {package}")));
    Ok(lines.join("\n"))
}

/// What was removed, or would be.
pub(super) fn removals(removals: &[Removal], is_dry_run: bool, json: bool) -> String {
    if json {
        let described = removals.iter().map(|removal| {
            let Removal { name, digest, key, bytes, .. } = removal;
            json!({ "name": name, "digest": digest, "key": key, "bytes": bytes })
        });
        return pretty(&described.collect::<Vec<_>>());
    }
    let verb = if is_dry_run { "would remove" } else { "removed" };
    let mut lines: Vec<String> = removals
        .iter()
        .map(|Removal { name, digest, key, bytes, .. }| match key {
            None => format!("{verb} the image {name} {digest} and its snapshots: {}", mib(*bytes)),
            Some(key) => format!("{verb} the snapshot {key} of {name} {digest}: {}", mib(*bytes)),
        })
        .collect();
    if removals.is_empty() {
        return "there is nothing to remove".to_owned();
    }
    lines.push(format!("{verb} {} in all", mib(removals.iter().map(|removal| removal.bytes).sum())));
    lines.join("\n")
}

fn describe(catalog: &Catalog, image: &Image) -> Result<Value, ImageError> {
    let bakes = image.list_bakes()?.into_iter().map(|bake| {
        let mut described = json!(bake.info);
        described["bytes"] = bake_bytes(&bake).into();
        described
    });
    let (bakes, size): (Vec<Value>, Size) = (bakes.collect(), image_size(image));
    Ok(json!({
        "image": image.info,
        "state": state(catalog, image),
        "bytes": size.allocated,
        "apparent_bytes": size.apparent,
        "bakes": bakes,
        "failures": catalog.failures(&image.info.name),
    }))
}

fn state(catalog: &Catalog, image: &Image) -> &'static str {
    let is_current = catalog.current_digest(&image.info.name).as_deref() == Some(image.info.digest.as_str());
    if is_current { "current" } else { "superseded" }
}

/// The image without its snapshots.
fn image_size(image: &Image) -> Size {
    let files = ["kernel", "root.erofs", "modules"].map(|name| image.file(name));
    let sizes = files.into_iter().chain(image.layer()).map(|file| disk::tree_bytes(&file).unwrap_or_default());
    sizes.fold(Size::default(), |sum, size| Size {
        apparent: sum.apparent + size.apparent,
        allocated: sum.allocated + size.allocated,
    })
}

/// What a snapshot takes of the disk. What its files seem to have tells nothing: among them is an empty disk of the largest size
/// that a cache volume may have.
fn bake_bytes(bake: &Bake) -> u64 {
    disk::tree_bytes(&bake.directory).unwrap_or_default().allocated
}

fn failures(catalog: &Catalog, name: &str) -> Vec<String> {
    catalog.failures(name).iter().map(|failure| told(name, failure)).collect()
}

fn told(name: &str, failure: &Failure) -> String {
    let what = match failure.work {
        Work::Build => format!("{name} could not be built"),
        Work::Bake(of) => format!("{name} could not be baked for {}", shape(of)),
    };
    let tries = if failure.tries == 1 { "1 try".to_owned() } else { format!("{} tries", failure.tries) };
    let ago = clock::ago(clock::now_ms(), failure.at);
    format!("{what} ({tries}, last {ago}): {}", failure.error.lines().next().unwrap_or_default())
}

pub(super) fn shape(Shape { vcpus, memory_mib, disk_mib, card }: Shape) -> String {
    let with_card = if card { ", network card" } else { "" };
    format!("{vcpus} vCPU, {memory_mib} MiB, {disk_mib} MiB disk{with_card}")
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).expect("descriptions are plain data")
}
