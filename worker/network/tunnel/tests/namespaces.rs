//! Two machines as network namespaces: what passes between them, and what can be seen of it.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its machines fails"
)]

mod machines;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use machines::{Machine, Machines, inner, until};
use tunnel::PrivateKey;

const MIB: usize = 1 << 20;

/// Bytes that say at which place they belong.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7 + at % 251) as u8).collect()
}

/// Sends `len` bytes from one machine to an address of the other and compares what arrives.
fn transfer(from: &Machine, to: &Machine, address: SocketAddr, len: usize) {
    let listener = to.run(move || TcpListener::bind(address).unwrap());
    let sender = from.spawn(move || {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(20)).unwrap();
        stream.write_all(&pattern(len)).unwrap();
    });
    let (mut stream, _) = listener.accept().unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut got = vec![];
    stream.read_to_end(&mut got).unwrap();
    sender.join().unwrap();
    assert!(
        got == pattern(len),
        "{} of {len} bytes, or other ones",
        got.len()
    );
}

#[test]
fn streams_pass_whole_in_both_families_over_both() {
    for underlay_v6 in [false, true] {
        let Some(mut machines) = Machines::new("s") else {
            return;
        };
        machines.connect(underlay_v6);
        for (n, v6) in [false, true].into_iter().enumerate() {
            let port = 7000 + u16::try_from(n).unwrap();
            let (a, b) = (&machines.a, &machines.b);
            transfer(a, b, SocketAddr::new(inner(2, v6), port), 16 * MIB);
            transfer(b, a, SocketAddr::new(inner(1, v6), port), 16 * MIB);
        }
        let counters = machines.a.tunnel().counters();
        assert!(counters.sealed.load(Ordering::Relaxed) > 1000);
        assert_eq!(counters.spoofed.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn nothing_leaves_in_the_clear_at_no_time() {
    const MARK: &[u8] = b"plain text that nobody may see";
    let Some(mut machines) = Machines::new("c") else {
        return;
    };
    let capture = machines.b.capture();
    let send = |machines: &Machines| {
        machines.a.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            // Without a tunnel there may be no route, or nobody who answers for the address.
            let _ = socket.send_to(MARK, (inner(2, false), 9));
        });
    };
    send(&machines);
    machines.connect(false);
    send(&machines);
    let received = machines.b.run(|| {
        let socket = UdpSocket::bind((inner(2, false), 9)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        socket
    });
    until("a datagram arrives", || {
        send(&machines);
        let mut buffer = [0; 100];
        received
            .recv(&mut buffer)
            .is_ok_and(|len| &buffer[..len] == MARK)
    });
    machines.b.stop();
    send(&machines);
    machines.a.stop();
    send(&machines);
    let packets = capture.packets();
    let sealed = packets
        .iter()
        .filter(|p| p.contains(&tunnel::PORT.to_be_bytes()))
        .count();
    assert!(
        sealed > 2,
        "handshake and data were seen: {} packets",
        packets.len()
    );
    assert!(
        !packets.iter().any(|packet| packet.contains(MARK)),
        "seen in the clear"
    );
    for packet in &packets {
        assert!(
            packet.is_resolution() || packet.contains(&tunnel::PORT.to_be_bytes()),
            "{packet:?}"
        );
    }
}

#[test]
fn keys_change_under_a_stream_without_a_break() {
    let Some(mut machines) = Machines::new("k") else {
        return;
    };
    machines.connect(false);
    let address = SocketAddr::new(inner(2, false), 7000);
    let listener = machines.b.run(move || TcpListener::bind(address).unwrap());
    let sender = machines.a.spawn(move || {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(20)).unwrap();
        // A write stalls for no longer than a handshake takes; a loss of keys stalls for 15 s.
        stream
            .set_write_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let block = pattern(64 * 1024);
        let mut sent = 0usize;
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(4) {
            stream.write_all(&block).unwrap();
            sent += block.len();
        }
        sent
    });
    let (mut stream, _) = listener.accept().unwrap();
    let reader = std::thread::spawn(move || {
        let mut got = vec![];
        stream.read_to_end(&mut got).unwrap();
        got.len()
    });
    for _ in 0..3 {
        // Known everywhere first, then used, then forgotten: the order in which managers do it.
        machines.a.keys.push(PrivateKey::generate());
        machines.b.keys.push(PrivateKey::generate());
        machines.update();
        machines.a.keys.rotate_left(1);
        machines.b.keys.rotate_left(1);
        machines.update();
        until("the new keys are in use", || {
            machines.a.tunnel().is_established(2)
        });
        machines.a.keys.truncate(1);
        machines.b.keys.truncate(1);
        machines.update();
    }
    assert_eq!(sender.join().unwrap(), reader.join().unwrap());
}

#[test]
fn a_node_cannot_speak_for_another() {
    let Some(mut machines) = Machines::new("f") else {
        return;
    };
    machines.connect(false);
    // As b sees it, a's address is held by a third node.
    machines.b.stations_of_a_belong_to = Some(3);
    machines.update();
    machines.a.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect((inner(2, false), 9)).unwrap();
        socket.send(b"x").unwrap();
    });
    until("it is counted", || {
        machines
            .b
            .tunnel()
            .counters()
            .spoofed
            .load(Ordering::Relaxed)
            > 0
    });
    assert_eq!(
        machines
            .b
            .tunnel()
            .counters()
            .opened
            .load(Ordering::Relaxed),
        0
    );
}
