//! The script language, read: text in, [`Script`] out, and an error that points at the mistake.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderValue, StatusCode};

use crate::common::duration;
use crate::fault::{Behaviour, Delay, Fault, RetryAfter};
use crate::script::span::Piece;
use crate::script::{Script, Step};

const USUAL_PACE: Duration = Duration::from_millis(10);
const USUAL_OUTAGE: Duration = Duration::from_secs(3);
const USUAL_HEADERS: u32 = 1 << 20;
const MOST_HEADERS: u32 = 16 << 20;

const BEHAVIOURS: &str = "ok, delay, status, retry-after, retry-after-date, body, huge-headers, chunked, \
     early, hang, reset, close, reset-after, close-after, truncate, stall-after, drip, garbage, \
     goaway, refused-stream, down";

/// A script has a mistake; displayed as one line that points at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError {
    item: usize,
    column: usize,
    found: String,
    problem: Problem,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("a behaviour is missing here")]
    Missing,
    #[error("no such behaviour; allowed are {BEHAVIOURS}")]
    Unknown,
    #[error("allowed is {0}")]
    Value(&'static str),
    #[error("it takes no value")]
    NoValue,
    #[error("the closing quote is missing")]
    OpenQuote,
    #[error("it is there twice")]
    Twice,
    #[error("ok stands alone; leave it out")]
    Alone,
    #[error("only one thing can go wrong with a request, and another is there already")]
    TwoFaults,
    #[error("the caller never sees an answer, so it cannot have a status, body, headers or chunks")]
    NoAnswer,
    #[error("it goes with a status, and there is none")]
    NeedsStatus,
    #[error("after * comes how often, a whole number from 1 to 4294967295")]
    Weight,
}

impl std::error::Error for ScriptError {}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { item, column, found, problem } = self;
        write!(f, "item {item}, column {column}, {found:?}: {problem}")
    }
}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let items = Piece { text, at: 0 }.split(',');
        let steps = items
            .iter()
            .enumerate()
            .map(|(index, item)| step(item.trim()).map_err(|mistake| mistake.locate(text, index)));
        steps.collect::<Result<_, _>>().map(Self::of)
    }
}

/// What is wrong, and with which piece of the script.
#[derive(Debug, Clone, Copy)]
struct Mistake<'a>(Piece<'a>, Problem);

impl Mistake<'_> {
    fn locate(self, script: &str, index: usize) -> ScriptError {
        let Self(piece, problem) = self;
        let before = script.get(..piece.at).unwrap_or_default();
        ScriptError { item: index + 1, column: before.chars().count() + 1, found: piece.text.to_owned(), problem }
    }
}

