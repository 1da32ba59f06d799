//! One JSON object per log event.

use std::io::{self, Write};

use jiff::Timestamp;
use log::{
    Record,
    kv::{Error as KeyValueError, Key, Value, VisitSource},
};
use serde::ser::{SerializeMap, Serializer};

/// Writes a log event as a line with a JSON object: `time` (UTC, to the microsecond), `level`, `target`, `message`, and
/// the fields of the event.
pub(crate) fn write_json(out: &mut impl Write, time: Timestamp, record: &Record<'_>) -> io::Result<()> {
    let mut line = Vec::new();
    let mut json = serde_json::Serializer::new(&mut line);
    let mut map = json.serialize_map(None)?;
    map.serialize_entry("time", &format_args!("{time:.6}"))?;
    map.serialize_entry("level", record.level().as_str())?;
    map.serialize_entry("target", record.target())?;
    map.serialize_entry("message", record.args())?;
    record.key_values().visit(&mut Fields(&mut map)).map_err(io::Error::other)?;
    SerializeMap::end(map)?;
    line.push(b'\n');
    out.write_all(&line)
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
        let mut line = Vec::new();
        write_json(&mut line, time, &record.args(format_args!("a\n\"b\"")).build()).unwrap();
        assert_eq!(
            String::from_utf8(line).unwrap().trim_end(),
            r#"{"time":"2026-07-06T10:00:00.500000Z","level":"WARN","target":"access","message":"a\n\"b\"","status":502,"path":"/a\n\"b\""}"#
        );
    }
}
