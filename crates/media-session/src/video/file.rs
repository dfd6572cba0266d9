//! Video files: IVF (VP8, VP9) and H.264 byte streams (annex B), read and written as they are.

use super::VideoFrame;
use super::payload::{START_CODE, is_key, size, units};
use bytes::{Bytes, BytesMut};
use siprtc_core::media::VideoCodec;
use siprtc_core::{Error, Fault, Result};
use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const READ: &str = "read video file";
const WRITE: &str = "write video file";
/// A longer frame is none.
const LONGEST_FRAME: usize = 8 << 20;
/// An H.264 byte stream says nothing of time that could be relied on.
const FRAMES_PER_SECOND: u32 = 30;
const SIGNATURE: &[u8; 4] = b"DKIF";
const HEADER: u16 = 32;

/// Reads frame by frame.
pub(crate) struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    form: Form,
    /// Of the first frame, and of the last key frame that was read.
    start: u64,
    key: Option<(u64, u64)>,
    /// The next frame's place in the file, and its number.
    at: u64,
    number: u64,
}

enum Form {
    /// Ticks of the timestamps are `numerator / denominator` seconds.
    Ivf { numerator: u32, denominator: u32 },
    Stream {
        /// Read, and not yet a whole frame.
        rest: BytesMut,
        is_over: bool,
    },
}

impl Reader {
    /// Opens it, and says what is in there.
    ///
    /// # Errors
    /// [`Fault::ConfigInvalid`] when it cannot be opened or is no such file.
    pub(crate) fn open(path: &Path) -> Result<(Self, VideoCodec)> {
        let file = File::open(path).map_err(|error| {
            Error::new(
                Fault::ConfigInvalid,
                READ,
                format!("{} cannot be opened", path.display()),
            )
            .advice("name a file that is there and may be read")
            .caused_by(error)
        })?;
        let mut file = BufReader::new(file);
        let mut head = Vec::new();
        (&mut file)
            .take(u64::from(HEADER))
            .read_to_end(&mut head)
            .map_err(|error| failed(path, error))?;
        let (form, codec, start) = form(&head).ok_or_else(|| {
            Error::new(
                Fault::ConfigInvalid,
                READ,
                format!("{} is neither IVF with VP8 or VP9 nor an H.264 byte stream", path.display()),
            )
            .advice("convert it: ffmpeg -i IN -c:v libvpx OUT.ivf, or -c:v libx264 -bsf:v h264_mp4toannexb OUT.h264")
        })?;
        let mut reader = Reader {
            path: path.to_owned(),
            file,
            form,
            start,
            key: None,
            at: start,
            number: 0,
        };
        reader.seek(start, 0)?;
        Ok((reader, codec))
    }

    /// The next frame; its timestamp counts from the file's beginning. `None` at the end.
    pub(crate) fn next(&mut self, codec: VideoCodec) -> Result<Option<VideoFrame>> {
        let (at, number) = (self.at, self.number);
        let read = match self.form {
            Form::Ivf {
                numerator,
                denominator,
            } => self.ivf(numerator, denominator),
            Form::Stream { .. } => self.unit(),
        };
        let path = &self.path;
        let Some((data, timestamp)) = read.map_err(|error| failed(path, error))? else {
            return Ok(None);
        };
        let is_key = is_key(codec, &data);
        if is_key {
            self.key = Some((at, number));
        }
        Ok(Some(VideoFrame {
            data,
            is_key,
            timestamp,
        }))
    }

    /// The number of the last key frame that was read.
    pub(crate) fn last_key(&self) -> Option<u64> {
        self.key.map(|(_, number)| number)
    }

    /// Back to it, or to the beginning if there was none.
    pub(crate) fn back(&mut self) -> Result<()> {
        let (at, number) = self.key.unwrap_or((self.start, 0));
        self.seek(at, number)
    }

    /// From the beginning.
    pub(crate) fn rewind(&mut self) -> Result<()> {
        self.seek(self.start, 0)
    }

    fn seek(&mut self, at: u64, number: u64) -> Result<()> {
        if let Form::Stream { rest, is_over } = &mut self.form {
            rest.clear();
            *is_over = false;
        }
        (self.at, self.number) = (at, number);
        self.file
            .seek(SeekFrom::Start(at))
            .map(|_| ())
            .map_err(|error| failed(&self.path, error))
    }

