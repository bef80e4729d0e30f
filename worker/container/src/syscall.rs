//! The system calls that neither `std` nor `rustix` offers in a safe form.
#![allow(unsafe_code, reason = "raw system calls are kept in this module")]

use rustix::io::Errno;
use std::ffi::{CStr, CString, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Which mount attributes to change, as `struct mount_attr` has it.
#[derive(Debug, Default, Clone, Copy)]
#[repr(C)]
pub(crate) struct MountAttributes {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
    pub(crate) user_namespace: u64,
}

/// One instruction of a classic BPF program, as the kernel reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct FilterInstruction {
    pub(crate) code: u16,
    pub(crate) jump_true: u8,
    pub(crate) jump_false: u8,
    pub(crate) operand: u32,
}

/// From linux/sched.h; `libc` has it too narrow.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What a fork-like call returned.
pub(crate) enum Forked {
    Child,
    Parent(i32),
}

fn check(result: libc::c_long) -> rustix::io::Result<libc::c_long> {
    if result == -1 {
        let errno = std::io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO);
        return Err(Errno::from_raw_os_error(errno));
    }
    Ok(result)
}

/// The wall clock in nanoseconds since the epoch.
pub(crate) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}

/// A clock that is never set, in milliseconds; for deadlines.
pub(crate) fn monotonic_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds
        .saturating_mul(1000)
        .saturating_add(nanoseconds / 1_000_000)
}

/// `clone3` with the given flags: the child goes on where the parent does, in a copy of its memory.
/// With `cgroup`, the child is born in that (version 2) cgroup.
///
/// With `CLONE_PARENT` the child tells its end as this process would.
///
/// Must be called by a process with one thread only: that is what makes everything allowed in the
/// child that is allowed in the parent. The shim is such a process.
pub(crate) fn clone3(flags: i32, cgroup: Option<BorrowedFd<'_>>) -> rustix::io::Result<Forked> {
    // SAFETY: an all-zero clone_args is a valid one.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::try_from(flags).map_err(|_| Errno::INVAL)?;
    if flags & libc::CLONE_PARENT == 0 {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: no CLONE_VM, hence the child has its own copy of memory and stack; a process with one
    // thread holds no lock that another thread would have to release in the child.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const args,
            size_of::<libc::clone_args>(),
        )
    })?;
    match i32::try_from(pid) {
        Ok(0) => Ok(Forked::Child),
        Ok(pid) => Ok(Forked::Parent(pid)),
        Err(_) => Err(Errno::RANGE),
    }
}

/// `fork`, for kernels and filters without `clone3`; the same conditions hold.
pub(crate) fn fork() -> rustix::io::Result<Forked> {
    // SAFETY: a process with one thread holds no lock that another would have to release.
    match check(unsafe { libc::fork() }.into())? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(
            i32::try_from(pid).map_err(|_| Errno::RANGE)?,
        )),
    }
}

/// Leaves namespaces this process shares; it has one thread and owns no shared descriptors.
pub(crate) fn unshare(flags: rustix::thread::UnshareFlags) -> rustix::io::Result<()> {
    let flags = i32::try_from(flags.bits()).map_err(|_| Errno::INVAL)?;
    // SAFETY: only namespaces are asked for, never CLONE_FILES.
    check(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// Waits for one of these blocked signals and returns its number.
pub(crate) fn next_signal(signals: &[i32]) -> i32 {
    let set = signal_set(signals);
    loop {
        // SAFETY: the set is valid, and the details of the signal are not asked for.
        let signal = unsafe { libc::sigwaitinfo(&raw const set, std::ptr::null_mut()) };
        if signal > 0 {
            return signal;
        }
    }
}

/// Changes a mount's attributes, and with `recursive` those of all below it.
pub(crate) fn mount_setattr(
    mount: impl AsFd,
    attributes: MountAttributes,
    recursive: bool,
) -> rustix::io::Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a C string, and the attributes are read for exactly their size.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    })
    .map(drop)
}

/// Has the async runtime tell when a descriptor is readable.
#[cfg(feature = "client")]
pub(crate) fn watch(fd: OwnedFd) -> std::io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd keeps its descriptor open and the same for as long as it lives.
    unsafe { tokio::io::unix::AsyncFd::register(fd) }.map_err(Into::into)
}

