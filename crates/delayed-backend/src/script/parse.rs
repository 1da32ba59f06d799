//! Parses scripts: what the names and values mean, and what can be combined.

use std::num::NonZeroU32;
use std::str::FromStr;

use crate::fault::Behavior;
use crate::fault::table::{Class, Keyword, named};
use crate::script::error::{Mistake, Problem, ScriptError};
use crate::script::span::Span;
use crate::script::syntax::{Item, Items, Part, quote};
use crate::script::{Script, Step, suggestion};

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut items = Items::of(text);
        let mut steps = Vec::new();
        loop {
            let start = items.position();
            match items.next().map(|item| item.and_then(|item| step(&item))) {
                Some(Ok(step)) => steps.push(step),
                Some(Err(mistake)) => {
                    let item = item_with(mistake, text, start);
                    let message = suggestion::describe(text, item, mistake, is_valid);
                    return Err(ScriptError::new(text, steps.len() + 1, mistake.0, message));
                }
                None => return Ok(Self::from_steps(steps)),
            }
        }
    }
}

fn is_valid(script: &str) -> bool {
    Items::of(script).all(|item| item.is_ok_and(|item| step(&item).is_ok()))
}

/// Returns the text of the item that starts here and contains a mistake.
fn item_with<'a>(Mistake(span, _): Mistake<'_>, script: &'a str, start: usize) -> &'a str {
    let end = span.position + span.text.len();
    let after = script.get(end..).unwrap_or_default();
    let end = end + after.find(',').unwrap_or(after.len());
    script.get(start..end).unwrap_or_default().trim()
}

fn step<'a>(item: &Item<'a>) -> Result<Step, Mistake<'a>> {
    let behavior = behavior(item)?;
    let weight = match item.weight {
        None => NonZeroU32::MIN,
        Some(weight) => weight.text.parse().map_err(|_| Mistake(weight, Problem::Weight))?,
    };
    Ok(Step { behavior, weight })
}

fn behavior<'a>(item: &Item<'a>) -> Result<Behavior, Mistake<'a>> {
    let mut behavior = Behavior::default();
    let mut keywords: Vec<&Keyword> = Vec::new();
    let mut parts = Vec::new();
    for Part { ends_at_comment, span, name, value } in &item.parts {
        let (index, keyword) = find(*name, value.is_some())?;
        if keyword.class == Class::Alone && item.parts.len() > 1 {
            return Err(Mistake(*name, Problem::Alone));
        }
        if keyword.value.is_text() && contains_behavior(span.text) {
            return Err(Mistake(*span, Problem::BehaviorInText));
        }
        if keyword.value.is_text() && *ends_at_comment {
            return Err(Mistake(*span, Problem::CommentInText));
        }
        let value = keyword.value.add(&mut behavior, value.as_deref().or(keyword.default()));
        let value = value.ok_or(Mistake(*span, Problem::Value(keyword.value.expected())))?;
        if let Some(problem) = keywords.iter().find_map(|other| conflict(keyword, other)) {
            return Err(Mistake(*span, problem));
        }
        keywords.push(keyword);
        if !matches!(keyword.class, Class::Alone | Class::Delay) {
            let value = match keyword.takes_value() {
                true => format!("={}", quote(&value, contains_behavior)),
                false => String::new(),
            };
            parts.push((index, format!("{}{value}", keyword.name())));
        }
    }
    // By position in the table, so that equal behaviors are displayed alike.
    parts.sort_by_key(|(index, _)| *index);
    behavior.text = parts.into_iter().map(|(_, part)| part).collect::<Vec<_>>().join(";").into();
    match contradiction(&keywords, behavior.status.is_some()) {
        Some(problem) => Err(Mistake(item.span, problem)),
        None => Ok(behavior),
    }
}

/// Finds the keyword with this name. Returns it with its position in the table.
fn find(name: Span<'_>, has_value: bool) -> Result<(usize, &'static Keyword), Mistake<'_>> {
    // Some names have one keyword with a value, and one without.
    let fits = named(name.text).find(|(_, keyword)| has_value == keyword.takes_value());
    let problem = if name.text.is_empty() { Problem::Missing } else { Problem::Unknown };
    fits.or_else(|| named(name.text).next()).ok_or(Mistake(name, problem))
}

