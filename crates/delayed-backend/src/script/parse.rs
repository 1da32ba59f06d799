//! Parses scripts. Errors contain the position of the mistake.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::str::FromStr;

use crate::fault::Behaviour;
use crate::fault::table::{Class, KEYWORDS, Keyword, names};
use crate::fault::value::Value;
use crate::script::span::Span;
use crate::script::{Script, Step};

/// An invalid script. Displayed as one line, with the position of the mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("item {item}, column {column}, {found:?}: {problem}")]
pub struct ScriptError {
    item: usize,
    column: usize,
    found: String,
    problem: Problem,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("a behaviour is missing")]
    Missing,
    #[error("no such behaviour; expected one of {}", names())]
    Unknown,
    #[error("no such behaviour; a text with a comma needs quotes, such as body=\"a,b\"")]
    Unquoted,
    #[error("expected {0}")]
    Value(&'static str),
    #[error("a double quote is missing or misplaced")]
    Quotes,
    #[error("given twice")]
    Twice,
    #[error("ok cannot be combined with other behaviours; remove it")]
    Alone,
    #[error("a request can have only one fault")]
    TwoFaults,
    #[error("this fault sends no response, so it cannot be combined with status, huge-headers, chunked or early")]
    NoResponse,
    #[error("retry-after, retry-after-date and body need a status")]
    NeedsStatus,
    #[error("expected one number from 1 to 4294967295 after *")]
    Weight,
}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let items = Span { text, position: 0 }.split(',');
        let steps = items
            .iter()
            .enumerate()
            .map(|(index, item)| step(item.trim()).map_err(|mistake| mistake.locate(text, index)));
        steps.collect::<Result<_, _>>().map(Self::from_steps)
    }
}

/// A part of the script, and what is wrong with it.
#[derive(Debug, Clone, Copy)]
struct Mistake<'a>(Span<'a>, Problem);

impl Mistake<'_> {
    fn locate(self, script: &str, index: usize) -> ScriptError {
        let Self(span, mut problem) = self;
        let before = script.get(..span.position).unwrap_or_default();
        let is_text = |part: &str| part.starts_with("body=") && !part.ends_with('"');
        if problem == Problem::Unknown
            && before.trim_end_matches([',', ' ']).rsplit([',', ';']).next().is_some_and(is_text)
        {
            problem = Problem::Unquoted;
        }
        ScriptError { item: index + 1, column: before.chars().count() + 1, found: span.text.to_owned(), problem }
    }
}

