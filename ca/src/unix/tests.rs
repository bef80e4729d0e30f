//! Who is let in on the local socket.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

use super::*;

#[test]
fn root_the_own_user_and_the_group_are_let_in() {
    let (own, group) = (500, 600);
    let cases: &[(Option<u32>, u32, &[u32], bool)] = &[
        (None, 0, &[0], true),
        (None, own, &[own], true),
        (None, 501, &[501], false),
        (None, 501, &[501, group], false),
        (Some(group), 501, &[501, group], true),
        (Some(group), 501, &[501, 0], false),
        (Some(group), 501, &[], false),
    ];
    for (gid, uid, gids, expected) in cases {
        assert_eq!(
            Access::new(own, *gid).allows(*uid, gids),
            *expected,
            "{uid} {gids:?} {gid:?}"
        );
    }
}

#[tokio::test]
async fn the_socket_is_closed_to_others_and_replaces_a_dead_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("swarmd.sock");
    drop(bind(&path, None).unwrap());
    // A daemon that died between making the socket and naming it.
    std::fs::write(dir.path().join("swarmd.sock.tmp"), "").unwrap();
    let listener = bind(&path, None).unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let (client, accepted) = tokio::join!(UnixStream::connect(&path), listener.accept());
    client.unwrap();
    let access = Access::of_this_process(None);
    let peer = UnixConn::new(accepted.unwrap().0, access).unwrap().peer();
    assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
    assert_eq!(peer.gid, rustix::process::getegid().as_raw());
    assert_eq!(peer.pid, std::process::id());
    assert!(peer.is_allowed);
    drop(bind(&path, Some(peer.gid)).unwrap());
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o660
    );
}

#[tokio::test]
async fn the_peers_groups_are_the_kernels_word() {
    let (one, _other) = UnixStream::pair().unwrap();
    let mut expected: Vec<u32> = rustix::process::getgroups()
        .unwrap()
        .iter()
        .map(|gid| gid.as_raw())
        .collect();
    let mut found = groups::of_peer(&one).unwrap();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
}
