//! ZooKeeper's compressed snapshots: gzip, and Snappy in xerial's framing.
//!
//! ```text
//! xerial  82 "SNAPPY" 00 | 4 version 1 | 4 compatible version 1 | blocks
//! block   4 length n | n raw Snappy
//! ```
//!
//! Source: ZooKeeper `SnapStream`, xerial `SnappyOutputStream`. Numbers are big-endian.

use std::io::{self, Read, Write};

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use zabra_core::store::names::Compression;

const XERIAL_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";

/// How many bytes go into one block: xerial's default.
const BLOCK_BYTES: usize = 32 << 10;

/// The longest block that is read, compressed or not. Xerial's blocks are as long as its user
/// configures.
const BLOCK_BYTES_MAX: usize = 64 << 20;

/// The uncompressed content of a file.
pub(super) fn reader(file: impl Read + 'static, compression: Compression) -> Box<dyn Read> {
    match compression {
        Compression::Gzip => Box::new(MultiGzDecoder::new(file)),
        Compression::None => Box::new(file),
        Compression::Snappy => Box::new(SnappyReader::new(io::BufReader::new(file))),
    }
}

/// Compresses a snapshot piece by piece.
#[derive(Debug)]
pub(super) enum Compressor {
    Gzip(GzEncoder<Vec<u8>>),
    None,
    Snappy { begun: bool, block: Vec<u8> },
}

impl Compressor {
    pub(super) fn new(compression: Compression) -> Self {
        match compression {
            Compression::Gzip => {
                // As Java's GZIPOutputStream does.
                Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::default()))
            }
            Compression::None => Self::None,
            Compression::Snappy => Self::Snappy {
                begun: false,
                block: Vec::new(),
            },
        }
    }

    /// Takes `bytes`, and appends to `out` what is ready to be written.
    pub(super) fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => {
                encoder.write_all(bytes)?;
                out.append(encoder.get_mut());
            }
            Self::None => out.extend_from_slice(bytes),
            Self::Snappy { begun, block } => {
                begin_snappy(begun, out);
                block.extend_from_slice(bytes);
                let whole = block.len() / BLOCK_BYTES * BLOCK_BYTES;
                for bytes in block.get(..whole).unwrap_or_default().chunks(BLOCK_BYTES) {
                    write_block(bytes, out)?;
                }
                block.drain(..whole);
            }
        }
        Ok(())
    }

    /// Appends the last bytes of the file to `out`.
    pub(super) fn finish(self, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => out.append(&mut encoder.finish()?),
            Self::None => {}
            Self::Snappy { mut begun, block } => {
                begin_snappy(&mut begun, out);
                if !block.is_empty() {
                    write_block(&block, out)?;
                }
            }
        }
        Ok(())
    }
}

fn begin_snappy(begun: &mut bool, out: &mut Vec<u8>) {
    if !*begun {
        out.extend_from_slice(&XERIAL_HEADER);
        *begun = true;
    }
}

fn write_block(bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let block = snap::raw::Encoder::new().compress_vec(bytes)?;
    let length = u32::try_from(block.len()).map_err(io::Error::other)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&block);
    Ok(())
}

struct SnappyReader<R> {
    inner: R,
    begun: bool,
    block: Vec<u8>,
    /// How much of `block` has been handed out.
    taken: usize,
}

impl<R: Read> SnappyReader<R> {
    const fn new(inner: R) -> Self {
        Self {
            inner,
            begun: false,
            block: Vec::new(),
            taken: 0,
        }
    }

    fn read_header(&mut self) -> io::Result<()> {
        let mut header = [0; XERIAL_HEADER.len()];
        self.inner.read_exact(&mut header)?;
        // The versions after the magic are not checked: there is but one format.
        if header.starts_with(b"\x82SNAPPY\0") {
            self.begun = true;
            return Ok(());
        }
        Err(invalid("expected xerial's Snappy header, found none"))
    }

    /// Reads the next block; returns whether there was one.
    fn next_block(&mut self) -> io::Result<bool> {
        let mut length = [0; 4];
        let first = self.inner.read(&mut length)?;
        if first == 0 {
            return Ok(false);
        }
        let rest = length.get_mut(first..).unwrap_or_default();
        self.inner.read_exact(rest)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > BLOCK_BYTES_MAX {
            return Err(invalid(
                "expected a Snappy block of at most 64 MiB, found a longer one",
            ));
        }
        let mut compressed = Vec::new();
        let read = self.inner.by_ref().take(length as u64);
        if { read }.read_to_end(&mut compressed)? < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if snap::raw::decompress_len(&compressed)? > BLOCK_BYTES_MAX {
            return Err(invalid(
                "expected a Snappy block of at most 64 MiB, found a longer one",
            ));
        }
        self.block = snap::raw::Decoder::new().decompress_vec(&compressed)?;
        self.taken = 0;
        Ok(true)
    }
}

impl<R: Read> Read for SnappyReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.begun {
            self.read_header()?;
        }
        while self.taken == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let mut left = self.block.get(self.taken..).unwrap_or_default();
        let count = left.read(buffer)?;
        self.taken += count;
        Ok(count)
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
