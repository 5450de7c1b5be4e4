//! PID 1 of a guest. See `dayfly::agent`.

fn main() {
    let error = dayfly::agent::run();
    // Goes to the serial console, which the host reads when a VM is lost. Returning from PID 1 panics the kernel, and the
    // host reports that.
    eprintln!("dayfly-agent: {error}");
}
