//! When the gateway connected to the upstream, from the output of strace.

use std::{fs, path::Path};

use crate::clock::{Micros, SECOND};

/// Returns when each connect began.
pub(crate) fn begun(folder: &Path) -> Vec<Micros> {
    times_of(folder, "connect(")
}

/// Returns when the gateway noticed that a connect was refused.
pub(crate) fn refused(folder: &Path) -> Vec<Micros> {
    times_of(folder, "ECONNREFUSED")
}

fn times_of(folder: &Path, what: &str) -> Vec<Micros> {
    let log = fs::read_to_string(folder.join("connects")).unwrap();
    let mut times: Vec<_> = log.lines().filter(|line| line.contains(what)).map(time).collect();
    times.sort_unstable();
    times
}

/// Parses a line that begins with the id of a thread and the seconds since 1970, with six decimals.
fn time(line: &str) -> Micros {
    let (seconds, micros) = line.split_whitespace().nth(1).unwrap().split_once('.').unwrap();
    seconds.parse::<Micros>().unwrap() * SECOND + micros.parse::<Micros>().unwrap()
}
