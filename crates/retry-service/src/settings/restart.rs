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
