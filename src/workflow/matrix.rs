//! A matrix to its cells: the product of its axes, without what `exclude` names, with what `include` adds.

use super::expression::{Object, Value};

/// Jobs that one matrix may become.
pub const MAX_CELLS: usize = 256;

/// Entries of `exclude`, and of `include`.
const MAX_ENTRIES: usize = 1024;

const INCLUDE: &str = "include";
const EXCLUDE: &str = "exclude";

/// The cells of a matrix in order, each an object.
///
/// # Errors
/// What is wrong with the matrix, for people: it is no object, an axis is no list or empty, or there are more than
/// [`MAX_CELLS`] cells or none.
pub fn cells(matrix: &Value) -> Result<Vec<Value>, String> {
    let Value::Object(matrix) = matrix else {
        return Err(format!("a matrix is a mapping of lists, but this is {}", matrix.kind()));
    };
    let axes = axes(matrix)?;
    let axis_names: Vec<&str> = axes.iter().map(|(name, _)| *name).collect();
    let excluded = entries(matrix, EXCLUDE)?;
    for entry in &excluded {
        if let Some((name, _)) = entry.iter().find(|(name, _)| !is_axis(&axis_names, name)) {
            return Err(format!("`exclude` names `{name}`, which is no key of the matrix"));
        }
    }
    let mut cells = product(&axes)?;
    cells.retain(|cell| !excluded.iter().any(|entry| !entry.is_empty() && agrees(cell, entry)));
    include(&mut cells, &entries(matrix, INCLUDE)?, &axis_names)?;
    if cells.is_empty() {
        return Err("the matrix has no combination left".to_owned());
    }
    Ok(cells.into_iter().map(Value::from).collect())
}

type Axis<'m> = (&'m str, &'m [Value]);

/// Keys of a matrix are the same in any letter case.
fn is_axis(axis_names: &[&str], name: &str) -> bool {
    axis_names.iter().any(|axis| axis.eq_ignore_ascii_case(name))
}

fn axes(matrix: &Object) -> Result<Vec<Axis<'_>>, String> {
    matrix
        .iter()
        .filter(|(name, _)| *name != INCLUDE && *name != EXCLUDE)
        .map(|(name, values)| match values {
            Value::Array(values) if values.is_empty() => Err(format!("the list `{name}` of the matrix is empty")),
            Value::Array(values) => Ok((name, &**values)),
            other => Err(format!("`{name}` of the matrix must be a list, but it is {}", other.kind())),
        })
        .collect()
}

fn entries<'m>(matrix: &'m Object, key: &str) -> Result<Vec<&'m Object>, String> {
    let list = match matrix.get(key) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= MAX_ENTRIES => list,
        Some(Value::Array(_)) => return Err(format!("`{key}` of the matrix has more than {MAX_ENTRIES} entries")),
        Some(other) => return Err(format!("`{key}` of the matrix must be a list, but it is {}", other.kind())),
    };
    list.iter()
        .map(|entry| match entry {
            Value::Object(entry) => Ok(&**entry),
            other => Err(format!("an entry of `{key}` must be a mapping, but one is {}", other.kind())),
        })
        .collect()
}

/// The last axis changes fastest. No axes make no cell.
fn product(axes: &[Axis<'_>]) -> Result<Vec<Object>, String> {
    if axes.is_empty() {
        return Ok(Vec::new());
    }
    let mut cells = vec![Object::default()];
    for (name, values) in axes {
        // Exclusions come later and could bring a larger product below the limit; it is kept small all the same.
        if cells.len().saturating_mul(values.len()) > MAX_CELLS {
            return Err(too_many());
        }
        let extend = |cell: &Object, value: &Value| {
            let mut cell = cell.clone();
            cell.insert(*name, value.clone());
            cell
        };
        cells = cells.iter().flat_map(|cell| values.iter().map(move |value| extend(cell, value))).collect();
    }
    Ok(cells)
}

fn too_many() -> String {
    format!("the matrix has more than {MAX_CELLS} combinations")
}

/// Whether every member of `pattern` is in `cell` with the same value.
fn agrees(cell: &Object, pattern: &Object) -> bool {
    pattern.iter().all(|(name, value)| cell.get(name).is_some_and(|own| is_same(own, value)))
}

/// Values of a matrix are compared as the language compares them, but lists and mappings by what they contain.
fn is_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| is_same(a, b)),
        (Value::Object(a), Value::Object(b)) => a.len() == b.len() && agrees(a, b),
        (a, b) => a.loosely_equals(b),
    }
}