/// Gives this thread a mount namespace and a working directory of its own.
#[cfg(test)]
pub(crate) fn unshare_thread_mounts() -> rustix::io::Result<()> {
    // SAFETY: what is unshared is not memory or descriptors; the test's thread ends with it.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS | libc::CLONE_FS) }.into()).map(drop)
}

/// Marks every descriptor from `first` on as close-on-exec.
pub(crate) fn close_on_exec_from(first: u32) -> rustix::io::Result<()> {
    // SAFETY: this changes flags of descriptors, not who owns them.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })
    .map(drop)
}

/// Closes every descriptor from `first` on, of which nothing in this process may own any.
pub(crate) fn close_from(first: u32) -> rustix::io::Result<()> {
    // SAFETY: called before the process has opened anything of its own; see the doc comment.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// Takes over standard input, which the shim is given as its first connection.
pub(crate) fn take_stdin() -> OwnedFd {
    // SAFETY: called once, at the start of a process that never uses std::io::stdin.
    unsafe { OwnedFd::from_raw_fd(0) }
}

/// Filters this thread's system calls from here on.
pub(crate) fn load_seccomp(program: &[FilterInstruction]) -> rustix::io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::INVAL)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: FilterInstruction has the layout of sock_filter, and the kernel copies the program.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    })
    .map(drop)
}

/// Gives this process a session keyring of its own, instead of the daemon's.
pub(crate) fn new_session_keyring() -> rustix::io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for an anonymous keyring.
    match check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, anonymous) })
    {
        // Kernels without keyrings have none to leak.
        Ok(_) | Err(Errno::NOSYS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Default dispositions for all signals and an empty mask, as a program expects to start with.
pub(crate) fn reset_signals() -> rustix::io::Result<()> {
    // The kernel's structure: handler, flags, restorer, mask. Zero is the default for all of them.
    let default = [0u64; 4];
    for signal in 1..=crate::signal::SIGNAL_MAX {
        if matches!(signal, libc::SIGKILL | libc::SIGSTOP) {
            continue;
        }
        // SAFETY: installs no handler. The C library's call would leave out the signals it uses
        // itself, which an ancestor may have ignored.
        check(unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        })?;
    }
    set_signal_mask(libc::SIG_SETMASK, &[])
}

/// Blocks these signals, so that they are only seen through a [`signal_descriptor`].
pub(crate) fn block_signals(signals: &[i32]) -> rustix::io::Result<()> {
    set_signal_mask(libc::SIG_BLOCK, signals)
}

fn set_signal_mask(how: i32, signals: &[i32]) -> rustix::io::Result<()> {
    let set = signal_set(signals);
    // SAFETY: both pointers are to a valid set, or null where the old set is not wanted.
    check(unsafe { libc::sigprocmask(how, &raw const set, std::ptr::null_mut()) }.into()).map(drop)
}

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: sigemptyset makes the zeroed set a valid one; sigaddset only writes to it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

/// A descriptor that becomes readable when one of these blocked signals arrives.
pub(crate) fn signal_descriptor(signals: &[i32]) -> rustix::io::Result<OwnedFd> {
    let set = signal_set(signals);
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the set is valid, and the new descriptor belongs to nobody else.
    unsafe {
        let descriptor = check(libc::signalfd(-1, &raw const set, flags).into())?;
        let descriptor = i32::try_from(descriptor).map_err(|_| Errno::RANGE)?;
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

/// Brings up the loopback of the network namespace this thread is in.
pub(crate) fn loopback_up() -> rustix::io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: an all-zero ifreq is a valid one; the kernel reads and writes only within it.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l'.cast_signed();
        request.ifr_name[1] = b'o'.cast_signed();
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request).into())?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as i16;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request).into())?;
    }
    Ok(())
}

