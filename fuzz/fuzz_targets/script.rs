//! Any text as a script: never a panic; what is read prints as a text that reads the same; what is
//! refused is pointed at in one line.
#![no_main]

use delayed_backend::Script;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| match text.parse::<Script>() {
    Ok(script) => {
        let shown = script.to_string();
        assert_eq!(shown.parse().as_ref(), Ok(&script), "{text:?} prints as {shown:?}");
    }
    Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{text:?}"),
});
