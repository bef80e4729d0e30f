//! Who is let in on the local socket.
