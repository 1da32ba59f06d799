//! Suggests what was meant by an invalid script.
//!
//! What it suggests is always valid: an item is changed, and the change is kept only if the script accepts it.

use crate::common::duration;
use crate::fault::table::{KEYWORDS, Keyword, named, names};
use crate::script::error::{Mistake, Problem};
use crate::spelling::similar;

/// What other tools call a behavior, for example toxiproxy, Envoy and WireMock.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("abort", "status"),
    ("code", "status"),
    ("connection-reset-by-peer", "reset"),
    ("content", "body"),
    ("corrupt", "garbage"),
    ("disconnect", "close"),
    ("drop", "close"),
    ("empty-response", "close"),
    ("error", "status"),
    ("fail", "status"),
    ("fin", "close"),
    ("jitter", "delay"),
    ("json", "body"),
    ("latency", "delay"),
    ("limit-data", "close-after"),
    ("location", "header"),
    ("malformed", "garbage"),
    ("malformed-response-chunk", "bad-chunk"),
    ("partial", "truncate"),
    ("random-data-then-close", "garbage"),
    ("rate", "bandwidth"),
    ("redirect", "header"),
    ("reset-peer", "reset"),
    ("sleep", "delay"),
    ("slicer", "drip"),
    ("slow", "delay"),
    ("slow-body", "drip"),
    ("slow-head", "drip-head"),
    ("text", "body"),
    ("throttle", "bandwidth"),
    ("timeout", "hang"),
    ("wait", "delay"),
];

/// What a certificate is called that clients refuse, and the value of `tls` for it.
const CERTIFICATES: &[(&str, &str)] = &[
    ("bad-name", "wrong-name"),
    ("expired", "expired"),
    ("self-signed", "untrusted"),
    ("selfsigned", "untrusted"),
    ("unknown-ca", "untrusted"),
    ("untrusted", "untrusted"),
    ("wrong-host", "wrong-name"),
    ("wrong-hostname", "wrong-name"),
    ("wrong-name", "wrong-name"),
];

/// The maximum length of an item for which something is suggested. Longer messages would not be read.
const MAX_ITEM: usize = 500;

const SEPARATORS: &str =
    "a semicolon combines behaviors of one request, a comma separates those of successive requests";
const ASSIGNMENT: &str = "a value follows an equals sign";
const REPETITION: &str = "an asterisk and a number repeat a behavior";

/// Describes the mistake in an item: what is wrong, and what to write instead, if that can be guessed.
pub(crate) fn describe(script: &str, item: &str, mistake: Mistake<'_>, is_valid: impl Fn(&str) -> bool) -> String {
    let Mistake(span, problem) = mistake;
    if item.len() > MAX_ITEM || item.contains('#') {
        // A comment is no part of what could be suggested.
        return problem.to_string();
    }
    let before = script.get(..span.position).unwrap_or_default().trim_end().trim_end_matches([',', ';']);
    let previous = before.rsplit([',', ';']).next().unwrap_or_default().trim();
    let is_short = |script: &&str| script.len() <= MAX_ITEM && !script.contains('\n');
    if let Some(script) = without_quotes(script.trim()).filter(|script| is_short(script) && is_valid(script)) {
        return format!("{problem}; remove the quotes around the script: {script}");
    }
    if let Some(item) = with_decimal_point(previous, item).filter(|item| is_valid(item)) {
        return format!("a comma separates behaviors; did you mean {item}?");
    }
    if problem == Problem::Unknown && is_unquoted_text(previous) {
        return format!("{problem}; a text with a comma or semicolon needs double quotes, such as body=\"a,b\"");
    }
    let (rule, items) = corrected(item, &is_valid);
    let wrong = match rule {
        Some(rule) if problem != Problem::BehaviorInText => rule.to_owned(),
        _ => problem.to_string(),
    };
    match (&*items, problem) {
        ([], Problem::Unknown) => match known_name(span.text) {
            Some(name) => format!("{problem}; did you mean {name}?"),
            None => format!("{problem}; expected one of {}", names()),
        },
        ([], _) => problem.to_string(),
        ([one, two, ..], _) => format!("{wrong}; did you mean {one} or {two}?"),
        ([one], _) => format!("{wrong}; did you mean {one}?"),
    }
}

