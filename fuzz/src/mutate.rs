//! Mutations of HTTP text. These change words, while libFuzzer's own mutations change bytes.

/// Words that occur in requests and responses, and some that are invalid there.
#[rustfmt::skip]
const WORDS: &[&[u8]] = &[
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b"\xff", b" ", b"\t", b":", b"/", b"?", b"#", b"*", b"@", b",", b";",
    b"+", b"-", b"0", b"1", b"3", b"5", b"03", b"3, 3", b"0\r\n\r\n", b"3\r\nabc\r\n", b"abc", b"a", b"b", b"a:80", b"[::1]",
    b"http://", b"https://", b"http://a", b"GET", b"HEAD", b"POST", b"OPTIONS", b"TRACE", b"CONNECT", b"HTTP/1.1",
    b"HTTP/1.0", b"HTTP/1.1 200 OK\r\n", b"100", b"101", b"103", b"204", b"206", b"304", b"416", b"503", b"Host: a\r\n",
    b"Host", b"Content-Length", b"Transfer-Encoding", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n",
    b"chunked", b"gzip", b"identity", b"Connection", b"close", b"keep-alive", b"upgrade", b"Upgrade", b"Expect",
    b"100-continue", b"Trailer", b"TE", b"trailers", b"Max-Forwards", b"Via", b"Forwarded", b"X-Forwarded-Host",
    b"X-Request-Id", b"Content-Range", b"text/event-stream", b"ETag",
];

/// Mutates words or, half of the time, lets libFuzzer mutate. Returns the new size.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    match seed % 2 {
        0 => change_word(data, size, max_size, seed),
        _ => libfuzzer_sys::fuzzer_mutate(data, size, max_size),
    }
}

/// Replaces, inserts, removes or repeats a word. Returns the new size.
fn change_word(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut random = Random(seed);
    let text = &data[..size];
    let bounds = bounds(text);
    let at = random.below(bounds.len());
    let (begin, end) = (bounds[at], bounds.get(at + 1).copied().unwrap_or(size));
    let piece = &text[begin..end];
    let word = WORDS[random.below(WORDS.len())];
    let middle = match random.below(6) {
        0 => Vec::new(),
        1 => [piece, piece].concat(),
        2 | 3 => [word, piece].concat(),
        _ => word.to_vec(),
    };
    let new = [&text[..begin], &middle, &text[end..]].concat();
    let size = new.len().min(max_size);
    data[..size].copy_from_slice(&new[..size]);
    size
}

/// Returns where words and other single bytes begin, and the end.
fn bounds(text: &[u8]) -> Vec<usize> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let begins = |at: usize| at == 0 || !is_word(text[at]) || !is_word(text[at - 1]);
    (0..text.len()).filter(|at| begins(*at)).chain([text.len()]).collect()
}

/// A SplitMix random number generator.
struct Random(u32);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 16)).wrapping_mul(0x21f0_aaad);
        mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x735a_2d97);
        ((mixed ^ (mixed >> 15)) as usize) % limit
    }
}
