//! Keys of mappings, whatever they are: none stands twice, and letter case does not count.

use std::collections::HashMap;

use crate::document::reader::quoted;
use crate::document::{Complaint, Item, Value as Yaml};

/// Looks at all mappings below. What stands twice in the same letters was no YAML already.
pub(super) fn check(item: &Item<'_>) {
    match &item.node().value {
        Yaml::Mapping(_) => {
            let mut known: HashMap<String, &str> = HashMap::new();
            for field in item.fields().unwrap_or_default() {
                if let Some(earlier) = known.insert(field.key.to_lowercase(), field.key) {
                    let complaint = Complaint::new(format!("{} is there already", quoted(field.key)));
                    field.refuse_key(complaint.hint(format!("as {}: letter case does not count", quoted(earlier))));
                }
                check(&field.value);
            }
        }
        Yaml::Sequence(_) => item.list().unwrap_or_default().iter().for_each(check),
        _ => {}
    }
}
