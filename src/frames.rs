//! Filters the WebSocket frames (RFC 6455, section 5) of an unauthenticated client: little of them is passed on.
//!
//! Memory use is constant, whatever arrives in whatever pieces: a message is measured but not kept, unless it is short and
//! one of the first.

/// Longest message, in bytes.
pub const MAX_MESSAGE: u64 = 64 * 1024;

/// Longest message that is kept to be inspected, in bytes.
pub const MAX_KEPT: usize = 4096;

/// The most messages that are kept.
pub const MAX_LOOKED_AT: usize = 64;

/// After this many bytes, reading from the client pauses, so that others don't wait.
pub const REST_AFTER: usize = 256 * 1024;

/// The client broke the protocol (RFC 6455, section 7.4.1).
pub const PROTOCOL_ERROR: u16 = 1002;
/// A message is longer than [`MAX_MESSAGE`].
pub const TOO_LONG: u16 = 1009;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Longest payload of a control frame, in bytes.
const MAX_CONTROL: u64 = 125;

/// What is passed on.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A control frame to answer, unmasked.
    Control(Vec<u8>),
    /// A text message to inspect.
    Message(Vec<u8>),
    /// The connection is to be closed with this code. Nothing comes after it.
    End(u16),
}

/// Reads frames.
#[derive(Default)]
pub struct Frames {
    /// What has arrived of the next frame's header.
    header: Vec<u8>,
    frame: Option<Frame>,
    /// The message that is not complete yet.
    message: Option<Message>,
    looked_at: usize,
    ended: bool,
}

/// A frame whose payload is arriving.
struct Frame {
    opcode: u8,
    is_last: bool,
    mask: [u8; 4],
    read: usize,
    left: u64,
    /// The payload of a control frame.
    payload: Vec<u8>,
}

struct Message {
    length: u64,
    kept: Option<Vec<u8>>,
}

impl Frames {
    /// Takes new data. Of many pings only the last is answered (section 5.5.3), pongs never are.
    pub fn feed(&mut self, mut data: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        let mut ping = None;
        while !self.ended && !data.is_empty() {
            let frame = self.frame.take().map_or_else(|| self.read_header(&mut data), |frame| Ok(Some(frame)));
            match frame {
                Ok(None) => {}
                Ok(Some(frame)) => match self.read_payload(frame, &mut data) {
                    Some(Event::Control(payload)) if payload[0] & 0xf == PING => ping = Some(Event::Control(payload)),
                    event => events.extend(event),
                },
                Err(code) => {
                    self.ended = true;
                    events.push(Event::End(code));
                }
            }
        }
        events.extend(ping.filter(|_| !self.ended));
        events
    }

    /// The frame whose header ends here.
    fn read_header(&mut self, data: &mut &[u8]) -> Result<Option<Frame>, u16> {
        let Some((byte, rest)) = data.split_first() else { return Ok(None) };
        *data = rest;
        self.header.push(*byte);
        let &[first, second, ref rest @ ..] = &self.header[..] else { return Ok(None) };
        let (has_extension, is_masked) = (first & 0x70 != 0, second & 0x80 != 0);
        if has_extension || !is_masked {
            return Err(PROTOCOL_ERROR);
        }
        let length_ends = match second & 0x7f {
            127 => 8,
            126 => 2,
            _ => 0,
        };
        let Some((length, &[a, b, c, d])) = rest.split_at_checked(length_ends) else { return Ok(None) };
        let left = match length {
            [] => u64::from(second & 0x7f),
            longer => longer.iter().fold(0, |left, byte| left << 8 | u64::from(*byte)),
        };
        let (opcode, is_last) = (first & 0xf, first & 0x80 != 0);
        let frame = Frame { opcode, is_last, mask: [a, b, c, d], read: 0, left, payload: Vec::new() };
        self.header.clear();
        self.begin(&frame)?;
        Ok(Some(frame))
    }

    /// Whether a frame may come now.
    fn begin(&mut self, frame: &Frame) -> Result<(), u16> {
        match (frame.opcode, &self.message) {
            (CLOSE | PING | PONG, _) if frame.is_last && frame.left <= MAX_CONTROL => return Ok(()),
            (TEXT, None) => {
                let kept = (self.looked_at < MAX_LOOKED_AT).then(Vec::new);
                self.message = Some(Message { length: 0, kept });
            }
            (BINARY, None) => self.message = Some(Message { length: 0, kept: None }),
            (CONTINUATION, Some(_)) => {}
            _ => return Err(PROTOCOL_ERROR),
        }
        if let Some(message) = &mut self.message {
            message.length = message.length.saturating_add(frame.left);
            if message.length > MAX_MESSAGE {
                return Err(TOO_LONG);
            }
            message.kept.take_if(|_| message.length > MAX_KEPT as u64);
        }
        Ok(())
    }

    /// Takes what has arrived of a payload.
    fn read_payload(&mut self, mut frame: Frame, data: &mut &[u8]) -> Option<Event> {
        let (here, rest) = data.split_at(data.len().min(usize::try_from(frame.left).unwrap_or(usize::MAX)));
        *data = rest;
        frame.left -= here.len() as u64;
        let (mask, read) = (frame.mask, frame.read);
        frame.read += here.len();
        let unmasked = here.iter().enumerate().map(|(at, byte)| byte ^ mask[(read + at) % 4]);
        let is_control = frame.opcode & CLOSE != 0;
        if is_control {
            frame.payload.extend(unmasked);
        } else if let Some(kept) = self.message.as_mut().and_then(|message| message.kept.as_mut()) {
            kept.extend(unmasked);
        }
        if frame.left > 0 {
            self.frame = Some(frame);
            return None;
        }
        match frame.opcode {
            PONG => None,
            PING => Some(Event::Control(encode(PING, &frame.payload))),
            CLOSE => {
                self.ended = true;
                Some(Event::Control(encode(CLOSE, &frame.payload)))
            }
            _ if !frame.is_last => None,
            _ => {
                let message = self.message.take()?.kept?;
                self.looked_at += 1;
                Some(Event::Message(message))
            }
        }
    }
}

/// A text message in one frame without a mask.
#[must_use]
pub fn text(message: &[u8]) -> Vec<u8> {
    encode(TEXT, message)
}

fn encode(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    if let Ok(length @ ..126) = u8::try_from(payload.len()) {
        frame.push(length);
    } else {
        frame.push(126);
        frame.extend(u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes());
    }
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
#[path = "../tests/units/frames.rs"]
mod tests;
