//! Retries anything that returns a `Result`: here, connecting to a server that is still starting.
//!
//! Shows the two lines that a call takes, with an error type that knows nothing about retries.

use std::{error::Error, io, time::Duration};

use retry_core::{RetryPolicy, retry};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::sleep,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // Bound but not listening, so connections are refused.
    let server = TcpSocket::new_v4()?;
    server.bind("127.0.0.1:0".parse()?)?;
    let address = server.local_addr()?;
    let start_up = async move {
        sleep(Duration::from_millis(100)).await;
        let listener = server.listen(1)?;
        listener.accept().await?;
        io::Result::Ok(())
    };
    let start_up = tokio::spawn(start_up);

    let policy = RetryPolicy::builder().count(50).interval(Duration::from_millis(20)).build()?;
    let connection = retry(policy, || TcpStream::connect(address)).await?;

    assert_eq!(connection.peer_addr()?, address);
    start_up.await??;
    Ok(())
}
