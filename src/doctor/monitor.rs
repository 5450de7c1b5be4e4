//! QEMU: whether it is there, new enough, complete, and starts as Dayfly starts it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::finding::Finding;
use super::listed;
use super::subject::Subject;
use super::trial::{self, Outcome};
use crate::host::command::{self, install_hint};
use crate::host::process::find_program;
use crate::image::bake::monitor_version;
use crate::vm::qemu::missing_hint;
use crate::vm::spec::Accelerator;

/// The first version whose guests can be held still when they end (`-action`).
const MINIMUM: (u32, u32) = (6, 0);
/// The oldest version that Dayfly is tested with.
const TESTED: (u32, u32) = (7, 2);

/// How long QEMU may take to say its version: then nobody waits for more of it.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// How long QEMU may take to list something.
const LIST_LIMIT: Duration = Duration::from_secs(8);

/// What every VM is made of, by the option that lists it.
const PARTS: [(&str, &[&str]); 3] = [
    ("-machine", &["microvm"]),
    ("-device", &["virtio-serial-device", "virtserialport", "virtio-blk-device"]),
    ("-object", &["memory-backend-file", "memory-backend-ram"]),
];

#[derive(Debug, Clone)]
struct Facts {
    program: String,
    path: Option<PathBuf>,
    /// The rest is known if the program is there and answers; else why it does not.
    asked: Option<Result<Asked, String>>,
}

#[derive(Debug, Clone)]
struct Asked {
    version: String,
    /// Parts that QEMU does not list.
    missing: Vec<String>,
    accelerators: Vec<String>,
    trial: Outcome,
}

pub(super) async fn examine(subject: Arc<Subject>) -> Vec<Finding> {
    judge(&observe(&subject.qemu).await)
}

async fn observe(program: &str) -> Facts {
    let path = find_program(program);
    let asked = match &path {
        Some(_) => Some(ask(program).await),
        None => None,
    };
    Facts { program: program.to_owned(), path, asked }
}

async fn ask(program: &str) -> Result<Asked, String> {
    let version = tokio::time::timeout(VERSION_LIMIT, monitor_version(program)).await;
    let version = version
        .map_err(|_| format!("there was no answer within {} s", VERSION_LIMIT.as_secs()))?
        .map_err(|error| error.to_string())?;
    let mut missing = Vec::new();
    for (option, wanted) in PARTS {
        let there = list(program, option).await;
        missing.extend(wanted.iter().filter(|part| !names(&there, part)).map(|&part| part.to_owned()));
    }
    let accelerators = list(program, "-accel").await;
    Ok(Asked {
        version,
        missing,
        accelerators: ["kvm", "tcg"].into_iter().filter(|name| names(&accelerators, name)).map(str::to_owned).collect(),
        trial: trial::instructions(program, Accelerator::Tcg).await,
    })
}

/// What QEMU lists for `OPTION help`; nothing where it does not know the option.
async fn list(program: &str, option: &str) -> String {
    let output = command::run(program, &[option, "help"], LIST_LIMIT, |_| {}).await.unwrap_or_default();
    String::from_utf8_lossy(&output).into_owned()
}

/// Whether a list names `part`: as a word of its own, perhaps in quotes.
fn names(list: &str, part: &str) -> bool {
    list.split(|c: char| c.is_whitespace() || matches!(c, '"' | ',')).any(|word| word == part)
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let missing = match &facts.asked {
        Some(Ok(asked)) => return vec![program(facts, asked), parts(asked), starts(asked)],
        Some(Err(why)) => {
            Finding::problem("qemu.program", format!("`{}` does not tell its version", facts.program)).explained_by(why)
        }
        None => Finding::problem("qemu.program", format!("`{}` is not installed", facts.program))
            .detail("VMs run in QEMU: no job can run without it")
            .hint(missing_hint(&facts.program)),
    };
    let skipped = |id: &str| Finding::skipped(id, "there is no QEMU to ask");
    vec![missing.data("program", facts.program.as_str()), skipped("qemu.parts"), skipped("qemu.starts")]
}

fn program(facts: &Facts, asked: &Asked) -> Finding {
    const ID: &str = "qemu.program";
    let finding = match version_of(&asked.version) {
        None => Finding::problem(ID, format!("`{}` is no QEMU", facts.program))
            .detail(format!("it says `{}`", asked.version))
            .hint(install_hint("qemu-system-x86_64")),
        Some(found) if found < MINIMUM => Finding::problem(ID, format!("QEMU {} is too old", dotted(found)))
            .detail(format!("a guest that ends cannot be held still before QEMU {}", dotted(MINIMUM)))
            .hint(format!("install QEMU {} or newer", dotted(TESTED))),
        Some(found) if found < TESTED => Finding::warning(ID, format!("QEMU {} is old", dotted(found)))
            .detail(format!("Dayfly is tested with QEMU {} and newer", dotted(TESTED))),
        Some(found) => Finding::ok(ID, format!("QEMU {}", dotted(found))),
    };
    let path = facts.path.as_ref().map(|path| path.display().to_string());
    finding.data("program", facts.program.as_str()).data("path", path).data("version", asked.version.as_str())
}