fn step(item: Piece<'_>) -> Result<Step, Mistake<'_>> {
    let mut halves = item.split('*').into_iter();
    let behaviour = behaviour(halves.next().unwrap_or(item).trim())?;
    let weight = match (halves.next(), halves.next()) {
        (None, _) => NonZeroU32::MIN,
        (Some(weight), None) => read(weight.trim(), Problem::Weight, |text| text.parse().ok())?,
        (Some(_), Some(second)) => return Err(Mistake(second, Problem::Weight)),
    };
    Ok(Step { behaviour, weight })
}

fn behaviour(item: Piece<'_>) -> Result<Behaviour, Mistake<'_>> {
    let parts = item.split(';');
    let mut behaviour = Behaviour::default();
    for part in &parts {
        let part = Part::of(part.trim())?;
        if part.name.text == "ok" && parts.len() > 1 {
            return Err(Mistake(part.name, Problem::Alone));
        }
        part.add_to(&mut behaviour)?;
    }
    match contradiction(&behaviour) {
        Some(problem) => Err(Mistake(item, problem)),
        None => Ok(behaviour),
    }
}

fn contradiction(behaviour: &Behaviour) -> Option<Problem> {
    let extras = behaviour.retry_after.is_some() || behaviour.body.is_some();
    if behaviour.status.is_none() && extras {
        return Some(Problem::NeedsStatus);
    }
    let Behaviour { status, huge_headers, chunked, early, .. } = behaviour;
    let shaped = status.is_some() || huge_headers.is_some() || *chunked || *early;
    let unseen = behaviour.fault.is_some_and(Fault::leaves_no_answer);
    (shaped && unseen).then_some(Problem::NoAnswer)
}

/// One `name` or `name=value`.
#[derive(Debug, Clone, Copy)]
struct Part<'a> {
    whole: Piece<'a>,
    name: Piece<'a>,
    value: Option<Piece<'a>>,
}

impl<'a> Part<'a> {
    fn of(whole: Piece<'a>) -> Result<Self, Mistake<'a>> {
        let Some(equals) = whole.text.find('=') else {
            return Ok(Self { whole, name: whole, value: None });
        };
        let value = whole.from(equals + 1).trim();
        let value = Some(value.unquote().ok_or(Mistake(value, Problem::OpenQuote))?);
        Ok(Self { whole, name: whole.to(equals).trim(), value })
    }

    fn add_to(self, to: &mut Behaviour) -> Result<(), Mistake<'a>> {
        match self.name.text {
            "" => Err(Mistake(self.whole, Problem::Missing)),
            "ok" => self.alone(()),
            "delay" => self.once(&mut to.delay, self.delay()?),
            "status" => self.once(&mut to.status, self.needed(STATUS, status)?),
            "retry-after" => self.once(&mut to.retry_after, self.needed(HEADER, retry_after)?),
            "retry-after-date" => self.once(&mut to.retry_after, self.needed(DATE, date_in)?),
            "body" => self.once(&mut to.body, self.needed(TEXT, |text| Some(text.to_owned()))?),
            "huge-headers" => self.once(&mut to.huge_headers, self.headers()?),
            "chunked" => self.alone(()).map(|()| to.chunked = true),
            "early" => self.alone(()).map(|()| to.early = true),
            _ => {
                let fault = self.fault()?;
                let taken = to.fault.replace(fault).is_some();
                if taken { Err(Mistake(self.whole, Problem::TwoFaults)) } else { Ok(()) }
            }
        }
    }

    fn fault(self) -> Result<Fault, Mistake<'a>> {
        match self.name.text {
            "hang" => self.alone(Fault::Hang),
            "reset" => self.alone(Fault::Reset),
            "close" => self.alone(Fault::Close),
            "garbage" => self.alone(Fault::Garbage),
            "goaway" => self.alone(Fault::Goaway),
            "refused-stream" => self.alone(Fault::RefusedStream),
            "reset-after" => self.needed(BYTES, number).map(Fault::ResetAfter),
            "close-after" => self.needed(BYTES, number).map(Fault::CloseAfter),
            "stall-after" => self.needed(BYTES, number).map(Fault::StallAfter),
            "truncate" => self.optional(BYTES, number).map(Fault::Truncate),
            "drip" => self.optional(TIME, time).map(|pace| Fault::Drip(pace.unwrap_or(USUAL_PACE))),
            "down" => self.optional(TIME, time).map(|long| Fault::Down(long.unwrap_or(USUAL_OUTAGE))),
            _ => Err(Mistake(self.name, Problem::Unknown)),
        }
    }

    fn delay(self) -> Result<Delay, Mistake<'a>> {
        Ok(self.optional(TIME, time)?.map_or(Delay::Usual, Delay::For))
    }

    fn headers(self) -> Result<u32, Mistake<'a>> {
        Ok(self.optional(HEADERS, header_bytes)?.unwrap_or(USUAL_HEADERS))
    }

    fn once<T>(self, place: &mut Option<T>, value: T) -> Result<(), Mistake<'a>> {
        match place.replace(value) {
            Some(_) => Err(Mistake(self.whole, Problem::Twice)),
            None => Ok(()),
        }
    }

    fn alone<T>(self, meaning: T) -> Result<T, Mistake<'a>> {
        match self.value {
            Some(_) => Err(Mistake(self.whole, Problem::NoValue)),
            None => Ok(meaning),
        }
    }

    fn needed<T>(self, allowed: &'static str, reader: fn(&str) -> Option<T>) -> Result<T, Mistake<'a>> {
        let value = self.value.ok_or(Mistake(self.whole, Problem::Value(allowed)))?;
        reader(value.text).ok_or(Mistake(self.whole, Problem::Value(allowed)))
    }

    fn optional<T>(self, allowed: &'static str, reader: fn(&str) -> Option<T>) -> Result<Option<T>, Mistake<'a>> {
        self.value.map(|_| self.needed(allowed, reader)).transpose()
    }
}

const STATUS: &str = "a status from 200 to 599, such as status=503";
const BYTES: &str = "a number of bytes, such as 100";
const TIME: &str = "a duration such as 3s, 200ms or 1m 30s, or a number of seconds";
const HEADERS: &str = "a number of bytes from 1 to 16777216";
const HEADER: &str = "what a header field may hold, such as retry-after=2; a comma takes quotes";
const DATE: &str = "how far in the future the date is, such as retry-after-date=2s";
const TEXT: &str = "the body's text, such as body=\"try later\"";

fn read<'a, T>(piece: Piece<'a>, problem: Problem, reader: fn(&str) -> Option<T>) -> Result<T, Mistake<'a>> {
    reader(piece.text).ok_or(Mistake(piece, problem))
}

