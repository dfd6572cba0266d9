//! WAV files: one is read as it is played, one is written so that it can be read at any time.

use hound::{SampleFormat, WavReader, WavSpec};
use siprtc_core::{Error, Fault, Result};
use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

/// A WAV file of any rate, channel count and depth, read as mono.
pub(crate) struct WavSource {
    reader: WavReader<BufReader<File>>,
    spec: WavSpec,
}

const READ: &str = "read WAV file";

impl WavSource {
    /// Opens it. Blocks.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let invalid = |what: String| Error::new(Fault::ConfigInvalid, READ, what);
        let file = File::open(path).map_err(|error| {
            invalid(format!("{} cannot be opened", path.display()))
                .advice("name an existing WAV file as the source of audio")
                .caused_by(error)
        })?;
        let reader = WavReader::new(BufReader::new(file)).map_err(|error| {
            invalid(format!("{} is no WAV file that can be read", path.display()))
                .advice("convert it to WAV: PCM of 8, 16, 24 or 32 bits, or 32-bit float")
                .caused_by(error)
        })?;
        let spec = reader.spec();
        if !(1_000..=768_000).contains(&spec.sample_rate) || spec.channels == 0 {
            return Err(invalid(format!(
                "{} says it has {} channels at {} Hz",
                path.display(),
                spec.channels,
                spec.sample_rate
            ))
            .advice("convert it to 1 kHz to 768 kHz with at least one channel"));
        }
        Ok(WavSource { reader, spec })
    }

    pub(crate) fn rate(&self) -> u32 {
        self.spec.sample_rate
    }

    /// Appends up to `frames` samples of mono, full scale being 1.0. Fewer only at the end. Blocks.
    pub(crate) fn read(&mut self, frames: usize, out: &mut Vec<f32>) -> Result<()> {
        let channels = usize::from(self.spec.channels);
        let wanted = frames * channels;
        let failed =
            |error: hound::Error| Error::new(Fault::Backend, READ, "the file broke off").caused_by(error);
        let mut mixer = Mixer {
            channels,
            sum: 0.0,
            seen: 0,
        };
        match self.spec.sample_format {
            SampleFormat::Float => {
                for sample in self.reader.samples::<f32>().take(wanted) {
                    mixer.push(sample.map_err(failed)?, out);
                }
            }
            SampleFormat::Int => {
                let scale = 1.0 / (1u64 << (self.spec.bits_per_sample.clamp(1, 32) - 1)) as f32;
                for sample in self.reader.samples::<i32>().take(wanted) {
                    mixer.push(sample.map_err(failed)? as f32 * scale, out);
                }
            }
        }
        Ok(())
    }

    /// Back to its beginning. Blocks.
    pub(crate) fn rewind(&mut self) -> Result<()> {
        self.reader.seek(0).map_err(|error| {
            Error::new(Fault::Backend, READ, "cannot go back to the beginning").caused_by(error)
        })
    }
}

struct Mixer {
    channels: usize,
    sum: f32,
    seen: usize,
}

impl Mixer {
    fn push(&mut self, sample: f32, out: &mut Vec<f32>) {
        self.sum += sample;
        self.seen += 1;
        if self.seen == self.channels {
            out.push(self.sum / self.channels as f32);
            (self.sum, self.seen) = (0.0, 0);
        }
    }
}

/// Where a recording goes: a file, or a test's own.
pub(crate) trait Storage: Write + Seek + Send {}

impl<T: Write + Seek + Send> Storage for T {}

/// Length of the header that is written: RIFF, one `fmt ` chunk of PCM, one `data` chunk.
const HEADER: u32 = 44;

/// A WAV file of 16 bit. Its header is right after every [`WavSink::append`], so that whatever ends the process or
/// fills the disk, what was recorded can be read.
pub(crate) struct WavSink {
    storage: Box<dyn Storage>,
    /// Octets of audio that the header speaks of.
    length: u32,
    bytes: Vec<u8>,
    channels: u16,
}

impl WavSink {
    /// Writes the header. Blocks.
    pub(crate) fn create(mut storage: Box<dyn Storage>, rate: u32, channels: u16) -> io::Result<Self> {
        let frame = channels * 2;
        let mut header = Vec::with_capacity(HEADER as usize);
        header.extend_from_slice(b"RIFF");
        header.extend_from_slice(&(HEADER - 8).to_le_bytes());
        header.extend_from_slice(b"WAVEfmt ");
        header.extend_from_slice(&16u32.to_le_bytes());
        // PCM.
        header.extend_from_slice(&1u16.to_le_bytes());
        header.extend_from_slice(&channels.to_le_bytes());
        header.extend_from_slice(&rate.to_le_bytes());
        header.extend_from_slice(&(rate * u32::from(frame)).to_le_bytes());
        header.extend_from_slice(&frame.to_le_bytes());
        header.extend_from_slice(&16u16.to_le_bytes());
        header.extend_from_slice(b"data");
        header.extend_from_slice(&0u32.to_le_bytes());
        storage.write_all(&header)?;
        storage.flush()?;
        Ok(WavSink {
            storage,
            length: 0,
            bytes: Vec::new(),
            channels,
        })
    }

