//! Settings of what there is but once: the listeners, and the connections that they accept.

use super::Settings;

/// Those that a reload leaves as they are.
pub(super) const NAMES: [&str; 7] = [
    "listen",
    "admin",
    "max-connections",
    "max-header-size",
    "header-timeout",
    "caller-timeout",
    "preserve-header-case",
];

/// Gives settings those that are in force.
pub(super) fn keep(settings: &mut Settings, in_force: &Settings) {
    settings.listen = in_force.listen.clone();
    settings.admin = in_force.admin.clone();
    settings.max_connections = in_force.max_connections;
    settings.max_header_size = in_force.max_header_size;
    settings.header_timeout = in_force.header_timeout;
    settings.caller_timeout = in_force.caller_timeout;
    settings.preserve_header_case = in_force.preserve_header_case;
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::{server::Limits, settings::Loaded};

    #[test]
    fn the_names_are_those_of_what_is_kept() {
        let args = |more: &[&str]| ["retry-service"].iter().chain(more).map(OsString::from).collect::<Vec<_>>();
        let in_force = Loaded::from_args(args(&[
            "--listen=127.0.0.1:1",
            "--admin=1",
            "--max-connections=1",
            "--max-header-size=8KiB",
            "--header-timeout=1s",
            "--caller-timeout=1s",
            "--preserve-header-case",
        ]));
        let in_force = in_force.unwrap();
        let again = in_force.again(args(&["--count=1"])).unwrap();
        let mut names = NAMES.map(str::to_owned);
        let mut need_restart = again.need_restart;
        names.sort();
        need_restart.sort();
        assert_eq!(need_restart, names);
        assert_eq!(again.changed, ["count"]);

        let Loaded { settings, listing, .. } = again.loaded;
        // A limit that is added is one of what is kept as well.
        let limits @ Limits { connections: _, header_size: _, header_time: _, caller_time: _, preserve_header_case: _ } =
            settings.limits();
        assert_eq!(limits, in_force.settings.limits());
        assert_eq!((settings.listen, settings.admin), (in_force.settings.listen, in_force.settings.admin));
        assert!(listing.to_string().contains("max-connections = \"1\""), "{listing}");
    }
}
