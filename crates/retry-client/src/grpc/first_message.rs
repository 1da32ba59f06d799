//! Where the first message of a response ends.

/// A message begins with a flag and its length in four bytes ("Length-Prefixed-Message" in gRPC over HTTP/2).
const PREFIX: usize = 5;

/// The first message of a response, of which more and more arrives.
#[derive(Debug, Default)]
pub(crate) struct FirstMessage {
    prefix: [u8; PREFIX],
    /// How many bytes of the body have arrived.
    arrived: u64,
}

impl FirstMessage {
    /// Adds a part of the body.
    pub(crate) fn push(&mut self, data: &[u8]) {
        let missing = self.prefix.iter_mut().skip(usize::try_from(self.arrived).unwrap_or(PREFIX));
        missing.zip(data).for_each(|(byte, arrived)| *byte = *arrived);
        self.arrived += data.len() as u64;
    }

    /// Returns the length with the prefix. `None` until that has arrived.
    fn length(&self) -> Option<u64> {
        let [_, length @ ..] = self.prefix;
        (self.arrived >= PREFIX as u64).then(|| PREFIX as u64 + u64::from(u32::from_be_bytes(length)))
    }

    /// Whether the message has arrived completely.
    pub(crate) fn is_complete(&self) -> bool {
        self.length().is_some_and(|length| length <= self.arrived)
    }

    /// Whether it has arrived completely, and nothing after it.
    pub(crate) fn is_alone(&self) -> bool {
        self.length() == Some(self.arrived)
    }

    /// Whether it is, or will be, longer than this, with its prefix.
    pub(crate) fn exceeds(&self, bytes: usize) -> bool {
        self.length().is_some_and(|length| length > bytes as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_complete_when_its_length_has_arrived() {
        let check = |body: &[u8], is_complete, is_alone, exceeds_7| {
            // In parts of any length.
            for size in 1..=body.len().max(1) {
                let mut message = FirstMessage::default();
                body.chunks(size).for_each(|part| message.push(part));
                let result = (message.is_complete(), message.is_alone(), message.exceeds(7));
                assert_eq!(result, (is_complete, is_alone, exceeds_7), "{body:?} in parts of {size}");
            }
        };
        check(&[], false, false, false);
        check(&[0, 0, 0, 0], false, false, false);
        check(&[0, 0, 0, 0, 0], true, true, false);
        check(&[0, 0, 0, 0, 0, 0], true, false, false);
        check(&[0, 0, 0, 0, 2], false, false, false);
        check(&[0, 0, 0, 0, 2, 7], false, false, false);
        check(&[1, 0, 0, 0, 2, 7, 7], true, true, false);
        check(&[0, 0, 0, 0, 2, 7, 7, 0], true, false, false);
        check(&[0, 0, 0, 0, 3], false, false, true);
        check(&[0, 255, 255, 255, 255, 7], false, false, true);
    }
}
