//! The gateway, with its default settings.

use std::{fs, fs::File, net::SocketAddr, path::Path, time::Duration};

use tokio::{
    process::{Child, Command},
    time::sleep,
};

/// A process that is killed when this is dropped.
pub(crate) struct Gateway {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Gateway {
    /// Starts a gateway to an upstream on this port. `strace` writes its connects to `connects`.
    pub(crate) async fn start(program: &str, upstream: u16, flags: &[&str], folder: &Path) -> Self {
        let (log, connects) = (folder.join("gateway.log"), folder.join("connects"));
        // With -D, strace is a child of the gateway, whose id is then that of the child. With --seccomp-bpf, other system calls
        // take no longer than usual.
        let mut command = Command::new("strace");
        command
            .args(["-D", "-f", "--seccomp-bpf", "-qq", "-ttt", "-e", "trace=connect,getsockopt", "-o"])
            .arg(connects);
        command.args([program, "--forward", "--upstream", &format!("http://127.0.0.1:{upstream}")]);
        command.args(["--listen", "127.0.0.1:0"]).args(flags).env("RUST_LOG", "info,retries=off,retry_client=off");
        let process = command.stderr(File::create(&log).unwrap()).kill_on_drop(true).spawn().expect("strace");
        let address = loop {
            let log = fs::read_to_string(&log).unwrap();
            if let Some((_, address)) = log.split_once("Serving http://") {
                break address.split('"').next().unwrap().parse().unwrap();
            }
            assert!(!log.contains("error"), "{log}");
            sleep(Duration::from_millis(10)).await;
        };
        Self { process, address }
    }

    /// Returns the resident memory in bytes.
    pub(crate) fn resident(&self) -> i64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id().unwrap())).unwrap();
        let (_, resident) = status.split_once("VmRSS:").unwrap();
        resident.split_whitespace().next().unwrap().parse::<i64>().unwrap() * 1024
    }
}
