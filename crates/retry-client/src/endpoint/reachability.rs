//! What an error of connecting says about the endpoint.

use std::{error::Error as StdError, io};

use crate::{
    connection::{acquire_timeout::NoPermit, proxy::TunnelRejected, tls},
    error_chain::find,
};

/// `EMFILE` and `ENFILE`: too many open files.
const TOO_MANY_FILES: [i32; 2] = [24, 23];

/// Whether an endpoint cannot be connected to, given the error of an attempt to connect. Errors of this process or its
/// machine say nothing about the endpoint, and neither does what another attempt would not change.
pub(crate) fn is_unreachable(error: &(dyn StdError + 'static)) -> bool {
    let is_permanent = tls::explain(error).is_some_and(|(permanent, _)| permanent)
        || find::<TunnelRejected>(error).is_some_and(TunnelRejected::is_permanent);
    let is_local = find::<io::Error>(error).is_some_and(is_local) || find::<NoPermit>(error).is_some();
    !is_permanent && !is_local
}

/// Whether the machine of this process lacks something.
fn is_local(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, OutOfMemory, PermissionDenied, ResourceBusy};
    matches!(error.kind(), AddrInUse | AddrNotAvailable | OutOfMemory | PermissionDenied | ResourceBusy)
        || error.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_endpoint_causes_takes_it_down() {
        use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
        for kind in [ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut] {
            assert!(is_unreachable(&io::Error::from(kind)), "{kind}");
        }
        for error in [AddrNotAvailable.into(), io::Error::from_raw_os_error(24), io::Error::from_raw_os_error(23)] {
            assert!(!is_unreachable(&error), "{error}");
        }
    }
}
