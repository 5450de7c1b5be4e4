//! The workflows of the same repository that a checked file calls, as far as they are there: a call has to fit what is called.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::read;
use crate::document::reader::quoted;
use crate::document::{Complaint, Diagnostic, Severity};
use crate::local::choose::DIRECTORIES;
use crate::workflow::call::{CallTarget, Library};
use crate::workflow::{Workflow, examine};

/// What is wrong with the calls of `workflow`, which stands in `file`. Nothing is known of files outside of a repository's workflows, and of
/// other repositories.
pub(super) fn check(file: &Path, workflow: &Workflow) -> Vec<(Severity, Diagnostic)> {
    let Some((root, own)) = place_of(file) else { return Vec::new() };
    let mut absent = BTreeSet::new();
    let mut called = |target: &CallTarget| {
        let CallTarget::Local { path } = target else { return Err(Vec::new()) };
        let Ok(text) = read(&root.join(path)) else {
            absent.insert(path.clone());
            return Err(Vec::new());
        };
        // What else is wrong with it is told where it is checked itself.
        examine(path, &text).workflow.ok_or_else(|| {
            let complaint = Complaint::new("the called workflow has errors");
            vec![complaint.hint("check this file as well").at(path, None, "")]
        })
    };
    // Whose the repository is matters to calls of other repositories only.
    let errors = Library::load(&Workflow { file: own.clone(), ..workflow.clone() }, "", &mut called).err();
    let errors = errors.into_iter().flatten().map(|error| (Severity::Error, error));
    let warnings = absent.into_iter().map(|path| {
        let complaint = Complaint::new(format!("it calls {}, which is not there", quoted(&path)));
        (Severity::Warning, complaint.at(&own, None, ""))
    });
    // Named as the person named the file.
    let named = |found: Diagnostic| Diagnostic { file: root.join(&found.file).display().to_string(), ..found };
    errors.chain(warnings).map(|(severity, found)| (severity, named(found))).collect()
}

/// The repository's directory, and the file's path in it.
fn place_of(file: &Path) -> Option<(PathBuf, String)> {
    let directory = file.parent()?;
    let root =
        DIRECTORIES.iter().find(|known| directory.ends_with(known)).and_then(|_| directory.parent()?.parent())?;
    let own = file.strip_prefix(root).ok()?.to_str()?.to_owned();
    Some((root.to_owned(), own))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const CALLED: &str = "on: {workflow_call: {inputs: {n: {type: number, required: true}}, secrets: {T: {required: true}}}}\n\
                          jobs: {a: {runs-on: x, steps: [run: x]}}\n";

    #[test]
    fn calls_are_held_against_what_they_call() {
        let directory = tempfile::tempdir().unwrap();
        let workflows = directory.path().join(".github/workflows");
        std::fs::create_dir_all(&workflows).unwrap();
        for (name, text) in [("called.yml", CALLED), ("broken.yml", "on: push\n")] {
            std::fs::write(workflows.join(name), text).unwrap();
        }
        let found = |job: &str| {
            let text = format!("on: push\njobs:\n  a: {job}\n");
            let file = workflows.join("ci.yml");
            let workflow = examine("ci.yml", &text).workflow.unwrap();
            let found = check(&file, &workflow);
            let found: Vec<String> = found.iter().map(|(severity, found)| format!("{severity}: {found}")).collect();
            found.join("\n").replace(directory.path().to_str().unwrap(), "")
        };
        assert_eq!(found("{uses: ./.github/workflows/called.yml, with: {n: 1}, secrets: inherit}"), "");
        assert_eq!(found("{uses: o/r/.github/workflows/called.yml@v1}"), "");
        insta::assert_snapshot!(found("{uses: ./.github/workflows/called.yml, with: {m: 1}, secrets: {U: x}}"), @"
        error: /.github/workflows/ci.yml:3:3: jobs.a.with.m: the called workflow has no input `m`
          hint: known here: `n`
        error: /.github/workflows/ci.yml:3:3: jobs.a.with: the input `n` must be given
        error: /.github/workflows/ci.yml:3:3: jobs.a.secrets.U: the called workflow has no secret `U`
          hint: known here: `T`
        error: /.github/workflows/ci.yml:3:3: jobs.a.secrets: the secret `T` must be given
        ");
        insta::assert_snapshot!(found("{uses: ./.github/workflows/none.yml}"), @"warning: /.github/workflows/ci.yml: it calls `.github/workflows/none.yml`, which is not there");
        insta::assert_snapshot!(found("{uses: ./.github/workflows/broken.yml}"), @"
        error: /.github/workflows/broken.yml: the called workflow has errors
          hint: check this file as well
        ");
    }

    #[test]
    fn a_file_elsewhere_calls_what_nobody_can_know() {
        assert_eq!(place_of(Path::new("ci.yml")), None);
        assert_eq!(place_of(Path::new("workflows/ci.yml")), None);
        let own = ".github/workflows/ci.yml";
        assert_eq!(place_of(Path::new(own)), Some((PathBuf::new(), own.to_owned())));
        assert_eq!(place_of(&Path::new("/r").join(own)), Some((PathBuf::from("/r"), own.to_owned())));
    }
}
