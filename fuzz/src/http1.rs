//! A strict parser of HTTP/1.1 messages that shares no code with the gateway.

use std::{fmt, str};

/// Why bytes are not a complete message.
#[derive(Debug)]
pub enum Fault {
    /// They end early.
    Incomplete,
    /// They are invalid, whatever follows.
    Invalid(String),
}

fn invalid<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Invalid(what.into()))
}

/// How strictly a message is parsed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Lines end with CRLF, and lengths are in canonical form.
    Strict,
    /// Everything unambiguous is accepted: lines may end with a bare LF (RFC 9112, section 2.2), and empty lines may precede
    /// a head.
    Tolerant,
}

/// What a message announces about the length of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(usize),
    Chunked,
    /// Nothing: a request has no body, and a response's body ends with its connection.
    Unannounced,
}

/// The start line and the fields of a message.
#[derive(Debug)]
pub struct Head {
    pub start: String,
    /// Names in lower case, values without surrounding white space.
    fields: Vec<(String, Vec<u8>)>,
    /// The size in bytes, including the empty line.
    pub size: usize,
}

impl Head {
    /// Parses a head. Values contain no CR, LF, NUL or other control characters.
    pub fn read(bytes: &[u8], reading: Reading) -> Result<Self, Fault> {
        let mut lines = Vec::new();
        let mut size = 0;
        loop {
            let (line, after) = line(bytes, size, reading)?;
            size = after;
            match line {
                [] if lines.is_empty() && reading == Reading::Tolerant => {}
                [] => break,
                line => lines.push(line),
            }
        }
        let mut lines = lines.into_iter();
        let Some(start) = lines.next() else { return invalid("an empty line instead of a start line") };
        // The reason phrase of a response may be invalid UTF-8. It is not compared.
        let start = String::from_utf8_lossy(start).into_owned();
        let fields = lines.map(field).collect::<Result<_, _>>()?;
        Ok(Self { start, fields, size })
    }

    /// Returns the values of all fields with this name.
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        self.fields.iter().filter(|field| field.0 == name).map(|(_, value)| &value[..]).collect()
    }

    /// Returns whether the only transfer coding is `chunked`.
    pub fn is_chunked(&self) -> bool {
        matches!(&self.all("transfer-encoding")[..], [coding] if coding.eq_ignore_ascii_case(b"chunked"))
    }

    /// Returns what the head announces about the length of the body.
    pub fn framing(&self, reading: Reading) -> Result<Framing, Fault> {
        let framing = self.framing_by_meaning()?;
        match (framing, &self.all("content-length")[..], &self.all("transfer-encoding")[..]) {
            (Framing::Length(length), [text], _) if *text == length.to_string().as_bytes() => {}
            (Framing::Chunked, _, [b"chunked"]) | (Framing::Unannounced, ..) => {}
            _ if reading == Reading::Tolerant => {}
            (_, lengths, codings) => {
                let shown = [lengths, codings].concat().join(&b"\", \""[..]);
                return invalid(format!("a length that is not in canonical form: \"{}\"", shown.escape_ascii()));
            }
        }
        Ok(framing)
    }

    fn framing_by_meaning(&self) -> Result<Framing, Fault> {
        let coded = !self.all("transfer-encoding").is_empty();
        let lengths: Vec<_> = self
            .all("content-length")
            .iter()
            .flat_map(|list| list.split(|b| *b == b','))
            .map(trim)
            .map(number)
            .collect();
        match &lengths[..] {
            [] if self.is_chunked() => Ok(Framing::Chunked),
            [] if coded => invalid("a transfer coding other than a single chunked"),
            [] => Ok(Framing::Unannounced),
            _ if coded => invalid("both Content-Length and Transfer-Encoding"),
            [Some(first), rest @ ..] if rest.iter().all(|length| *length == Some(*first)) => {
                Ok(Framing::Length(*first))
            }
            _ => invalid("a Content-Length that is not a number, or contradictory ones"),
        }
    }
}

/// Returns the line at an offset, without its ending, and the offset after it.
fn line(bytes: &[u8], from: usize, reading: Reading) -> Result<(&[u8], usize), Fault> {
    let rest = &bytes[from..];
    let Some(length) = rest.iter().position(|byte| *byte == b'\n') else { return Err(Fault::Incomplete) };
    match (rest[..length].strip_suffix(b"\r"), reading) {
        (Some(line), _) => Ok((line, from + length + 1)),
        (None, Reading::Tolerant) => Ok((&rest[..length], from + length + 1)),
        (None, Reading::Strict) => invalid("a line that ends with LF alone"),
    }
}

fn field(line: &[u8]) -> Result<(String, Vec<u8>), Fault> {
    let shown = line.escape_ascii();
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return invalid(format!("not a field: {shown}"));
    };
    let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
    if !is_token(name) {
        return invalid(format!("an invalid field name: {shown}"));
    }
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return invalid(format!("a control character in a value: {shown}"));
    }
    Ok((String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()))
}

pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn number(digits: &[u8]) -> Option<usize> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all.then(|| str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

/// Parses a chunked body and its trailers. Returns the content and the size in bytes.
fn chunks(bytes: &[u8]) -> Result<(Vec<u8>, usize), Fault> {
    let mut content = Vec::new();
    let mut at = 0;
    loop {
        let (size, after) = line(bytes, at, Reading::Strict)?;
        let digits = size.split(|byte| *byte == b';').next().map(trim).unwrap_or_default();
        let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
        let size =
            str::from_utf8(digits).ok().filter(|_| all).and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let Some(size) = size else { return invalid(format!("an invalid chunk size: {}", digits.escape_ascii())) };
        at = after;
        if size == 0 {
            break;
        }
        let Some(chunk) = at.checked_add(size).and_then(|end| bytes.get(at..end)) else {
            return Err(Fault::Incomplete);
        };
        content.extend_from_slice(chunk);
        at += size;
        match bytes[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [] | [b'\r'] => return Err(Fault::Incomplete),
            _ => return invalid("a chunk longer than its size"),
        }
    }
    loop {
        // RFC 9112, section 2.2, lets a recipient accept LF alone as the end of a line, and hyper does so here.
        let (trailer, after) = line(bytes, at, Reading::Tolerant)?;
        at = after;
        if trailer.is_empty() {
            return Ok((content, at));
        }
        field(trailer)?;
    }
}

/// Parses the body at an offset. Returns the content and the offset after it.
fn body(bytes: &[u8], from: usize, framing: Framing) -> Result<(Vec<u8>, usize), Fault> {
    let rest = &bytes[from..];
    match framing {
        Framing::Unannounced => Ok((Vec::new(), from)),
        Framing::Chunked => chunks(rest).map(|(content, size)| (content, from + size)),
        Framing::Length(length) => match rest.get(..length) {
            Some(content) => Ok((content.to_vec(), from + length)),
            None => Err(Fault::Incomplete),
        },
    }
}

/// A complete request.
#[derive(PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub body: Vec<u8>,
    /// The size in bytes.
    pub size: usize,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} \"{}\"", self.method, self.target, self.body.escape_ascii())
    }
}

impl Request {
    /// Parses the body of a request whose head was parsed from the same bytes.
    pub fn read(bytes: &[u8], head: &Head) -> Result<Self, Fault> {
        let parts: Vec<_> = head.start.split(' ').collect();
        let [method, target, "HTTP/1.1"] = parts[..] else {
            return invalid(format!("an invalid request line: {}", head.start));
        };
        if !is_token(method.as_bytes()) || target.is_empty() {
            return invalid(format!("an invalid request line: {}", head.start));
        }
        let (method, target) = (method.to_owned(), target.to_owned());
        // A recipient may ignore Content-Length if the body is chunked (RFC 9112, section 6.3).
        let framing = if head.is_chunked() { Framing::Chunked } else { head.framing(Reading::Tolerant)? };
        let (body, size) = body(bytes, head.size, framing)?;
        Ok(Self { method, target, body, size })
    }
}

/// A complete response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: Head,
    pub body: Vec<u8>,
    /// The size in bytes, including informational responses before it.
    pub size: usize,
}

/// How the bytes of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Normally: nothing was lost.
    Closed,
    /// With a reset.
    Reset,
}

impl Response {
    /// Parses the response to a request with this method from all bytes of a connection.
    pub fn read(bytes: &[u8], method: &str, end: End, reading: Reading) -> Result<Self, Fault> {
        let mut at = 0;
        let (status, head) = loop {
            let head = Head::read(&bytes[at..], reading)?;
            let status = status(&head.start)?;
            at += head.size;
            match status {
                101 => return invalid("a protocol switch that was not requested"),
                100..200 => {}
                _ => break (status, head),
            }
        };
        let bodiless = method == "HEAD" || matches!(status, 204 | 304);
        let framing = head.framing(reading);
        let (body, size) = match framing {
            // There is no body, whatever the head announces.
            Ok(_) if bodiless => (Vec::new(), at),
            Err(_) if bodiless && reading == Reading::Tolerant => (Vec::new(), at),
            Ok(Framing::Unannounced) if end == End::Reset => return Err(Fault::Incomplete),
            Ok(Framing::Unannounced) => (bytes[at..].to_vec(), bytes.len()),
            framing => body(bytes, at, framing?)?,
        };
        Ok(Self { status, head, body, size })
    }
}

fn status(line: &str) -> Result<u16, Fault> {
    let after = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
    let code = after.and_then(|after| after.get(..3)).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
    let ends = after.and_then(|after| after.as_bytes().get(3)).is_none_or(|byte| *byte == b' ');
    match code.filter(|_| ends).and_then(|code| code.parse().ok()) {
        Some(status @ 100..) => Ok(status),
        _ => invalid(format!("an invalid status line: {line}")),
    }
}
