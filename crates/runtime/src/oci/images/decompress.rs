//! Layers are archives, plain or compressed; which one it is say the first bytes.

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use std::io::{self, BufRead, BufReader, Read};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Skippable frames, which may come first, begin with one of sixteen numbers: this and the next ones.
const ZSTD_SKIPPABLE_FIRST: u8 = 0x50;
const ZSTD_SKIPPABLE_REST: [u8; 3] = [0x2a, 0x4d, 0x18];

/// Bytes read from the blob at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// What the blob unpacks to.
pub(super) fn decompress(blob: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut blob = BufReader::with_capacity(BUFFER_BYTES, blob);
    let start = blob.fill_buf()?;
    let is_skippable =
        start.len() >= 4 && start[0] & 0xf0 == ZSTD_SKIPPABLE_FIRST && start[1..4] == ZSTD_SKIPPABLE_REST;
    Ok(if start.starts_with(&GZIP) {
        Box::new(MultiGzDecoder::new(blob))
    } else if start.starts_with(&ZSTD) || is_skippable {
        Box::new(ZstdReader { source: blob, decoder: FrameDecoder::new(), is_within_frame: false })
    } else {
        Box::new(blob)
    })
}

/// Reads all frames of a zstd file; some tools write many.
struct ZstdReader<R> {
    source: R,
    decoder: FrameDecoder,
    is_within_frame: bool,
}

impl<R: BufRead> ZstdReader<R> {
    /// Begins the next frame; false at the end of the file.
    fn begin_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let skipped = io::copy(&mut (&mut self.source).take(length.into()), &mut io::sink())?;
                    if skipped < u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for ZstdReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.is_within_frame {
                if !self.begin_frame()? {
                    return Ok(0);
                }
                self.is_within_frame = true;
            }
            while self.decoder.can_collect() < buffer.len() && !self.decoder.is_finished() {
                let strategy = ruzstd::decoding::BlockDecodingStrategy::UptoBytes(buffer.len());
                self.decoder.decode_blocks(&mut self.source, strategy).map_err(io::Error::other)?;
            }
            let n = self.decoder.read(buffer)?;
            if n > 0 {
                return Ok(n);
            }
            self.is_within_frame = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Write};

    fn unpacked(blob: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        decompress(Cursor::new(blob))?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn each_compression_is_known_by_its_first_bytes_and_all_its_parts_are_read() {
        let bytes: Vec<u8> = (0..300_000u32).map(|at| (at / 7 % 251) as u8).collect();
        let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        for blob in [
            bytes.clone(),
            gzip(&bytes),
            [gzip(&bytes[..1000]), gzip(&bytes[1000..])].concat(),
            zstd(&bytes),
            [zstd(&bytes[..1000]), skippable.clone(), zstd(&bytes[1000..])].concat(),
            [skippable, zstd(&bytes)].concat(),
        ] {
            assert_eq!(unpacked(blob).unwrap(), bytes);
        }
        assert_eq!(unpacked(Vec::new()).unwrap(), b"");
    }

    #[test]
    fn a_blob_that_was_cut_is_an_error() {
        let bytes = vec![7; 100_000];
        for whole in [gzip(&bytes), zstd(&bytes)] {
            for length in [5, whole.len() / 2, whole.len() - 1] {
                assert!(unpacked(whole[..length].to_vec()).is_err(), "{length} of {}", whole.len());
            }
        }
    }
}