/// Removes quotes around a script, which a shell would have removed.
fn without_quotes(script: &str) -> Option<&str> {
    let inner = script.trim_matches(['\'', '"', '`', '‘', '’', '“', '”']).trim();
    (inner != script).then_some(inner)
}

/// Returns a value with a decimal comma, which has been read as two items, with a decimal point.
fn with_decimal_point(previous: &str, item: &str) -> Option<String> {
    let is_split = previous.ends_with(|c: char| c.is_ascii_digit())
        && item.starts_with(|c: char| c.is_ascii_digit())
        && item.ends_with(|c: char| c.is_ascii_alphabetic());
    is_split.then(|| format!("{previous}.{item}"))
}

/// Returns whether a part has a text as its value, without quotes, so that a separator may have been meant as a part of it.
fn is_unquoted_text(part: &str) -> bool {
    !part.ends_with(['"', '}', ']']) && part.split_once('=').is_some_and(|(name, _)| has_text(name.trim()))
}

fn has_text(name: &str) -> bool {
    named(name).any(|(_, keyword)| keyword.value.is_text())
}

/// Returns the name of the behavior that this one probably stands for.
fn known_name(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let other = OTHER_NAMES.iter().find(|(other, _)| *other == name).map(|(_, name)| *name);
    other.or_else(|| similar(&name, KEYWORDS.iter().map(Keyword::name)))
}

/// Returns the name of the behavior that has this name in other tools, or with other letters.
fn other_name(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let own = KEYWORDS.iter().map(Keyword::name).find(|own| *own == name);
    own.or_else(|| OTHER_NAMES.iter().find(|(other, _)| *other == name).map(|(_, own)| *own))
}

/// A part of an item, and whether something else than a semicolon comes before it.
#[derive(Debug)]
struct Piece {
    text: String,
    is_separated: bool,
}

/// Returns valid items that are similar to this one, and the rule that it breaks.
fn corrected(item: &str, is_valid: &dyn Fn(&str) -> bool) -> (Option<&'static str>, Vec<String>) {
    let mut pieces = pieces(item);
    let mut broken = pieces.iter().any(|piece| piece.is_separated).then_some(SEPARATORS);
    for piece in &mut pieces {
        let (text, rule) = corrected_piece(&piece.text, is_valid);
        piece.text = text;
        broken = broken.or(rule);
    }
    let joined = |separator: &str| {
        let parts = pieces.iter().map(|piece| [if piece.is_separated { separator } else { ";" }, &piece.text].concat());
        parts.collect::<String>().split_off(1)
    };
    let mut items = vec![joined(";"), joined(",")];
    items.dedup();
    // A message is one line.
    items.retain(|one| one != item && !one.contains('\n') && is_valid(one));
    (broken, items)
}

/// Splits an item at semicolons, and wherever else a behavior begins after a character that may separate two.
fn pieces(item: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for (gap, word) in words(item) {
        match pieces.last_mut() {
            None => pieces.push(Piece { text: word.to_owned(), is_separated: false }),
            Some(last) if gap.contains(';') || begins_behavior(&last.text, word) => {
                pieces.push(Piece { text: word.to_owned(), is_separated: !gap.contains(';') });
            }
            Some(last) => last.text.extend([gap, word]),
        }
    }
    if pieces.is_empty() { vec![Piece { text: String::new(), is_separated: false }] } else { pieces }
}

