//! Decompression of archives and layers, chosen by their first bytes rather than by what is said
//! of them.
//!
//! Both decompressors are Rust throughout (`flate2` over `zlib-rs`, and `ruzstd`), because layers
//! are foreign input to a daemon that is root. `ruzstd` is maintained and widely used; libzstd is
//! faster by a factor, but a layer's time goes to writing files, and it would be the one C library
//! parsing what strangers made.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Input is taken in pieces of this size, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;
/// Window a zstd frame may ask for, in bytes: what libzstd accepts without extra options (2^27).
const ZSTD_WINDOW_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Bytes that tell the formats apart.
const MAGIC_BYTES: usize = 6;

/// A stream, decompressed if it was compressed.
pub(crate) enum Decompressed<R: Read> {
    Plain(Input<R>),
    Gzip(Box<MultiGzDecoder<Input<R>>>),
    Zstd(Box<ZstdReader<Input<R>>>),
}

/// What was read to recognise the format, and then the rest.
type Input<R> = BufReader<io::Chain<io::Cursor<Vec<u8>>, R>>;

/// Recognises the format of `reader` and decompresses it.
///
/// # Errors
/// Those of `reader`; [`io::ErrorKind::Unsupported`] for a known format that is not read.
pub(crate) fn decompress<R: Read>(mut reader: R) -> io::Result<Decompressed<R>> {
    let mut magic = Vec::with_capacity(MAGIC_BYTES);
    reader
        .by_ref()
        .take(MAGIC_BYTES as u64)
        .read_to_end(&mut magic)?;
    let format = Format::of(&magic);
    let input = BufReader::with_capacity(BUFFER_BYTES, io::Cursor::new(magic).chain(reader));
    Ok(match format {
        Format::Plain => Decompressed::Plain(input),
        Format::Gzip => Decompressed::Gzip(Box::new(MultiGzDecoder::new(input))),
        Format::Zstd => Decompressed::Zstd(Box::new(ZstdReader::new(input))),
        Format::Other(name) => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("it is compressed with {name}; gzip and zstd are supported"),
            ));
        }
    })
}

enum Format {
    Plain,
    Gzip,
    Zstd,
    Other(&'static str),
}

impl Format {
    fn of(magic: &[u8]) -> Self {
        let is = |bytes: &[u8]| magic.starts_with(bytes);
        if is(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if is(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable_frame(magic) {
            Self::Zstd
        } else if is(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
            Self::Other("xz")
        } else if is(b"BZh") {
            Self::Other("bzip2")
        } else if is(&[0x04, 0x22, 0x4d, 0x18]) {
            Self::Other("lz4")
        } else {
            Self::Plain
        }
    }
}

/// A zstd frame that carries no data (RFC 8878, 3.1.2), with which some builders begin a layer.
fn is_skippable_frame(magic: &[u8]) -> bool {
    matches!(magic, [first, 0x2a, 0x4d, 0x18, ..] if first & 0xf0 == 0x50)
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buf),
            Self::Gzip(reader) => reader.read(buf),
            Self::Zstd(reader) => reader.read(buf),
        }
    }
}

/// Decodes any number of zstd frames one after the other, stepping over skippable ones, and
/// checks their checksums; the library's own reader stops after the first.
pub(crate) struct ZstdReader<R> {
    source: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> ZstdReader<R> {
    fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(ZSTD_WINDOW_BYTES_MAX);
        Self {
            source,
            decoder,
            in_frame: false,
        }
    }

    /// Goes to the next frame with data; false at the end of the input.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped =
                        io::copy(&mut self.source.by_ref().take(length), &mut io::sink())?;
                    if skipped < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(damaged(error)),
            }
        }
        Ok(false)
    }

    fn check_sum(&self) -> io::Result<()> {
        match (
            self.decoder.get_checksum_from_data(),
            self.decoder.get_calculated_checksum(),
        ) {
            (Some(written), Some(calculated)) if written != calculated => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the checksum of a zstd frame is wrong",
            )),
            (_, _) => Ok(()),
        }
    }
}

impl<R: BufRead> Read for ZstdReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame {
                if !self.next_frame()? {
                    return Ok(0);
                }
                self.in_frame = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(damaged)?;
            }
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(buf);
            }
            self.check_sum()?;
            self.in_frame = false;
        }
    }
}

fn damaged(error: FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("a Vec takes any bytes");
        encoder.finish().expect("a Vec takes any bytes")
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn each_format_is_recognised_and_joined_streams_are_one() {
        let text: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let skippable = [0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let twice = [text.clone(), text.clone()].concat();
        let table = [
            (Vec::new(), Vec::new()),
            (b"abc".to_vec(), b"abc".to_vec()),
            (text.clone(), text.clone()),
            (gzip(&text), text.clone()),
            ([gzip(&text), gzip(&text)].concat(), twice.clone()),
            (zstd(&text), text.clone()),
            ([zstd(&text), zstd(&text)].concat(), twice.clone()),
            (
                [
                    &skippable[..],
                    &zstd(&text),
                    &skippable,
                    &zstd(&text),
                    &skippable,
                ]
                .concat(),
                twice,
            ),
        ];
        for (row, (input, expected)) in table.into_iter().enumerate() {
            assert!(read(&input).expect("readable") == expected, "row {row}");
        }
    }

    #[test]
    fn a_cut_stream_is_an_early_end_wherever_it_is_cut() {
        let text: Vec<u8> = (0..3_000_u32).flat_map(u32::to_le_bytes).collect();
        for whole in [gzip(&text), zstd(&text)] {
            for cut in (MAGIC_BYTES..whole.len())
                .step_by(7)
                .chain([whole.len() - 1])
            {
                let error = read(&whole[..cut]).expect_err("cut");
                let error = crate::Error::read("it", error, 0);
                assert!(
                    matches!(error, crate::Error::Truncated { .. }),
                    "{cut}: {error:?}"
                );
            }
        }
    }

    #[test]
    fn other_formats_are_named() {
        let error = read(b"\xfd7zXZ\0rest").expect_err("xz is not read");
        assert!(error.to_string().contains("xz"), "{error}");
    }
}