    fn ivf(&mut self, numerator: u32, denominator: u32) -> std::io::Result<Option<(Bytes, u32)>> {
        let mut head = [0; 12];
        match self.file.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let [a, b, c, d, ticks @ ..] = head;
        let length = u32::from_le_bytes([a, b, c, d]);
        if length as usize > LONGEST_FRAME {
            return Err(std::io::Error::new(
                ErrorKind::InvalidData,
                format!("a frame of {length} octets"),
            ));
        }
        let mut data = vec![0; length as usize];
        match self.file.read_exact(&mut data) {
            Ok(()) => {}
            // It is being written, or was cut: what is whole was played.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        self.at += 12 + u64::from(length);
        self.number += 1;
        let ticks = u128::from(u64::from_le_bytes(ticks));
        let clock = u128::from(VideoCodec::CLOCK_RATE) * u128::from(numerator);
        Ok(Some((
            data.into(),
            (ticks * clock / u128::from(denominator.max(1))) as u32,
        )))
    }

    /// The NAL units of one picture (H.264 section 7.4.1.2.3, as far as encoders of one slice or more need it).
    fn unit(&mut self) -> std::io::Result<Option<(Bytes, u32)>> {
        let Form::Stream { rest, is_over } = &mut self.form else {
            return Ok(None);
        };
        let mut looked_at = 0;
        let length = loop {
            if let Some(length) = picture(rest, &mut looked_at) {
                break length;
            }
            if *is_over {
                break rest.len();
            }
            if rest.len() > LONGEST_FRAME {
                return Err(std::io::Error::new(ErrorKind::InvalidData, "no picture ends"));
            }
            let mut more = [0; 65_536];
            let got = self.file.read(&mut more)?;
            *is_over = got == 0;
            rest.extend_from_slice(&more[..got]);
        };
        if length == 0 {
            return Ok(None);
        }
        let data = rest.split_to(length).freeze();
        self.at += length as u64;
        let timestamp = self
            .number
            .wrapping_mul(u64::from(VideoCodec::CLOCK_RATE / FRAMES_PER_SECOND));
        self.number += 1;
        Ok(Some((data, timestamp as u32)))
    }
}

/// What the file's first octets say.
fn form(head: &[u8]) -> Option<(Form, VideoCodec, u64)> {
    if head.starts_with(&START_CODE) || head.starts_with(&START_CODE[1..]) {
        let form = Form::Stream {
            rest: BytesMut::new(),
            is_over: false,
        };
        return Some((form, VideoCodec::H264, 0));
    }
    let number =
        |at: usize| -> Option<u32> { Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?)) };
    let codec = match head.get(8..12)? {
        b"VP80" => VideoCodec::Vp8,
        b"VP90" => VideoCodec::Vp9,
        _ => return None,
    };
    let start = u16::from_le_bytes(head.get(6..8)?.try_into().ok()?);
    let (denominator, numerator) = (number(16)?, number(20)?);
    let is_ivf = head.starts_with(SIGNATURE) && start >= HEADER && denominator > 0 && numerator > 0;
    is_ivf.then_some((
        Form::Ivf {
            numerator,
            denominator,
        },
        codec,
        u64::from(start),
    ))
}

/// Where the first picture of a byte stream ends, if its end is there. `looked_at` keeps the place for the next time.
fn picture(stream: &[u8], looked_at: &mut usize) -> Option<usize> {
    let mut at = *looked_at;
    let mut has_slice = stream.get(..at).is_some_and(|before| units(before).any(is_slice));
    while let Some(found) = stream
        .get(at..)
        .and_then(|rest| rest.windows(3).position(|window| window == [0, 0, 1]))
    {
        let code = at + found;
        let head = *stream.get(code + 3)?;
        let first = *stream.get(code + 4)?;
        // A slice whose first macroblock is 0 (its first bit is set), a delimiter, or parameters: a new picture.
        let begins =
            matches!(head & 0x1f, 6..=9 | 14..=18) || (matches!(head & 0x1f, 1 | 5) && first & 0x80 != 0);
        if has_slice && begins {
            let zero = code > 0 && stream.get(code - 1) == Some(&0);
            return Some(if zero { code - 1 } else { code });
        }
        has_slice |= matches!(head & 0x1f, 1 | 5);
        at = code + 3;
        *looked_at = code;
    }
    None
}

