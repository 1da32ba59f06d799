//! Arbitrary text as a script: parsing never panics, a script is displayed as text that parses to the same script, and an
//! error message is one line that points at the error.
#![no_main]

use delayed_backend::Script;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| match text.parse::<Script>() {
    Ok(script) => {
        let shown = script.to_string();
        assert_eq!(shown.parse().as_ref(), Ok(&script), "{text:?} is displayed as {shown:?}");
    }
    Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{text:?}"),
});
