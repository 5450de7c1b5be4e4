//! From a recipe to an image: packages on the host, the set-up script in a VM.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bake::{self, Studio};
use super::catalog::{Catalog, Image, ImageInfo, write_json};
use super::recipe::Recipe;
use super::staging::Staging;
use super::{ImageError, Progress, modules};
use crate::host::command;
use crate::protocol::message::{Exec, ExitStatus, Output, Owner};

/// How long the package step may take: an archive may be slow.
const PACKAGES_LIMIT: Duration = Duration::from_secs(30 * 60);
/// How long one of the small host tools may take.
const TOOL_LIMIT: Duration = Duration::from_secs(5 * 60);
/// How long the set-up script may take.
const SETUP_LIMIT: Duration = Duration::from_secs(30 * 60);
/// Lines of a failed set-up script's output that the error quotes.
const SETUP_OUTPUT_LINES: usize = 30;

/// The kernel of the guests: small, made for virtual machines, in every Debian archive.
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";
/// What `unshare` is told. The package step mounts the host's devices below the new root: in a mount namespace of its own no
/// mount outlives it, and in a process namespace of its own none of its processes does, however it ends.
pub const ISOLATION: [&str; 7] = ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--"];

/// Documentation is of no use in a job's machine.
const EXCLUDED: [&str; 4] = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*"];

/// Builds the image of `recipe` and makes it current. The caller holds the image's lock.
pub async fn build(
    catalog: &Catalog, recipe: &Recipe, studio: &Studio, progress: &dyn Progress,
) -> Result<Image, ImageError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(ImageError::NotRoot);
    }
    let digest = recipe.digest();
    let staging = Staging::begin(&catalog.directory(&recipe.name))?;
    let directory = staging.path();
    let root = directory.join("root");
    progress.step(&format!(
        "installing {} packages of Debian {}",
        recipe.description.distribution.packages.len(),
        recipe.description.distribution.suite
    ));
    install_packages(recipe, directory, &root, progress).await?;
    progress.step("unpacking the guest's kernel");
    let kernel = unpack_kernel(directory).await?;
    progress.step("making the read-only root file system");
    make_erofs(&root, &directory.join("root.erofs")).await?;
    let packages = installed_packages(&root)?;
    fs::remove_dir_all(&root).map_err(ImageError::io("removing the unpacked root file system"))?;
    let description = &recipe.description;
    let info = ImageInfo {
        name: recipe.name.clone(),
        digest: digest.clone(),
        description: description.description.clone(),
        suite: description.distribution.suite.clone(),
        kernel,
        user: description.user.clone(),
        environment: description.environment.clone().into_iter().collect(),
        packages,
        built_at: crate::clock::now_ms(),
    };
    let image = Image { directory: directory.to_owned(), info };
    if let Some(script) = &recipe.setup {
        progress.step("running the set-up script in a VM");
        run_setup(&image, script, studio).await?;
    }
    write_json(&image.file("image.json"), &image.info)?;
    staging.publish(&catalog.directory(&recipe.name).join(&digest)).await?;
    catalog.set_current(&recipe.name, &digest)?;
    catalog.remove_superseded(&recipe.name)?;
    catalog.image(&recipe.name, &digest)
}

async fn install_packages(
    recipe: &Recipe, directory: &Path, root: &Path, progress: &dyn Progress,
) -> Result<(), ImageError> {
    let distribution = &recipe.description.distribution;
    let include = format!("--include={}", distribution.packages.join(","));
    let excludes: Vec<String> = EXCLUDED.iter().map(|path| format!("--dpkgopt=path-exclude={path}")).collect();
    // The kernel is fetched with the image's own archive settings, and not installed: guests boot it from outside.
    let fetch_kernel = format!(
        "--customize-hook=cd '{}' && export APT_CONFIG=\"$MMDEBSTRAP_APT_CONFIG\" && apt-get download -qq \
         -o APT::Sandbox::User=root $(apt-cache depends {KERNEL_PACKAGE} | sed -n 's/^ *Depends: \\(linux-image-[^ ]*\\)$/\\1/p')",
        directory.display()
    );
    let target = root.display().to_string();
    let mut arguments = ISOLATION.to_vec();
    arguments.extend([
        "mmdebstrap",
        "--variant=minbase",
        "--format=directory",
        "--mode=root",
        &include,
        "--aptopt=Acquire::Languages \"none\"",
    ]);
    arguments.extend(excludes.iter().map(String::as_str));
    arguments.extend([fetch_kernel.as_str(), &distribution.suite, &target]);
    arguments.extend(distribution.mirror.as_deref());
    command::require("mmdebstrap")?;
    let mut unshare = tokio::process::Command::new("unshare");
    // What is left of it there when it is broken off goes with the directory.
    unshare.args(&arguments).env("TMPDIR", directory);
    command::run_prepared(unshare, Vec::new(), PACKAGES_LIMIT, |line| progress.detail(line)).await?;
    Ok(())
}

