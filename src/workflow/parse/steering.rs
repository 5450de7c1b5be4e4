//! The steps of a job: those that run one after the other, those in the background, and those that steer these.
//!
//! Whatever is written, a plain list comes out. What steers names others by their places in it, and a group that runs at the same time
//! becomes its steps and one that waits for them.

use super::{MAX_STEPS, fields, step};
use crate::document::reader::quoted;
use crate::document::{Complaint, Field, Item, Table};
use crate::workflow::model::{Action, Steer, Step};
use crate::workflow::scopes;
use crate::workflow::setting::Condition;

/// Keys of which a step has one instead of `run` or `uses`.
pub(super) const STEERING: [&str; 4] = ["wait", "wait-all", "cancel", "parallel"];

/// All keys of steps: [`step::KEYS`], `background` and [`STEERING`].
const KEYS: &[&str] = &[
    "id",
    "name",
    "if",
    "run",
    "shell",
    "working-directory",
    "env",
    "continue-on-error",
    "timeout-minutes",
    "uses",
    "with",
    "background",
    "wait",
    "wait-all",
    "cancel",
    "parallel",
];

/// Keys beside that of a step that steers.
const OF_STEERING: [&str; 3] = ["id", "name", "continue-on-error"];

/// Reads the elements of `steps`.
pub(super) fn steps(item: &Item<'_>, elements: &[Item<'_>]) -> Option<Vec<Step>> {
    let mut list = List::default();
    // One more than allowed says enough.
    for element in elements.iter().take(MAX_STEPS + 1) {
        list.add(element);
    }
    let count = list.steps.len().max(elements.len());
    if count > MAX_STEPS {
        item.refuse(format!("a job has at most {MAX_STEPS} steps, this one has {count}"));
        return None;
    }
    list.steps.into_iter().collect()
}

/// The steps so far. What could not be read keeps its place, so that the places of others are right.
#[derive(Default)]
struct List {
    ids: Vec<String>,
    steps: Vec<Option<Step>>,
    /// Ids of steps in groups, which nothing else can wait for.
    grouped: Vec<String>,
}

impl List {
    fn add(&mut self, item: &Item<'_>) {
        let Some(table) = item.table(KEYS) else { return self.steps.push(None) };
        let steering = STEERING.into_iter().find_map(|key| table.field(key).map(|field| (key, field)));
        let step = match steering {
            None => self.plain(&table),
            Some(("parallel", field)) => return self.group(&table, field),
            Some((key, field)) => self.steering(&table, key, field),
        };
        self.steps.push(step);
    }

    fn plain(&mut self, table: &Table<'_>) -> Option<Step> {
        let step = step::of_table(table, &mut self.ids);
        // What is no boolean was meant to say something.
        let background = table.get("background").is_some_and(|item| item.bool().unwrap_or(true));
        step.map(|step| Step { background, ..step })
    }

    /// The steps of `parallel`, and one that waits for them.
    fn group(&mut self, table: &Table<'_>, field: &Field<'_>) {
        refuse_others(table, "parallel", &["parallel"]);
        let first = self.steps.len();
        for item in field.value.list().unwrap_or_default().iter().take(MAX_STEPS) {
            let step = self.member(item);
            self.grouped.extend(step.as_ref().and_then(|step| step.id.clone()));
            self.steps.push(step);
        }
        let members = (first..self.steps.len()).collect();
        let step = self.step(table, Steer::Join(members));
        self.steps.push(Some(step));
    }

    fn member(&mut self, item: &Item<'_>) -> Option<Step> {
        let table = item.table(KEYS)?;
        for key in ["background"].into_iter().chain(STEERING) {
            if let Some(field) = table.field(key) {
                let complaint = Complaint::new(format!("`{key}` has no place in `parallel`"));
                field.refuse_key(
                    complaint.hint("every step of the group has `run` or `uses`, and runs beside the others"),
                );
                return None;
            }
        }
        Some(Step { background: true, ..step::of_table(&table, &mut self.ids)? })
    }

    fn steering(&mut self, table: &Table<'_>, key: &str, field: &Field<'_>) -> Option<Step> {
        refuse_others(table, key, &[&OF_STEERING[..], &[key]].concat());
        let steer = match key {
            "wait" => Steer::Wait(field.value.one_or_list().iter().filter_map(|item| self.target(item)).collect()),
            "cancel" => Steer::Cancel(self.target(&field.value).into_iter().collect()),
            _ => {
                if !field.value.is_null() && field.value.bool() == Some(false) {
                    field.value.refuse(Complaint::new("`wait-all` is `true` or empty").hint("leave the step out"));
                }
                Steer::WaitAll
            }
        };
        Some(self.step(table, steer))
    }

    /// The place of the step in the background that is named; `None` if the author was told why there is none.
    fn target(&self, item: &Item<'_>) -> Option<usize> {
        let id = item.non_empty_string()?;
        let has_id = |step: &Option<Step>| step.as_ref().is_some_and(|step| step.id.as_deref() == Some(id));
        if self.grouped.iter().any(|grouped| grouped == id) {
            let complaint = Complaint::new(format!("the step {} is in `parallel`", quoted(id)));
            item.refuse(complaint.hint("the group itself waits for its steps"));
            return None;
        }
        let Some(place) = self.steps.iter().position(has_id) else {
            if !self.ids.iter().any(|known| known == id) {
                let complaint = Complaint::new(format!("no step before this one has the id {}", quoted(id)));
                let others = self.ids.iter().filter(|known| !self.grouped.contains(known));
                item.refuse(complaint.suggest(id, others.map(String::as_str)));
            }
            return None;
        };
        let is_background = self.steps[place].as_ref().is_some_and(|step| step.background);
        if !is_background {
            let complaint = Complaint::new(format!("the step {} does not run in the background", quoted(id)));
            item.warn(complaint.hint("it has ended before this step begins"));
        }
        is_background.then_some(place)
    }

    /// A step that always runs, as those that steer do.
    fn step(&mut self, table: &Table<'_>, steer: Steer) -> Step {
        Step {
            position: table.item().position(),
            id: table.read("id", |item| step::id(item, &mut self.ids)),
            name: table.read("name", |item| fields::template(item, &scopes::STEP)),
            condition: Condition::always(),
            env: Vec::new(),
            continue_on_error: step::tolerance(table),
            timeout_minutes: None,
            background: false,
            action: Action::Steer(steer),
        }
    }
}

/// Refuses what does not go with `key`.
fn refuse_others(table: &Table<'_>, key: &str, allowed: &[&str]) {
    for other in KEYS.iter().filter(|other| !allowed.contains(other)) {
        let Some(field) = table.field(other) else { continue };
        let complaint = Complaint::new(format!("`{other}` does not go with `{key}`"));
        field.refuse_key(match *other {
            "if" => complaint.hint(format!("a step with `{key}` always runs")),
            _ => complaint,
        });
    }
}
