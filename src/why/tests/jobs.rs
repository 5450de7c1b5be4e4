//! One job: waiting, running, ended.

use super::*;

#[test]
fn a_job_that_waits_for_others_names_them() {
    let mut waiting = job('b', "deploy", JobState::Waiting);
    waiting.needs = vec!["test".into(), "lint".into()];
    let siblings = vec![
        job('c', "test", JobState::Running),
        finished('d', "lint", Conclusion::Success, None, ""),
        waiting.clone(),
    ];
    let run = RunId::random();
    let member = |letter, key: &str, stage, needs: &[&str]| plan::Job {
        run: run.clone(),
        key: key.into(),
        needs: needs.iter().map(ToString::to_string).collect(),
        ..planned(letter, "demo/hello", stage, 512)
    };
    let limits = Limits { max_vms: 2, memory_mib: 4096, vcpus: 8 };
    let jobs = [
        member('b', "deploy", Stage::Waiting, &["test", "lint"]),
        member('c', "test", Stage::Occupying, &[]),
        member('d', "lint", Stage::Finished(Conclusion::Success), &[]),
    ];
    let mut asked = Asked { siblings, snapshot: Some(snapshot(limits, &jobs)), ..Asked::about(waiting) };
    insta::assert_snapshot!(asked.answer(), @"
    [waiting_for_needs] It waits for `test` to end
        needs: `test` (job-cccccccccccc): running for 5 min
        created: 9 min ago
        hint: `dayfly why job-cccccccccccc` tells what that one is at
    ");
    let place = |order| {
        Some(GroupPlace {
            group: "deploy".into(),
            order: (order, 0),
            root: RunId::random(),
            label: "run #11 of CI".into(),
        })
    };
    let grouped = [
        plan::Job { group: place(2), ..planned('b', "demo/hello", Stage::Waiting, 512) },
        plan::Job { group: place(1), ..planned('c', "demo/hello", Stage::Occupying, 512) },
    ];
    asked.snapshot = Some(snapshot(limits, &grouped));
    insta::assert_snapshot!(asked.answer(), @"
    [waiting_for_group] It waits for its turn in the concurrency group `deploy`: run #11 of CI is not over
        created: 9 min ago
        hint: `concurrency` in the workflow says so; with `cancel-in-progress` the newer run ends the older one
    ");
    asked.snapshot = None;
    insta::assert_snapshot!(asked.answer(), @"
    [deciding] All that it needs has ended: it is decided on at once
        created: 9 min ago
    ");
}

#[test]
fn a_queued_job_says_what_it_lacks() {
    let ample = Limits { max_vms: 4, memory_mib: 4096, vcpus: 8 };
    let own = || queued('b', "demo/hello", 3, 512);
    let situations = [
        ("nothing", snapshot(ample, &[own()])),
        (
            "VMs",
            snapshot(
                Limits { max_vms: 1, ..ample },
                &[
                    own(),
                    queued('c', "demo/hello", 5, 512),
                    queued('d', "demo/other", 9, 512),
                    queued('f', "demo/x", 1, 1),
                ],
            ),
        ),
        ("memory", snapshot(Limits { memory_mib: 900, ..ample }, &[own()])),
        ("vCPUs", snapshot(Limits { vcpus: 3, ..ample }, &[own()])),
        ("disk", {
            let disk = Some(Disk { free_mib: 300, reserve_mib: 1024 });
            Snapshot { disk, ..snapshot(ample, &[own()]) }
        }),
        ("pool", {
            let size = Size { memory_mib: 512, vcpus: 2 };
            let idle = Reserve { vm: VmId::random(), profile: "big".into(), size, is_ready: true, is_leaving: false };
            Snapshot { reserve: vec![idle], ..snapshot(Limits { max_vms: 2, ..ample }, &[own()]) }
        }),
        ("kept", snapshot(Limits { memory_mib: 1100, ..ample }, &[own(), queued('c', "demo/hello", 5, 1000)])),
    ];
    let answers = situations.map(|(name, snapshot)| {
        let asked = Asked { snapshot: Some(snapshot), ..Asked::about(job('b', "test", JobState::Queued)) };
        format!("-- {name}\n{}", asked.answer())
    });
    insta::assert_snapshot!(answers.join("\n"), @"
    -- nothing
    [starting] Its turn has come: it gets its VM at once
        queued: 8 min ago
        queue: no other job was queued before it
        VMs: 1 of 4 are busy
    -- VMs
    [waiting_for_vm] It waits for a VM: 1 of 1 are busy
        queued: 8 min ago
        queue: 2 other jobs queued before it, 1 of demo/hello
        VMs: 1 of 1 are busy
        hint: `dayfly vms` shows who has them; `limits.max_vms` is how many there may be
    -- memory
    [waiting_for_memory] It waits for memory: it takes 512 MiB, 388 MiB are free
        queued: 8 min ago
        queue: no other job was queued before it
        VMs: 1 of 4 are busy
        hint: `dayfly vms` shows who has it; `memory` of the profile `linux` is what it takes
    -- vCPUs
    [waiting_for_vcpus] It waits for processors: it takes 2 vCPUs, 1 are free
        queued: 8 min ago
        queue: no other job was queued before it
        VMs: 1 of 4 are busy
        hint: `dayfly vms` shows who has them; `vcpus` of the profile `linux` is what it takes
    -- disk
    [waiting_for_disk] It waits for disk space: 300 MiB are free, and 1024 MiB are kept free
        queued: 8 min ago
        queue: no other job was queued before it
        VMs: 1 of 4 are busy
        hint: free some space where `state_dir` is; `limits.disk_reserve` is what is kept free
    -- pool
    [waiting_for_pool] It waits for room: idle VMs of other profiles' pools are being destroyed for it
        queued: 8 min ago
        queue: no other job was queued before it
        VMs: 1 of 2 are busy
        hint: `dayfly vms` shows them; `pool` of the profiles says how many
    -- kept
    [waiting_behind] It waits behind `job-cccccccccccc`, which has waited longer and needs more room
        queued: 8 min ago
        queue: 1 other job queued before it, 1 of demo/hello
        VMs: 1 of 4 are busy
        hint: `dayfly why job-cccccccccccc` tells what that one waits for
    ");
}

#[test]
fn a_job_with_a_vm_says_what_it_is_at() {
    let leased =
        || Asked { events: vec![event("vm_requested", 2, "vm-0")], ..Asked::about(job('b', "test", JobState::Leased)) };
    let running =
        |events: &[JobEvent]| Asked { events: events.to_vec(), ..Asked::about(job('b', "test", JobState::Running)) };
    let started = event("step_started", 3, "2 Run make test");
    let mut cancelled = running(std::slice::from_ref(&started));
    cancelled.job.cancel_requested = true;
    let mut second = running(&[event("job_queued", 8, ""), started.clone()]);
    second.job.attempt = 2;
    second.events.push(JobEvent { attempt: 2, ..event("job_queued", 6, "the service restarted while it ran") });
    let asked = [
        ("image", Asked { image: Readiness::BeingMade, ..leased() }),
        ("restore", leased()),
        ("first", running(&[])),
        ("step", running(&[event("step_finished", 4, "1 success"), started.clone()])),
        ("own limit", Asked { own_limit: Some(Duration::from_secs(600)), ..running(std::slice::from_ref(&started)) }),
        ("between", running(&[started.clone(), event("step_finished", 1, "2 success")])),
        ("ending", running(&[started, event("vm_paused", 0, "")])),
        ("cancelled", cancelled),
        ("second attempt", second),
    ];
    let answers = asked.map(|(name, asked)| format!("-- {name}\n{}", asked.answer()));
    insta::assert_snapshot!(answers.join("\n"), @"
    -- image
    [image_being_made] Its image `base` is being built or baked
        VM: vm-000000000000
        requested: 2 min ago
        hint: the first job after a change of the image or the profile waits for this, minutes at most; `dayfly image bake` does it before
    -- restore
    [vm_being_made] Its VM is being restored
        VM: vm-000000000000
        requested: 2 min ago
    -- first
    [preparing] It has its VM: its first step begins at once
        time: 5 min of at most 1h (`timeout` of the profile `linux`)
        VM: vm-000000000000
        hint: `dayfly logs -f job-bbbbbbbbbbbb` follows its log
    -- step
    [running] It has been at step 2 `Run make test` for 3 min
        time: 5 min of at most 1h (`timeout` of the profile `linux`)
        VM: vm-000000000000
        hint: `dayfly logs -f job-bbbbbbbbbbbb` follows its log
    -- own limit
    [running] It has been at step 2 `Run make test` for 3 min
        time: 5 min of at most 10m (its `timeout-minutes`)
        VM: vm-000000000000
        hint: `dayfly logs -f job-bbbbbbbbbbbb` follows its log
    -- between
    [running] It is between steps: step 2 has ended
        time: 5 min of at most 1h (`timeout` of the profile `linux`)
        VM: vm-000000000000
        hint: `dayfly logs -f job-bbbbbbbbbbbb` follows its log
    -- ending
    [ending] Its steps have ended: its VM is being destroyed
        time: 5 min of at most 1h (`timeout` of the profile `linux`)
        VM: vm-000000000000
        hint: `dayfly logs -f job-bbbbbbbbbbbb` follows its log
    -- cancelled
    [running] It has been at step 2 `Run make test` for 3 min
        time: 5 min of at most 1h (`timeout` of the profile `linux`)
        VM: vm-000000000000
        cancelled: somebody asked for its end; its steps have the grace period to clean up
        hint: `dayfly logs -f job-bbbbbbbbbbbb` follows its log
    -- second attempt
    [preparing] It has its VM: its first step begins at once
        time: 5 min of at most 1h (`timeout` of the profile `linux`)
        VM: vm-000000000000
        attempt: 2 of 3; before that, the service restarted while it ran
        hint: `dayfly logs -f job-bbbbbbbbbbbb` follows its log
    ");
}

#[test]
fn every_end_has_its_meaning_and_its_remedy() {
    use Conclusion::{Cancelled, Error, Failure, Skipped, Success, TimedOut};
    let ends = [
        (Success, None, "3 steps succeeded"),
        (Failure, None, "Step 2 `make test`: the step ended with exit code 2"),
        (TimedOut, Some(Reason::Timeout), "The job took longer than its limit of 1h"),
        (Error, Some(Reason::OutOfMemory), "Step 1 `make`: out of memory; the step ended with exit code 137"),
        (Error, Some(Reason::VmLost), "The VM was lost: the virtual machine monitor ended"),
        (Cancelled, Some(Reason::Cancelled), "Cancelled"),
        (Error, Some(Reason::NoProfile), "no profile has `gpu`\n  hint: the labels here are `linux`"),
        (Error, Some(Reason::Workflow), "it needs `a`, which its run does not have"),
        (Error, Some(Reason::Image), "there is no image `x`"),
        (Error, Some(Reason::DiskFull), "could not begin a log: no space left"),
        (Error, Some(Reason::Internal), "No attempt left after 3: its progress could not be stored"),
        (Error, Some(Reason::ServiceRestarted), "No attempt left after 3: the service restarted while it ran"),
        (Skipped, Some(Reason::Skipped), "Skipped: it needs `build`, which failed"),
    ];
    let answers = ends.map(|(conclusion, reason, detail)| {
        let mut asked = Asked::about(finished('b', "test", conclusion, reason, detail));
        asked.job.needs = vec!["build".into()];
        asked.siblings = vec![finished('c', "build", Failure, None, "")];
        asked.answer()
    });
    insta::assert_snapshot!(answers.join("\n"), @"
    [success] It succeeded: 3 steps succeeded
        ended: 2 min ago, after 3 min
    [failure] It failed: Step 2 `make test`: the step ended with exit code 2
        ended: 2 min ago, after 3 min
        hint: `dayfly logs job-bbbbbbbbbbbb` shows what its steps wrote
    [timeout] It timed out: The job took longer than its limit of 1h
        reason: it ran longer than it may
        ended: 2 min ago, after 3 min
        hint: `timeout` of the profile `linux` and the job's `timeout-minutes` say how long it may take
    [out_of_memory] It ended with an error: Step 1 `make`: out of memory; the step ended with exit code 137
        reason: its VM had no memory left, and the guest's kernel killed a process of the step
        ended: 2 min ago, after 3 min
        hint: give the profile `linux` more `memory` than 512 MiB
    [vm_lost] It ended with an error: The VM was lost: the virtual machine monitor ended
        reason: its VM ended, and neither the guest nor the host said why
        ended: 2 min ago, after 3 min
        hint: its log ends with the machine's console: `dayfly logs job-bbbbbbbbbbbb`; `dayfly rerun job-bbbbbbbbbbbb` tries again
    [cancelled] Cancelled
        reason: somebody, or a newer run, asked for its end
        ended: 2 min ago, after 3 min
        hint: `dayfly rerun job-bbbbbbbbbbbb` runs it again
    [no_profile] It ended with an error: no profile has `gpu`
        reason: no profile that it may have offers all labels of its `runs-on`
        ended: 2 min ago, after 3 min
        hint: the labels here are `linux`
    [workflow] It ended with an error: it needs `a`, which its run does not have
        reason: its workflow cannot be evaluated
        ended: 2 min ago, after 3 min
        hint: mend `.dayfly/workflows/ci.yml` and push
    [image] It ended with an error: there is no image `x`
        reason: the image that its VM is made from is missing or does not start
        ended: 2 min ago, after 3 min
        hint: `dayfly image build base` shows what is wrong; then `dayfly rerun job-bbbbbbbbbbbb`
    [disk_full] It ended with an error: could not begin a log: no space left
        reason: a disk of the host was full
        ended: 2 min ago, after 3 min
        hint: free some space where `state_dir` is, then `dayfly rerun job-bbbbbbbbbbbb`
    [internal] It ended with an error: No attempt left after 3: its progress could not be stored
        reason: a fault of Dayfly, not of the job
        ended: 2 min ago, after 3 min
        hint: the service's log tells more; `dayfly rerun job-bbbbbbbbbbbb` tries again
    [service_restarted] It ended with an error: No attempt left after 3: the service restarted while it ran
        reason: the service restarted while it ran, and it had no attempt left
        ended: 2 min ago, after 3 min
        hint: `dayfly rerun job-bbbbbbbbbbbb` runs it again; `limits.attempts` says how often that happens by itself
    [skipped] Skipped: it needs `build`, which failed
        needs: `build` (job-cccccccccccc): failed
        ended: 2 min ago, after 3 min
    ");
    let gone = Asked { has_profile: false, ..Asked::about(finished('b', "test", Error, Some(Reason::Image), "x")) };
    assert!(
        gone.answer().ends_with("hint: put the image right, then `dayfly rerun job-bbbbbbbbbbbb`"),
        "{}",
        gone.answer()
    );
}
