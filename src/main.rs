//! `dayfly`: arguments in, exit code out. What the commands do is in `dayfly::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    dayfly::cli::main()
}
