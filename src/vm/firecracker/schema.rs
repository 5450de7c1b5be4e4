//! What Firecracker's API says of the requests that are used here: a table of our own, which the tests of the requests and the
//! [fake](super::fake) are held to, and which is held to the API's [own description](super::swagger) where that is at hand. Pure.
#![allow(clippy::unwrap_used)]

use serde_json::Value;

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Flag,
    OneOf(&'static [&'static str]),
    Object(&'static [Field]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) is_required: bool,
}

const fn required(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, is_required: true }
}

const fn optional(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, is_required: false }
}

pub(super) struct Endpoint {
    /// As in error messages; `{}` is a name.
    pub(super) call: &'static str,
    pub(super) fields: &'static [Field],
}

const MEMORY_BACKEND: &[Field] =
    &[required("backend_type", Kind::OneOf(&["File", "Uffd"])), required("backend_path", Kind::Text)];

pub(super) const ENDPOINTS: [Endpoint; 9] = [
    Endpoint {
        call: "PUT /machine-config",
        fields: &[
            required("vcpu_count", Kind::Integer),
            required("mem_size_mib", Kind::Integer),
            optional("smt", Kind::Flag),
            optional("track_dirty_pages", Kind::Flag),
        ],
    },
    Endpoint {
        call: "PUT /boot-source",
        fields: &[
            required("kernel_image_path", Kind::Text),
            optional("initrd_path", Kind::Text),
            optional("boot_args", Kind::Text),
        ],
    },
    Endpoint {
        call: "PUT /drives/{drive_id}",
        fields: &[
            required("drive_id", Kind::Text),
            required("is_root_device", Kind::Flag),
            optional("path_on_host", Kind::Text),
            optional("is_read_only", Kind::Flag),
            optional("cache_type", Kind::OneOf(&["Unsafe", "Writeback"])),
            optional("io_engine", Kind::OneOf(&["Sync", "Async"])),
        ],
    },
    Endpoint { call: "PUT /vsock", fields: &[required("guest_cid", Kind::Integer), required("uds_path", Kind::Text)] },
    Endpoint { call: "PUT /entropy", fields: &[] },
    Endpoint {
        call: "PUT /actions",
        fields: &[required("action_type", Kind::OneOf(&["FlushMetrics", "InstanceStart", "SendCtrlAltDel"]))],
    },
    Endpoint { call: "PATCH /vm", fields: &[required("state", Kind::OneOf(&["Paused", "Resumed"]))] },
    Endpoint {
        call: "PUT /snapshot/create",
        fields: &[
            required("mem_file_path", Kind::Text),
            required("snapshot_path", Kind::Text),
            optional("snapshot_type", Kind::OneOf(&["Full", "Diff"])),
        ],
    },
    Endpoint {
        call: "PUT /snapshot/load",
        fields: &[
            required("snapshot_path", Kind::Text),
            optional("mem_backend", Kind::Object(MEMORY_BACKEND)),
            optional("track_dirty_pages", Kind::Flag),
            optional("resume_vm", Kind::Flag),
        ],
    },
];

/// The entry for a call like `PUT /drives/root`.
fn endpoint(call: &str) -> Option<&'static Endpoint> {
    ENDPOINTS.iter().find(|endpoint| match endpoint.call.split_once('{') {
        Some((before, _)) => call.strip_prefix(before).is_some_and(|name| !name.is_empty() && !name.contains('/')),
        None => endpoint.call == call,
    })
}

/// Whether `body` is what `call` takes.
pub(super) fn check(call: &str, body: &Value) -> Result<(), String> {
    let endpoint = endpoint(call).ok_or_else(|| format!("Invalid request method and/or path: {call}."))?;
    check_fields(endpoint.fields, body)
}

fn check_fields(fields: &[Field], body: &Value) -> Result<(), String> {
    let given = body.as_object().ok_or("the body is no object")?;
    if let Some(unknown) = given.keys().find(|name| !fields.iter().any(|field| field.name == name.as_str())) {
        return Err(format!("unknown field `{unknown}`"));
    }
    for field in fields {
        match given.get(field.name) {
            None if field.is_required => return Err(format!("missing field `{}`", field.name)),
            None => {}
            Some(value) => check_value(field, value)?,
        }
    }
    Ok(())
}

fn check_value(field: &Field, value: &Value) -> Result<(), String> {
    let fits = match field.kind {
        Kind::Text => value.is_string(),
        Kind::Integer => value.is_u64(),
        Kind::Flag => value.is_boolean(),
        Kind::OneOf(known) => value.as_str().is_some_and(|text| known.contains(&text)),
        Kind::Object(fields) => return check_fields(fields, value),
    };
    if fits { Ok(()) } else { Err(format!("invalid value for `{}`: {value}", field.name)) }
}

mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told() {
        let refused = |call: &str, body: Value| check(call, &body).unwrap_err();
        insta::assert_snapshot!([
            refused("PUT /nowhere", serde_json::json!({})),
            refused("PUT /drives/", serde_json::json!({})),
            refused("PATCH /vm", serde_json::json!({ "state": "Halted" })),
            refused("PATCH /vm", serde_json::json!({})),
            refused("PUT /vsock", serde_json::json!({ "guest_cid": "3", "uds_path": "/v" })),
            refused("PUT /entropy", serde_json::json!({ "source": "x" })),
        ].join("\n"), @r#"
        Invalid request method and/or path: PUT /nowhere.
        Invalid request method and/or path: PUT /drives/.
        invalid value for `state`: "Halted"
        missing field `state`
        invalid value for `guest_cid`: "3"
        unknown field `source`
        "#);
    }
}