    /// Adds samples, those of the channels in turns, and brings the header up to date. Blocks. After an error the file holds what was appended before.
    pub(crate) fn append(&mut self, samples: &[i16]) -> io::Result<()> {
        let added = samples.len() as u64 * 2;
        let length = u32::try_from(u64::from(self.length) + added)
            .ok()
            .filter(|length| *length <= u32::MAX - HEADER)
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "a WAV file holds 4 GiB"))?;
        self.bytes.clear();
        self.bytes
            .extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
        self.storage.write_all(&self.bytes)?;
        self.storage.seek(SeekFrom::Start(4))?;
        self.storage.write_all(&(HEADER - 8 + length).to_le_bytes())?;
        self.storage.seek(SeekFrom::Start(u64::from(HEADER) - 4))?;
        self.storage.write_all(&length.to_le_bytes())?;
        self.storage
            .seek(SeekFrom::Start(u64::from(HEADER) + u64::from(length)))?;
        self.storage.flush()?;
        self.length = length;
        Ok(())
    }

    /// How many samples of each channel the file holds.
    pub(crate) fn samples(&self) -> u64 {
        u64::from(self.length / 2 / u32::from(self.channels.max(1)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::codec::to_i16;
    use parking_lot::Mutex;
    use std::sync::Arc;

    /// A disk of a given size, in memory.
    #[derive(Clone)]
    pub(crate) struct SmallDisk {
        pub(crate) data: Arc<Mutex<io::Cursor<Vec<u8>>>>,
        pub(crate) size: u64,
    }

    impl SmallDisk {
        pub(crate) fn of(size: u64) -> Self {
            SmallDisk {
                data: Arc::default(),
                size,
            }
        }
    }

    impl Write for SmallDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut data = self.data.lock();
            let room = self.size.saturating_sub(data.position()) as usize;
            if room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            data.write(&bytes[..bytes.len().min(room)])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for SmallDisk {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.data.lock().seek(to)
        }
    }

    #[test]
    fn what_is_on_a_full_disk_can_be_read() {
        let disk = SmallDisk::of(10_000);
        let mut sink = WavSink::create(Box::new(disk.clone()), 8_000, 1).unwrap();
        let mut written = 0;
        while sink.append(&[7; 1_000]).is_ok() {
            written += 1_000;
        }
        assert_eq!(written, 4_000);
        assert_eq!(sink.samples(), 4_000);
        let reader = WavReader::new(io::Cursor::new(disk.data.lock().get_ref().clone())).unwrap();
        assert_eq!(reader.spec().sample_rate, 8_000);
        assert!(reader.into_samples::<i16>().all(|sample| sample.unwrap() == 7));
    }

    #[test]
    fn every_kind_of_wav_file_is_read_as_mono() {
        let folder = std::env::temp_dir().join(format!("siprtc-wav-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (bits, format) in [
            (8, SampleFormat::Int),
            (16, SampleFormat::Int),
            (24, SampleFormat::Int),
            (32, SampleFormat::Int),
            (32, SampleFormat::Float),
        ] {
            let path = folder.join(format!("{bits}-{format:?}.wav"));
            let spec = WavSpec {
                channels: 2,
                sample_rate: 44_100,
                bits_per_sample: bits,
                sample_format: format,
            };
            let mut writer = hound::WavWriter::create(&path, spec).unwrap();
            for _ in 0..100 {
                // Left half of full scale, right nothing: mono a quarter.
                match format {
                    SampleFormat::Float => [0.5f32, 0.0].map(|sample| writer.write_sample(sample).unwrap()),
                    SampleFormat::Int => {
                        [1i32 << (bits - 2), 0].map(|sample| writer.write_sample(sample).unwrap())
                    }
                };
            }
            writer.finalize().unwrap();
            let mut source = WavSource::open(&path).unwrap();
            let mut out = Vec::new();
            source.read(60, &mut out).unwrap();
            source.read(60, &mut out).unwrap();
            assert_eq!(out.len(), 100);
            assert!(
                out.iter().all(|&sample| to_i16(sample) == 8_192),
                "{bits} {format:?} {}",
                out[0]
            );
            source.rewind().unwrap();
            source.read(1, &mut out).unwrap();
            assert_eq!(out.len(), 101);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_that_is_missing_or_no_wav_is_a_fault_of_the_configuration() {
        for path in [
            "/nonexistent/music.wav",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ] {
            let error = WavSource::open(Path::new(path)).map(|_| ()).unwrap_err();
            assert_eq!(error.fault(), Fault::ConfigInvalid);
            assert!(
                error.to_string().contains(path) && error.next_step().is_some(),
                "{error}"
            );
        }
    }
}
