//! A loop device on a file without a name, which frees itself with its last user.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

/// `LOOP_CTL_GET_FREE` of linux/loop.h.
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
/// `LOOP_CONFIGURE` of linux/loop.h (Linux 5.8).
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
/// `LO_FLAGS_AUTOCLEAR` of linux/loop.h.
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// `LO_FLAGS_DIRECT_IO` of linux/loop.h: the disk is cached once, in the mount, and charged to the
/// sandbox; not a second time for the host. Kernels ignore it where the file system cannot do it.
const LO_FLAGS_DIRECT_IO: u32 = 16;
/// How often a free device may be snatched away between asking and taking: by then as many others
/// have got one.
const TRIES: u32 = 64;

/// `struct loop_config` of linux/loop.h, with `struct loop_info64` in it.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// An attached device; it lasts as long as this or a mount of it.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    /// Its path.
    pub(crate) path: PathBuf,
    _open: File,
}

/// Attaches a file to a free device.
pub(crate) fn attach(file: OwnedFd) -> io::Result<LoopDevice> {
    let control =
        File::options().read(true).write(true).open("/dev/loop-control").map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("/dev/loop-control: {error}; is the kernel module loop there?"),
            )
        })?;
    for _try in 0..TRIES {
        let path = PathBuf::from(format!("/dev/loop{}", free_number(&control)?));
        let open = File::options().read(true).write(true).open(&path)?;
        match configure(&open, &file) {
            Ok(()) => return Ok(LoopDevice { path, _open: open }),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "no loop device could be had"))
}

#[expect(unsafe_code, reason = "rustix has no loop devices")]
fn free_number(control: &File) -> io::Result<i32> {
    // SAFETY: the descriptor is open, and this request takes no argument.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
    if number < 0 { Err(io::Error::last_os_error()) } else { Ok(number) }
}

#[expect(unsafe_code, reason = "rustix has no loop devices")]
fn configure(device: &File, file: &OwnedFd) -> io::Result<()> {
    let config = LoopConfig {
        fd: file.as_raw_fd().cast_unsigned(),
        block_size: 0,
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        sizelimit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
        reserved: [0; 8],
    };
    // SAFETY: both descriptors are open, and the kernel only reads the structure.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