fn is_slice(unit: &[u8]) -> bool {
    unit.first().is_some_and(|head| matches!(head & 0x1f, 1 | 5))
}

fn failed(path: &Path, error: std::io::Error) -> Error {
    Error::new(
        Fault::ConfigInvalid,
        READ,
        format!("{} cannot be read on", path.display()),
    )
    .advice("the source ends here; look at the file and the disk")
    .caused_by(error)
}

/// Writes frame by frame; what was written can be read at any time.
pub(crate) struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    codec: VideoCodec,
    frames: u32,
    /// Of the first frame, and of the last, which counts on over 2^32.
    times: Option<(u32, u64)>,
}

impl Writer {
    /// # Errors
    /// [`Fault::ConfigInvalid`] when the file cannot be made; [`Fault::Unsupported`] for a codec without a file format.
    pub(crate) fn create(path: &Path, codec: VideoCodec) -> Result<Self> {
        if !matches!(codec, VideoCodec::H264 | VideoCodec::Vp8 | VideoCodec::Vp9) {
            return Err(Error::new(
                Fault::Unsupported,
                WRITE,
                format!("{codec} has no file format here"),
            )
            .advice("name VP8, VP9 or H264 in media.video_codecs, or take the packets in a bridge"));
        }
        let file = File::create(path).map_err(|error| {
            Error::new(
                Fault::ConfigInvalid,
                WRITE,
                format!("{} cannot be made", path.display()),
            )
            .advice("name a file in a folder that is there and may be written to")
            .caused_by(error)
        })?;
        Ok(Writer {
            path: path.to_owned(),
            file: BufWriter::new(file),
            codec,
            frames: 0,
            times: None,
        })
    }

    /// Appends a frame, with the timestamp of its packets.
    pub(crate) fn write(&mut self, frame: &VideoFrame) -> Result<()> {
        let written = match self.codec {
            VideoCodec::H264 => self.file.write_all(&frame.data),
            _ => self.ivf(frame),
        };
        let written = written.and_then(|()| self.file.flush());
        self.frames += 1;
        written.map_err(|error| {
            Error::new(
                Fault::Backend,
                WRITE,
                format!("{} cannot be written on", self.path.display()),
            )
            .advice("what was written is kept; is the disk full?")
            .caused_by(error)
        })
    }

    fn ivf(&mut self, frame: &VideoFrame) -> std::io::Result<()> {
        let (first, last) = *self.times.get_or_insert((frame.timestamp, 0));
        // Timestamps wrap after 13 hours.
        let step = frame.timestamp.wrapping_sub(first.wrapping_add(last as u32)) as i32;
        let ticks = last.saturating_add_signed(i64::from(step));
        self.times = Some((first, ticks));
        if self.frames == 0 {
            let header = self.header(size(self.codec, &frame.data).unwrap_or_default());
            self.file.write_all(&header)?;
        }
        self.file.write_all(&(frame.data.len() as u32).to_le_bytes())?;
        self.file.write_all(&ticks.to_le_bytes())?;
        self.file.write_all(&frame.data)?;
        let end = self.file.stream_position()?;
        self.file.seek(SeekFrom::Start(24))?;
        self.file.write_all(&(self.frames + 1).to_le_bytes())?;
        self.file.seek(SeekFrom::Start(end))?;
        Ok(())
    }

    fn header(&self, (width, height): (u16, u16)) -> Vec<u8> {
        let fourcc: &[u8; 4] = if self.codec == VideoCodec::Vp9 {
            b"VP90"
        } else {
            b"VP80"
        };
        let mut header = SIGNATURE.to_vec();
        header.extend(0_u16.to_le_bytes());
        header.extend(HEADER.to_le_bytes());
        header.extend(fourcc);
        header.extend(width.to_le_bytes());
        header.extend(height.to_le_bytes());
        header.extend(VideoCodec::CLOCK_RATE.to_le_bytes());
        header.extend(1_u32.to_le_bytes());
        header.extend(0_u64.to_le_bytes());
        header
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
