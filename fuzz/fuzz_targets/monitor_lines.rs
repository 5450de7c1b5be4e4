//! Lines of the virtual machine monitor → what they mean.
#![no_main]

use dayfly::vm::qemu::message::interpret;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    drop(interpret(line));
});
