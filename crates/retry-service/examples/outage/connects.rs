//! When the gateway connected to the upstream, from the output of strace.

use std::{fs, path::Path};

use crate::clock::{Micros, SECOND};

/// Returns when each connect to the port began.
pub(crate) fn read(folder: &Path, port: u16) -> Vec<Micros> {
    let port = format!("htons({port})");
    let log = fs::read_to_string(folder.join("connects")).unwrap();
    let mut connects: Vec<_> = log.lines().filter(|line| line.contains(&port)).map(time).collect();
    connects.sort_unstable();
    connects
}

/// Parses a line that begins with the id of a thread and the seconds since 1970, with six decimals.
fn time(line: &str) -> Micros {
    let (seconds, micros) = line.split_whitespace().nth(1).unwrap().split_once('.').unwrap();
    seconds.parse::<Micros>().unwrap() * SECOND + micros.parse::<Micros>().unwrap()
}
