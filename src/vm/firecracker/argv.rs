//! The jailer's argument vector, as a pure function.
//!
//! What stands after `--` is Firecracker's. Paths there are those inside of the jail. The jailer is told nothing of cgroups:
//! the VM's own one is made, and entered, as that of any other monitor.

use std::path::Path;

use super::files;

/// Everything that the vector depends on.
#[derive(Debug, Clone)]
pub struct Jailer<'a> {
    /// Firecracker's instance id: letters, digits and hyphens, at most 64. It is how the VM's processes are found.
    pub id: &'a str,
    /// Firecracker itself; the jailer copies it into the jail.
    pub executable: &'a Path,
    /// User and group that it runs as.
    pub owner: u32,
    pub group: u32,
    /// Below it the jail is `EXECUTABLE/ID/root`.
    pub base: &'a Path,
    /// The largest file that it may write, in bytes.
    pub largest_file: u64,
}

/// Arguments, without the program.
pub fn arguments(jailer: &Jailer<'_>) -> Vec<String> {
    let inside = |name: &str| format!("/{name}");
    let mut arguments: Vec<String> = [
        ("--id", jailer.id.to_owned()),
        ("--exec-file", jailer.executable.display().to_string()),
        ("--uid", jailer.owner.to_string()),
        ("--gid", jailer.group.to_string()),
        ("--chroot-base-dir", jailer.base.display().to_string()),
        ("--resource-limit", format!("fsize={}", jailer.largest_file)),
    ]
    .into_iter()
    .flat_map(|(option, value)| [option.to_owned(), value])
    .collect();
    arguments.push("--".to_owned());
    let own = [
        ("--api-sock", inside(files::API)),
        ("--log-path", inside(files::LOG)),
        ("--level", "Warning".to_owned()),
        ("--metrics-path", inside(files::METRICS)),
    ];
    arguments.extend(own.into_iter().flat_map(|(option, value)| [option.to_owned(), value]));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jailer_is_told_whom_where_and_how_much() {
        let jailer = Jailer {
            id: "dayfly-vm-1",
            executable: Path::new("/usr/bin/firecracker"),
            owner: 900_001,
            group: 900_000,
            base: Path::new("/v/vm-1/jail"),
            largest_file: 1 << 30,
        };
        insta::assert_snapshot!(arguments(&jailer).join("\n").replace("\n-", "\u{0}-").replace('\n', " ").replace('\0', "\n"), @"
        --id dayfly-vm-1
        --exec-file /usr/bin/firecracker
        --uid 900001
        --gid 900000
        --chroot-base-dir /v/vm-1/jail
        --resource-limit fsize=1073741824
        --
        --api-sock /api.sock
        --log-path /log
        --level Warning
        --metrics-path /metrics
        ");
    }
}
