//! Ports of the loopback interface that are free.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// A port that was free, and stays reserved among the processes of this command.
#[derive(Debug)]
pub(crate) struct Port {
    /// 0 if the wanted port is taken: the system then chooses another.
    pub(crate) number: u16,
    /// Envoy lets other processes listen on its port, so two that start at once would share it. Only one of them can bind
    /// this socket, on which nothing is sent.
    _reservation: Option<UdpSocket>,
}

impl Port {
    /// The port `wanted`, if it is free.
    pub(crate) fn choose(wanted: u16) -> Port {
        let reservation = UdpSocket::bind((Ipv4Addr::LOCALHOST, wanted)).ok();
        let is_free = reservation.is_some() && TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).is_ok();
        Port { number: if is_free { wanted } else { 0 }, _reservation: reservation }
    }
}
