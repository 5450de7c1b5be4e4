//! Random sequences of operations, each told to the store and to a model that fits on a page.

use proptest::prelude::*;

use super::*;
use crate::ids::VmId;
use crate::store::{JobState, Requeued};

const MAX_ATTEMPTS: u32 = 2;
const JOBS: usize = 3;

/// Operations name the job by its position and how far the caller's attempt is behind the true one.
#[derive(Debug, Clone, Copy)]
enum Operation {
    Queue(usize),
    Lease(usize, u32),
    Start(usize, u32),
    Requeue(usize, u32),
    Release(usize, u32),
    Finish(usize, u32, Conclusion),
    Cancel(usize),
    Restart,
}

#[derive(Debug, Clone, PartialEq)]
struct Model {
    state: JobState,
    attempt: u32,
    /// Attempts that do not count.
    spared: u32,
    conclusion: Option<Conclusion>,
    cancelled: bool,
}

fn operation() -> impl Strategy<Value = Operation> {
    let job = 0..JOBS;
    let behind = prop_oneof![9 => Just(0_u32), 1 => Just(1)];
    let conclusion = prop_oneof![Just(Conclusion::Success), Just(Conclusion::Failure)];
    prop_oneof![
        4 => job.clone().prop_map(Operation::Queue),
        4 => (job.clone(), behind.clone()).prop_map(|(job, behind)| Operation::Lease(job, behind)),
        4 => (job.clone(), behind.clone()).prop_map(|(job, behind)| Operation::Start(job, behind)),
        2 => (job.clone(), behind.clone()).prop_map(|(job, behind)| Operation::Requeue(job, behind)),
        1 => (job.clone(), behind.clone()).prop_map(|(job, behind)| Operation::Release(job, behind)),
        3 => (job.clone(), behind, conclusion).prop_map(|(job, behind, end)| Operation::Finish(job, behind, end)),
        1 => job.prop_map(Operation::Cancel),
        1 => Just(Operation::Restart),
    ]
}

impl Model {
    /// What the operation shall do: whether it succeeds, with its effect on the model.
    fn apply(&mut self, operation: Operation) -> bool {
        use JobState::{Finished, Leased, Queued, Running, Waiting};
        match operation {
            Operation::Queue(_) => self.step(self.state == Waiting, Queued),
            Operation::Lease(_, behind) => self.step(behind == 0 && self.state == Queued, Leased),
            Operation::Start(_, behind) => self.step(behind == 0 && self.state == Leased, Running),
            Operation::Requeue(_, behind) => {
                let allowed = behind == 0 && matches!(self.state, Leased | Running);
                if allowed && self.attempt - self.spared < MAX_ATTEMPTS {
                    self.attempt += 1;
                    self.state = Queued;
                }
                allowed
            }
            Operation::Release(_, behind) => {
                if behind == 0 && matches!(self.state, Leased | Running) {
                    self.attempt += 1;
                    self.spared += 1;
                    self.state = Queued;
                }
                true
            }
            Operation::Finish(_, behind, conclusion) => match self.conclusion {
                Some(stored) => behind == 0 && stored == conclusion,
                None if behind == 0 => {
                    self.conclusion = Some(conclusion);
                    self.step(true, Finished)
                }
                None => false,
            },
            Operation::Cancel(_) => {
                self.cancelled |= self.state != Finished;
                true
            }
            Operation::Restart => true,
        }
    }

    fn step(&mut self, allowed: bool, next: JobState) -> bool {
        if allowed {
            self.state = next;
        }
        allowed
    }
}

async fn tell(store: &Store, jobs: &[NewJob], models: &[Model], operation: Operation) -> bool {
    let attempt = |job: usize, behind: u32| models[job].attempt.wrapping_sub(behind);
    match operation {
        Operation::Queue(job) => store.queue_job(&jobs[job].id, 110).await.is_ok(),
        Operation::Lease(job, behind) => {
            store.lease_job(&jobs[job].id, attempt(job, behind), &VmId::random(), 120).await.is_ok()
        }
        Operation::Start(job, behind) => store.start_job(&jobs[job].id, attempt(job, behind), 130).await.is_ok(),
        Operation::Requeue(job, behind) => {
            let told = store.requeue_job(&jobs[job].id, attempt(job, behind), MAX_ATTEMPTS).await;
            if let Ok(Requeued::Queued { attempt }) = told {
                assert_eq!(attempt, models[job].attempt + 1);
            }
            told.is_ok()
        }
        Operation::Release(job, behind) => {
            store.release_job(&jobs[job].id, attempt(job, behind), "stopped", 130).await.is_ok()
        }
        Operation::Finish(job, behind, conclusion) => {
            let end = outcome(conclusion);
            store.finish_job(&jobs[job].id, attempt(job, behind), end, json!({}), 140, |_| {}).await.is_ok()
        }
        Operation::Cancel(job) => store.request_cancel(&jobs[job].id, "Cancelled").await.is_ok(),
        Operation::Restart => true,
    }
}

/// What can be seen of the jobs, beside what only the model knows.
async fn observed(store: &Store, run: &RunId, models: &[Model]) -> Vec<Model> {
    let jobs = store.jobs_of_run(run).await.unwrap();
    jobs.into_iter()
        .zip(models)
        .map(|(job, model)| Model {
            state: job.state,
            attempt: job.attempt,
            spared: model.spared,
            conclusion: job.outcome.map(|outcome| outcome.conclusion),
            cancelled: job.cancel_requested,
        })
        .collect()
}

async fn check(operations: Vec<Operation>) {
    let mut store = TestStore::new().await;
    let run = store.add_run("a", &["one", "two", "three"]).await;
    let fresh = Model { state: JobState::Waiting, attempt: 1, spared: 0, conclusion: None, cancelled: false };
    let mut models = vec![fresh; JOBS];
    for operation in operations {
        if matches!(operation, Operation::Restart) {
            store = store.reopen().await;
        }
        let succeeded = tell(&store, &run.jobs, &models, operation).await;
        let job = match operation {
            Operation::Queue(job)
            | Operation::Lease(job, _)
            | Operation::Start(job, _)
            | Operation::Requeue(job, _)
            | Operation::Release(job, _)
            | Operation::Finish(job, ..)
            | Operation::Cancel(job) => job,
            Operation::Restart => 0,
        };
        assert_eq!(succeeded, models[job].apply(operation), "{operation:?} on {:?}", models[job]);
        assert_eq!(observed(&store, &run.id, &models).await, models, "after {operation:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(16) })]

    #[test]
    fn the_store_behaves_like_the_model(operations in prop::collection::vec(operation(), 1..40)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(check(operations));
    }
}
