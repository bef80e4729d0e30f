//! A TAP device: whole frames, with what is left to do on each told in a header.
#![allow(
    unsafe_code,
    reason = "TAP devices are made by ioctl, which no safe wrapper offers"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::segment::VNET_HEADER_LEN;

const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;
const TUN_F_CSUM: libc::c_ulong = 0x01;
const TUN_F_TSO4: libc::c_ulong = 0x02;
const TUN_F_TSO6: libc::c_ulong = 0x04;

/// Numbers of `linux/if_tun.h`.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;

/// A device, gone when closed: without whoever seals its frames there is no way out.
#[derive(Debug)]
pub(crate) struct Device(File);

impl Device {
    /// Makes the device in the network namespace of the calling thread.
    pub(crate) fn create(name: &str) -> io::Result<Self> {
        let mut request = [0u8; 40];
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(['/', '\0']) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name:?} is not a device name of 1 to 15 bytes"),
            ));
        }
        request[..name.len()].copy_from_slice(name.as_bytes());
        let flags = (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR).to_ne_bytes();
        request[16..18].copy_from_slice(&flags);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")?;
        let fd = file.as_raw_fd();
        // SAFETY: the request is a `struct ifreq` of 40 bytes that outlives the call.
        check(unsafe { libc::ioctl(fd, TUNSETIFF as _, request.as_mut_ptr()) })?;
        let header_len = libc::c_int::try_from(VNET_HEADER_LEN).expect("ten");
        // SAFETY: the argument is a pointer to an int that outlives the call.
        check(unsafe { libc::ioctl(fd, TUNSETVNETHDRSZ as _, &raw const header_len) })?;
        let offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
        // SAFETY: the argument is a number, not a pointer.
        if let Err(error) = check(unsafe { libc::ioctl(fd, TUNSETOFFLOAD as _, offloads) }) {
            // The kernel then hands over finished packets one at a time.
            tracing::warn!(%error, device = name, "no segmentation offload");
        }
        Ok(Self(file))
    }

    /// Takes over a device that another process has made in this way.
    pub(crate) fn adopt(fd: OwnedFd) -> Self {
        Self(fd.into())
    }

    /// The device for another process, which has to be the only one to use it from then on.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        Ok(self.0.try_clone()?.into())
    }

    /// Reads one header and frame; `WouldBlock` when there is none.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.0, buffer)?)
    }

    /// Writes one header and frame.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.0, bytes)?;
        Ok(())
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
