//! What the end-to-end tests share: a lab or the reason there is none, and a seeded choice.

pub mod calls;
pub mod load;

use harness::{Lab, LabOptions, Programs};

/// A lab, or nothing after printing why the test is skipped.
///
/// # Panics
/// When this machine could run one but making it failed.
#[must_use]
pub fn lab() -> Option<Lab> {
    lab_with(&[])
}

/// The same, of daemons with more options.
///
/// # Panics
/// When this machine could run one but making it failed.
#[must_use]
pub fn lab_with(daemon_args: &[&str]) -> Option<Lab> {
    if let Some(reason) = harness::unavailable() {
        println!("skipped: {reason}");
        return None;
    }
    let programs = match Programs::find() {
        Ok(programs) => programs,
        Err(error) => {
            println!("skipped: {error:#}; run `cargo xtask test`");
            return None;
        }
    };
    let options = LabOptions {
        daemon_args: daemon_args.iter().map(|arg| String::from(*arg)).collect(),
        ..LabOptions::new(programs)
    };
    Some(Lab::new(options).expect("a lab can be made here"))
}

/// Numbers that look random and are the same for the same seed (splitmix64).
#[derive(Clone, Copy, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall as `seed` says.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `sides`, which must not be zero.
    pub fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).expect("below a usize")
    }
}
