//! Compiles the profile into a classic BPF program.

use super::profile::{Action, REFUSED, UNKNOWN};
use super::table::{NONE, SYSTEM_CALLS, SystemCall};
use crate::capability::CapabilitySet;
use crate::syscall::FilterInstruction as Instruction;

// Operations, from linux/bpf_common.h.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const JUMP_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;

// Answers, from linux/seccomp.h.
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;

// Where the kernel puts the call, from struct seccomp_data.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
/// Low half of the first argument. The kernel itself takes only this half of the arguments that are
/// filtered; a filter that compares both could be passed by setting bits in the upper one.
const FIRST_ARGUMENT: u32 = 16;

// Machines, from linux/audit.h.
const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;

/// A way to make system calls: its name for the kernel, and a call's number in it.
type Architecture = (u32, fn(&SystemCall) -> u16);

/// The ways to make system calls on this machine.
const ARCHITECTURES: &[Architecture] = if cfg!(target_arch = "aarch64") {
    &[(AARCH64, |call| call.aarch64)]
} else {
    &[(X86_64, |call| call.x86_64), (I386, |call| call.i386)]
};

/// The filter for a container with these capabilities.
pub(crate) fn compile(capabilities: CapabilitySet) -> Vec<Instruction> {
    compile_for(ARCHITECTURES, capabilities)
}

fn compile_for(architectures: &[Architecture], capabilities: CapabilitySet) -> Vec<Instruction> {
    let mut program = Vec::with_capacity(512);
    program.push(load(ARCHITECTURE));
    for (architecture, number_of) in architectures {
        let ranges = ranges(*number_of, capabilities);
        let mut search = vec![load(NUMBER)];
        search_into(&mut search, &ranges);
        let length = u32::try_from(search.len()).expect("a search has some hundred instructions");
        program.push(jump(JUMP_EQUAL, *architecture, 1, 0));
        program.push(jump(JUMP, length, 0, 0));
        program.append(&mut search);
    }
    program.push(jump(RETURN, KILL_PROCESS, 0, 0));
    program
}

/// Where a run of calls with the same answer starts; it ends before the next one.
type Range = (u32, Action);

fn ranges(number_of: fn(&SystemCall) -> u16, capabilities: CapabilitySet) -> Vec<Range> {
    let numbered = |call: &SystemCall| {
        let number = number_of(call);
        (number != NONE).then(|| (number, call.class.action(capabilities)))
    };
    let mut calls: Vec<_> = SYSTEM_CALLS.iter().filter_map(numbered).collect();
    calls.sort_unstable_by_key(|(number, _)| *number);
    let mut ranges: Vec<Range> = Vec::with_capacity(128);
    let mut push = |start: u32, action: Action| {
        if ranges.last().is_none_or(|(_, last)| *last != action) {
            ranges.push((start, action));
        }
    };
    let mut next = 0;
    for (number, action) in calls {
        let number = u32::from(number);
        if number > next {
            // Numbers between known calls belong to calls that were removed or never wired up.
            push(next, REFUSED);
        }
        push(number, action);
        next = number + 1;
    }
    push(next, UNKNOWN);
    ranges
}

/// Appends a search for the range the accumulator is in, and the answers.
fn search_into(program: &mut Vec<Instruction>, ranges: &[Range]) {
    let [(_, action)] = ranges else {
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let pivot = high[0].0;
        let at = program.len();
        program.push(jump(JUMP_GREATER_EQUAL, pivot, 0, 0));
        search_into(program, low);
        let distance = program.len() - at - 1;
        match u8::try_from(distance) {
            Ok(distance) => program[at].jump_true = distance,
            Err(_) => {
                // Conditional jumps reach 255 instructions; further ones go through a plain jump.
                let distance = u32::try_from(distance).expect("a filter is under 4096 long");
                program[at].jump_false = 1;
                program.insert(at + 1, jump(JUMP, distance, 0, 0));
            }
        }
        search_into(program, high);
        return;
    };
    answer_into(program, *action);
}

fn answer_into(program: &mut Vec<Instruction>, action: Action) {
    let allow = jump(RETURN, ALLOW, 0, 0);
    let refuse = |errno: u16| jump(RETURN, ERRNO | u32::from(errno), 0, 0);
    let not_permitted = refuse(libc::EPERM as u16);
    match action {
        Action::Allow => program.push(allow),
        Action::Refuse(errno) => program.push(refuse(errno)),
        Action::AllowUnlessFirstIs(value) => program.extend([
            load(FIRST_ARGUMENT),
            jump(JUMP_EQUAL, value, 0, 1),
            not_permitted,
            allow,
        ]),
        Action::AllowIfFirstIs(values) => {
            program.push(load(FIRST_ARGUMENT));
            for (index, value) in values.iter().enumerate() {
                let to_allow = u8::try_from(values.len() - index).expect("few values");
                program.push(jump(JUMP_EQUAL, *value, to_allow, 0));
            }
            program.extend([not_permitted, allow]);
        }
        Action::AllowIfFirstLacks(bits) => program.extend([
            load(FIRST_ARGUMENT),
            jump(JUMP_BITS, bits, 0, 1),
            not_permitted,
            allow,
        ]),
    }
}

const fn load(offset: u32) -> Instruction {
    Instruction {
        code: LOAD,
        jump_true: 0,
        jump_false: 0,
        operand: offset,
    }
}

const fn jump(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction {
        code,
        jump_true,
        jump_false,
        operand,
    }
}

#[cfg(test)]
mod tests;