/// Sets the supplementary groups of this thread, which is the only one.
pub(crate) fn set_groups(groups: &[u32]) -> rustix::io::Result<()> {
    // SAFETY: the kernel reads exactly that many ids.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// Sets all of a thread's user or group ids; the thread is the only one of its process.
pub(crate) fn set_ids(uid: u32, gid: u32) -> rustix::io::Result<()> {
    // SAFETY: these take plain numbers. The raw calls are used because the C library's would signal
    // other threads, of which there are none.
    unsafe {
        check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    Ok(())
}

/// Sets the effective, permitted and inheritable capabilities of this thread from 64-bit masks.
pub(crate) fn set_capabilities(
    effective: u64,
    permitted: u64,
    inheritable: u64,
) -> rustix::io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let low = |mask: u64| (mask & u64::from(u32::MAX)) as u32;
    let high = |mask: u64| (mask >> 32) as u32;
    let sets = [
        low(effective),
        low(permitted),
        low(inheritable),
        high(effective),
        high(permitted),
        high(inheritable),
    ];
    // SAFETY: version 3 reads the header and two triples of 32-bit masks.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) }).map(drop)
}

/// Removes one capability from what this thread and its children can ever have.
pub(crate) fn drop_from_bounding_set(capability: u32) -> rustix::io::Result<()> {
    // SAFETY: takes plain numbers.
    check(
        unsafe {
            libc::prctl(
                libc::PR_CAPBSET_DROP,
                libc::c_ulong::from(capability),
                0,
                0,
                0,
            )
        }
        .into(),
    )
    .map(drop)
}

/// Whether this thread's children can have a capability; `EINVAL` if the kernel knows no such.
pub(crate) fn is_in_bounding_set(capability: u32) -> rustix::io::Result<bool> {
    // SAFETY: takes plain numbers.
    check(
        unsafe {
            libc::prctl(
                libc::PR_CAPBSET_READ,
                libc::c_ulong::from(capability),
                0,
                0,
                0,
            )
        }
        .into(),
    )
    .map(|answer| answer == 1)
}

/// Sends a signal by number, also such as have no name.
pub(crate) fn kill(pid: i32, signal: i32) -> rustix::io::Result<()> {
    // SAFETY: takes plain numbers.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// Has the kernel kill this process when its parent dies.
pub(crate) fn die_with_parent() -> rustix::io::Result<()> {
    // SAFETY: takes plain numbers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) }.into()).map(drop)
}

/// Makes orphaned descendants this process's children.
pub(crate) fn become_subreaper() -> rustix::io::Result<()> {
    // SAFETY: takes plain numbers.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }.into()).map(drop)
}

/// Replaces the program of this process. Only returns on failure.
pub(crate) fn execve(path: &CStr, args: &[CString], env: &[CString]) -> Errno {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings
            .iter()
            .map(|text| text.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: path is a C string, args and env are null-terminated arrays of C strings that live
    // until the call returns, if it does.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Ends this process at once, without running anything that was meant for its parent.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Returns to the system what the heap does not use.
pub(crate) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches only memory the allocator has free.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Loads a device program and attaches it to a version 2 cgroup, where it stays until the cgroup is
/// removed. `instructions` is an extended BPF program of 8-byte instructions.
pub(crate) fn attach_device_program(
    cgroup: impl AsFd,
    instructions: &[u64],
) -> rustix::io::Result<()> {
    const PROG_LOAD: libc::c_long = 5;
    const PROG_ATTACH: libc::c_long = 8;
    const TYPE_CGROUP_DEVICE: u32 = 15;
    const ATTACH_CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;
    #[repr(C)]
    struct Load {
        program_type: u32,
        instruction_count: u32,
        instructions: *const c_void,
        license: *const libc::c_char,
        // The rest of the kernel's structure: log level and buffer, flags and later additions.
        rest: [u64; 12],
    }
    #[repr(C)]
    struct Attach {
        target: i32,
        program: i32,
        attach_type: u32,
        flags: u32,
        rest: [u64; 4],
    }
    let load = Load {
        program_type: TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(instructions.len()).map_err(|_| Errno::INVAL)?,
        instructions: instructions.as_ptr().cast(),
        license: c"Apache-2.0".as_ptr(),
        rest: [0; 12],
    };
    // SAFETY: the pointers in `load` are valid for the call, and the size given is the structure's.
    let program = unsafe {
        let program = check(libc::syscall(
            libc::SYS_bpf,
            PROG_LOAD,
            &raw const load,
            size_of::<Load>(),
        ))?;
        OwnedFd::from_raw_fd(i32::try_from(program).map_err(|_| Errno::RANGE)?)
    };
    let attach = Attach {
        target: cgroup.as_fd().as_raw_fd(),
        program: program.as_raw_fd(),
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
        rest: [0; 4],
    };
    // SAFETY: both descriptors are open, and the size given is the structure's.
    check(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_ATTACH,
            &raw const attach,
            size_of::<Attach>(),
        )
    })
    .map(drop)
}
