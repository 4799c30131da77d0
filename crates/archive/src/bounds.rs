//! How much of an archive is taken, and what in it.

/// What is done with an entry that is a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Devices {
    /// The archive is refused.
    Refuse,
    /// It is passed over: images have some in `/dev`, over which a sandbox mounts its own.
    Skip,
}

/// What names that begin with `.wh.` mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteouts {
    /// The archive is a layer: they say what is gone, and are refused where they do not say it
    /// rightly.
    Take,
    /// The archive is not, and is refused: such a file could never be part of a layer.
    Refuse,
}

/// How much of an archive is taken, and what in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most entries.
    pub entries: u64,
    /// Most bytes of the uncompressed archive, with its headers and its end.
    pub bytes: u64,
    /// Most bytes of all paths together; the reader keeps them to find what comes twice.
    pub path_bytes: u64,
    /// See [`Devices`].
    pub devices: Devices,
    /// See [`Whiteouts`].
    pub whiteouts: Whiteouts,
}

impl Bounds {
    /// For layers. The largest public images for machine learning have layers of some 10 GB and
    /// 200,000 files. Paths may have to be in memory several times: what is taken here costs whoever
    /// takes a layer in some 500 MB at worst, of an archive that is a thousandth of that.
    pub const LAYER: Self = Self {
        entries: 500_000,
        bytes: 32 << 30,
        path_bytes: 64 << 20,
        devices: Devices::Skip,
        whiteouts: Whiteouts::Take,
    };

    /// For the context of a build. A checkout with its dependencies has some 100,000 files; the
    /// paths are kept inside the sandbox, whose memory is small.
    pub const CONTEXT: Self = Self {
        entries: 250_000,
        bytes: 8 << 30,
        path_bytes: 32 << 20,
        devices: Devices::Refuse,
        whiteouts: Whiteouts::Refuse,
    };
}
