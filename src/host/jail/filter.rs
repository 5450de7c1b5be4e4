//! The system calls that a confined program may make, as a program for the kernel. Pure.
//!
//! QEMU brings a filter of its own (`-sandbox`), but installs it itself, after it has read its arguments and opened its files:
//! something that is not QEMU any more would not. This one is in place before its first instruction. It refuses what no monitor
//! needs and what leads out of namespaces or into rarely used parts of the kernel.
//!
//! Files can be opened for reading. Opening one for writing asks the service (see `opener`), and fails once that has stopped
//! listening: all that a monitor may write it gets as descriptors.

use nix::libc::{self, c_long, sock_filter};

/// `AUDIT_ARCH_X86_64` of the kernel: the architecture whose numbers these are.
const X86_64: u32 = 0xC000_003E;
/// From this number on a call is one of the x32 interface, which could be used to go around the others.
const X32: u32 = 0x4000_0000;

/// Offsets into `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const ASK: u32 = libc::SECCOMP_RET_USER_NOTIF;

const fn refuse_with(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32
}

/// Bits of `clone` that make namespaces.
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Refused whatever the arguments are.
const REFUSED: [c_long; 66] = [
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    // Other users, and files that would be theirs.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_creat,
    // Keys, programs in the kernel, tracing, and interfaces with a history.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_fanotify_init,
    libc::SYS_lookup_dcookie,
    libc::SYS_vmsplice,
    libc::SYS_modify_ldt,
    // The host itself.
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_ioperm,
    libc::SYS_iopl,
];

/// The program.
pub(super) fn program() -> Vec<sock_filter> {
    let mut program = vec![load(ARCHITECTURE), jump_if_equal(X86_64, 1, 0), answer(libc::SECCOMP_RET_KILL_PROCESS)];
    program.extend([
        load(NUMBER),
        statement(libc::BPF_JMP | libc::BPF_JGE, X32, 0, 1),
        answer(refuse_with(libc::ENOSYS)),
    ]);
    for number in REFUSED {
        program.extend([jump_if_equal(number as u32, 0, 1), answer(refuse_with(libc::EPERM))]);
    }
    // The C library does without these, and then asks in a way whose arguments can be looked at.
    for number in [libc::SYS_clone3, libc::SYS_openat2] {
        program.extend([jump_if_equal(number as u32, 0, 1), answer(refuse_with(libc::ENOSYS))]);
    }
    program.extend(unless(libc::SYS_clone, 0, NAMESPACES as u32, 0, refuse_with(libc::EPERM)));
    program.extend(unless(libc::SYS_open, 1, libc::O_ACCMODE as u32, libc::O_RDONLY as u32, ASK));
    program.extend(unless(libc::SYS_openat, 2, libc::O_ACCMODE as u32, libc::O_RDONLY as u32, ASK));
    // Not every family of sockets keeps to network namespaces.
    program.extend(unless(libc::SYS_socket, 0, u32::MAX, libc::AF_UNIX as u32, refuse_with(libc::EPERM)));
    program.push(answer(ALLOW));
    program
}

/// The call `number` is allowed where the bits of `mask` in the low half of an argument are `value`, else answered with
/// `otherwise`. Another call goes on after it.
fn unless(number: c_long, argument: u32, mask: u32, value: u32, otherwise: u32) -> [sock_filter; 6] {
    [
        jump_if_equal(number as u32, 0, 5),
        load(ARGUMENTS + 8 * argument),
        statement(libc::BPF_ALU | libc::BPF_AND, mask, 0, 0),
        jump_if_equal(value, 1, 0),
        answer(otherwise),
        answer(ALLOW),
    ]
}

fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

fn jump_if_equal(value: u32, then: u8, otherwise: u8) -> sock_filter {
    statement(libc::BPF_JMP | libc::BPF_JEQ, value, then, otherwise)
}

fn answer(with: u32) -> sock_filter {
    statement(libc::BPF_RET, with, 0, 0)
}

/// Constants are operands everywhere: the bits for that (`BPF_K`) are zero.
fn statement(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would make of the program, for one call.
    fn verdict(architecture: u32, number: u32, arguments: [u32; 3]) -> u32 {
        let program = program();
        let read = |offset| match offset {
            NUMBER => number,
            ARCHITECTURE => architecture,
            of_argument => arguments[((of_argument - ARGUMENTS) / 8) as usize],
        };
        let (mut accumulator, mut at) = (0u32, 0usize);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            let jump = |is_taken: bool| usize::from(if is_taken { jt } else { jf });
            at += 1;
            match u32::from(code) {
                code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => accumulator = read(k),
                code if code == libc::BPF_ALU | libc::BPF_AND => accumulator &= k,
                code if code == libc::BPF_JMP | libc::BPF_JEQ => at += jump(accumulator == k),
                code if code == libc::BPF_JMP | libc::BPF_JGE => at += jump(accumulator >= k),
                _ => return k,
            }
        }
    }

    fn native(number: c_long, arguments: [u32; 3]) -> u32 {
        verdict(X86_64, number as u32, arguments)
    }

    #[test]
    fn calls_are_judged_by_what_they_ask_for() {
        let (refused, missing) = (refuse_with(libc::EPERM), refuse_with(libc::ENOSYS));
        let [read, write, both] =
            [libc::O_RDONLY, libc::O_WRONLY | libc::O_CREAT, libc::O_RDWR].map(|flags| flags as u32);
        let thread = (libc::CLONE_VM | libc::CLONE_THREAD) as u32;
        for (call, arguments, expected) in [
            (libc::SYS_read, [0; 3], ALLOW),
            (libc::SYS_futex, [0; 3], ALLOW),
            (libc::SYS_ptrace, [0; 3], refused),
            (libc::SYS_iopl, [0; 3], refused),
            (libc::SYS_clone3, [0; 3], missing),
            (libc::SYS_openat2, [0; 3], missing),
            (libc::SYS_clone, [thread, 0, 0], ALLOW),
            (libc::SYS_clone, [thread | libc::CLONE_NEWUSER as u32, 0, 0], refused),
            (libc::SYS_openat, [0, 0, read], ALLOW),
            (libc::SYS_openat, [0, 0, write], ASK),
            (libc::SYS_openat, [0, 0, both], ASK),
            (libc::SYS_open, [0, both, 0], ASK),
            (libc::SYS_open, [0, read, both], ALLOW),
            (libc::SYS_socket, [libc::AF_UNIX as u32, 0, 0], ALLOW),
            (libc::SYS_socket, [libc::AF_INET as u32, 0, 0], refused),
            (libc::SYS_socket, [libc::AF_VSOCK as u32, 0, 0], refused),
        ] {
            assert_eq!(native(call, arguments), expected, "{call} {arguments:?}");
        }
    }

    #[test]
    fn other_interfaces_of_the_kernel_lead_nowhere() {
        assert_eq!(verdict(0x4000_0003, libc::SYS_read as u32, [0; 3]), libc::SECCOMP_RET_KILL_PROCESS);
        assert_eq!(verdict(X86_64, X32 | libc::SYS_read as u32, [0; 3]), refuse_with(libc::ENOSYS));
    }

    #[test]
    fn each_refused_call_is_named_once() {
        let mut numbers = REFUSED.to_vec();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), REFUSED.len());
    }
}