/// Returns the words outside of quotes, each with what separates it from the one before.
fn words(item: &str) -> Vec<(&str, &str)> {
    let mut is_quoted = false;
    let mut is_separator = |c: char| {
        is_quoted ^= c == '"';
        !is_quoted && (c.is_whitespace() || [';', '|', '&', '+'].contains(&c))
    };
    let (mut words, mut rest) = (Vec::new(), item);
    while !rest.is_empty() {
        let (gap, after) = rest.split_at(rest.find(|c| !is_separator(c)).unwrap_or(rest.len()));
        let (word, after) = after.split_at(after.find(&mut is_separator).unwrap_or(after.len()));
        words.push((gap, word));
        rest = after;
    }
    words
}

/// Returns whether a word is the beginning of another behavior, and not the rest of the one before.
fn begins_behavior(before: &str, word: &str) -> bool {
    let name = word.split(['=', ':', '*']).next().unwrap_or_default();
    let is_named = other_name(name).is_some();
    if is_unquoted_text(before) {
        return is_named && word.contains('=');
    }
    let is_count = bare_value(before).is_none() && is_number(before.trim_end_matches(['x', '×', ' ']));
    let is_name = other_name(before.trim_end_matches(['=', ':', ' '])).is_some();
    !is_count && (is_named || (!is_name && bare_value(word).is_some()))
}

/// Returns the behavior that a value without a name stands for.
fn bare_value(text: &str) -> Option<String> {
    match text.parse() {
        Ok(200..600_u16) => Some(format!("status={text}")),
        Ok(_) => None,
        Err(_) => duration::parse(text)
            .map(|_| format!("delay={text}"))
            .ok()
            .or_else(|| certificate(text).map(|value| format!("tls={value}"))),
    }
}

/// Returns the value of `tls` for a certificate that is called this.
fn certificate(text: &str) -> Option<&'static str> {
    let text = text.to_ascii_lowercase().replace('_', "-");
    CERTIFICATES.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
}

/// Returns a valid part that is similar to this one, and the rule that it breaks. If it cannot be guessed, the result is
/// not valid.
fn corrected_piece(text: &str, is_valid: &dyn Fn(&str) -> bool) -> (String, Option<&'static str>) {
    if is_valid(text) {
        return (text.to_owned(), None);
    }
    if let Some((behavior, count)) = repeated(text) {
        let (behavior, _) = corrected_piece(behavior, is_valid);
        return (format!("{behavior}*{count}"), Some(REPETITION));
    }
    let (name, rest) = text.split_at(text.find(['=', ':', '*', ' ']).unwrap_or(text.len()));
    let own_name = known_name(name).filter(|_| named(name).next().is_none()).unwrap_or(name);
    let value = rest.trim_start_matches(['=', ':', ' ']);
    let rule = (!rest.starts_with('=')).then_some(ASSIGNMENT);
    match bare_value(name) {
        Some(behavior) => (format!("{behavior}{rest}"), None),
        None if value.is_empty() || value.starts_with('*') => (format!("{own_name}{value}"), None),
        None if named(own_name).all(|(_, keyword)| !keyword.takes_value()) && is_number(value) => {
            (format!("{own_name}*{value}"), rule.map(|_| REPETITION))
        }
        None => {
            let parts = similar_values(value).into_iter().map(|value| format!("{own_name}={value}"));
            let valid = parts.into_iter().find(|part| is_valid(part));
            (valid.unwrap_or_else(|| format!("{own_name}={value}")), rule)
        }
    }
}

