//! A workflow's text, read, planned and stored.
#![no_main]

use dayfly::workflow::call::{CallTarget, Library};
use dayfly::workflow::expression::Value;
use dayfly::workflow::gate::{NeedsResults, gate};
use dayfly::workflow::plan::{PlanInput, PlannedJob, expand, plan};
use dayfly::workflow::{Workflow, concurrency, examine};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let reading = examine(".github/workflows/ci.yml", text);
    let Some(workflow) = reading.workflow else {
        let findings = reading.findings;
        assert!(!findings.errors.is_empty() || !findings.unsupported.is_empty(), "refused without a word");
        return;
    };
    let stored = serde_json::to_string(&workflow).expect("a workflow can be stored");
    assert_eq!(serde_json::from_str::<Workflow>(&stored).expect("and read back"), workflow);
    for schedule in &workflow.schedules {
        assert!(schedule.next_after(1_700_000_000_000).is_some_and(|next| next > 1_700_000_000_000));
    }
    let github = serde_json::json!({"event_name": "workflow_dispatch", "event": {"number": 7}, "ref": "refs/heads/x"});
    let input = PlanInput { github: Value::from(github), ..PlanInput::default() };
    drop(concurrency::group(&workflow, &input));
    // A workflow that calls only itself.
    let mut read = |_: &CallTarget| Ok(workflow.clone());
    drop(Library::load(&workflow, "acme", &mut read));
    let needs = NeedsResults::default();
    for PlannedJob { spec, .. } in plan(&workflow, &input).unwrap_or_default() {
        drop(gate(&spec, &needs, &input.github));
        drop(concurrency::job_group(&spec, &input.github, &needs));
        if spec.unexpanded {
            drop(expand(&spec, &input.github, &needs, Default::default()));
        }
    }
});
