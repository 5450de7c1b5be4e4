//! What the lines of QEMU's control socket say. Pure.

use serde_json::Value;

use crate::vm::backend::GuestEnd;

/// What a line means to us.
#[derive(Debug, PartialEq)]
pub enum Message {
    /// To the command before; an error as the monitor describes it.
    Answer(Result<Value, String>),
    /// The guest runs no more.
    Ended(GuestEnd),
    /// A state was loaded or saved, or not.
    Migrated(bool),
    Other,
}

/// Gives what one line says; an error if it is no message.
pub fn interpret(line: &[u8]) -> Result<Message, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if let Some(answer) = value.get("return") {
        return Ok(Message::Answer(Ok(answer.clone())));
    }
    if let Some(error) = value.get("error") {
        let description = error.get("desc").and_then(Value::as_str).unwrap_or("an error without description");
        return Ok(Message::Answer(Err(description.to_owned())));
    }
    let data = |key: &str| value.get("data").and_then(|data| data.get(key)).and_then(Value::as_str);
    Ok(match value.get("event").and_then(Value::as_str) {
        Some("SHUTDOWN") if data("reason") == Some("guest-reset") => Message::Ended(GuestEnd::Reset),
        Some("SHUTDOWN") if data("reason") == Some("guest-panic") => Message::Ended(GuestEnd::Panicked),
        Some("SHUTDOWN") => Message::Ended(GuestEnd::PoweredOff),
        Some("GUEST_PANICKED") => Message::Ended(GuestEnd::Panicked),
        // The monitor stops the guest for a full disk only; other errors are the guest's to see.
        Some("BLOCK_IO_ERROR") if data("action") == Some("stop") => Message::Ended(GuestEnd::HostDiskFull),
        Some("MIGRATION") if data("status") == Some("completed") => Message::Migrated(true),
        Some("MIGRATION") if data("status") == Some("failed") => Message::Migrated(false),
        _ => Message::Other,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_mean_what_the_protocol_says() {
        let cases: [(&str, Message); 8] = [
            (r#"{"QMP": {"version": {}}}"#, Message::Other),
            (r#"{"return": {}}"#, Message::Answer(Ok(json!({})))),
            (r#"{"error": {"class": "GenericError", "desc": "no"}}"#, Message::Answer(Err("no".into()))),
            (
                r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}"#,
                Message::Ended(GuestEnd::Reset),
            ),
            (r#"{"event": "MIGRATION", "data": {"status": "completed"}}"#, Message::Migrated(true)),
            (r#"{"event": "STOP"}"#, Message::Other),
            (
                r#"{"event": "BLOCK_IO_ERROR", "data": {"nospace": true, "action": "stop", "operation": "write"}}"#,
                Message::Ended(GuestEnd::HostDiskFull),
            ),
            (r#"{"event": "BLOCK_IO_ERROR", "data": {"nospace": false, "action": "report"}}"#, Message::Other),
        ];
        for (line, message) in cases {
            assert_eq!(interpret(line.as_bytes()), Ok(message), "{line}");
        }
        assert!(interpret(b"garbage\n").is_err());
    }
}
