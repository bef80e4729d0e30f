//! Keeps the C library's allocator from hoarding memory: an idle daemon is small.
#![allow(
    unsafe_code,
    reason = "the allocator's settings are a call into the C library"
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
