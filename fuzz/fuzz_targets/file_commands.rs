//! Files of a step → variables, outputs, directories and a summary.
#![no_main]

use dayfly::workflow::file_commands::{parse_env, parse_output, parse_path, parse_summary};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let env = parse_env(data).pairs;
    assert!(env.iter().all(|(name, value)| !name.is_empty() && !name.contains('\0') && !value.contains('\0')));
    let outputs = parse_output(data).pairs;
    assert!(outputs.iter().all(|(name, _)| !name.is_empty()));
    assert!(outputs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= data.len() * 3);
    if let Ok(directories) = parse_path(data) {
        assert!(directories.iter().all(|directory| !directory.contains(['\0', '\n'])));
    }
    drop(parse_summary(data));
});
