//! WebSocket frames of an unauthenticated client: what is passed on is short, well-formed, and the same in whatever
//! pieces it came.

use comfy_auth_rs::frames::{Event, Frames, MAX_KEPT, MAX_LOOKED_AT};

/// Checks any bytes as what arrives, after a byte that says how long the pieces are.
pub fn check(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let whole = feed(&mut Frames::default(), bytes);
    let mut frames = Frames::default();
    let pieces: Vec<_> = bytes.chunks(usize::from(*size).max(1)).flat_map(|piece| feed(&mut frames, piece)).collect();
    assert_eq!(whole, pieces);
    let messages = whole.iter().filter(|event| matches!(event, Event::Message(_))).count();
    assert!(messages <= MAX_LOOKED_AT);
    assert!(!whole.iter().rev().skip(1).any(|event| matches!(event, Event::End(_))), "nothing comes after the end");
}

/// All but pings, since only the last ping of each piece is answered.
fn feed(frames: &mut Frames, bytes: &[u8]) -> Vec<Event> {
    let mut events = frames.feed(bytes);
    for event in &events {
        match event {
            Event::Control(frame) => assert!(frame.len() <= 127 && usize::from(frame[1]) == frame.len() - 2),
            Event::Message(message) => assert!(message.len() <= MAX_KEPT && message.len() <= bytes.len() + MAX_KEPT),
            Event::End(code) => assert!([1002, 1009].contains(code)),
        }
    }
    events.retain(|event| !matches!(event, Event::Control(frame) if frame[0] == 0x89));
    events
}