fn status(text: &str) -> Option<StatusCode> {
    let status = StatusCode::from_bytes(text.as_bytes()).ok()?;
    (200..600).contains(&status.as_u16()).then_some(status)
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

fn header_bytes(text: &str) -> Option<u32> {
    text.parse().ok().filter(|bytes| (1..=MOST_HEADERS).contains(bytes))
}

fn time(text: &str) -> Option<Duration> {
    duration::parse(text).ok()
}

fn retry_after(text: &str) -> Option<RetryAfter> {
    HeaderValue::from_str(text).ok().map(|_| RetryAfter::Text(text.to_owned()))
}

fn date_in(text: &str) -> Option<RetryAfter> {
    time(text).map(RetryAfter::DateIn)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn reads(text: &str, shown: &str) {
        let script: Script = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(script.to_string(), shown);
    }

    #[track_caller]
    fn refuses(text: &str, item: usize, column: usize, found: &str, problem: Problem) {
        let error = text.parse::<Script>().unwrap_err();
        let found = found.to_owned();
        assert_eq!(error, ScriptError { item, column, found, problem });
        assert_eq!(error.to_string().lines().count(), 1);
    }

    #[test]
    fn every_behaviour_is_read() {
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
            reads(text, text);
        }
    }

    #[test]
    fn other_spellings_are_read() {
        reads(" delay = 5s , ok ", "delay=5s,ok");
        reads("delay=1s;status=503", "status=503;delay=1s");
        reads("delay=0.5", "delay=500ms");
        reads("drip,down,huge-headers", "drip=10ms,down=3s,huge-headers=1048576");
        reads("truncate;chunked;status=200, goaway ; chunked", "status=200;chunked;truncate,chunked;goaway");
        reads("ok*1, ok * 2", "ok,ok*2");
        reads("status=503;body=\"a*b;c,d=e\"*2", "status=503;body=\"a*b;c,d=e\"*2");
    }

    #[test]
    fn a_mistake_is_pointed_at() {
        let value = Problem::Value;
        refuses("", 1, 1, "", Problem::Missing);
        refuses("ok,", 2, 4, "", Problem::Missing);
        refuses("ok,,ok", 2, 4, "", Problem::Missing);
        refuses("ok, statsu=503", 2, 5, "statsu", Problem::Unknown);
        refuses("é,ok", 1, 1, "é", Problem::Unknown);
        refuses("status=503;body=é,x", 2, 19, "x", Problem::Unknown);
        refuses("status", 1, 1, "status", value(STATUS));
        refuses("status=99", 1, 1, "status=99", value(STATUS));
        refuses("status=100", 1, 1, "status=100", value(STATUS));
        refuses("status=600", 1, 1, "status=600", value(STATUS));
        refuses("ok,delay=soon", 2, 4, "delay=soon", value(TIME));
        refuses("reset-after", 1, 1, "reset-after", value(BYTES));
        refuses("reset-after=-1", 1, 1, "reset-after=-1", value(BYTES));
        refuses("huge-headers=0", 1, 1, "huge-headers=0", value(HEADERS));
        refuses("status=503;retry-after=\"a\nb\"", 1, 12, "retry-after=\"a\nb\"", value(HEADER));
        refuses("hang=3s", 1, 1, "hang=3s", Problem::NoValue);
        refuses("chunked=3", 1, 1, "chunked=3", Problem::NoValue);
        refuses("ok;delay", 1, 1, "ok", Problem::Alone);
        refuses("delay;delay=1s", 1, 7, "delay=1s", Problem::Twice);
        refuses("reset;close", 1, 7, "close", Problem::TwoFaults);
        refuses("ok,hang;status=503", 2, 4, "hang;status=503", Problem::NoAnswer);
        refuses("close;early", 1, 1, "close;early", Problem::NoAnswer);
        for fault in ["hang", "reset", "close", "garbage", "refused-stream", "down"] {
            let item = format!("chunked;{fault}");
            refuses(&item, 1, 1, &item, Problem::NoAnswer);
        }
        refuses("retry-after=1", 1, 1, "retry-after=1", Problem::NeedsStatus);
        refuses("ok*0", 1, 4, "0", Problem::Weight);
        refuses("ok*", 1, 4, "", Problem::Weight);
        refuses("ok*2*3", 1, 6, "3", Problem::Weight);
        refuses("status=503;body=\"late,ok", 1, 17, "\"late,ok", Problem::OpenQuote);
        refuses("status=503;body=a\"b\"", 1, 17, "a\"b\"", Problem::OpenQuote);
    }

    #[test]
    fn what_is_allowed_is_told() {
        let error = "ok,statsu=503".parse::<Script>().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("item 2, column 4, \"statsu\": no such behaviour; allowed are {BEHAVIOURS}")
        );
    }

    fn waits() -> impl Strategy<Value = Duration> {
        (0..=u64::from(u32::MAX), 0..1_000_000_000_u32).prop_map(|(s, ns)| Duration::new(s, ns))
    }

    fn visible_faults() -> impl Strategy<Value = Fault> {
        prop_oneof![
            any::<u64>().prop_map(Fault::ResetAfter),
            any::<u64>().prop_map(Fault::CloseAfter),
            any::<u64>().prop_map(Fault::StallAfter),
            any::<Option<u64>>().prop_map(Fault::Truncate),
            waits().prop_map(Fault::Drip),
            Just(Fault::Goaway),
        ]
    }

    fn hiding_faults() -> impl Strategy<Value = Fault> {
        prop_oneof![
            Just(Fault::Hang),
            Just(Fault::Reset),
            Just(Fault::Close),
            Just(Fault::Garbage),
            Just(Fault::RefusedStream),
            waits().prop_map(Fault::Down),
        ]
    }

    fn delays() -> impl Strategy<Value = Option<Delay>> {
        prop::option::of(prop_oneof![Just(Delay::Usual), waits().prop_map(Delay::For)])
    }

    fn answered() -> impl Strategy<Value = Behaviour> {
        let retry_after =
            prop_oneof!["[ -!#-~]{0,12}".prop_map(RetryAfter::Text), waits().prop_map(RetryAfter::DateIn),];
        let answer = (200..600_u16, prop::option::of(retry_after), prop::option::of("[^\"]{0,8}"));
        let shape = (prop::option::of(1..=MOST_HEADERS), any::<bool>(), any::<bool>());
        let fault = prop::option::of(visible_faults());
        (prop::option::of(answer), shape, fault, delays()).prop_map(|(answer, shape, fault, delay)| {
            let (status, retry_after, body) = answer.map_or((None, None, None), |(s, r, b)| (Some(s), r, b));
            Behaviour {
                delay,
                status: status.and_then(|code| StatusCode::from_u16(code).ok()),
                retry_after,
                body,
                huge_headers: shape.0,
                chunked: shape.1,
                early: shape.2,
                fault,
            }
        })
    }

    fn unanswered() -> impl Strategy<Value = Behaviour> {
        (hiding_faults(), delays()).prop_map(|(fault, delay)| Behaviour {
            delay,
            fault: Some(fault),
            ..Behaviour::default()
        })
    }

    fn scripts() -> impl Strategy<Value = Script> {
        let behaviour = prop_oneof![answered(), unanswered()];
        let step = (behaviour, any::<NonZeroU32>()).prop_map(|(behaviour, weight)| Step { behaviour, weight });
        prop::collection::vec(step, 1..5).prop_map(Script::of)
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,60}") {
            let _ = text.parse::<Script>();
        }

        #[test]
        fn nor_does_text_that_looks_like_a_script(text in "(ok|delay|status|body|chunked|down|[=;,*\" 0-9é]){0,20}") {
            if let Err(error) = text.parse::<Script>() {
                prop_assert_eq!(error.to_string().lines().count(), 1);
            }
        }

        #[test]
        fn what_is_shown_reads_back_the_same(script in scripts()) {
            prop_assert_eq!(script.to_string().parse(), Ok(script));
        }
    }
}
