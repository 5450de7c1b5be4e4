//! Identities. Every thing that outlives a function call has its own id type, so that a job's id cannot be passed where a
//! VM's is meant. Ids are random and short enough to type; names of directories, sockets and cgroups are derived from them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Letters of an id: digits and consonants (no vowels: no accidental words). 30 of them, so that 12 hold 58 bits.
const ALPHABET: &[u8; 30] = b"0123456789bcdfghjkmnpqrstvwxyz";

/// Bits of a [`LogToken`] come from 26 letters of the alphabet: more than 127 bits, which nobody guesses.
const TOKEN_LETTERS: usize = 26;

fn random_letters(count: usize) -> String {
    let mut text = String::with_capacity(count);
    let mut buffer = [0u8; 64];
    while text.len() < count {
        // Without a source of randomness nothing here may go on: ids name directories and guard log pages.
        getrandom::fill(&mut buffer).expect("the operating system has a random source");
        for byte in buffer {
            // 240 is the largest multiple of 30 in a byte: larger values would favour the first letters.
            if byte < 240 && text.len() < count {
                text.push(char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
            }
        }
    }
    text
}

/// Ids in texts from outside (paths, arguments) are accepted only in this form.
fn is_valid(text: &str, prefix: &str, letters: usize) -> bool {
    text.strip_prefix(prefix).is_some_and(|rest| rest.len() == letters && rest.bytes().all(|b| ALPHABET.contains(&b)))
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $letters:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// A new random id.
            pub fn random() -> Self {
                Self(format!("{}{}", $prefix, random_letters($letters)))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if is_valid(text, $prefix, $letters) { Ok(Self(text.to_owned())) } else { Err(InvalidId { expected: $prefix }) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
    };
}

id_type!(
    /// One workflow file started by one event at one commit.
    RunId, "run-", 12
);
id_type!(
    /// One job of a run. A job that is started again keeps its id; its attempt number rises.
    JobId, "job-", 12
);
id_type!(
    /// One microVM. Names its directory, its cgroup and its process.
    VmId, "vm-", 12
);
id_type!(
    /// What the forge is told about one job, or about a run that has no job.
    ReportId, "rep-", 12
);
id_type!(
    /// Something that was asked for on the control socket.
    WishId, "wish-", 12
);
id_type!(
    /// Something that is on its way into the depot.
    UploadId, "up-", 12
);
id_type!(
    /// The unguessable part of a log page's address. Whoever has it may read that log.
    LogToken, "", TOKEN_LETTERS
);

/// A text that is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidId {
    expected: &'static str,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "not an id of the form `{}…`", self.expected)
    }
}

impl std::error::Error for InvalidId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_text_and_refuse_everything_else() {
        let id = VmId::random();
        assert_eq!(id.as_str().parse::<VmId>(), Ok(id.clone()));
        for bad in ["", "vm-", "vm-../../etc/pas", "job-222222222222", "vm-22222222222a", "vm-2222222222222"] {
            assert!(bad.parse::<VmId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn random_ids_differ() {
        assert_ne!(LogToken::random(), LogToken::random());
        assert_eq!(LogToken::random().as_str().len(), TOKEN_LETTERS);
    }
}
