//! One JSON object per log event.

use std::{error::Error, fmt};

use jiff::Timestamp;
use log::{
    Record,
    kv::{Error as KeyValueError, Key, Value, VisitSource},
};
use serde::ser::{SerializeMap, Serializer};

/// A log event as a JSON object: `time` (UTC, to the microsecond), `level`, `target`, `message`, and the fields of the
/// event.
#[derive(Debug)]
pub(crate) struct JsonLine<'a> {
    time: Timestamp,
    record: &'a Record<'a>,
}

impl<'a> JsonLine<'a> {
    /// Returns an event at `time`.
    #[must_use]
    pub(crate) fn new(time: Timestamp, record: &'a Record<'a>) -> Self {
        Self { time, record }
    }

    fn write(&self) -> Result<String, Box<dyn Error>> {
        let mut line = Vec::new();
        let mut json = serde_json::Serializer::new(&mut line);
        let mut map = json.serialize_map(None)?;
        map.serialize_entry("time", &format_args!("{:.6}", self.time))?;
        map.serialize_entry("level", self.record.level().as_str())?;
        map.serialize_entry("target", self.record.target())?;
        map.serialize_entry("message", self.record.args())?;
        self.record.key_values().visit(&mut Fields(&mut map))?;
        SerializeMap::end(map)?;
        Ok(String::from_utf8(line)?)
    }
}

impl fmt::Display for JsonLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.write().map_err(|_| fmt::Error)?)
    }
}

struct Fields<'a, M>(&'a mut M);

impl<'kvs, M: SerializeMap> VisitSource<'kvs> for Fields<'_, M> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), KeyValueError> {
        self.0.serialize_entry(key.as_str(), &value).map_err(|error| KeyValueError::boxed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use log::Level;

    use super::*;

    #[test]
    fn an_event_is_one_line_with_its_fields() {
        let fields = [("status", Value::from(502_u16)), ("path", Value::from("/a\n\"b\""))];
        let time = "2026-07-06T10:00:00.5Z".parse().unwrap();
        let mut record = Record::builder();
        record.level(Level::Warn).target("access").key_values(&fields);
        let line = JsonLine::new(time, &record.args(format_args!("a\n\"b\"")).build()).to_string();
        assert_eq!(
            line,
            r#"{"time":"2026-07-06T10:00:00.500000Z","level":"WARN","target":"access","message":"a\n\"b\"","status":502,"path":"/a\n\"b\""}"#
        );
    }
}
