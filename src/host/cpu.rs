//! Which processor this host has. A guest that runs on it directly keeps what it found at its boot; restored on another
//! one, it would use what is not there.

use std::fs;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

/// The processor's name and a digest of what it can do, as the kernel tells. Looked up once per process.
pub fn model() -> &'static str {
    static MODEL: OnceLock<String> = OnceLock::new();
    MODEL.get_or_init(|| described(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()))
}

fn described(cpuinfo: &str) -> String {
    let field = |name: &str| {
        let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        let mut found = lines.filter(|(key, _)| key.trim_end() == name);
        found.next().map_or("", |(_, value)| value.trim())
    };
    let mut flags: Vec<&str> = field("flags").split_whitespace().collect();
    flags.sort_unstable();
    format!("{} {}", field("model name"), hex::encode(&Sha256::digest(flags.join(" "))[..6]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_or_ability_is_another_processor() {
        let one =
            described("processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu sse\n\nprocessor\t: 1\nflags\t\t: fpu\n");
        assert_eq!(one, "Some CPU 6ac1fc3ab678");
        assert_eq!(one, described("model name\t: Some CPU\nflags\t: sse fpu\nbogomips\t: 2\n"));
        assert_ne!(one, described("model name\t: Some CPU\nflags\t: sse fpu avx\n"));
        assert_ne!(one, described("model name\t: Other CPU\nflags\t: sse fpu\n"));
    }
}
