//! Splitting, rotation, and reading across torn files and removed ones.

use super::*;
use crate::spec::LogOptions;
use std::io::Write;
use std::path::Path;

fn options(file_bytes_max: u64, files_max: u32) -> LogOptions {
    LogOptions {
        file_bytes_max,
        files_max,
    }
}

fn write_lines(writer: &mut Writer, range: std::ops::Range<u64>) {
    for number in range {
        writer.add(
            number,
            Stream::Stdout,
            false,
            &[format!("line {number}").as_bytes()],
        );
        writer.flush(number);
    }
}

fn read_all(dir: &Path, start: Start, since_ns: u64) -> Vec<String> {
    rest(&mut Reader::open(dir, start, since_ns).unwrap())
}

fn rest(reader: &mut Reader) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        texts.push(String::from_utf8_lossy(&record.text).into_owned());
    }
    texts
}

#[test]
fn output_is_split_into_lines() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(dir.path().to_owned(), LogOptions::default());
    let mut out = LineSplitter::new(Stream::Stdout);
    let mut err = LineSplitter::new(Stream::Stderr);
    let long = vec![b'x'; TEXT_BYTES_MAX];
    out.take(1, b"one\ntw", &mut writer);
    err.take(2, b"oops\n", &mut writer);
    out.take(3, b"o\n\n", &mut writer);
    out.take(4, &long, &mut writer);
    out.take(5, b"y\n", &mut writer);
    out.take(6, &long[1..], &mut writer);
    out.take(7, b"\nlast", &mut writer);
    out.finish(8, &mut writer);
    err.finish(8, &mut writer);
    writer.flush(8);
    let mut reader = Reader::open(dir.path(), Start::Oldest, 0).unwrap();
    let mut seen = Vec::new();
    while let Some(Record {
        timestamp_ns,
        stream,
        partial,
        text,
    }) = reader.next().unwrap()
    {
        seen.push((timestamp_ns, stream, partial, text));
    }
    let expected = [
        (1, Stream::Stdout, false, b"one".to_vec()),
        (2, Stream::Stderr, false, b"oops".to_vec()),
        (3, Stream::Stdout, false, b"two".to_vec()),
        (3, Stream::Stdout, false, Vec::new()),
        (4, Stream::Stdout, true, long.clone()),
        (5, Stream::Stdout, false, b"y".to_vec()),
        (7, Stream::Stdout, false, long[1..].to_vec()),
        (8, Stream::Stdout, false, b"last".to_vec()),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn rotation_keeps_the_newest_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(dir.path().to_owned(), options(200, 3));
    write_lines(&mut writer, 0..100);
    assert_eq!(file_numbers(dir.path()).unwrap().len(), 3);
    let texts = read_all(dir.path(), Start::Oldest, 0);
    assert_eq!(texts.last().unwrap(), "line 99");
    assert!(texts.len() >= 16 && texts.len() < 40, "{}", texts.len());
    let first: usize = texts[0].strip_prefix("line ").unwrap().parse().unwrap();
    let expected: Vec<_> = (first..100)
        .map(|number| format!("line {number}"))
        .collect();
    assert_eq!(texts, expected);
}

#[test]
fn tail_and_since() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(dir.path().to_owned(), options(200, 3));
    assert!(read_all(dir.path(), Start::Tail(5), 0).is_empty());
    write_lines(&mut writer, 0..100);
    for (start, since_ns, expected) in [
        (Start::Tail(0), 0, &[][..]),
        (Start::Tail(1), 0, &["line 99"]),
        (Start::Tail(3), 0, &["line 97", "line 98", "line 99"]),
        (Start::Tail(3), 98, &["line 98", "line 99"]),
        (Start::Oldest, 98, &["line 98", "line 99"]),
        (Start::Oldest, 1000, &[]),
    ] {
        assert_eq!(
            read_all(dir.path(), start, since_ns),
            expected,
            "{start:?} {since_ns}"
        );
    }
    // More lines than there are, over all files.
    assert_eq!(
        read_all(dir.path(), Start::Tail(1000), 0),
        read_all(dir.path(), Start::Oldest, 0)
    );
    // Tail cuts at every line of every file alike.
    let all = read_all(dir.path(), Start::Oldest, 0);
    for lines in 1..all.len() {
        assert_eq!(
            read_all(dir.path(), Start::Tail(lines), 0),
            all[all.len() - lines..]
        );
    }
}

