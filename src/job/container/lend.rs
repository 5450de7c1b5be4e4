//! What containers are lent of the machine beside its directories: git's way to the forge, certificates, and files of tools that
//! know no variables. For the job's own container and for those of actions alike.

use super::client::refused;
use super::variables::{CERTIFICATES, at_the_bridge, trusts};
use crate::job::checkout::GIT_PORT;
use crate::job::script;
use crate::job::steps::{Steps, Witness};
use crate::job::toolkit::{CARGO_CONFIG, MAVEN_SETTINGS, OWN_CERTIFICATES, TRUSTED};
use crate::protocol::message::Owner;
use crate::vm::VmError;

/// Makes the file `$3` of the certificates `$1` that the machine trusts, once; and sees to it that `$2`, the operator's own, can be
/// mounted. What the image of the container `$4` trusts joins them: whoever reads the file trusts nothing else.
const CERTIFY: &str = r#"
mkdir -p "${2%/*}" "${3%/*}"
[ -e "$2" ] || : > "$2"
[ -e "$3" ] || { cat "$1" > "$3.$$" || :; mv "$3.$$" "$3"; }
[ -n "$4" ] || exit 0
for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
  if docker cp -L "$4:$bundle" "$3.more" 2>/dev/null; then
    { echo; cat "$3.more"; } >> "$3"
    rm -f "$3.more"
    break
  fi
done
"#;

/// Makes a directory in which any user of a container can write, as in the one that it is in.
const OPEN: &str = r#"mkdir -p -- "$1"; chmod a+rwx -- "$1""#;

/// Bytes of a file for a tool: it names registries, of which there are few.
const MAX_TOOL_FILE: u32 = 1 << 20;

/// Files for tools that know no variables, and the machine's copies of them for containers.
const TOOL_FILES: [(&str, &str); 2] =
    [(MAVEN_SETTINGS, "/run/dayfly/container-maven.xml"), (CARGO_CONFIG, "/run/dayfly/container-cargo.toml")];

impl<W: Witness> Steps<'_, W> {
    /// Puts the settings of git and Gradle into the home of containers, unless one of them has some there already.
    pub(in crate::job) async fn furnish_home(&mut self) -> Result<(), VmError> {
        let home = format!("{}/_github_home", self.places.temp);
        let (git, gradle) = (format!("{home}/.gitconfig"), format!("{home}/.gradle"));
        if self.read(&git).await?.is_empty() {
            self.guest.write_file(&git, git_settings().as_bytes(), 0o644, self.owner()).await?;
        }
        let own = self.read(&format!("{}/.gradle/gradle.properties", self.places.home)).await?;
        let properties = format!("{gradle}/gradle.properties");
        if !own.is_empty() && self.read(&properties).await?.is_empty() {
            if let Err(why) = script::run(self.guest, self.owner(), OPEN, &[&gradle], &mut self.witness).await? {
                return Err(refused(format!("the home of containers could not be furnished: {why}")));
            }
            self.guest.write_file(&properties, at_the_bridge(&own).as_bytes(), 0o644, self.owner()).await?;
        }
        Ok(())
    }

    /// Has the single files that containers get; gives where they are, and where containers have them.
    pub(in crate::job) async fn lend_files(&mut self) -> Result<Vec<(&'static str, &'static str)>, VmError> {
        let mut lent = Vec::new();
        if self.certify(None).await? {
            lent.extend([(CERTIFICATES, CERTIFICATES), (OWN_CERTIFICATES, OWN_CERTIFICATES)]);
        }
        for (file, copy) in TOOL_FILES {
            let text = self.read(file).await?;
            if !text.is_empty() {
                self.guest.write_file(copy, at_the_bridge(&text).as_bytes(), 0o644, Owner::ROOT).await?;
                lent.push((copy, file));
            }
        }
        Ok(lent)
    }

    /// A text of the machine's; empty if it is not there.
    async fn read(&self, file: &str) -> Result<String, VmError> {
        let content = self.guest.read_file(file, MAX_TOOL_FILE).await?;
        Ok(String::from_utf8_lossy(&content.bytes).into_owned())
    }

    /// Has the file of certificates that containers get; tells whether there is one. Those of a container's image join it.
    pub(super) async fn certify(&mut self, container: Option<&str>) -> Result<bool, VmError> {
        if !trusts(&self.proxies) {
            return Ok(false);
        }
        let arguments = [TRUSTED, OWN_CERTIFICATES, CERTIFICATES, container.unwrap_or_default()];
        match script::run(self.guest, Owner::ROOT, CERTIFY, &arguments, &mut self.witness).await? {
            Ok(()) => Ok(true),
            Err(why) => Err(refused(format!("the certificates of containers could not be put together: {why}"))),
        }
    }
}

/// The files of the checkout are the machine account's, and the user of a container is another one. Clones name the machine's own
/// loopback interface, which containers reach by their bridge.
fn git_settings() -> String {
    let machine = format!("http://127.0.0.1:{GIT_PORT}/");
    format!("[safe]\n\tdirectory = *\n[url \"{}\"]\n\tinsteadOf = {machine}\n", at_the_bridge(&machine))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn git_in_a_container_asks_the_machine() {
        let directory = tempfile::tempdir().unwrap();
        let (config, clone) = (directory.path().join(".gitconfig"), directory.path().join("clone"));
        std::fs::write(&config, git_settings()).unwrap();
        let git = |arguments: &[&str]| {
            let mut git = Command::new("git");
            git.env("GIT_CONFIG_GLOBAL", &config).env("GIT_CONFIG_NOSYSTEM", "1").args(arguments);
            String::from_utf8(git.current_dir(directory.path()).output().unwrap().stdout).unwrap()
        };
        git(&["init", "-q", "clone"]);
        let address = format!("http://127.0.0.1:{GIT_PORT}/acme/site");
        git(&["-C", clone.to_str().unwrap(), "remote", "add", "origin", &address]);
        let asked = git(&["-C", clone.to_str().unwrap(), "remote", "get-url", "origin"]);
        assert_eq!(asked.trim(), "http://172.17.0.1:9418/acme/site");
        assert_eq!(git(&["config", "--global", "safe.directory"]).trim(), "*");
    }
}
