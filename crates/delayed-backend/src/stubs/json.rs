//! JSON with placeholders in its strings.

use serde::{Serialize, Serializer};
use toml::de::DeValue;

use crate::stubs::error::Mistake;
use crate::stubs::fields::Field;
use crate::stubs::template::{Placeholder, Template};

/// A JSON value whose strings are templates. Objects keep the order of the stub file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(Template),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

/// A JSON value, with the function that returns the values of its placeholders.
struct Filled<'a, F>(&'a Json, &'a F);

impl Json {
    /// Converts a TOML value. Dates become strings.
    pub(crate) fn parse(
        field: &Field<'_>,
        text: &impl Fn(&Field<'_>, &str) -> Result<Template, Mistake>,
    ) -> Result<Self, Mistake> {
        Ok(match field.value {
            DeValue::String(value) => Self::Text(text(field, value)?),
            DeValue::Boolean(value) => Self::Bool(*value),
            DeValue::Integer(_) => Self::Integer(field.integer("a number of at most 64 bits")?),
            DeValue::Float(value) => {
                let number: Option<f64> = value.as_str().parse().ok().filter(|number: &f64| number.is_finite());
                Self::Float(number.ok_or_else(|| field.invalid("JSON has no such number"))?)
            }
            DeValue::Datetime(value) => Self::Text(text(field, &value.to_string())?),
            DeValue::Array(_) => {
                Self::List(field.list().iter().map(|one| Self::parse(one, text)).collect::<Result<_, _>>()?)
            }
            DeValue::Table(_) => {
                let fields = field.table()?.take_all();
                let member = |field: &Field<'_>| Ok((field.key.to_owned(), Self::parse(field, text)?));
                Self::Object(fields.iter().map(member).collect::<Result<_, _>>()?)
            }
        })
    }

    /// Returns the JSON text, with the values that `value` returns for the placeholders.
    pub(crate) fn fill(&self, value: &impl Fn(&Placeholder) -> String) -> Vec<u8> {
        // Serializing numbers and strings cannot fail.
        serde_json::to_vec(&Filled(self, value)).unwrap_or_default()
    }
}

impl<F: Fn(&Placeholder) -> String> Serialize for Filled<'_, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(json, value) = self;
        match json {
            Json::Bool(json) => json.serialize(serializer),
            Json::Integer(json) => json.serialize(serializer),
            Json::Float(json) => json.serialize(serializer),
            Json::Text(json) => json.fill(value).serialize(serializer),
            Json::List(json) => serializer.collect_seq(json.iter().map(|one| Filled(one, *value))),
            Json::Object(json) => serializer.collect_map(json.iter().map(|(key, one)| (key, Filled(one, *value)))),
        }
    }
}
