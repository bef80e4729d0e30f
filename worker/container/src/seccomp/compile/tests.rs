//! The compiled filter, run by an interpreter, answers as the table says.

use super::super::profile::Class;
use super::*;

/// What a call gets, as the kernel would find out.
fn run(program: &[Instruction], architecture: u32, number: u32, first: u64) -> u32 {
    let [low, high] = [first as u32, (first >> 32) as u32];
    let call = [
        number,
        architecture,
        0,
        0,
        low,
        high,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    let mut accumulator = 0;
    let mut at = 0;
    loop {
        let Instruction {
            code,
            jump_true,
            jump_false,
            operand,
        } = program[at];
        at += 1;
        let branch = |taken: bool| usize::from(if taken { jump_true } else { jump_false });
        match code {
            LOAD => accumulator = call[operand as usize / 4],
            JUMP => at += operand as usize,
            JUMP_EQUAL => at += branch(accumulator == operand),
            JUMP_GREATER_EQUAL => at += branch(accumulator >= operand),
            JUMP_BITS => at += branch(accumulator & operand != 0),
            RETURN => return operand,
            other => panic!("unknown operation {other:#x}"),
        }
    }
}

const EPERM: u32 = ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = ERRNO | libc::ENOSYS as u32;
const X86: &[Architecture] = &[(X86_64, |call| call.x86_64), (I386, |call| call.i386)];
const ARM: &[Architecture] = &[(AARCH64, |call| call.aarch64)];

fn expected(action: Action, first: u64) -> u32 {
    let low = first as u32;
    let allowed = match action {
        Action::Allow => true,
        Action::Refuse(errno) => return ERRNO | u32::from(errno),
        Action::AllowUnlessFirstIs(value) => low != value,
        Action::AllowIfFirstIs(values) => values.contains(&low),
        Action::AllowIfFirstLacks(bits) => low & bits == 0,
    };
    if allowed { ALLOW } else { EPERM }
}

#[test]
fn every_call_gets_what_the_table_says() {
    let firsts = [
        0,
        8,
        40,
        1 << 32 | 40,
        0x0001_0000,
        0x1000_0000,
        0x0002_0000,
        0xffff_ffff,
    ];
    for architectures in [X86, ARM] {
        for capabilities in [
            CapabilitySet::DEFAULT,
            CapabilitySet::ALL,
            CapabilitySet::SYS_CHROOT,
        ] {
            let program = compile_for(architectures, capabilities);
            for (architecture, number_of) in architectures {
                for call in SYSTEM_CALLS.iter().filter(|call| number_of(call) != NONE) {
                    for first in firsts {
                        let number = u32::from(number_of(call));
                        let answer = run(&program, *architecture, number, first);
                        let wanted = expected(call.class.action(capabilities), first);
                        assert_eq!(answer, wanted, "{} {first:#x} {architecture:#x}", call.name);
                    }
                }
            }
        }
    }
}

#[test]
fn numbers_without_a_call() {
    let program = compile_for(X86, CapabilitySet::DEFAULT);
    for (architecture, number, answer) in [
        (X86_64, 336, EPERM), // between the old calls and the common ones
        (X86_64, 400, EPERM),
        (X86_64, 470, ENOSYS),
        (X86_64, 100_000, ENOSYS),
        (X86_64, 0x4000_0000, ENOSYS), // read, as the x32 ABI numbers it
        (X86_64, u32::MAX, ENOSYS),
        (I386, 470, ENOSYS),
        (AARCH64, 0, KILL_PROCESS),
        (0, 0, KILL_PROCESS),
    ] {
        assert_eq!(
            run(&program, architecture, number, 0),
            answer,
            "{architecture:#x} {number}"
        );
    }
}

#[test]
fn what_docker_refuses_is_refused() {
    let number = |name: &str| {
        let call = SYSTEM_CALLS
            .iter()
            .find(|call| call.name == name)
            .expect("a known call");
        u32::from(call.x86_64)
    };
    let default = compile_for(X86, CapabilitySet::DEFAULT);
    let all = compile_for(X86, CapabilitySet::ALL);
    for (name, first, by_default, with_all) in [
        ("read", 0, ALLOW, ALLOW),
        ("mount", 0, EPERM, ALLOW),
        ("unshare", 0, EPERM, ALLOW),
        ("setns", 0, EPERM, ALLOW),
        ("bpf", 0, EPERM, ALLOW),
        ("chroot", 0, ALLOW, ALLOW),
        ("clone", 0x0001_0f00, ALLOW, ALLOW), // a thread
        ("clone", 0x1000_0000, EPERM, ALLOW), // CLONE_NEWUSER
        ("clone3", 0, ENOSYS, ALLOW),
        ("socket", 2, ALLOW, ALLOW),
        ("socket", 40, EPERM, EPERM),
        ("socket", 1 << 32 | 40, EPERM, EPERM),
        ("personality", 0x0004_0000, EPERM, EPERM), // ADDR_NO_RANDOMIZE
        ("keyctl", 0, EPERM, EPERM),
        ("add_key", 0, EPERM, EPERM),
        ("kexec_load", 0, EPERM, EPERM),
        ("userfaultfd", 0, EPERM, EPERM),
        ("io_uring_setup", 0, EPERM, EPERM),
        ("init_module", 0, EPERM, ALLOW),
        ("perf_event_open", 0, EPERM, ALLOW),
        ("ptrace", 0, ALLOW, ALLOW),
    ] {
        assert_eq!(
            run(&default, X86_64, number(name), first),
            by_default,
            "{name} {first:#x}"
        );
        assert_eq!(
            run(&all, X86_64, number(name), first),
            with_all,
            "{name} {first:#x} with all"
        );
    }
}

#[test]
fn table_agrees_with_the_c_library_and_has_no_number_twice() {
    #[cfg(target_arch = "x86_64")]
    for (name, number) in [
        ("read", libc::SYS_read),
        ("execve", libc::SYS_execve),
        ("openat2", libc::SYS_openat2),
        ("seccomp", libc::SYS_seccomp),
        ("landlock_create_ruleset", libc::SYS_landlock_create_ruleset),
        ("fchmodat2", libc::SYS_fchmodat2),
        ("mseal", libc::SYS_mseal),
    ] {
        let call = SYSTEM_CALLS
            .iter()
            .find(|call| call.name == name)
            .expect("a known call");
        assert_eq!(libc::c_long::from(call.x86_64), number, "{name}");
    }
    for (_, number_of) in X86.iter().chain(ARM) {
        let mut numbers: Vec<_> = SYSTEM_CALLS
            .iter()
            .map(number_of)
            .filter(|number| *number != NONE)
            .collect();
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
    }
    assert!(SYSTEM_CALLS.is_sorted_by_key(|call| call.name));
    assert!(SYSTEM_CALLS.iter().any(|call| call.class == Class::Never));
}

#[test]
fn filter_is_short_and_its_search_shallow() {
    let program = compile_for(X86, CapabilitySet::DEFAULT);
    assert!(program.len() < 500, "{} instructions", program.len());
    let mut deepest = 0;
    for number in 0..500 {
        let mut steps = 0;
        let mut at = 0;
        let mut accumulator = 0;
        loop {
            let Instruction {
                code,
                jump_true,
                jump_false,
                operand,
            } = program[at];
            at += 1;
            steps += 1;
            let taken = match code {
                LOAD if operand == NUMBER => {
                    accumulator = number;
                    continue;
                }
                LOAD if operand == ARCHITECTURE => {
                    accumulator = X86_64;
                    continue;
                }
                LOAD => {
                    accumulator = 0;
                    continue;
                }
                RETURN => break,
                JUMP => {
                    at += operand as usize;
                    continue;
                }
                JUMP_EQUAL => accumulator == operand,
                JUMP_GREATER_EQUAL => accumulator >= operand,
                other => {
                    assert_eq!(other, JUMP_BITS);
                    accumulator & operand != 0
                }
            };
            at += usize::from(if taken { jump_true } else { jump_false });
        }
        deepest = deepest.max(steps);
    }
    assert!(deepest <= 20, "{deepest} instructions for one call");
}
