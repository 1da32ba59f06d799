//! The fields of a TOML table, with their positions.

use std::borrow::Cow;
use std::fmt::Display;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::spelling::similar;
use crate::stubs::error::Mistake;

/// The fields of a table that have not been taken.
#[derive(Debug)]
pub(crate) struct Fields<'t> {
    prefix: String,
    left: Vec<Field<'t>>,
    /// The names that can be taken.
    known: Vec<&'static str>,
}

/// A field and its value.
#[derive(Debug, Clone)]
pub(crate) struct Field<'t> {
    pub(crate) key: &'t str,
    /// The names of the tables and the field, separated by dots.
    pub(crate) path: String,
    key_span: Range<usize>,
    pub(crate) value: &'t DeValue<'t>,
    pub(crate) value_span: Range<usize>,
}

impl<'t> Fields<'t> {
    /// Returns the fields of a table, in the order of the file. `path` is the path of the table; empty at the top.
    pub(crate) fn new(table: &'t DeTable<'t>, path: &str) -> Self {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
        let field = |(key, value): (&'t Spanned<Cow<'t, str>>, &'t Spanned<DeValue<'t>>)| Field {
            key: key.get_ref(),
            path: format!("{prefix}{}", key.get_ref()),
            key_span: key.span(),
            value: value.get_ref(),
            value_span: value.span(),
        };
        let mut left: Vec<_> = table.iter().map(field).collect();
        left.sort_by_key(|field| field.key_span.start);
        Self { prefix, left, known: Vec::new() }
    }

    /// Takes the field with this name.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Field<'t>> {
        self.known.push(name);
        let index = self.left.iter().position(|field| field.key == name)?;
        Some(self.left.remove(index))
    }

    /// Takes the field with this name, and reads it.
    pub(crate) fn read<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Field<'t>) -> Result<T, Mistake>,
    ) -> Result<Option<T>, Mistake> {
        self.take(name).map(|field| read(&field)).transpose()
    }

    /// Takes all fields.
    pub(crate) fn take_all(self) -> Vec<Field<'t>> {
        self.left
    }

    /// Returns an error if a field has not been taken, because it has an unknown name.
    pub(crate) fn finish(self) -> Result<(), Mistake> {
        let Some(field) = self.left.first() else {
            return Ok(());
        };
        let tip = match similar(field.key, self.known.iter().copied()) {
            Some(name) => format!("did you mean {name}?"),
            None => format!("expected one of {}", self.known.join(", ")),
        };
        let path = format!("{}{}", self.prefix, field.key);
        Err(Mistake::new(&field.key_span, &path, format!("no such field; {tip}")))
    }
}

impl<'t> Field<'t> {
    /// Returns an error at the value.
    pub(crate) fn invalid(&self, message: impl Display) -> Mistake {
        Mistake::new(&self.value_span, &self.path, message)
    }

    /// Returns an error at the name.
    pub(crate) fn invalid_key(&self, message: impl Display) -> Mistake {
        Mistake::new(&self.key_span, &self.path, message)
    }

    /// Returns an error that names what is expected.
    pub(crate) fn expected(&self, what: &str) -> Mistake {
        let found = match self.value {
            DeValue::String(text) => format!("{text:?}"),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Datetime(value) => value.to_string(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.invalid(format!("expected {what}, found {found}"))
    }

    pub(crate) fn text(&self) -> Result<&'t str, Mistake> {
        self.value.as_str().ok_or_else(|| self.expected("a text"))
    }

    /// Returns the text of a string, or of a number.
    pub(crate) fn text_or_number(&self) -> Result<&'t str, Mistake> {
        match self.value {
            DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str()),
            DeValue::Float(number) => Ok(number.as_str()),
            _ => self.text(),
        }
    }

    pub(crate) fn integer<N: TryFrom<i64>>(&self, what: &str) -> Result<N, Mistake> {
        let number = self.value.as_integer().ok_or_else(|| self.expected(what))?;
        let number = i64::from_str_radix(number.as_str(), number.radix()).ok();
        number.and_then(|number| number.try_into().ok()).ok_or_else(|| self.expected(what))
    }

    pub(crate) fn table(&self) -> Result<Fields<'t>, Mistake> {
        let table = self.value.as_table().ok_or_else(|| self.expected("a table"))?;
        Ok(Fields::new(table, &self.path))
    }

    /// Returns the values of a list, or the value itself if it is not a list.
    pub(crate) fn list(&self) -> Vec<Self> {
        match self.value {
            DeValue::Array(values) => {
                let one = |value: &'t Spanned<DeValue<'t>>| Self {
                    value: value.get_ref(),
                    value_span: value.span(),
                    ..self.clone()
                };
                values.iter().map(one).collect()
            }
            _ => vec![self.clone()],
        }
    }
}