#[test]
fn tail_counts_lines_not_parts() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(dir.path().to_owned(), LogOptions::default());
    for (partial, text) in [
        (false, "a"),
        (true, "b1"),
        (true, "b2"),
        (false, "b3"),
        (false, "c"),
    ] {
        writer.add(1, Stream::Stdout, partial, &[text.as_bytes()]);
    }
    writer.flush(1);
    assert_eq!(
        read_all(dir.path(), Start::Tail(2), 0),
        ["b1", "b2", "b3", "c"]
    );
}

#[test]
fn reading_goes_on_where_it_was_while_files_rotate() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(dir.path().to_owned(), options(200, 4));
    let mut reader = Reader::open(dir.path(), Start::Oldest, 0).unwrap();
    assert!(rest(&mut reader).is_empty());
    let mut seen = Vec::new();
    for start in (0..100).step_by(7) {
        write_lines(&mut writer, start..start + 7);
        seen.extend(rest(&mut reader));
    }
    let expected: Vec<_> = (0..105).map(|number| format!("line {number}")).collect();
    assert_eq!(seen, expected);
    // A position from before can be taken up by a new reader.
    let position = reader.position();
    write_lines(&mut writer, 105..107);
    assert_eq!(
        read_all(dir.path(), Start::At(position), 0),
        ["line 105", "line 106"]
    );
    // One whose file was removed goes on with the oldest there is.
    let early = Position {
        file: 1,
        offset: 50,
    };
    assert_eq!(
        read_all(dir.path(), Start::At(early), 0),
        read_all(dir.path(), Start::Oldest, 0)
    );
}

#[test]
fn torn_tail_ends_its_file_only() {
    let whole = {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(dir.path().to_owned(), LogOptions::default());
        write_lines(&mut writer, 0..3);
        std::fs::read(dir.path().join(file_name(1))).unwrap()
    };
    for length in 0..whole.len() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(file_name(1)), &whole[..length]).unwrap();
        std::fs::write(dir.path().join(file_name(2)), &whole).unwrap();
        let complete = length.saturating_sub(MAGIC.len()) / (16 + "line 0".len());
        let texts = read_all(dir.path(), Start::Oldest, 0);
        assert_eq!(texts.len(), complete + 3, "cut to {length} bytes");
        // Zeros and noise, as a machine that lost power leaves them, are no records either.
        for tail in [[0; 64], [0xa5; 64]] {
            let mut file = std::fs::OpenOptions::new()
                .append(true)
                .open(dir.path().join(file_name(1)))
                .unwrap();
            file.write_all(&tail).unwrap();
            assert!(read_all(dir.path(), Start::Oldest, 0).len() >= 3);
            file.set_len(length as u64).unwrap();
        }
    }
}

#[test]
fn lost_output_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut writer = Writer::new(log.clone(), LogOptions::default());
    write_lines(&mut writer, 0..2); // the directory is missing: as good as a full disk
    std::fs::create_dir(&log).unwrap();
    write_lines(&mut writer, 2..4);
    let mut reader = Reader::open(&log, Start::Oldest, 0).unwrap();
    let notice = reader.next().unwrap().unwrap();
    assert_eq!(notice.stream, Stream::Notice);
    assert_eq!(
        notice.text,
        b"44 bytes of logs could not be written and are lost"
    );
    assert_eq!(rest(&mut reader), ["line 2", "line 3"]);
}