/// Returns the behavior and the count in `ok x3`, `3x ok` and `3*ok`.
fn repeated(text: &str) -> Option<(&str, &str)> {
    let first = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let (count, behavior) = text.split_at(text.len() - first.len());
    let behavior = behavior.trim_start_matches([' ', 'x', '×', '*']);
    if !count.is_empty() && other_name(behavior.split('=').next()?).is_some() {
        return Some((behavior, count));
    }
    let (behavior, count) = text.rsplit_once(['x', '×'])?;
    (is_number(count.trim()) && !behavior.is_empty()).then_some((behavior.trim_end(), count.trim()))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns values that this one may stand for: with the units of sizes and rates, as a range, as a certificate, and with the
/// quotes of JSON.
fn similar_values(value: &str) -> Vec<String> {
    let (size, rate) = value.split_once('/').map_or((value, ""), |(size, _)| (size, "/s"));
    let (number, unit) = size.split_at(size.find(|c: char| !c.is_ascii_digit()).unwrap_or(size.len()));
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        "byte" | "bytes" => "",
        _ => unit,
    };
    let size = format!("{number}{unit}");
    let mut values = vec![value.to_owned(), format!("{size}{rate}"), format!("{size}/s")];
    if let Some((low, high)) = ["...", "..", "-", "–"].iter().find_map(|dots| value.split_once(dots)) {
        let unit = high.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.' || c == ' ');
        let unit = if low.ends_with(|c: char| c.is_ascii_digit()) { unit } else { "" };
        values.push(format!("{}{unit}..{}", low.trim(), high.trim()));
    }
    values.extend(certificate(value).map(str::to_owned));
    if value.starts_with(['{', '[']) {
        values.push(value.replace('\'', "\""));
    }
    values
}

#[cfg(test)]
mod tests {
    use crate::script::Script;
    use crate::script::suggestion::{ASSIGNMENT, REPETITION, SEPARATORS};

    const UNKNOWN: &str = "no such behavior";

    fn message(script: &str) -> String {
        script.parse::<Script>().unwrap_err().to_string()
    }

    /// Checks that the message for a script ends with this one.
    #[track_caller]
    fn check(script: &str, expected: &str) {
        let message = message(script);
        assert!(message.ends_with(&format!(": {expected}")), "{script}: {message}");
        assert_eq!(message.lines().count(), 1);
    }

