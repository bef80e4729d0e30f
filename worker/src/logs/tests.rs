//! How records become lines.

use super::*;

const BOTH: LogOptions = LogOptions {
    follow: false,
    tail: None,
    since: Timestamp(0),
    stdout: true,
    stderr: true,
};

fn record(timestamp_ns: u64, stream: Stream, partial: bool, text: &[u8]) -> Record {
    Record {
        timestamp_ns,
        stream,
        partial,
        text: text.to_vec(),
    }
}

fn taken(options: LogOptions, records: &[Record]) -> Vec<(u64, LogStreamName, String)> {
    let mut lines = Lines::new(options);
    let mut taken: Vec<LogLine> = Vec::new();
    for record in records {
        taken.extend(lines.take(record.clone()));
    }
    taken.extend(lines.finish());
    let shown = taken.into_iter().map(|line| {
        let text = String::from_utf8(line.line.to_vec()).unwrap();
        (line.timestamp.0, line.stream, text)
    });
    shown.collect()
}

#[test]
fn pieces_are_put_together_within_their_stream() {
    use LogStreamName::{Stderr, Stdout};
    let records = [
        record(1, Stream::Stdout, true, b"a"),
        record(2, Stream::Stderr, false, b"x"),
        record(3, Stream::Stdout, true, b"b"),
        record(4, Stream::Notice, false, b"lost"),
        record(5, Stream::Stdout, false, b"c"),
        record(6, Stream::Stderr, true, b"cut"),
    ];
    let line = |at: u64, stream: LogStreamName, text: &str| (at, stream, text.to_owned());
    let expected = [
        line(2, Stderr, "x"),
        line(4, Stderr, "lost"),
        line(1, Stdout, "abc"),
        line(6, Stderr, "cut"),
    ];
    assert_eq!(taken(BOTH, &records), expected);
    let only = |stdout| LogOptions {
        stdout,
        stderr: !stdout,
        ..BOTH
    };
    assert_eq!(taken(only(true), &records), [line(1, Stdout, "abc")]);
    let expected = [
        line(2, Stderr, "x"),
        line(4, Stderr, "lost"),
        line(6, Stderr, "cut"),
    ];
    assert_eq!(taken(only(false), &records), expected);
}

#[test]
fn a_line_without_end_is_handed_out_in_parts() {
    let piece = vec![b'x'; 16 << 10];
    let records: Vec<Record> = (0..40)
        .map(|at| record(at, Stream::Stdout, true, &piece))
        .collect();
    let lengths: Vec<usize> = taken(BOTH, &records)
        .iter()
        .map(|(_, _, text)| text.len())
        .collect();
    assert_eq!(lengths, [LINE_BYTES_MAX, LINE_BYTES_MAX, 8 * piece.len()]);
}
