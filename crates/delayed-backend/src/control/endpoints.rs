//! The endpoints of the control API.

use http::Method;

/// Everything that the control API can do, with what it means.
pub(crate) static ENDPOINTS: &[(Method, &str, &str)] = &[
    (
        Method::GET,
        "/",
        "this list, or in a browser a page that shows requests as they arrive, and edits script and stubs",
    ),
    (Method::GET, "/script", "the script of the requests that match no stub; with ?stub=NAME that of a stub"),
    (Method::PUT, "/script", "plays the script in the body from its start; with ?stub=NAME for a stub"),
    (Method::GET, "/stubs", "the stubs, as TOML, with the script in force"),
    (Method::PUT, "/stubs", "replaces the stubs by those in the body, which is TOML like a stub file"),
    (Method::POST, "/reset", "starts all scripts anew and removes all recorded requests"),
    (
        Method::GET,
        "/requests",
        "the recorded requests, as JSON; ?wait=3 waits until three have arrived, ?last=10 selects the latest",
    ),
    (Method::DELETE, "/requests", "removes all recorded requests"),
    (
        Method::POST,
        "/down",
        "closes all connections and refuses new ones, for 3 s or the time in ?for=10s; 0 ends an outage",
    ),
    (Method::POST, "/seed", "selects behaviors at random, with the seed in the body"),
    (Method::DELETE, "/seed", "selects behaviors in order"),
    (Method::GET, "/events", "requests as they arrive, as server-sent events"),
    (Method::GET, "/healthz", "200 while the backend runs, even while it is down"),
];

/// Returns the methods of a path, separated by commas. Empty if there is no such path.
pub(crate) fn methods(path: &str) -> String {
    let methods = ENDPOINTS.iter().filter(|(_, other, _)| *other == path).map(|(method, _, _)| method.as_str());
    methods.collect::<Vec<_>>().join(", ")
}

/// Returns a line for each endpoint.
pub(crate) fn list() -> String {
    ENDPOINTS.iter().map(|(method, path, meaning)| format!("{:7}{path:10} {meaning}\n", method.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_endpoint() {
        let rows = ENDPOINTS.iter().map(|(method, path, meaning)| format!("| `{method} {path}` | {meaning} |\n"));
        let table: String = rows.collect();
        let documentation = include_str!("../../../../docs/control.md");
        assert!(documentation.contains(&table), "the table of docs/control.md should be:\n{table}");
    }
}