/// Returns whether a behavior and an equals sign follow a space: in a text without quotes, it may be a separate behavior.
fn contains_behavior(text: &str) -> bool {
    let is_quoted = text.ends_with(['"', '}', ']']);
    let mut words = text.split_whitespace().skip(1).filter_map(|word| word.split_once('='));
    !is_quoted && words.any(|(name, _)| named(name).next().is_some())
}

/// Returns the problem with a pair of keywords.
fn conflict(one: &Keyword, other: &Keyword) -> Option<Problem> {
    match (one.class, other.class) {
        (Class::Fault | Class::NoResponse, Class::Fault | Class::NoResponse) => Some(Problem::TwoFaults),
        (Class::RetryAfter, Class::RetryAfter) => Some(Problem::Twice),
        (Class::Header, Class::Header) => None,
        _ => (one.name() == other.name()).then_some(Problem::Twice),
    }
}

/// Returns the problem with all keywords together.
fn contradiction(keywords: &[&Keyword], has_status: bool) -> Option<Problem> {
    let any = |class| keywords.iter().any(|keyword| keyword.class == class);
    if any(Class::RetryAfter) && !has_status {
        Some(Problem::NeedsStatus)
    } else {
        ((any(Class::Response) || any(Class::Header)) && any(Class::NoResponse)).then_some(Problem::NoResponse)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::fault::duration_text;
    use crate::fault::table::KEYWORDS;

    #[track_caller]
    fn check(text: &str, shown: &str) {
        let script: Script = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(script.to_string(), shown);
    }

    #[track_caller]
    fn check_error(text: &str, item: usize, column: usize, found: &str, problem: Problem) {
        let error = text.parse::<Script>().unwrap_err();
        let expected = format!("item {item}, column {column}, {found:?}: {problem}");
        assert!(error.to_string().starts_with(&expected), "{error}, expected {expected}");
        assert_eq!((error.line(), error.column(), error.to_string().lines().count()), (1, column, 1));
    }

    #[test]
    fn every_behavior_is_parsed() {
        for text in [
            "ok",
            "delay",
            "delay=5s",
            "delay=10ms..50ms",
            "delay=1m 30s..1h",
            "hang",
            "status=503",
            "reset",
            "close",
            "reset-after=100",
            "close-after=0",
            "truncate",
            "truncate=3",
            "stall-after=100",
            "drip=10ms",
            "garbage",
            "huge-headers=1000",
            "chunked",
            "chunked;truncate=3",
            "status=503;retry-after=1;body=late;huge-headers=9;chunked;early;drip=1ms;delay",
            "early",
            "goaway",
            "goaway=3",
            "excess=1MiB",
            "bad-chunk",
            "status=503;bad-chunk",
            "drip-head=1ms",
            "bandwidth=50KiB/s",
            "close-idle=20ms",
            "half-open",
            "rst=CANCEL",
            "rst=0x8",
            "no-window",
            "no-ping",
            "blackhole=3s",
            "tls=expired",
            "tls=wrong-name*2,tls=untrusted,tls=stall",
            "refused-stream",
            "down=3s",
            "status=503;retry-after=1",
            "status=503;retry-after-date=2s",
            "status=502;body=late",
            "status=503;retry-after=\"Fri, 31 Dec 1999 23:59:59 GMT\"",
            "status=200;body=\"\"",
            "status=503;retry-after=2;delay=1s",
            "status=302;header=Location: /x",
            "header=x-b: 1;header=x-a: 2;body={\"a\":1,\"b\":[2,3]}*2",
            "header=\"Set-Cookie: a=1; Path=/\"",
            "body=\"say \\\"hi\\\", \\\\\"",
            "reset-after=64KiB",
            "ok,delay*3,close",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn other_spellings_are_parsed() {
        check(" delay = 5s , ok ", "delay=5s,ok");
        check("delay=1s;status=503", "status=503;delay=1s");
        check("delay=0.5", "delay=500ms");
        check("delay=0.5..1", "delay=500ms..1s");
        check("body=\"[1]\";header=\" Location : /x \"", "header=Location: /x;body=[1]");
        check("drip,down,huge-headers", "drip=10ms,down=3s,huge-headers=1MiB");
        check("truncate;chunked;status=200, goaway ; chunked", "status=200;chunked;truncate,chunked;goaway");
        check("ok*1, ok * 2", "ok,ok*2");
        check(
            "# 10:00\nok*2,  # 10:01: healthy\n\nstatus=503;\n  retry-after=1, # \"busy\"\n",
            "ok*2,status=503;retry-after=1",
        );
        check("status=503;body=\"a*b;c,d=e\"*2", "status=503;body=\"a*b;c,d=e\"*2");
    }

    #[test]
    fn errors_name_the_position_of_the_mistake() {
        let expected = |name: &str| {
            let keyword = KEYWORDS.iter().rfind(|keyword| keyword.name() == name).unwrap();
            Problem::Value(keyword.value.expected())
        };
        let (status, time, bytes) = (expected("status"), expected("delay"), expected("reset-after"));
        let (header_bytes, field) = (expected("huge-headers"), expected("retry-after"));
        check_error("", 1, 1, "", Problem::Missing);
        check_error(",", 1, 1, "", Problem::Missing);
        check_error("# only a comment", 1, 17, "", Problem::Missing);
        check_error("ok,,ok", 2, 4, "", Problem::Missing);
        check_error("ok, statsu=503", 2, 5, "statsu", Problem::Unknown);
        check_error("é,ok", 1, 1, "é", Problem::Unknown);
        check_error("status=503;body=é,x", 2, 19, "x", Problem::Unknown);
        check_error("status=503;body=\"é\",x", 2, 21, "x", Problem::Unknown);
        check_error("body={\"a\":1},x", 2, 14, "x", Problem::Unknown);
        check_error("header=Set-Cookie: a=1; Path=/", 1, 25, "Path", Problem::Unknown);
        check_error("status", 1, 1, "status", status);
        check_error("status=99", 1, 1, "status=99", status);
        check_error("status=100", 1, 1, "status=100", status);
        check_error("status=600", 1, 1, "status=600", status);
        check_error("ok,delay=soon", 2, 4, "delay=soon", time);
        check_error("reset-after", 1, 1, "reset-after", bytes);
        check_error("reset-after=-1", 1, 1, "reset-after=-1", bytes);
        check_error("huge-headers=0", 1, 1, "huge-headers=0", header_bytes);
        check_error("status=503;retry-after=\"a\nb\"", 1, 12, "retry-after=\"a\nb\"", field);
        check_error("excess=17MiB", 1, 1, "excess=17MiB", header_bytes);
        check_error("bandwidth=0KiB/s", 1, 1, "bandwidth=0KiB/s", expected("bandwidth"));
        check_error("bandwidth=50KiB", 1, 1, "bandwidth=50KiB", expected("bandwidth"));
        check_error("goaway=0", 1, 1, "goaway=0", expected("goaway"));
        check_error("rst=OOPS", 1, 1, "rst=OOPS", expected("rst"));
        check_error("tls=old", 1, 1, "tls=old", expected("tls"));
        check_error("hang=3s", 1, 1, "hang=3s", Problem::Value("no value"));
        check_error("chunked=3", 1, 1, "chunked=3", Problem::Value("no value"));
        check_error("ok;delay", 1, 1, "ok", Problem::Alone);
        check_error("delay;delay=1s", 1, 7, "delay=1s", Problem::Twice);
        check_error("reset;close", 1, 7, "close", Problem::TwoFaults);
        check_error("ok,hang;status=503", 2, 4, "hang;status=503", Problem::NoResponse);
        check_error("close;early", 1, 1, "close;early", Problem::NoResponse);
        for fault in ["hang", "reset", "close", "garbage", "refused-stream", "down"] {
            let item = format!("chunked;{fault}");
            check_error(&item, 1, 1, &item, Problem::NoResponse);
        }
        check_error("hang;header=a: b", 1, 1, "hang;header=a: b", Problem::NoResponse);
        for header in ["header=a", "header=é: 1", "header=Content-Length: 1", "header=transfer-encoding: x"] {
            check_error(header, 1, 1, header, expected("header"));
        }
        for range in ["delay=2s..1s", "delay=1s..", "delay=..1s", "delay=1s..2s..3s"] {
            check_error(range, 1, 1, range, time);
        }
        check_error("body={\"a\":1", 1, 6, "{\"a\":1", Problem::Brackets);
        check_error("body=\"a\\n\"", 1, 6, "\"a\\n\"", Problem::Escape);
        check_error("body=[1]2,ok", 1, 6, "[1]2", Problem::AfterValue);
        check_error("retry-after=1", 1, 1, "retry-after=1", Problem::NeedsStatus);
        check_error("ok*0", 1, 4, "0", Problem::Weight);
        check_error("ok*", 1, 4, "", Problem::Weight);
        check_error("ok*2*3", 1, 4, "2*3", Problem::Weight);
        for text in ["header=X-Color: #fff", "body=ticket #12", "body= # note"] {
            let found = text.split_once('#').unwrap().0.trim();
            check_error(text, 1, 1, found, Problem::CommentInText);
        }
        check_error("status=503;body=\"late,ok", 1, 17, "\"late,ok", Problem::Quotes);
        check_error("status=503;body=a\"b\"", 1, 17, "a\"b\"", Problem::Quotes);
    }

    #[test]
    fn every_error_of_a_long_script_has_its_line() {
        let error = "ok,\n  ok,\n  éstatus;x=1".parse::<Script>().unwrap_err();
        assert_eq!((error.line(), error.column()), (3, 3));
        assert!(error.to_string().starts_with("item 3, line 3, column 3, "), "{error}");
        let error = "ok,\nclose # again\nok".parse::<Script>().unwrap_err();
        let expected = r#"item 2, line 3, column 1, "ok": expected a comma before the comment"#;
        assert_eq!(error.to_string(), expected);
    }

    /// Values of the kind of this example, valid or not.
    fn values(example: &str) -> BoxedStrategy<String> {
        let durations = (0..=u64::from(u32::MAX), 0..1_000_000_000_u32).prop_map(|(s, ns)| Duration::new(s, ns));
        if example.ends_with("/s") {
            (0..2000_u64).prop_map(|rate| format!("{rate}KiB/s")).boxed()
        } else if example.ends_with('s') {
            let range = (durations.clone(), durations.clone())
                .prop_map(|(low, high)| format!("{}..{}", duration_text(low), duration_text(high)));
            prop_oneof![durations.prop_map(duration_text), range].boxed()
        } else if example.parse::<u64>().is_ok() {
            prop_oneof![any::<u64>(), 200..600_u64].prop_map(|number| number.to_string()).boxed()
        } else {
            prop_oneof![
                "[^\"]{0,12}|[{}\\[\\]\"\\\\,;a ]{0,8}".prop_map(|text| quote(&text, |_| false).into_owned()),
                Just(r#"{"a":[1,"]\"{"],"b":{}}"#.to_owned()),
                "[a-z]{1,4} ?: ?[^\"\\\\]{0,8}".prop_map(|text| quote(&text, |_| false).into_owned()),
            ]
            .boxed()
        }
    }

    /// Every form of every keyword, with random values.
    fn parts() -> impl Strategy<Value = String> {
        let forms: Vec<_> = KEYWORDS.iter().flat_map(Keyword::forms).collect();
        prop::sample::select(forms).prop_flat_map(|form| match form.split_once('=') {
            Some((name, example)) => {
                let name = name.to_owned();
                values(example).prop_map(move |value| format!("{name}={value}")).boxed()
            }
            None => Just(form).boxed(),
        })
    }

    /// Scripts of keywords that can be combined.
    fn scripts() -> impl Strategy<Value = Script> {
        let behavior = prop::collection::vec(parts(), 1..4).prop_map(|parts| parts.join(";"));
        let step = (behavior, any::<NonZeroU32>()).prop_map(|(behavior, weight)| format!("{behavior}*{weight}"));
        let step = step.prop_filter_map("not valid", |step| step.parse::<Script>().map(|_| step).ok());
        prop::collection::vec(step, 1..5).prop_map(|steps| steps.join(",").parse().unwrap())
    }

    proptest! {
        #[test]
        fn arbitrary_text_does_not_panic(text in ".{0,60}") {
            let _ = text.parse::<Script>();
        }

        #[test]
        fn text_like_a_script_does_not_panic(text in "(ok|delay|status|body|chunked|down|[=;,*\"{}\\[\\]\\\\. 0-9é]){0,20}") {
            if let Err(error) = text.parse::<Script>() {
                prop_assert_eq!(error.to_string().lines().count(), 1);
            }
        }

        #[test]
        fn a_script_is_displayed_as_text_that_parses_to_it(script in scripts()) {
            prop_assert_eq!(script.to_string().parse(), Ok(script));
        }
    }
}