/// Takes kernel and modules out of the package. Gives the kernel's version.
async fn unpack_kernel(directory: &Path) -> Result<String, ImageError> {
    let package = entry_with(directory, "linux-image-", ".deb")?;
    let unpacked = directory.join("kernel-package");
    let (from, to) = (package.display().to_string(), unpacked.display().to_string());
    command::run("dpkg-deb", &["-x", &from, &to], TOOL_LIMIT, |_| {}).await?;
    let kernel = entry_with(&unpacked.join("boot"), "vmlinuz-", "")?;
    let version = kernel.file_name().unwrap_or_default().to_string_lossy().trim_start_matches("vmlinuz-").to_owned();
    let arrange = || -> Result<(), ImageError> {
        let modules_dir = [unpacked.join("lib/modules"), unpacked.join("usr/lib/modules")]
            .into_iter()
            .map(|directory| directory.join(&version))
            .find(|directory| directory.is_dir())
            .ok_or_else(|| ImageError::Unusable(format!("the kernel package of {version} has no modules")))?;
        let target = directory.join("modules");
        fs::create_dir(&target).map_err(ImageError::io("modules"))?;
        for (position, module) in modules::in_load_order(&modules_dir)?.iter().enumerate() {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            fs::copy(module, target.join(format!("{position:02}-{name}"))).map_err(ImageError::io("modules"))?;
        }
        fs::rename(&kernel, directory.join("kernel")).map_err(ImageError::io("kernel"))?;
        fs::remove_dir_all(&unpacked).and_then(|()| fs::remove_file(&package)).map_err(ImageError::io("kernel package"))
    };
    arrange()?;
    Ok(version)
}

/// The one entry of a directory with this beginning and end.
fn entry_with(directory: &Path, prefix: &str, suffix: &str) -> Result<PathBuf, ImageError> {
    let entries = fs::read_dir(directory).map_err(ImageError::io(directory.display().to_string()))?;
    let mut found = entries.flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(prefix) && name.ends_with(suffix)
    });
    found
        .next()
        .ok_or_else(|| ImageError::Unusable(format!("there is no `{prefix}*{suffix}` in `{}`", directory.display())))
}

/// A read-only image of a directory. Fixed times and identity, so that equal content gives equal bytes.
pub(super) async fn make_erofs(from: &Path, to: &Path) -> Result<(), ImageError> {
    let (from, to) = (from.display().to_string(), to.display().to_string());
    let arguments = ["-d0", "-T0", "-U", "00000000-0000-0000-0000-000000000000", &to, &from];
    command::run("mkfs.erofs", &arguments, TOOL_LIMIT, |_| {}).await?;
    Ok(())
}

/// `name=version` of what dpkg says is installed.
fn installed_packages(root: &Path) -> Result<Vec<String>, ImageError> {
    let status =
        fs::read_to_string(root.join("var/lib/dpkg/status")).map_err(ImageError::io("the list of packages"))?;
    let field = |paragraph: &str, name: &str| {
        paragraph.lines().find_map(|line| line.strip_prefix(name).map(|value| value.trim().to_owned()))
    };
    let packages = status
        .split("\n\n")
        .filter_map(|paragraph| Some(format!("{}={}", field(paragraph, "Package:")?, field(paragraph, "Version:")?)));
    Ok(packages.collect())
}

/// Runs the script in a VM on top of the packages; the VM's scratch disk becomes the image's layer.
async fn run_setup(image: &Image, script: &str, studio: &Studio) -> Result<(), ImageError> {
    let vm = bake::boot_for_setup(image, studio).await?;
    let ran = async {
        let guest = &vm.attached.guest;
        guest.write_file("/run/setup.sh", script.as_bytes(), 0o755, Owner::ROOT).await?;
        let mut running = guest
            .exec(Exec {
                argv: vec!["/run/setup.sh".into()],
                env: image.info.environment.clone(),
                directory: "/".into(),
                owner: Owner::ROOT,
                stdin: false,
            })
            .await?;
        let mut output = Vec::new();
        loop {
            match running.next().await? {
                Output::Stdout(bytes) | Output::Stderr(bytes) => output.extend_from_slice(&bytes),
                Output::Exited(exit) if exit.status == ExitStatus::Code(0) => break,
                Output::Exited(exit) => return Err(setup_failed(&exit.status, &output)),
            }
        }
        guest.sync(true).await.map_err(ImageError::from)
    };
    let outcome = match tokio::time::timeout(SETUP_LIMIT, ran).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ImageError::Setup { status: "time-out".into(), output: String::new() }),
    };
    let layer = image.file("layer.ext4");
    vm.finish(outcome.is_ok().then_some(&layer)).await?;
    outcome
}

fn setup_failed(status: &ExitStatus, output: &[u8]) -> ImageError {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(SETUP_OUTPUT_LINES)..].join("\n");
    let status = match status {
        ExitStatus::Code(code) => format!("exit code {code}"),
        ExitStatus::Signal(signal) => format!("signal {signal}"),
        ExitStatus::NotStarted(why) => why.clone(),
    };
    ImageError::Setup { status, output: tail }
}
