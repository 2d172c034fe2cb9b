//! TCP ports that belong to one test. No other test gets them, not even in another process, until they are dropped.

use std::{
    env,
    fs::{self, File},
    net::TcpListener,
    ops::Range,
    process,
};

/// Ports of servers: below the range from which systems take ports for outgoing connections, so that a killed server finds
/// its port free again, and above [`BLOCKS`].
const RANGE: Range<u16> = 20_000..30_000;

/// A port that belongs to one test.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// The kernel releases the lock when the file is closed, however this process ends.
    _lock: File,
}

impl Port {
    /// Takes a free port.
    ///
    /// # Panics
    /// When no port is free.
    pub fn take() -> Self {
        let locks = env::temp_dir().join("rbee-test-ports");
        fs::create_dir_all(&locks).expect("the folder for port locks can be made");
        let first = process::id().wrapping_mul(13) as u16 % (RANGE.end - RANGE.start);
        (RANGE.start + first..RANGE.end)
            .chain(RANGE)
            .find_map(|number| {
                let file = locks.join(number.to_string());
                let lock = File::options().create(true).truncate(false).write(true).open(file).ok()?;
                lock.try_lock().ok()?;
                TcpListener::bind(("0.0.0.0", number)).ok()?;
                Some(Self { number, _lock: lock })
            })
            .unwrap_or_else(|| panic!("every port of {RANGE:?} is taken"))
    }

    /// Number of the port.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Ports for the workers of one test's hives: a block that belongs to one test.
#[derive(Debug)]
pub struct PortBlock {
    first: u16,
    count: u16,
    _locks: Vec<File>,
}

/// Ports of workers: below the ports of servers.
const BLOCKS: Range<u16> = 10_000..20_000;

/// Number of ports in a block.
const BLOCK: u16 = 10;

impl PortBlock {
    /// Takes a block of ten free ports.
    ///
    /// # Panics
    /// When no block is free.
    pub fn take() -> Self {
        Self::take_of(BLOCK)
    }

    /// Takes `count` free ports in a row.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn take_of(count: u16) -> Self {
        let locks = env::temp_dir().join("rbee-test-ports");
        fs::create_dir_all(&locks).expect("the folder for port locks can be made");
        let lock = |first: u16| {
            let file = locks.join(format!("block-{first}"));
            let lock = File::options().create(true).truncate(false).write(true).open(file).ok()?;
            lock.try_lock().ok()?;
            Some(lock)
        };
        BLOCKS
            .step_by(usize::from(BLOCK))
            .filter(|first| *first + count <= BLOCKS.end)
            .find_map(|first| {
                let locks = (first..first + count).step_by(usize::from(BLOCK)).map(lock).collect::<Option<Vec<_>>>()?;
                let free = (first..first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
                free.then_some(Self { first, count, _locks: locks })
            })
            .unwrap_or_else(|| panic!("{BLOCKS:?} has no {count} free ports in a row"))
    }

    /// The port at `index`, from 0.
    pub fn port(&self, index: u16) -> u16 {
        self.first + index
    }

    /// The whole block, as `rbee hive --ports` takes it.
    pub fn range(&self) -> String {
        self.part(0, self.count - 1)
    }

    /// A part of the block, from index `first` to index `last`.
    pub fn part(&self, first: u16, last: u16) -> String {
        format!("{}-{}", self.port(first), self.port(last))
    }
}