/// `(7, 2)` of `QEMU emulator version 7.2.22 (Debian …)`.
fn version_of(line: &str) -> Option<(u32, u32)> {
    let mut numbers = line.strip_prefix("QEMU emulator version ")?.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn dotted((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

fn parts(asked: &Asked) -> Finding {
    let finding = if asked.missing.is_empty() {
        Finding::ok(
            "qemu.parts",
            format!("the machine and all devices are there; accelerators: {}", asked.accelerators.join(", ")),
        )
    } else {
        let missing = listed(asked.missing.iter().map(String::as_str));
        Finding::problem("qemu.parts", format!("this QEMU lacks {missing}"))
            .hint("it was built without them; use your distribution's `qemu-system-x86` package")
    };
    finding.data("missing", asked.missing.clone()).data("accelerators", asked.accelerators.clone())
}

fn starts(asked: &Asked) -> Finding {
    const ID: &str = "qemu.starts";
    match &asked.trial {
        Outcome::Ran(took) => Finding::ok(
            ID,
            format!("a confined machine with all devices ran some instructions ({} ms)", took.as_millis()),
        )
        .data("milliseconds", took.as_millis() as u64),
        Outcome::Failed(said) => Finding::problem(ID, "a confined machine did not start").detail(said.as_str()),
        Outcome::TimedOut(limit) => {
            Finding::problem(ID, format!("a confined machine did not run within {} s", limit.as_secs()))
                .hint("is this host overloaded?")
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::finding::sketch;
    use super::*;

    fn facts(version: &str) -> Facts {
        Facts {
            program: "qemu-system-x86_64".into(),
            path: Some("/usr/bin/qemu-system-x86_64".into()),
            asked: Some(Ok(Asked {
                version: version.into(),
                missing: Vec::new(),
                accelerators: vec!["kvm".into(), "tcg".into()],
                trial: Outcome::Ran(Duration::from_millis(70)),
            })),
        }
    }

    #[test]
    fn every_kind_of_qemu_has_its_words() {
        let version = |text: &str| judge(&facts(text)).swap_remove(0);
        let with = |change: fn(&mut Asked)| {
            let mut facts = facts("QEMU emulator version 9.1.0");
            facts.asked.iter_mut().flatten().for_each(change);
            facts
        };
        let poor = with(|asked| {
            asked.missing = vec!["microvm".into(), "virtserialport".into()];
            asked.trial = Outcome::Failed("unsupported machine type".into());
        });
        let slow = with(|asked| asked.trial = Outcome::TimedOut(Duration::from_secs(8)));
        let silent = Facts { asked: Some(Err("there was no answer within 10 s".into())), ..facts("") };
        let absent = Facts { program: "/nowhere".into(), path: None, asked: None };
        let all = [
            judge(&facts("QEMU emulator version 7.2.22 (Debian 1:7.2)")),
            vec![version("QEMU emulator version 5.2.0"), version("QEMU emulator version 6.2.0"), version("busybox")],
            judge(&poor),
            judge(&slow).split_off(2),
            judge(&absent),
            judge(&silent),
        ];
        insta::assert_snapshot!(sketch(&all.concat()), @"
        ok qemu.program: QEMU 7.2
        ok qemu.parts: the machine and all devices are there; accelerators: kvm, tcg
        ok qemu.starts: a confined machine with all devices ran some instructions (70 ms)
        problem qemu.program: QEMU 5.2 is too old
            a guest that ends cannot be held still before QEMU 6.0
            -> install QEMU 7.2 or newer
        warning qemu.program: QEMU 6.2 is old
            Dayfly is tested with QEMU 7.2 and newer
        problem qemu.program: `qemu-system-x86_64` is no QEMU
            it says `busybox`
            -> install it, on Debian and Ubuntu with `apt-get install qemu-system-x86`
        ok qemu.program: QEMU 9.1
        problem qemu.parts: this QEMU lacks `microvm`, `virtserialport`
            -> it was built without them; use your distribution's `qemu-system-x86` package
        problem qemu.starts: a confined machine did not start
            unsupported machine type
        problem qemu.starts: a confined machine did not run within 8 s
            -> is this host overloaded?
        problem qemu.program: `/nowhere` is not installed
            VMs run in QEMU: no job can run without it
            -> correct the path, or install it, on Debian and Ubuntu with `apt-get install qemu-system-x86`
        skipped qemu.parts: there is no QEMU to ask
        skipped qemu.starts: there is no QEMU to ask
        problem qemu.program: `qemu-system-x86_64` does not tell its version
            there was no answer within 10 s
        skipped qemu.parts: there is no QEMU to ask
        skipped qemu.starts: there is no QEMU to ask
        ");
    }

    #[test]
    fn parts_are_whole_words_of_a_list() {
        let list =
            "name \"virtio-blk-device\", bus virtio-bus\nmicrovm              microvm (i386)\n  memory-backend-ram\n";
        for (part, there) in [("virtio-blk-device", true), ("microvm", true), ("memory-backend", false), ("blk", false)]
        {
            assert_eq!(names(list, part), there, "{part}");
        }
    }
}