/// An entry joins every cell of the product whose axes it does not contradict; one that fits nowhere is a cell of its own.
fn include(cells: &mut Vec<Object>, entries: &[&Object], axis_names: &[&str]) -> Result<(), String> {
    let originals = cells.len();
    for entry in entries {
        let on_axes: Object = entry
            .iter()
            .filter(|(name, _)| is_axis(axis_names, name))
            .map(|(name, value)| (name, value.clone()))
            .collect();
        let mut has_joined = false;
        for cell in cells.iter_mut().take(originals).filter(|cell| agrees(cell, &on_axes)) {
            has_joined = true;
            for (name, value) in entry.iter() {
                cell.replace(name, value.clone());
            }
        }
        if !has_joined {
            cells.push((*entry).clone());
        }
        if cells.len() > MAX_CELLS {
            return Err(too_many());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;

    fn cells_of(matrix: Json) -> Json {
        cells(&matrix.into()).unwrap().into_iter().map(Json::from).collect()
    }

    #[test]
    fn axes_multiply_in_order() {
        insta::assert_snapshot!(cells_of(json!({"os": ["a", "b"], "v": [1, 2]})), @r#"[{"os":"a","v":1},{"os":"a","v":2},{"os":"b","v":1},{"os":"b","v":2}]"#);
    }

    #[test]
    fn includes_join_what_they_do_not_contradict() {
        let matrix = json!({
            "fruit": ["apple", "pear"], "animal": ["cat", "dog"],
            "include": [
                {"color": "green"}, {"color": "pink", "animal": "cat"}, {"fruit": "apple", "shape": "circle"},
                {"fruit": "banana"}, {"fruit": "banana", "animal": "cat"},
            ],
        });
        insta::assert_snapshot!(cells_of(matrix), @r#"[{"fruit":"apple","animal":"cat","color":"pink","shape":"circle"},{"fruit":"apple","animal":"dog","color":"green","shape":"circle"},{"fruit":"pear","animal":"cat","color":"pink"},{"fruit":"pear","animal":"dog","color":"green"},{"fruit":"banana"},{"fruit":"banana","animal":"cat"}]"#);
    }

    #[test]
    fn excludes_take_every_match() {
        let matrix = json!({
            "os": ["a", "b"], "v": [1, {"x": [2]}],
            "exclude": [{"os": "A", "v": "1"}, {"v": {"x": [2]}}, {}],
        });
        insta::assert_snapshot!(cells_of(matrix), @r#"[{"os":"b","v":1}]"#);
        insta::assert_snapshot!(cells_of(json!({"include": [{"a": 1}, {"a": 2}]})), @r#"[{"a":1},{"a":2}]"#);
    }

    #[test]
    fn keys_are_the_same_in_any_letter_case() {
        let matrix = json!({"os": ["a", "b"], "exclude": [{"OS": "b"}], "include": [{"Os": "a", "x": 1}]});
        insta::assert_snapshot!(cells_of(matrix), @r#"[{"os":"a","x":1}]"#);
    }

    #[test]
    fn bad_matrices_are_refused() {
        let complaint = |matrix: Json| cells(&matrix.into()).unwrap_err();
        insta::assert_snapshot!(complaint(json!([1])), @"a matrix is a mapping of lists, but this is an array");
        insta::assert_snapshot!(complaint(json!({"a": 1})), @"`a` of the matrix must be a list, but it is a number");
        insta::assert_snapshot!(complaint(json!({"a": []})), @"the list `a` of the matrix is empty");
        insta::assert_snapshot!(complaint(json!({"a": [1], "exclude": [{"b": 1}]})), @"`exclude` names `b`, which is no key of the matrix");
        insta::assert_snapshot!(complaint(json!({"a": [1], "exclude": [{"a": 1}]})), @"the matrix has no combination left");
        insta::assert_snapshot!(complaint(json!({"a": [1], "include": {"a": 1}})), @"`include` of the matrix must be a list, but it is an object");
        let large: Vec<u32> = (0..20).collect();
        insta::assert_snapshot!(complaint(json!({"a": large, "b": large})), @"the matrix has more than 256 combinations");
    }

    proptest! {
        #[test]
        fn the_product_is_complete(sizes in prop::collection::vec(1usize..4, 1..4)) {
            let matrix: Object = sizes.iter().enumerate()
                .map(|(axis, size)| (format!("axis{axis}"), (0..*size).map(|value| Value::Number(f64::from(value as u32))).collect::<Value>()))
                .collect();
            let cells = cells(&matrix.into()).unwrap();
            prop_assert_eq!(cells.len(), sizes.iter().product::<usize>());
            for (place, cell) in cells.iter().enumerate() {
                prop_assert!(!cells[..place].contains(cell));
            }
        }
    }
}
