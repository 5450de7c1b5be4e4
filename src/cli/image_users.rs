//! Who would miss an image: profiles of a configuration, and VMs of a running service.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::client::{Client, ClientError, Query};
use crate::config::Config;

/// A VM as far as it matters here.
#[derive(Debug, Deserialize)]
struct Vm {
    id: String,
    image: Option<String>,
}

/// Says who uses the image `name` of `images_dir`, one text for each. The service is the one of `state_dir`, if it runs.
pub(super) async fn users(
    config: Option<&Path>, state_dir: &Path, images_dir: &Path, name: &str,
) -> anyhow::Result<Vec<String>> {
    let mut users = config.map(|file| profiles(file, images_dir, name)).transpose()?.unwrap_or_default();
    let answer = match Client::new(&state_dir.join("control.sock")).get(Query::of(&["vms"])).await {
        Err(ClientError::NoService(_)) => return Ok(users),
        answer => answer?,
    };
    let vms: Vec<Vm> = serde_json::from_value(answer)?;
    let using = vms.into_iter().filter(|vm| vm.image.as_deref() == Some(name));
    users.extend(using.map(|vm| format!("the running VM `{}`", vm.id)));
    Ok(users)
}

fn profiles(file: &Path, images_dir: &Path, name: &str) -> anyhow::Result<Vec<String>> {
    let (config, _) = Config::load(file).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("who uses the image cannot be told: {}", errors.join("\nerror: "))
    })?;
    // The same name in another directory is another image.
    if absolute(&config.vm.images_dir) != absolute(images_dir) {
        return Ok(Vec::new());
    }
    let using = config.profiles.iter().filter(|profile| profile.image == name);
    Ok(using.map(|profile| format!("the profile `{}` of `{}`", profile.name, file.display())).collect())
}

/// One spelling of a directory, links resolved where it is there.
fn absolute(directory: &Path) -> PathBuf {
    directory.canonicalize().unwrap_or_else(|_| directory.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn profiles_of_the_same_directory_use_an_image() {
        let directory = tempfile::tempdir().unwrap();
        let (state, file) = (directory.path().join("state"), directory.path().join("dayfly.toml"));
        let text = "[server]\nstate_dir = 'state'\n[github]\nwebhook_secret = { env = 'H' }\ntoken = { env = 'T' }\n\
                    [profile.linux]\nlabels = ['linux']\n[profile.big]\nlabels = ['big']\nimage = 'base'\n";
        std::fs::write(&file, text).unwrap();
        let told = async |images: &Path, name: &str| {
            let users = users(Some(&file), &state, images, name).await.unwrap().join("\n");
            users.replace(&directory.path().display().to_string(), "DIR")
        };
        insta::assert_snapshot!(told(&state.join("images"), "base").await, @"
        the profile `linux` of `DIR/dayfly.toml`
        the profile `big` of `DIR/dayfly.toml`
        ");
        assert_eq!(told(&state.join("images"), "other").await, "");
        assert_eq!(told(&directory.path().join("elsewhere"), "base").await, "");
        std::fs::write(&file, "[server\n").unwrap();
        let error = users(Some(&file), &state, &state.join("images"), "base").await.unwrap_err().to_string();
        assert!(error.contains("unclosed table"), "{error}");
    }
}
