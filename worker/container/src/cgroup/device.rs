//! Which devices a container may use: Docker's default allow-list, for either cgroup version.

/// A device rule in the notation of version 1's `devices.allow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
    access: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Character,
    Block,
}

const fn character(major: u32, minor: Option<u32>) -> Rule {
    Rule {
        kind: Kind::Character,
        major: Some(major),
        minor,
        access: "rwm",
    }
}

/// Every device may be made (`mknod` needs its capability besides), these may also be opened.
pub(super) const ALLOWED: [Rule; 11] = [
    Rule {
        kind: Kind::Character,
        major: None,
        minor: None,
        access: "m",
    },
    Rule {
        kind: Kind::Block,
        major: None,
        minor: None,
        access: "m",
    },
    character(1, Some(3)), // null
    character(1, Some(5)), // zero
    character(1, Some(7)), // full
    character(1, Some(8)), // random
    character(1, Some(9)), // urandom
    character(5, Some(0)), // tty
    character(5, Some(1)), // console
    character(5, Some(2)), // ptmx
    character(136, None),  // pts/*
];

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |one| one.to_string());
        let kind = match self.kind {
            Kind::Character => 'c',
            Kind::Block => 'b',
        };
        write!(
            f,
            "{kind} {}:{} {}",
            number(self.major),
            number(self.minor),
            self.access
        )
    }
}

/// The allow-list as an extended BPF program for version 2. The kernel calls it for each access with
/// `{ u32 access_and_kind, u32 major, u32 minor }` and takes 1 for yes.
pub(super) fn program() -> Vec<u64> {
    // Registers: r1 the context; r2 kind, r3 access, r4 major, r5 minor.
    let mut program = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE, 3, 2, 0, 0),
        instruction(AND_VALUE, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT_VALUE, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in ALLOWED {
        let mut tests = vec![(JUMP_NOT_EQUAL, 2, rule.kind.number())];
        let access = access_bits(rule.access);
        if access != ALL_ACCESS {
            // Any bit beyond those allowed rules the rule out.
            tests.push((JUMP_BITS, 3, ALL_ACCESS & !access));
        }
        tests.extend(rule.major.map(|major| (JUMP_NOT_EQUAL, 4, major)));
        tests.extend(rule.minor.map(|minor| (JUMP_NOT_EQUAL, 5, minor)));
        let count = tests.len();
        for (index, (code, register, value)) in tests.into_iter().enumerate() {
            // On a mismatch, on to the next rule: over the tests left and the two that say yes.
            let skip = u16::try_from(count - index - 1 + 2).expect("a rule is 4 tests at most");
            program.push(instruction(code, register, 0, skip, value));
        }
        program.push(instruction(MOVE_VALUE, 0, 0, 0, 1));
        program.push(instruction(EXIT, 0, 0, 0, 0));
    }
    program.push(instruction(MOVE_VALUE, 0, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

// Operation codes, from linux/bpf.h and linux/bpf_common.h: class | operation | source.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const MOVE_VALUE: u8 = 0xb7;
const AND_VALUE: u8 = 0x57;
const SHIFT_RIGHT_VALUE: u8 = 0x77;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_BITS: u8 = 0x45;
const EXIT: u8 = 0x95;

/// `BPF_DEVCG_ACC_*`: make, read, write.
const ALL_ACCESS: u32 = 0b111;

fn access_bits(access: &str) -> u32 {
    access.bytes().fold(0, |bits, byte| {
        bits | match byte {
            b'm' => 0b001,
            b'r' => 0b010,
            _ => 0b100,
        }
    })
}

impl Kind {
    /// `BPF_DEVCG_DEV_*`.
    fn number(self) -> u32 {
        match self {
            Self::Block => 1,
            Self::Character => 2,
        }
    }
}

/// Packs an instruction as little-endian machines lay it out.
fn instruction(code: u8, to: u8, from: u8, offset: u16, value: u32) -> u64 {
    u64::from(code)
        | u64::from(to) << 8
        | u64::from(from) << 12
        | u64::from(offset) << 16
        | u64::from(value) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn run(program: &[u64], kind: u32, access: u32, major: u32, minor: u32) -> u64 {
        let context = [kind | access << 16, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0usize;
        loop {
            let word = program[at];
            let code = (word & 0xff) as u8;
            let to = (word >> 8 & 0xf) as usize;
            let from = (word >> 12 & 0xf) as usize;
            let offset = (word >> 16 & 0xffff) as usize;
            let value = word >> 32;
            at += 1;
            match code {
                LOAD_WORD => registers[to] = u64::from(context[offset / 4]),
                MOVE => registers[to] = registers[from],
                MOVE_VALUE => registers[to] = value,
                AND_VALUE => registers[to] &= value,
                SHIFT_RIGHT_VALUE => registers[to] >>= value,
                JUMP_NOT_EQUAL if registers[to] != value => at += offset,
                JUMP_BITS if registers[to] & value != 0 => at += offset,
                JUMP_NOT_EQUAL | JUMP_BITS => {}
                EXIT => return registers[0],
                other => panic!("unknown operation {other:#x}"),
            }
        }
    }

    #[test]
    fn program_allows_what_the_list_allows() {
        let (block, character) = (1, 2);
        let (make, read, write) = (1, 2, 4);
        let program = program();
        for (kind, access, major, minor, allowed) in [
            (character, read | write, 1, 3, 1),
            (character, read | write | make, 1, 9, 1),
            (character, read, 1, 1, 0),  // mem
            (character, write, 1, 2, 0), // kmem
            (character, read, 5, 2, 1),
            (character, read | write, 136, 77, 1),
            (character, make, 200, 9, 1),
            (character, make | read, 200, 9, 0),
            (block, make, 8, 0, 1),
            (block, read, 8, 0, 0),
            (block, read, 1, 3, 0),
            (character, read, 10, 200, 0), // tun
        ] {
            let answer = run(&program, kind, access, major, minor);
            assert_eq!(
                answer, allowed,
                "kind {kind} access {access} {major}:{minor}"
            );
        }
    }

    #[test]
    fn rules_are_written_as_version_1_reads_them() {
        let rules: Vec<_> = ALLOWED.iter().map(Rule::to_string).collect();
        assert_eq!(rules[0], "c *:* m");
        assert_eq!(rules[1], "b *:* m");
        assert!(rules.contains(&"c 1:3 rwm".to_owned()));
        assert!(rules.contains(&"c 136:* rwm".to_owned()));
    }
}