    /// Checks that the message says what is wrong, and suggests these scripts, which are valid.
    #[track_caller]
    fn check_meant(script: &str, wrong: &str, meant: &[&str]) {
        check(script, &format!("{wrong}; did you mean {}?", meant.join(" or ")));
        for script in meant {
            script.parse::<Script>().unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn another_separator_of_behaviors_is_recognized() {
        check_meant("status=503 retry-after=1", SEPARATORS, &["status=503;retry-after=1"]);
        check_meant("ok,status=503 retry-after=1 delay=1s,ok", SEPARATORS, &["status=503;retry-after=1;delay=1s"]);
        check_meant("delay ok", SEPARATORS, &["delay,ok"]);
        check_meant("reset close", SEPARATORS, &["reset,close"]);
        check_meant("delay close", SEPARATORS, &["delay;close", "delay,close"]);
        check_meant("delay=1s close", SEPARATORS, &["delay=1s;close", "delay=1s,close"]);
        check_meant("delay*3 ok", SEPARATORS, &["delay*3,ok"]);
        check_meant("status=503\nok", SEPARATORS, &["status=503,ok"]);
        check_meant("status=503|ok", SEPARATORS, &["status=503,ok"]);
        check_meant("status=503 & retry-after=1", SEPARATORS, &["status=503;retry-after=1"]);
        check_meant("status=503+delay=1s", SEPARATORS, &["status=503;delay=1s", "status=503,delay=1s"]);
        check_meant("503 503 ok", SEPARATORS, &["status=503,status=503,ok"]);
        let meant = ["status=503;body=\"a reset b\"", "status=503,body=\"a reset b\""];
        check_meant("status=503 body=\"a reset b\"", SEPARATORS, &meant);
    }

    #[test]
    fn a_behavior_in_a_text_is_not_taken_for_text() {
        let wrong = "a text that contains a behavior needs double quotes";
        let meant = ["status=503;retry-after=1;delay=1s", "status=503;retry-after=1,delay=1s"];
        check_meant("status=503;retry-after=1 delay=1s", wrong, &meant);
        check_meant("body=late status=503", wrong, &["body=late;status=503", "body=late,status=503"]);
        for script in
            ["body=\"late status=503\"", "header=Set-Cookie: a=1", "body=please reset", "body={\"a\": \"b ok=1\"}"]
        {
            assert_eq!(script.parse::<Script>().unwrap().to_string(), script);
        }
    }

    #[test]
    fn comments_and_lines_are_neither_texts_nor_separators() {
        for script in ["status=503 # not ok", "# status=503 delay=1s\nstatus=503, # not delay=1s\nok"] {
            script.parse::<Script>().unwrap_or_else(|error| panic!("{error}"));
        }
        check_meant(
            "body=late\nstatus=503",
            "a text that contains a behavior needs double quotes",
            &["body=late;status=503", "body=late,status=503"],
        );
        check("ok # first\nreset", "expected a comma before the comment");
        check("delay=1s # x\n;delay=2s", "given twice");
        check(
            "body=late # not status=503",
            "a # after a space starts a comment; a text that contains it needs double quotes",
        );
    }

    #[test]
    fn a_value_without_a_name_or_an_equals_sign_is_recognized() {
        check_meant("503", UNKNOWN, &["status=503"]);
        check_meant("200ms", UNKNOWN, &["delay=200ms"]);
        check_meant("ok,503*2", UNKNOWN, &["status=503*2"]);
        check_meant("status:503", ASSIGNMENT, &["status=503"]);
        check_meant("status: 503;retry-after: 1", ASSIGNMENT, &["status=503;retry-after=1"]);
        check_meant("status 503", ASSIGNMENT, &["status=503"]);
        check_meant("delay 5s", ASSIGNMENT, &["delay=5s"]);
        check_meant("goaway 3", ASSIGNMENT, &["goaway=3"]);
        check_meant("header:Location: /x", ASSIGNMENT, &["header=Location: /x"]);
        check("99", &format!("{UNKNOWN}; expected one of {}", crate::fault::table::names()));
    }

    #[test]
    fn another_form_of_a_repetition_is_recognized() {
        for script in ["ok x3", "okx3", "ok x 3", "ok×3", "3*ok", "3x ok", "3 ok", "ok 3", "ok:3"] {
            check_meant(script, REPETITION, &["ok*3"]);
        }
        check_meant("ok=3", "expected no value", &["ok*3"]);
        check_meant("status=503x2", REPETITION, &["status=503*2"]);
        check_meant("3 x status=503", REPETITION, &["status=503*3"]);
        check("ok*", "expected one number from 1 to 4294967295 after *, such as ok*3");
        check("ok*x", "expected one number from 1 to 4294967295 after *, such as ok*3");
    }

    #[test]
    fn another_spelling_of_a_name_is_recognized() {
        check_meant("ok,statsu=503", UNKNOWN, &["status=503"]);
        check_meant("status=503;retry_after=1", UNKNOWN, &["status=503;retry-after=1"]);
        check_meant("STATUS=503", UNKNOWN, &["status=503"]);
        check_meant("OK", UNKNOWN, &["ok"]);
        check_meant("trunkate", UNKNOWN, &["truncate"]);
        check_meant("latency=1s", UNKNOWN, &["delay=1s"]);
        check_meant("limit_data=100", UNKNOWN, &["close-after=100"]);
        check("statsu", "no such behavior; did you mean status?");
    }

    #[test]
    fn a_certificate_is_recognized() {
        let values = "expected one of expired, wrong-name, untrusted, stall";
        check_meant("tls=self-signed", values, &["tls=untrusted"]);
        check_meant("tls=SELF_SIGNED", values, &["tls=untrusted"]);
        check_meant("tls=wrong-host", values, &["tls=wrong-name"]);
        check_meant("expired", UNKNOWN, &["tls=expired"]);
        check_meant("ok,self-signed", UNKNOWN, &["tls=untrusted"]);
        check_meant("tls expired", ASSIGNMENT, &["tls=expired"]);
        check("tls", values);
    }

    #[test]
    fn a_reset_of_a_connection_is_distinguished_from_that_of_a_stream() {
        let expected = "expected an error code of HTTP/2, such as rst=CANCEL or rst=0x8; the RST of TCP is reset";
        for script in ["rst", "rst=", "rst=tcp", "ok,rst*2"] {
            check(script, expected);
        }
    }

    #[test]
    fn json_has_double_quotes() {
        let wrong =
            "this is not JSON, which has double quotes; a text that is not JSON needs quotes, such as body=\"{a\"";
        check_meant("body={'a':1}", wrong, &["body={\"a\":1}"]);
        check_meant("status=503;body=['a', 'b']", wrong, &["status=503;body=[\"a\", \"b\"]"]);
        check_meant("ok,body={'a':1},ok", wrong, &["body={\"a\":1},ok"]);
        for script in ["body={a:1}", "body={'a':it}", "body=[1,]", "body={\"a\":}"] {
            check(script, wrong);
        }
        for quoted in ["body=\"{'a':1}\"", "body=\"[1,]\"", "header=x-a: {a}"] {
            assert_eq!(quoted.parse::<Script>().unwrap().to_string(), quoted);
        }
    }

    #[test]
    fn names_of_other_tools_are_recognized() {
        for (script, meant) in [
            ("CONNECTION_RESET_BY_PEER", "reset"),
            ("EMPTY_RESPONSE", "close"),
            ("MALFORMED_RESPONSE_CHUNK", "bad-chunk"),
            ("RANDOM_DATA_THEN_CLOSE", "garbage"),
            ("corrupt", "garbage"),
            ("drop", "close"),
            ("fin", "close"),
            ("jitter=10ms", "delay=10ms"),
            ("partial=5", "truncate=5"),
            ("slicer", "drip"),
            ("slow-head=20ms", "drip-head=20ms"),
            ("throttle=50KiB/s", "bandwidth=50KiB/s"),
        ] {
            check_meant(script, UNKNOWN, &[meant]);
        }
        for (script, meant) in [("fail", "status"), ("redirect=/x", "header"), ("location", "header")] {
            check(script, &format!("{UNKNOWN}; did you mean {meant}?"));
        }
    }

    #[test]
    fn another_unit_or_range_is_recognized() {
        let value = |script: &str| message(script).rsplit_once("; did you mean ").map(|(_, meant)| meant.to_owned());
        for (script, meant) in [
            ("reset-after=64K", "reset-after=64KiB?"),
            ("excess=1mb", "excess=1MiB?"),
            ("bandwidth=50KiB", "bandwidth=50KiB/s?"),
            ("bandwidth=50kb/sec", "bandwidth=50KiB/s?"),
            ("delay=10ms-50ms", "delay=10ms..50ms?"),
            ("delay=10..50ms", "delay=10ms..50ms?"),
            ("ok,delay=1,5s", "delay=1.5s?"),
        ] {
            assert_eq!(value(script).as_deref(), Some(meant), "{}", message(script));
        }
        // A number without a unit is in seconds.
        for (script, shown) in [("delay=10", "delay=10s"), ("delay=1.5s", "delay=1s 500ms"), ("down=3", "down=3s")] {
            assert_eq!(script.parse::<Script>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn quotes_that_a_shell_would_have_removed_are_recognized() {
        for script in ["'status=503,ok'", "\"status=503,ok\"", "'status=503,ok", "status=503,ok\"", "“status=503,ok”"]
        {
            let message = message(script);
            assert!(message.ends_with("; remove the quotes around the script: status=503,ok"), "{message}");
        }
    }

    #[test]
    fn a_text_with_a_separator_needs_quotes() {
        let unquoted = "no such behavior; a text with a comma or semicolon needs double quotes, such as body=\"a,b\"";
        for script in ["status=503;body=a,b", "header=Set-Cookie: a=1; Path=/", "body='a,b'"] {
            check(script, unquoted);
        }
    }

    #[test]
    fn without_a_guess_the_message_says_what_is_expected() {
        check("hang=3s", "expected no value");
        check("timeout=3s", "no such behavior; did you mean hang?");
        check("status=5xx", "expected a status from 200 to 599, such as status=503");
        check("ok;delay", "ok cannot be combined with other behaviors; remove it");
    }
}
