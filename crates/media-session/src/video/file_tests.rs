use super::*;
use siprtc_testkit::Folder;

fn vp8(number: u32) -> VideoFrame {
    let is_key = number.is_multiple_of(4);
    let mut data = vec![number as u8; 40];
    data[..10].copy_from_slice(&[u8::from(!is_key), 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00]);
    VideoFrame {
        data: data.into(),
        is_key,
        timestamp: number * 3_000,
    }
}

fn h264(number: u32) -> VideoFrame {
    let is_key = number.is_multiple_of(4);
    let slice = [
        &START_CODE[..],
        &[if is_key { 0x65 } else { 0x41 }, 0x88, number as u8, 7],
    ]
    .concat();
    let second = [&START_CODE[1..], &[if is_key { 0x65 } else { 0x41 }, 0x40, 9]].concat();
    let head = [&START_CODE[..], &[0x67, 1, 2], &START_CODE, &[0x68, 3]].concat();
    let data = if is_key {
        [head, slice, second].concat()
    } else {
        [slice, second].concat()
    };
    VideoFrame {
        data: data.into(),
        is_key,
        timestamp: number * 3_000,
    }
}

fn all(reader: &mut Reader, codec: VideoCodec) -> Vec<VideoFrame> {
    std::iter::from_fn(|| reader.next(codec).unwrap()).collect()
}

#[test]
fn what_was_written_is_read_and_read_again() {
    let folder = Folder::new("video");
    for (codec, frame) in [
        (VideoCodec::Vp8, vp8 as fn(u32) -> VideoFrame),
        (VideoCodec::H264, h264),
    ] {
        let path = folder.file(codec.as_str());
        let mut writer = Writer::create(&path, codec).unwrap();
        let frames: Vec<VideoFrame> = (0..10).map(frame).collect();
        for (number, frame) in frames.iter().enumerate() {
            // The stream's own beginning does not matter, nor that its timestamps wrap.
            let timestamp = frame.timestamp.wrapping_sub(9_000);
            writer
                .write(&VideoFrame {
                    timestamp,
                    ..frame.clone()
                })
                .unwrap();
            let (mut reader, found) = Reader::open(&path).unwrap();
            assert_eq!(found, codec);
            assert_eq!(
                all(&mut reader, codec).len(),
                number + 1,
                "{codec}: readable while it grows"
            );
        }
        let (mut reader, _) = Reader::open(&path).unwrap();
        assert_eq!(all(&mut reader, codec), frames, "{codec}");
        assert_eq!(reader.last_key(), Some(8));
        reader.back().unwrap();
        assert_eq!(all(&mut reader, codec), frames[8..], "{codec}");
        reader.rewind().unwrap();
        assert_eq!(all(&mut reader, codec), frames, "{codec}");
    }
}

#[test]
fn a_file_that_is_cut_ends_with_its_last_whole_frame() {
    let folder = Folder::new("video");
    let path = folder.file("cut.ivf");
    let mut writer = Writer::create(&path, VideoCodec::Vp8).unwrap();
    for number in 0..3 {
        writer.write(&vp8(number)).unwrap();
    }
    let whole = std::fs::read(&path).unwrap();
    for (length, frames) in [(whole.len() - 1, 2), (32 + 52 + 11, 1), (32, 0)] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let (mut reader, codec) = Reader::open(&path).unwrap();
        assert_eq!(all(&mut reader, codec).len(), frames);
    }
}

#[test]
fn what_is_no_video_is_refused_with_advice() {
    let folder = Folder::new("video");
    let path = folder.file("x");
    assert_eq!(Reader::open(&path).err().unwrap().fault(), Fault::ConfigInvalid);
    let mut theora = b"DKIF\0\0\x20\0THEO".to_vec();
    theora.resize(32, 1);
    for content in [&b""[..], b"RIFF....WAVE", &theora, b"DKIF\0\0\x20\0VP80"] {
        std::fs::write(&path, content).unwrap();
        let error = Reader::open(&path).err().unwrap();
        assert!(error.to_string().contains("neither IVF"), "{error}");
    }
    let mut huge = b"DKIF\0\0\x20\0VP80\0\0\0\0\x1e\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    huge.extend([0xff; 12]);
    std::fs::write(&path, &huge).unwrap();
    let (mut reader, codec) = Reader::open(&path).unwrap();
    assert!(reader.next(codec).is_err());
    assert!(Writer::create(&folder.file("no/folder"), VideoCodec::Vp8).is_err());
    assert!(Writer::create(&path, VideoCodec::H263).is_err());
}
