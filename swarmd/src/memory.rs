//! The daemon's memory: small when idle, and never swapped out, since keys are in it.
#![allow(
    unsafe_code,
    reason = "allocator and memory are set up by calls into the C library"
)]

/// Arenas of the allocator; more of them are faster on many threads, and each keeps its own free memory.
const ARENAS_MAX: libc::c_int = 2;
/// Free memory at the top of an arena beyond which it goes back to the system, in bytes.
const TRIM_THRESHOLD: libc::c_int = 128 * 1024;
/// Allocations from this size on go back to the system as soon as they are freed, in bytes.
const MMAP_THRESHOLD: libc::c_int = 256 * 1024;

/// Sets the allocator up. Call it before threads are made.
pub fn tune_allocator() {
    let settings = [
        (libc::M_ARENA_MAX, ARENAS_MAX),
        (libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD),
        (libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD),
    ];
    for (parameter, value) in settings {
        // SAFETY: mallopt changes only the allocator's own settings, under its own lock. It returns
        // 0 for a parameter it does not know, which leaves the default in force.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Keeps all memory of this process, now and later, from being swapped out: pages are locked as
/// they are touched, so that nothing more is used.
///
/// # Errors
/// Where it is not allowed. With a limit on locked memory it is not tried: it would make
/// allocations fail later.
pub fn lock() -> std::io::Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock);
    let is_exempt = rustix::thread::capabilities(None).is_ok_and(|sets| {
        sets.effective
            .contains(rustix::thread::CapabilitySet::IPC_LOCK)
    });
    if limit.current.is_some() && !is_exempt {
        return Err(std::io::Error::other(
            "there is a limit on locked memory (LimitMEMLOCK=infinity lifts it)",
        ));
    }
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: mlockall takes flags only and changes nothing that the program can see.
    match unsafe { libc::mlockall(flags) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