fn step(item: Span<'_>) -> Result<Step, Mistake<'_>> {
    let mut halves = item.split('*').into_iter();
    let behaviour = behaviour(halves.next().unwrap_or(item).trim())?;
    let weight = match halves.next() {
        None => NonZeroU32::MIN,
        Some(half) => {
            let weight = item.from(half.position - item.position).trim();
            weight.text.parse().map_err(|_| Mistake(weight, Problem::Weight))?
        }
    };
    Ok(Step { behaviour, weight })
}

fn behaviour(item: Span<'_>) -> Result<Behaviour, Mistake<'_>> {
    let spans = item.split(';');
    let mut behaviour = Behaviour::default();
    let mut keywords: Vec<&Keyword> = Vec::new();
    // Sorted by the position of the keyword in the table, so that equal behaviours are displayed alike.
    let mut parts = BTreeMap::new();
    for span in spans.iter().map(|span| span.trim()) {
        let (name, value) = split_value(span)?;
        let (index, keyword) = find(name, value)?;
        if keyword.class == Class::Alone && spans.len() > 1 {
            return Err(Mistake(name, Problem::Alone));
        }
        let value = keyword.value.add(&mut behaviour, value.or(keyword.default()));
        let value = value.ok_or(Mistake(span, Problem::Value(keyword.value.expected())))?;
        if let Some(problem) = keywords.iter().find_map(|other| conflict(keyword, other)) {
            return Err(Mistake(span, problem));
        }
        keywords.push(keyword);
        if !matches!(keyword.class, Class::Alone | Class::Delay) {
            parts.insert(index, format!("{}{value}", keyword.name()));
        }
    }
    behaviour.parts = parts.into_values().collect();
    match contradiction(&keywords, behaviour.status.is_some()) {
        Some(problem) => Err(Mistake(item, problem)),
        None => Ok(behaviour),
    }
}

/// Splits `name=value`.
fn split_value(part: Span<'_>) -> Result<(Span<'_>, Option<&str>), Mistake<'_>> {
    let Some(equals) = part.text.find('=') else {
        return Ok((part, None));
    };
    let value = part.from(equals + 1).trim();
    let value = value.unquote().ok_or(Mistake(value, Problem::Quotes))?;
    Ok((part.to(equals).trim(), Some(value.text)))
}

/// Finds the keyword with this name. Returns it with its position in the table.
fn find<'a>(name: Span<'a>, value: Option<&str>) -> Result<(usize, &'static Keyword), Mistake<'a>> {
    let mut named = KEYWORDS.iter().enumerate().filter(|(_, keyword)| keyword.name() == name.text);
    // Some names have one keyword with a value, and one without.
    let fits = named.clone().find(|(_, keyword)| value.is_some() != matches!(keyword.value, Value::None(_)));
    let problem = if name.text.is_empty() { Problem::Missing } else { Problem::Unknown };
    fits.or_else(|| named.next()).ok_or(Mistake(name, problem))
}

/// Returns the problem with a pair of keywords.
fn conflict(one: &Keyword, other: &Keyword) -> Option<Problem> {
    match (one.class, other.class) {
        (Class::Fault | Class::NoResponse, Class::Fault | Class::NoResponse) => Some(Problem::TwoFaults),
        (Class::RetryAfter, Class::RetryAfter) => Some(Problem::Twice),
        _ => (one.name() == other.name()).then_some(Problem::Twice),
    }
}

/// Returns the problem with all keywords together.
fn contradiction(keywords: &[&Keyword], has_status: bool) -> Option<Problem> {
    let any = |class| keywords.iter().any(|keyword| keyword.class == class);
    if (any(Class::RetryAfter) || any(Class::Body)) && !has_status {
        Some(Problem::NeedsStatus)
    } else {
        (any(Class::Response) && any(Class::NoResponse)).then_some(Problem::NoResponse)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::fault::duration_text;

    #[track_caller]
    fn check(text: &str, shown: &str) {
        let script: Script = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(script.to_string(), shown);
    }

    #[track_caller]
    fn check_error(text: &str, item: usize, column: usize, found: &str, problem: Problem) {
        let error = text.parse::<Script>().unwrap_err();
        let found = found.to_owned();
        assert_eq!(error, ScriptError { item, column, found, problem });
        assert_eq!(error.to_string().lines().count(), 1);
    }

    #[test]
    fn every_behaviour_is_parsed() {
        for text in [
            "ok",
            "delay",
            "delay=5s",
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
            "refused-stream",
            "down=3s",
            "status=503;retry-after=1",
            "status=503;retry-after-date=2s",
            "status=502;body=late",
            "status=503;retry-after=\"Fri, 31 Dec 1999 23:59:59 GMT\"",
            "status=200;body=\"\"",
            "status=503;retry-after=2;delay=1s",
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
        check("drip,down,huge-headers", "drip=10ms,down=3s,huge-headers=1048576");
        check("truncate;chunked;status=200, goaway ; chunked", "status=200;chunked;truncate,chunked;goaway");
        check("ok*1, ok * 2", "ok,ok*2");
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
        check_error("ok,", 2, 4, "", Problem::Missing);
        check_error("ok,,ok", 2, 4, "", Problem::Missing);
        check_error("ok, statsu=503", 2, 5, "statsu", Problem::Unknown);
        check_error("é,ok", 1, 1, "é", Problem::Unknown);
        check_error("status=503;body=é,x", 2, 19, "x", Problem::Unquoted);
        check_error("status=503;body=\"é\",x", 2, 21, "x", Problem::Unknown);
        check_error("status", 1, 1, "status", status);
        check_error("status=99", 1, 1, "status=99", status);
        check_error("status=100", 1, 1, "status=100", status);
        check_error("status=600", 1, 1, "status=600", status);
        check_error("ok,delay=soon", 2, 4, "delay=soon", time);
        check_error("reset-after", 1, 1, "reset-after", bytes);
        check_error("reset-after=-1", 1, 1, "reset-after=-1", bytes);
        check_error("huge-headers=0", 1, 1, "huge-headers=0", header_bytes);
        check_error("status=503;retry-after=\"a\nb\"", 1, 12, "retry-after=\"a\nb\"", field);
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
        check_error("retry-after=1", 1, 1, "retry-after=1", Problem::NeedsStatus);
        check_error("ok*0", 1, 4, "0", Problem::Weight);
        check_error("ok*", 1, 4, "", Problem::Weight);
        check_error("ok*2*3", 1, 4, "2*3", Problem::Weight);
        check_error("status=503;body=\"late,ok", 1, 17, "\"late,ok", Problem::Quotes);
        check_error("status=503;body=a\"b\"", 1, 17, "a\"b\"", Problem::Quotes);
    }

    #[test]
    fn an_unknown_behaviour_lists_those_that_are_allowed() {
        let error = "ok,statsu=503".parse::<Script>().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("item 2, column 4, \"statsu\": no such behaviour; expected one of {}", names())
        );
    }

    /// Values of the kind of this example, valid or not.
    fn values(example: &str) -> BoxedStrategy<String> {
        let durations = (0..=u64::from(u32::MAX), 0..1_000_000_000_u32).prop_map(|(s, ns)| Duration::new(s, ns));
        if example.ends_with('s') {
            durations.prop_map(duration_text).boxed()
        } else if example.parse::<u64>().is_ok() {
            prop_oneof![any::<u64>(), 200..600_u64].prop_map(|number| number.to_string()).boxed()
        } else {
            "[^\"]{0,12}".prop_map(|text| format!("\"{text}\"")).boxed()
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
        let behaviour = prop::collection::vec(parts(), 1..4).prop_map(|parts| parts.join(";"));
        let step = (behaviour, any::<NonZeroU32>()).prop_map(|(behaviour, weight)| format!("{behaviour}*{weight}"));
        let step = step.prop_filter_map("not valid", |step| step.parse::<Script>().map(|_| step).ok());
        prop::collection::vec(step, 1..5).prop_map(|steps| steps.join(",").parse().unwrap())
    }

    proptest! {
        #[test]
        fn arbitrary_text_does_not_panic(text in ".{0,60}") {
            let _ = text.parse::<Script>();
        }

        #[test]
        fn text_like_a_script_does_not_panic(text in "(ok|delay|status|body|chunked|down|[=;,*\" 0-9é]){0,20}") {
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
