//! Number fields, extended headers and damaged archives.

use super::*;

fn entries(bytes: &[u8]) -> Result<Vec<Entry>, Error> {
    let mut reader = TarReader::new(bytes, "it", u64::MAX);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        entries.push(entry);
    }
    Ok(entries)
}

fn header(kind: u8, path: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_path(path).expect("short");
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    header
}

fn block(header: &tar::Header, contents: &[u8]) -> Vec<u8> {
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(contents);
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    bytes
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = body.len();
    while length != body.len() + length.to_string().len() {
        length = body.len() + length.to_string().len();
    }
    [length.to_string().into_bytes(), body].concat()
}

#[test]
fn numbers_are_octal_blank_or_binary() {
    let table: [(&[u8], Option<i64>); 9] = [
        (b"0000644\0", Some(0o644)),
        (b" 644 \0\0\0", Some(0o644)),
        (b"\0\0\0\0", Some(0)),
        (b"    ", Some(0)),
        (b"0000648\0", None),
        (&[0x80, 0, 0, 1, 0], Some(256)),
        (&[0xff, 0xff, 0xff, 0xfe], Some(-2)),
        (&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0], None),
        (&[], None),
    ];
    for (field, expected) in table {
        assert_eq!(signed_number(field), expected, "{field:?}");
    }
}

#[test]
fn times_have_fractions_and_may_lie_before_1970() {
    let at = |secs, nanos| Some(ModifiedAt { secs, nanos });
    let table = [
        ("12", at(12, 0)),
        ("12.5", at(12, 500_000_000)),
        ("12.1234567891", at(12, 123_456_789)),
        ("-1.25", at(-2, 750_000_000)),
        ("-0.5", at(-1, 500_000_000)),
        ("x", None),
        ("1.x", None),
        ("1.é", None),
        ("", None),
    ];
    for (text, expected) in table {
        assert_eq!(parse_decimal_time(text), expected, "{text}");
    }
}

#[test]
fn extended_headers_override_and_binary_attributes_survive() {
    let capability = b"\x01\0\0\x02\n\x04=\0";
    let records = [
        record("path", b"dir/long name"),
        record("uid", b"3000000"),
        record("mtime", b"5.5"),
        record("SCHILY.xattr.security.capability", capability),
        record("size", b"3"),
    ]
    .concat();
    let bytes = [
        block(&header(b'x', "pax", records.len() as u64), &records),
        block(&header(b'0', "short", 0), b"abc"),
        vec![0; 1024],
    ]
    .concat();
    let mut reader = TarReader::new(&bytes[..], "it", u64::MAX);
    let entry = reader.next_entry().expect("good").expect("one entry");
    assert_eq!(entry.path, b"dir/long name");
    assert_eq!(entry.uid, 3_000_000);
    assert_eq!(entry.modified_at.nanos, 500_000_000);
    assert_eq!(
        entry
            .xattrs
            .get(&b"security.capability"[..])
            .map(Vec::as_slice),
        Some(&capability[..])
    );
    let mut contents = String::new();
    reader.read_to_string(&mut contents).expect("readable");
    assert_eq!(contents, "abc");
    assert!(reader.next_entry().expect("good").is_none());
    assert!(reader.require_end_marker().is_ok());
}

#[test]
fn what_cannot_be_read_says_why() {
    let file = block(&header(b'0', "file", 3), b"abc");
    let mut flipped = file.clone();
    flipped[0] ^= 1;
    let table = [
        (vec![b'x'; 2048], "not a tar archive"),
        (Vec::new(), "truncated"),
        (file[..300].to_vec(), "truncated"),
        (file[..514].to_vec(), "truncated"),
        ([file.clone(), flipped].concat(), "checksum"),
        (block(&header(b'S', "file", 0), b""), "sparse"),
        (block(&header(b'Z', "file", 0), b""), "unsupported type `Z`"),
        (block(&header(b'x', "pax", 4), b"9 a="), "malformed"),
        (
            block(&header(b'x', "pax", u64::from(u32::MAX)), b""),
            "too large",
        ),
        (block(&header(b'x', "pax", 6), b"6 a=b\n"), "truncated"),
    ];
    for (row, (bytes, expected)) in table.into_iter().enumerate() {
        let error = entries(&bytes).expect_err("bad");
        assert!(error.to_string().contains(expected), "row {row}: {error}");
    }
}

#[test]
fn an_owner_that_means_nobody_in_system_calls_is_refused() {
    let records = record("uid", b"4294967295");
    let bytes = [
        block(&header(b'x', "pax", records.len() as u64), &records),
        block(&header(b'0', "file", 0), b""),
    ]
    .concat();
    let error = entries(&bytes).expect_err("uid -1");
    assert!(error.to_string().contains("uid 4294967295"), "{error}");
}
